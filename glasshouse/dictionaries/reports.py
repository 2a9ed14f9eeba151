"""What a dictionary does on text it was not trained on: how much it explains, how sparsely, and what the model loses.

Legend: N rows, D width, F features.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from glasshouse.dictionaries.dictionary import Dictionary
from glasshouse.types import Estimate, UserError

SPLICED_WINDOWS = 64  # windows on which the model's loss is taken
DENSE = 0.1  # a feature that is active on more than this share of tokens is called dense
OUTLIER = 10.0  # typical norms above which a position is in no training row, as in a harvest


@torch.no_grad()
def report(dictionary: Dictionary, x_ND: Tensor, *, documents_N: Tensor | None = None) -> dict[str, Any]:
    """Numbers of a dictionary on held-out rows; estimates are clustered by document where documents are known.

    `unexplained`: Σ|x - x̂|² / Σ|x - mean|². `l0`: active features a row. `error_norm`: mean of |x - x̂| / |x|.
    `dead`: share of features that never fire on these rows. `dense`: share that fire on over a tenth of them.
    """
    if len(x_ND) == 0:
        raise UserError("expected held-out rows to report on, found none; harvest more tokens")
    mean_D = x_ND.float().mean(0).to(dictionary.device)
    fired_F = torch.zeros(dictionary.n_features, dtype=torch.int64, device=dictionary.device)
    parts = []
    for chunk in x_ND.split(2048):
        x = chunk.to(dictionary.device, torch.float32)
        codes = dictionary.encode(x)
        miss = (x - dictionary.decode(codes)).square().sum(1)
        active = codes > 0
        fired_F += active.sum(0)
        norm = x.norm(dim=1).clamp(min=1e-9)
        parts.append(torch.stack([miss, (x - mean_D).square().sum(1), active.sum(1).float(), miss.sqrt() / norm]).cpu())
    miss_N, variance_N, active_N, relative_N = torch.cat(parts, dim=1).double()
    ones_N = torch.ones_like(miss_N)
    rates_F = fired_F.double() / len(x_ND)
    return {
        "rows": len(x_ND),
        "clustered_by": "row" if documents_N is None or len(documents_N.unique()) < 2 else "document",
        "unexplained": _estimate(miss_N, variance_N, documents_N).to_json(),
        "l0": _estimate(active_N, ones_N, documents_N).to_json(),
        "error_norm": _estimate(relative_N, ones_N, documents_N).to_json(),
        "dead": float((fired_F == 0).double().mean()),
        "dense": float((rates_F > DENSE).double().mean()),
    }


def _estimate(sums_N: Tensor, counts_N: Tensor, documents_N: Tensor | None, unit: str = "") -> Estimate:
    if documents_N is not None and len(documents_N.unique()) > 1:  # one cluster alone has no interval
        _, groups_N = documents_N.cpu().unique(return_inverse=True)
        size = int(groups_N.max()) + 1
        sums_N = torch.zeros(size, dtype=torch.float64).index_add_(0, groups_N, sums_N)
        counts_N = torch.zeros(size, dtype=torch.float64).index_add_(0, groups_N, counts_N)
    return Estimate.mean(sums_N.tolist(), counts_N.tolist(), unit=unit)


def held_out_report(
    dictionary: Dictionary, source: Any, *, model: Any = None, rows: int = 16_384, windows: int = SPLICED_WINDOWS
) -> dict[str, Any]:
    """`report` on the first held-out rows of a store or stream; with `model`, `spliced_report` on `windows` windows."""
    site = str(dictionary.site)
    x_ND = held_out_rows(source, site, rows)
    numbers = report(dictionary, x_ND, documents_N=_documents(source, len(x_ND)))
    if model is not None:
        bound = source.outlier_threshold(site) if hasattr(source, "outlier_threshold") else None
        reading = source.reading(held_out=True)
        numbers |= spliced_report(dictionary, model, reading, x_ND.mean(0), bound=bound, windows=windows)
    return numbers


def held_out_rows(source: Any, site: str, rows: int) -> Tensor:
    """The first held-out rows in the source's order, float32 (at most `rows`, D)."""
    parts, have = [], 0
    for part in source.batches(site, min(rows, 4096), seed=0, held_out=True):
        parts.append(part[: rows - have].float())
        have += len(parts[-1])
        if have >= rows:
            break
    if have == 0:
        raise UserError(f"expected held-out rows of {site}, found none; harvest more tokens")
    return torch.cat(parts)


def _documents(source: Any, rows: int) -> Tensor | None:
    """The document of each of the first held-out rows, if the source remembers (a store does)."""
    if not hasattr(source, "origin"):
        return None
    windows_N, _ = source.origin(range(rows), held_out=True)
    return torch.from_numpy(source.reading(held_out=True).doc_W)[windows_N.long()]


