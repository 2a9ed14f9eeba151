"""Training of a small causal model: recipe, optimisers, the loss in pieces, rows of text, held-out bits per byte.

Hidden matrices are trained by Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon/) with update sizes matched
to AdamW's (Liu et al. 2025, arXiv:2502.16982), everything else by AdamW (Loshchilov and Hutter 2019).

Legend: B rows of a batch, T positions, D width, V vocabulary, N = B·(T−1) predictions, R rows of the training text.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glasshouse.text import Tokens, windows
from glasshouse.types import Estimate, UserError

LOSS_ROWS = 2048  # positions whose logits are held at once
# They are filled up to a multiple of so many: each new shape of a matrix product costs milliseconds to set up.
EVEN_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How it is grown. Rates are peaks: they rise over `warmup` of the run and fall to 0 over the last `decay`."""

    batch: int = 16  # rows of one context
    optimizer: str = "muon"  # or "adamw" for everything, to compare
    muon_rate: float = 0.006
    adamw_rate: float = 0.006
    muon_decay: float = 0.1  # decoupled weight decay of hidden matrices
    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0  # largest norm of all gradients together
    warmup: float = 0.02
    decay: float = 0.6

    def rate(self, progress: float) -> float:
        """The factor on both rates after `progress` (0 to 1) of the budget."""
        return min(1.0, progress / self.warmup if self.warmup else 1.0, (1.0 - progress) / self.decay)


class Trainer:
    """A model with its optimisers. One `step` on a batch at a point of the schedule; its state as named tensors."""

    def __init__(self, model: nn.Module, recipe: Recipe, precision: str) -> None:
        self.model, self.recipe, self.precision = model, recipe, precision
        self.names = {p: n for n, p in model.named_parameters()}
        inner = [p for n, p in model.named_parameters() if p.ndim == 2 and _in_block(n)]
        matrices = inner if recipe.optimizer == "muon" else []
        ids = {id(p) for p in matrices}
        decayed = [p for p in inner if id(p) not in ids]
        others = [p for p in model.parameters() if id(p) not in ids and not any(p is q for q in decayed)]
        groups: list[dict[str, Any]] = [{"params": others, "weight_decay": 0.0}]
        if decayed:
            groups.append({"params": decayed, "weight_decay": recipe.muon_decay})
        self.optimizers: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.AdamW(groups, lr=recipe.adamw_rate, betas=recipe.betas, fused=True), recipe.adamw_rate)
        ]
        if matrices:
            muon = torch.optim.Muon(
                matrices, lr=recipe.muon_rate, weight_decay=recipe.muon_decay, momentum=recipe.momentum,
                adjust_lr_fn="match_rms_adamw",
            )  # fmt: skip
            self.optimizers.append((muon, recipe.muon_rate))

    def step(self, ids_BT: Tensor, progress: float, learn_BT: Tensor | None = None) -> Tensor:
        """One update at `progress` (0 to 1) of the budget; the batch's mean loss in nats a token, before it.

        learn_BT: bool, the tokens that are learnt; all without it.
        """
        for optimizer, rate in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * self.recipe.rate(progress)
        loss = self.losses(ids_BT, learn_BT).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        for optimizer, _ in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def losses(self, ids_BT: Tensor, learn_BT: Tensor | None = None) -> Tensor:
        """Nats of every next token that is learnt, (N,), row after row."""
        return next_token_losses(self.model, ids_BT, self.precision, learn_BT)

    def tensors(self) -> dict[str, Tensor]:
        """Weights and the optimisers' state, by name."""
        state = {f"model.{n}": p.detach() for n, p in self.model.named_parameters()}
        for i, (optimizer, _) in enumerate(self.optimizers):
            for p, values in optimizer.state.items():
                assert isinstance(p, nn.Parameter)
                state |= {f"optimizer{i}.{key}.{self.names[p]}": v for key, v in values.items()}
        return state

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The reverse of `tensors`, exactly."""
        params = dict(self.model.named_parameters())
        with torch.no_grad():
            for n, p in params.items():
                p.copy_(tensors[f"model.{n}"])
        for key, value in tensors.items():
            owner, _, rest = key.partition(".")
            if owner.startswith("optimizer"):
                field, _, n = rest.partition(".")
                self.optimizers[int(owner.removeprefix("optimizer"))][0].state[params[n]][field] = value


def _in_block(name: str) -> bool:
    return ".h." in name or ".layers." in name


def next_token_losses(model: nn.Module, ids_BT: Tensor, precision: str, learn_BT: Tensor | None = None) -> Tensor:
    """Nats of every token but the first of each row, given those before it, (N,); logits never all held at once.

    learn_BT: bool, the tokens whose nats are wanted; only those are made.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    with _autocast(ids_BT.device.type, precision):
        hidden_BTD = model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state  # type: ignore[operator,union-attr]
    hidden_ND = hidden_BTD[:, :-1].reshape(-1, hidden_BTD.shape[-1])
    target_N = ids_BT[:, 1:].reshape(-1)
    if learn_BT is not None:
        picked = learn_BT[:, 1:].reshape(-1).nonzero()[:, 0]
        hidden_ND, target_N = hidden_ND[picked], target_N[picked]
    weight_VD = model.get_output_embeddings().weight  # type: ignore[operator]
    return _UnembedLoss.apply(hidden_ND, weight_VD, target_N, dtype)


