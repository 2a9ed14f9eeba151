"""What a feature writes: its direct effect on the logits, and the measured effect of taking its contribution away.

Legend: F features, D width of the site, V vocabulary, B contexts of a batch, T columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glasshouse.types import STREAM_KINDS

SHOWN = 10
LOGITS_AT_ONCE = 1 << 26  # numbers


def direct(
    model: Any, site: Any, W_dec_FD: Tensor, shown: int = SHOWN
) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """{"promotes": (tokens, logits), "suppresses": ...}, each (F, shown): the decoder row through the unembedding
    (Geva et al. 2022), less its mean over the vocabulary, which changes no probability.

    Empty for a model without logits, and for a site that is not added to the stream.
    """
    if model.is_encoder or site.kind not in STREAM_KINDS or model.family.unembedding is None:
        return {}
    found: dict[str, list[Any]] = {"promotes": [], "suppresses": []}
    step = max(1, LOGITS_AT_ONCE // max(1, model.unembed(W_dec_FD[:1]).shape[1]))
    for first in range(0, len(W_dec_FD), step):
        logits_FV = model.unembed(W_dec_FD[first : first + step]).float()
        logits_FV -= logits_FV.mean(1, keepdim=True)
        count = min(shown, logits_FV.shape[1])
        found["promotes"].append(logits_FV.topk(count, dim=1))
        found["suppresses"].append(logits_FV.topk(count, dim=1, largest=False))
    return {
        key: (
            torch.cat([one.indices for one in parts]).cpu().numpy(),
            torch.cat([one.values for one in parts]).cpu().numpy(),
        )
        for key, parts in found.items()
    }


def writers(model: Any, site: Any, W_dec_FD: Tensor, text: str, count: int = 6) -> list[int]:
    """Features that bring the text up: for each of its tokens the `count` whose direct effect on its logit is largest,
    for a decoder row of length 1. What detects a thing is seldom what writes it. Empty as `direct` is."""
    if not direct(model, site, W_dec_FD[:1], 1):
        return []
    ids = model.tokenizer(text, add_special_tokens=False).input_ids
    rows_FD = W_dec_FD / W_dec_FD.norm(dim=1, keepdim=True).clamp(min=1e-12)
    step = max(1, LOGITS_AT_ONCE // max(1, model.unembed(rows_FD[:1]).shape[1]))
    parts = [model.unembed(rows_FD[first : first + step]).float() for first in range(0, len(rows_FD), step)]
    effect_FT = torch.cat([part[:, ids] - part.mean(1, keepdim=True) for part in parts])
    return sorted(set(effect_FT.topk(min(count, len(rows_FD)), dim=0).indices.flatten().tolist()))


@dataclass(frozen=True)
class Case:
    """A context in which a feature fires: ids (T,), BOS included, and the columns and codes of its firings. learnt_T:
    the tokens that the text teaches to write, whose cost counts; None for all."""

    feature: int
    ids: NDArray[np.int64]
    columns: NDArray[np.int64]
    codes: NDArray[np.float32]
    learnt_T: NDArray[np.bool_] | None = None


@dataclass
class _Sum:
    change_V: Tensor
    tokens: int = 0
    loss: float = 0.0
    next_tokens: int = 0


def measure(
    model: Any,
    site: Any,
    W_dec_FD: Tensor,
    cases: Sequence[Case],
    *,
    shown: int = SHOWN,
    batch_tokens: int = 4096,
    advance: Callable[[float], None] = lambda share: None,
) -> dict[int, tuple[list[tuple[int, float]], float | None]]:
    """{feature: ([(token, mean change of its log-probability in nats)], mean change of cross-entropy)} when code ×
    decoder row is taken from the site wherever the feature fires, all else as it was. Largest changes first. The
    cross-entropy is of the tokens that follow a firing and that the text teaches to write; None where there are none.
    """
    sums: dict[int, _Sum] = {}
    order = sorted(range(len(cases)), key=lambda i: (len(cases[i].ids), i))
    done = 0
    while done < len(order):
        longest = len(cases[order[min(done + 15, len(order) - 1)]].ids)
        size = max(1, min(16, batch_tokens // longest))
        batch = [cases[i] for i in order[done : done + size]]
        _measure_batch(model, site, W_dec_FD, batch, sums)
        done += len(batch)
        advance(done / len(order))
    found: dict[int, tuple[list[tuple[int, float]], float | None]] = {}
    for feature, total in sums.items():
        change_V = total.change_V / total.tokens
        top = change_V.abs().topk(min(shown, len(change_V))).indices.tolist()
        loss = total.loss / total.next_tokens if total.next_tokens else None
        found[feature] = ([(token, float(change_V[token])) for token in top], loss)
    return found


def _measure_batch(model: Any, site: Any, W_dec_FD: Tensor, batch: Sequence[Case], sums: dict[int, _Sum]) -> None:
    from glasshouse.models import Batch, patch

    longest = max(len(case.ids) for case in batch)
    ids_BT = torch.full((len(batch), longest), model.pad_id, dtype=torch.int64)
    mask_BT = torch.zeros(len(batch), longest, dtype=torch.bool)
    for b, case in enumerate(batch):
        ids_BT[b, : len(case.ids)] = torch.from_numpy(case.ids)
        mask_BT[b, : len(case.ids)] = True
    inputs = Batch(ids_BT=ids_BT, mask_BT=mask_BT)
    with torch.no_grad():
        run = model.run(inputs, get=[str(site), "logits"])
        x = run[str(site)].values
        removed = x.clone()
        for b, case in enumerate(batch):
            columns = torch.from_numpy(case.columns).to(x.device)
            step = torch.from_numpy(case.codes)[:, None] * W_dec_FD[case.feature].cpu().float()
            removed[b, columns] -= step.reshape(len(columns), *x.shape[2:]).to(x)
        plain = run["logits"].values
        changed = model.run(inputs, get=["logits"], edits=patch(str(site), removed))["logits"].values
        for b, case in enumerate(batch):
            _add(sums, case, plain[b], changed[b])


def _add(sums: dict[int, _Sum], case: Case, plain_TV: Tensor, changed_TV: Tensor) -> None:
    columns = torch.from_numpy(case.columns).to(plain_TV.device)
    before = plain_TV[columns].float().log_softmax(-1)
    change = changed_TV[columns].float().log_softmax(-1) - before
    total = sums.setdefault(case.feature, _Sum(torch.zeros(change.shape[1])))
    total.change_V += change.sum(0).cpu()
    total.tokens += len(columns)
    inside = case.columns + 1 < len(case.ids)
    if case.learnt_T is not None:
        inside[inside] = case.learnt_T[case.columns[inside] + 1]
    if inside.any():
        following = torch.from_numpy(case.ids[case.columns[inside] + 1]).to(change.device)
        picked = change[torch.from_numpy(inside).to(change.device)].gather(1, following[:, None])
        total.loss -= float(picked.sum())
        total.next_tokens += len(following)