@torch.no_grad()
def spliced_report(
    dictionary: Dictionary, model: Any, reading: Any, mean_D: Tensor, *, bound: float | None = None,
    windows: int = SPLICED_WINDOWS,
) -> dict[str, Any]:  # fmt: skip
    """What the model's next-token loss is when the site holds x, decode(encode(x)), or the site's mean.

    Over the first `windows` held-out windows, clustered by document, and in them over the `scored_tokens` that the text
    teaches to write (see `Document.unlearned`): what a model never learnt to predict tells nothing of it. What harvests
    leave out is left as it is: a text's BOS token, and positions whose norm is over `bound` (None: 10 × the
    dictionary's typical norm, or none where that is not known), of which `outliers_kept` counts those that are not BOS.
    `loss_recovered` = (mean ablated - spliced) / (mean ablated - whole), 1 is perfect. Cross-entropy is in nats a
    token. For a model without a next-token loss both are None and `not_defined` says why, as for text of which nothing
    is scored; `loss_recovered` is None too where the mean in its place costs the model nothing, as on text that it
    cannot read.
    """
    if model.is_encoder:
        return {"cross_entropy": None, "loss_recovered": None, "not_defined": "the model predicts no next token"}
    (ids_WT, mask_WT), scored_WT = reading.tensors(), reading.scored()
    documents_W = torch.from_numpy(reading.doc_W)[:windows]
    if bound is None:
        bound = math.inf if dictionary.typical_norm is None else OUTLIER * dictionary.typical_norm
    parts = [
        _losses(dictionary, model, ids_WT[rows], mask_WT[rows], scored_WT[rows], mean_D, reading.bos, bound)
        for rows in (slice(i, min(i + 8, windows)) for i in range(0, min(windows, len(ids_WT)), 8))
    ]
    whole_W, spliced_W, ablated_W, counts_W, outliers_W = torch.cat(parts, dim=1).double()
    if not counts_W.sum():
        return {"cross_entropy": None, "loss_recovered": None, "not_defined": "the text teaches to write nothing"}
    cost_W = ablated_W - whole_W
    recovered = _estimate(ablated_W - spliced_W, cost_W, documents_W).to_json() if cost_W.sum() > 0 else None
    return {
        "windows": len(counts_W),
        "scored_tokens": int(counts_W.sum()),
        "outliers_kept": int(outliers_W.sum()),
        "cross_entropy": _estimate(whole_W, counts_W, documents_W, "nats/token").to_json(),
        "cross_entropy_spliced": _estimate(spliced_W, counts_W, documents_W, "nats/token").to_json(),
        "cross_entropy_ablated": _estimate(ablated_W, counts_W, documents_W, "nats/token").to_json(),
        "cross_entropy_added": _estimate(spliced_W - whole_W, counts_W, documents_W, "nats/token").to_json(),
        "loss_recovered": recovered,
        **({} if recovered else {"not_defined": "with the mean in its place the model predicts this text no worse"}),
    }


def _losses(
    dictionary: Dictionary, model: Any, ids_WT: Tensor, mask_WT: Tensor, scored_WT: Tensor, mean_D: Tensor, bos: bool,
    bound: float,
) -> Tensor:  # fmt: skip
    """Nats of each window as it is, spliced, mean-ablated; tokens scored; outliers left as they are: (5, W)."""
    from glasshouse.models import Batch, patch

    site, length = str(dictionary.site), int(mask_WT.sum(1).max())
    batch = Batch(ids_WT[:, :length], mask_WT[:, :length])
    values = model.run(batch, [site], stop=True)[site].values
    x_WTD = values.flatten(2).float()
    outlier_WT = ~(x_WTD.norm(dim=-1) <= bound) & batch.mask_BT.to(x_WTD.device)  # NaN is one too
    outlier_WT[:, 0] &= not bos
    kept_WT = outlier_WT.clone()
    kept_WT[:, 0] |= bos
    scored_WT = scored_WT[:, : length - 1].to(x_WTD.device)
    nats = lambda edits=None: (model.loss(batch, edits=edits).nats_BT[:, :-1] * scored_WT).sum(1)
    losses = [nats()]
    for y_WTD in (dictionary.decode(dictionary.encode(x_WTD)).to(x_WTD.device), mean_D.to(x_WTD).expand_as(x_WTD)):
        y_WTD = torch.where(kept_WT[..., None], x_WTD, y_WTD)
        edit = patch(site, y_WTD.view(values.shape).to(values.dtype))
        losses.append(nats(edit))
    return torch.stack([*losses, scored_WT.sum(1).to(losses[0]), outlier_WT.sum(1).to(losses[0])]).cpu()