def _autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16")


class _UnembedLoss(torch.autograd.Function):
    """Cross-entropy of `hidden @ weightᵀ`, a few rows at a time, with the gradients of the mean made on the way.

    The logits of a batch (N × V) are larger than everything else in a small model; made and used up in pieces they stay
    in the cache. The backward pass is right for `.mean()` of the losses only, which is what it is given.
    """

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, target_N: Tensor, dtype: torch.dtype) -> Tensor:  # type: ignore[override]
        n = len(target_N)
        weight = weight_VD.to(dtype)
        losses_N = torch.empty(n, device=hidden_ND.device)
        train = any(ctx.needs_input_grad)
        d_hidden_ND = torch.empty(hidden_ND.shape, dtype=hidden_ND.dtype, device=hidden_ND.device) if train else None
        d_weight_VD = torch.zeros_like(weight_VD) if train else None
        for first in range(0, n, LOSS_ROWS):
            rows = slice(first, first + LOSS_ROWS)
            hidden, target = hidden_ND[rows].to(dtype), target_N[rows, None]
            k = len(target)
            if spare := -k % EVEN_ROWS:
                hidden, target = (nn.functional.pad(x, (0, 0, 0, spare)) for x in (hidden, target))
            log_p = torch.log_softmax((hidden @ weight.T).float(), dim=-1)
            losses_N[rows] = -log_p.gather(1, target)[:k, 0]
            if d_hidden_ND is not None and d_weight_VD is not None:
                slope = log_p.exp_().scatter_add_(1, target, torch.full_like(target, -1, dtype=log_p.dtype))
                slope = slope.div_(n).to(dtype)
                d_hidden_ND[rows] = (slope @ weight)[:k].to(hidden_ND.dtype)
                d_weight_VD += (slope.T @ hidden).to(d_weight_VD.dtype)
        if train:
            ctx.save_for_backward(d_hidden_ND, d_weight_VD)
        return losses_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_N,) = grads
        d_hidden_ND, d_weight_VD = ctx.saved_tensors
        scale = grad_N[0] * len(grad_N)  # 1 for the mean
        return d_hidden_ND * scale, d_weight_VD * scale, None, None


