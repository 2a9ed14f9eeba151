"""Training of a small causal model: recipe, optimisers, the loss in pieces.

Hidden matrices are trained by Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon/) with update sizes matched
to AdamW's (Liu et al. 2025, arXiv:2502.16982), everything else by AdamW (Loshchilov and Hutter 2019).

Legend: B rows of a batch, T positions, D width, V vocabulary, N = B·(T−1) predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from glasshouse.types import UserError

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

    def __post_init__(self) -> None:
        if self.optimizer not in ("muon", "adamw"):
            raise UserError(f"expected optimizer 'muon' or 'adamw', got {self.optimizer!r}")

    def rate(self, progress: float) -> float:
        """The factor on both rates after `progress` (0 to 1) of the budget."""
        rise = progress / self.warmup if self.warmup else 1.0
        return min(1.0, rise, (1.0 - progress) / self.decay if self.decay else 1.0)


class Losses(NamedTuple):
    """Of a step, before its update, in nats a token: what was learnt, and the divergence on the rows that are kept."""

    text: Tensor
    kept: Tensor | None


class Trainer:
    """A model with its optimisers. One `step` on a batch at a point of the schedule; its state as named tensors.

    teacher: the model to which it is held on rows that are kept, see `step`; keep_weight: how heavily.
    """

    def __init__(
        self, model: nn.Module, recipe: Recipe, precision: str, teacher: nn.Module | None = None,
        keep_weight: float = 1.0,
    ) -> None:  # fmt: skip
        self.model, self.recipe, self.precision = model, recipe, precision
        self.teacher, self.keep_weight = teacher, keep_weight
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

    def step(self, ids_BT: Tensor, progress: float, learn_BT: Tensor | None = None, *, kept: int = 0) -> Losses:
        """One update at `progress` (0 to 1) of the budget; the batch's mean losses before it.

        learn_BT: bool, the tokens that are learnt; all without it. kept: of so many rows, the last, it is not the text
        that is learnt but what the teacher makes of it: their loss, times `keep_weight`, is the mean
        KL(teacher ‖ model) of the next token (Li and Hoiem 2016, arXiv:1606.09282, at temperature 1).
        """
        for optimizer, rate in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * self.recipe.rate(progress)
        hidden_BTD, own = _hidden(self.model, ids_BT, self.precision), len(ids_BT) - kept
        learnt, held = (None, None) if learn_BT is None else (learn_BT[:own], learn_BT[own:])
        loss = _unembedded(self.model, hidden_BTD[:own], ids_BT[:own], self.precision, learnt).mean()
        away = self._divergences(hidden_BTD[own:], ids_BT[own:], held).mean() if kept else None
        (loss if away is None else loss + self.keep_weight * away).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        for optimizer, _ in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return Losses(loss.detach(), None if away is None else away.detach())

    def _divergences(self, hidden_BTD: Tensor, ids_BT: Tensor, learn_BT: Tensor | None) -> Tensor:
        """KL(teacher ‖ model) of every next token that is learnt, (N,)."""
        assert self.teacher is not None, "a teacher for rows that are kept"
        with torch.no_grad():
            teacher_BTD = _hidden(self.teacher, ids_BT, self.precision)
        return _unembedded(self.model, hidden_BTD, ids_BT, self.precision, learn_BT, (self.teacher, teacher_BTD))

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
    return _unembedded(model, _hidden(model, ids_BT, precision), ids_BT, precision, learn_BT)


def _hidden(model: nn.Module, ids_BT: Tensor, precision: str) -> Tensor:
    """The stream after the final norm, (B, T, D)."""
    with _autocast(ids_BT.device.type, precision):
        return model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state  # type: ignore[operator,union-attr,no-any-return]


def _unembedded(
    model: nn.Module, hidden_BTD: Tensor, ids_BT: Tensor, precision: str, learn_BT: Tensor | None,
    teacher: tuple[nn.Module, Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """Nats of the next tokens that are learnt, or with a teacher and its own stream its divergences there, (N,)."""
    picked = slice(None) if learn_BT is None else learn_BT[:, 1:].reshape(-1).nonzero()[:, 0]

    def predicting(stream_BTD: Tensor) -> Tensor:
        return stream_BTD[:, :-1].reshape(-1, stream_BTD.shape[-1])[picked]

    target_N = ids_BT[:, 1:].reshape(-1)[picked]
    told = (None, None) if teacher is None else (predicting(teacher[1]), _unembedding(teacher[0]))
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return _UnembedLoss.apply(predicting(hidden_BTD), _unembedding(model), target_N, *told, dtype)


def _unembedding(model: nn.Module) -> Tensor:
    return model.get_output_embeddings().weight  # type: ignore[operator,no-any-return]


def _autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16")


class _UnembedLoss(torch.autograd.Function):
    """Cross-entropy of `hidden @ weightᵀ`, or with a teacher KL(teacher ‖ model), a few rows at a time, with the
    gradients of the mean made on the way.

    The logits of a batch (N × V) are larger than everything else in a small model; made and used up in pieces they stay
    in the cache. The backward pass is right for `.mean()` of the losses only, which is what it is given.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, target_N: Tensor, teacher_ND: Tensor | None,
        teacher_VD: Tensor | None, dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        n = len(target_N)
        weight, teacher_weight = weight_VD.to(dtype), None if teacher_VD is None else teacher_VD.to(dtype)
        losses_N = torch.empty(n, device=hidden_ND.device)
        train = any(ctx.needs_input_grad)
        d_hidden_ND = torch.empty(hidden_ND.shape, dtype=hidden_ND.dtype, device=hidden_ND.device) if train else None
        d_weight_VD = torch.zeros_like(weight_VD) if train else None
        for first in range(0, n, LOSS_ROWS):
            rows = slice(first, first + LOSS_ROWS)
            k = len(target_N[rows])
            hidden, log_p = _log_probabilities(hidden_ND[rows].to(dtype), weight)
            if teacher_ND is None or teacher_weight is None:
                target = nn.functional.pad(target_N[rows, None], (0, 0, 0, len(hidden) - k))
                losses_N[rows] = -log_p.gather(1, target)[:k, 0]
                slope = log_p.exp_().scatter_add_(1, target, torch.full_like(target, -1, dtype=log_p.dtype))
            else:
                _, log_q = _log_probabilities(teacher_ND[rows].to(dtype), teacher_weight)
                q = log_q.exp()
                losses_N[rows] = (q * (log_q - log_p)).sum(1)[:k]
                slope = log_p.exp_().sub_(q)
            if d_hidden_ND is not None and d_weight_VD is not None:
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
        return d_hidden_ND * scale, d_weight_VD * scale, None, None, None, None


def _log_probabilities(stream_ND: Tensor, unembedding_VD: Tensor) -> tuple[Tensor, Tensor]:
    """The stream filled up to a multiple of EVEN_ROWS, and its next tokens' log-probabilities in fp32."""
    even_ND = nn.functional.pad(stream_ND, (0, 0, 0, -len(stream_ND) % EVEN_ROWS))
    return even_ND, torch.log_softmax((even_ND @ unembedding_VD.T).float(), dim=-1)


def multiplies_tiles(device: str = "cpu") -> bool:
    """Whether the device multiplies tiles of bf16 matrices in hardware: AMX, or a GPU."""
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # since torch 2.10
    return device != "cpu" or bool(has.get("amx_bf16"))


def precision_by_instruction_set(device: str = "cpu") -> str:
    """ "bf16" where the device multiplies it in hardware (AMX or AVX-512 BF16; CUDA from Ampere on), else "fp32"."""
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # since torch 2.10
    return "bf16" if has.get("avx512_bf16") or has.get("amx_bf16") or has.get("bf16") else "fp32"
