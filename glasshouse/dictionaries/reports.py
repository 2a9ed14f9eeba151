"""What a dictionary does on text it was not trained on: how much it explains, how sparsely, and what the model loses.

Legend: N rows, D width, F features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from glasshouse.dictionaries.dictionary import Dictionary
from glasshouse.types import Estimate, UserError

DENSE = 0.1  # a feature that is active on more than this share of tokens is called dense


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
        "clustered_by": "row" if documents_N is None else "document",
        "unexplained": _estimate(miss_N, variance_N, documents_N).to_json(),
        "l0": _estimate(active_N, ones_N, documents_N).to_json(),
        "error_norm": _estimate(relative_N, ones_N, documents_N).to_json(),
        "dead": float((fired_F == 0).double().mean()),
        "dense": float((rates_F > DENSE).double().mean()),
    }


def _estimate(sums_N: Tensor, counts_N: Tensor, documents_N: Tensor | None, unit: str = "") -> Estimate:
    if documents_N is not None:
        _, groups_N = documents_N.cpu().unique(return_inverse=True)
        size = int(groups_N.max()) + 1
        sums_N = torch.zeros(size, dtype=torch.float64).index_add_(0, groups_N, sums_N)
        counts_N = torch.zeros(size, dtype=torch.float64).index_add_(0, groups_N, counts_N)
    return Estimate.mean(sums_N.tolist(), counts_N.tolist(), unit=unit)


def held_out_report(dictionary: Dictionary, source: Any, *, model: Any = None, rows: int = 16_384) -> dict[str, Any]:
    """`report` on a store's or stream's held-out rows."""
    from glasshouse.dictionaries.learning import sample

    x_ND = sample(source, str(dictionary.site), rows, seed=0, held_out=True)
    return report(dictionary, x_ND)