class Rows:
    """Training text as rows: documents in an order of the seed, the end mark between them, cut to the context.

    Every row begins with the end mark, as every window does in which the model is looked at. `batch(step)` depends on
    the seed and the step only; each pass over the text has its own order. Tokens that begin in a document's `unlearned`
    stretches are read only.
    """

    def __init__(self, tokens: Tokens, context: int, end: int, seed: int) -> None:
        order = np.random.default_rng([seed, 1]).permutation(len(tokens.doc_start) - 1)
        parts: list[NDArray[np.uint32]] = []
        learn: list[NDArray[np.bool_]] = []
        for doc in order:
            own = slice(tokens.doc_start[doc], tokens.doc_start[doc + 1])
            ids = tokens.ids[own]
            if len(ids):
                parts += [ids, np.array([end], np.uint32)]
                learn += [learnt(tokens.corpus.documents[doc].unlearned, tokens.start_char[own]), np.ones(1, np.bool_)]
        stream = np.concatenate(parts) if parts else np.zeros(0, np.uint32)
        n = len(stream) // (context - 1)
        if n == 0:
            raise UserError(
                f"expected text longer than a context of {context} tokens, {tokens.corpus.source} has "
                f"{len(tokens.ids)} to train on; give more text or a shorter context"
            )
        body = stream[: n * (context - 1)].reshape(n, context - 1).astype(np.int64)
        self.ids_RT = np.concatenate([np.full((n, 1), end, np.int64), body], axis=1)
        learn_RT = np.concatenate(learn)[: n * (context - 1)].reshape(n, context - 1)
        everything = bool(learn_RT.all())
        self.learn_RT = None if everything else np.concatenate([np.zeros((n, 1), np.bool_), learn_RT], axis=1)
        self.seed = seed
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def batch(self, step: int, rows: int) -> Tensor:
        """int64 (rows, T) of step `step`, counted from 0."""
        return torch.from_numpy(self.ids_RT[self._picked(step, rows)])

    def learn(self, step: int, rows: int) -> Tensor | None:
        """bool (rows, T): which tokens of that batch are learnt; nothing where all are."""
        return None if self.learn_RT is None else torch.from_numpy(self.learn_RT[self._picked(step, rows)])

    def _picked(self, step: int, rows: int) -> list[int]:
        n = len(self.ids_RT)
        return [int(self._shuffled(i // n)[i % n]) for i in range(step * rows, (step + 1) * rows)]

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self.seed, 2, epoch]).permutation(len(self.ids_RT)))
        return self._order[1]


def learnt(unlearned: Sequence[tuple[int, int]], start_T: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Which tokens are learnt, (T,), by the characters at which they begin."""
    learn_T = np.ones(len(start_T), np.bool_)
    for start, end in unlearned:
        learn_T &= (start_T < start) | (start_T >= end)
    return learn_T


class HeldOut:
    """Held-out text in windows, with the bytes behind every token. What is not learnt of it does not count."""

    def __init__(self, tokens: Tokens, lengths_V: NDArray[np.int64], context: int, end: int) -> None:
        self.windows = windows(tokens, context=context, bos_id=end, pad_id=end, min_length=1)
        self.lengths_V = lengths_V
        own = zip(tokens.corpus.documents, itertools.pairwise(tokens.doc_start.tolist()), strict=True)
        parts = [learnt(document.unlearned, tokens.start_char[a:b]) for document, (a, b) in own]
        learn_N = np.concatenate([*parts, np.zeros(context, np.bool_)])  # a window may reach beyond the last token
        self.learn_WT = learn_N[self.windows.first_W[:, None] + np.arange(context - 1)]

    def bits_per_byte(self, model: nn.Module, precision: str, *, limit: int | None = None, batch: int = 16) -> Estimate:
        """Bits to code the text with the model, over its bytes of UTF-8; clustered by document.

        Every token that is learnt is predicted, the first of a window from the end mark. `limit`: of windows.
        """
        found = self.windows
        picked = np.arange(len(found))
        if limit is not None and limit < len(found):
            picked = np.linspace(0, len(found) - 1, limit).astype(np.int64)
        picked = picked[np.argsort(found.length_W[picked], kind="stable")]  # like lengths together: less padding
        n_docs = int(found.doc_W.max()) + 1
        bits, size = np.zeros(n_docs), np.zeros(n_docs)
        device = next(model.parameters()).device
        for first in range(0, len(picked), batch):
            some = picked[first : first + batch]
            longest = int(found.length_W[some].max())
            ids_BT = found.ids_WT[some, :longest].astype(np.int64)
            with torch.no_grad():
                nats = next_token_losses(model, torch.from_numpy(ids_BT).to(device), precision)
            mask_BT = found.mask_WT[some, 1:longest] & self.learn_WT[some, : longest - 1]
            nats_BT = nats.cpu().double().numpy().reshape(len(some), -1) * mask_BT
            np.add.at(bits, found.doc_W[some], nats_BT.sum(1) / math.log(2))
            np.add.at(size, found.doc_W[some], (self.lengths_V[ids_BT[:, 1:]] * mask_BT).sum(1))
        read = size > 0
        return Estimate.mean(bits[read].tolist(), size[read].tolist(), unit="bits/byte")
