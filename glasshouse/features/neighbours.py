"""Which features lie near a feature: by the cosine of decoder rows, and by firing on the same tokens.

Legend: F features, D width, K most features active on a token, R tokens, B features of a block of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glasshouse.features.spill import Spill

NEAREST = 8
FEWEST_TOGETHER = 3  # tokens on which two features must fire together to be called near
PAIRS_PER_TOKEN = 2048  # beyond this, counting pairs would take longer than the pass itself
PAIR_BYTES = 64 << 20  # of the pairs of some tokens, K × K int64 each, that are counted at once


def by_decoder(W_dec_FD: Tensor, nearest: int = NEAREST) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(indices, cosines), each (F, nearest), of the features with the most similar decoder rows, nearest first."""
    unit_FD = torch.nn.functional.normalize(W_dec_FD.float(), dim=1)
    nearest = min(nearest, len(unit_FD) - 1)
    found = []
    for first in range(0, len(unit_FD), 1024):
        cosine_BF = unit_FD[first : first + 1024] @ unit_FD.T
        cosine_BF[torch.arange(len(cosine_BF)), torch.arange(first, first + len(cosine_BF))] = -2.0
        found.append(cosine_BF.topk(nearest, dim=1))
    indices = torch.cat([one.indices for one in found]).cpu().numpy()
    return indices, torch.cat([one.values for one in found]).cpu().numpy()


def by_cofiring(
    spill: Spill, memory: int, nearest: int = NEAREST, advance: Callable[[float], None] = lambda share: None
) -> tuple[NDArray[np.int64], NDArray[np.float32], dict[str, object]]:
    """(indices, jaccards), each (F, nearest), −1 where there is none, and what was counted.

    The table of pairs (F × F counts of 4 bytes) is exact over the whole pass where it fits `memory`. Else it is made
    in blocks of rows over a sample of chunks spread evenly, as many as keep the work the same.
    """
    F = spill.n_features
    rows = F if memory >= 4 * F * F else max(1, memory // (4 * (F + 1)))
    blocks = -(-F // rows)
    pairs = sum(_pairs(spill, chunk) for chunk in range(min(spill.chunks, 4)))
    tokens = sum(int(spill.read(chunk, "kept")[0].sum()) for chunk in range(min(spill.chunks, 4)))
    share = min(1.0, 1 / blocks, PAIRS_PER_TOKEN * tokens / max(pairs, 1))
    used = np.unique(np.linspace(0, spill.chunks - 1, max(1, round(share * spill.chunks))).astype(int)).tolist()
    firings_F = sum((spill.counts(chunk) for chunk in used), np.zeros(F, np.int64))
    nearest = min(nearest, F - 1)
    indices, jaccards = np.zeros((F, nearest), np.int64), np.zeros((F, nearest), np.float32)
    for block, first in enumerate(range(0, F, rows)):
        advance(block / blocks)
        table_BF = _count(spill, used, first, min(first + rows, F))
        _nearest(table_BF, firings_F, first, nearest, indices, jaccards)
    seen = sum(int(spill.read(chunk, "kept")[0].sum()) for chunk in used)
    exact = len(used) == spill.chunks
    return indices, jaccards, {"exact": exact, "tokens": seen}


def _pairs(spill: Spill, chunk: int) -> int:
    """Pairs of features that fire together in a chunk."""
    counts_R = np.bincount(spill.read(chunk, "row")[0])
    return int((counts_R.astype(np.int64) * (counts_R - 1) // 2).sum())


def _count(spill: Spill, chunks: list[int], first: int, end: int) -> Tensor:
    """Tokens on which features `first` to `end` and each other feature both fire: int32 (B, F)."""
    F, whole = spill.n_features, (first, end) == (0, spill.n_features)
    table = torch.zeros((end - first + 1) * (F + 1), dtype=torch.int32)  # last row and column: padding
    for chunk in chunks:
        for features_RK in _padded(*spill.rows(chunk), F):
            width = features_RK.shape[1]
            if whole:  # each pair once; the two halves are added at the end
                pairs = [features_RK[:, i : i + 1] * (F + 1) + features_RK[:, i + 1 :] for i in range(width - 1)]
            else:
                inside = (features_RK >= first) & (features_RK < end)
                row_RK = torch.where(inside, features_RK - first, end - first)
                pairs = [row_RK[:, i : i + 1] * (F + 1) + features_RK for i in range(width)]
            if pairs:
                flat = torch.cat(pairs, 1).reshape(-1)
                table.scatter_add_(0, flat, torch.ones(1, dtype=torch.int32).expand(len(flat)))
    table_BF = table.view(end - first + 1, F + 1)[: end - first, :F]
    if whole:
        for a in range(0, F, 512):  # symmetric in place, a band at a time: no second table
            band = table_BF[a : a + 512, a:] + table_BF[a:, a : a + 512].T
            table_BF[a : a + 512, a:] = band
            table_BF[a:, a : a + 512] = band.T
    return table_BF


def _padded(feature_N: NDArray[np.int64], row_N: NDArray[np.int64], pad: int) -> Iterator[Tensor]:
    """The features of each row side by side, (R, K) int64, rows of like numbers together so that little is padding, and
    of as many rows as keep R × K × K within PAIR_BYTES."""
    counts_R = np.bincount(row_N)
    start_R = np.cumsum(counts_R) - counts_R
    order = np.argsort(counts_R, kind="stable")
    order = order[counts_R[order] > 1]
    while len(order):
        width = int(counts_R[order[-1]])
        rows = max(1, min(2048, PAIR_BYTES // (8 * width * width)))
        order, part = order[:-rows], order[-rows:]
        slot = np.arange(width)
        at = np.minimum(start_R[part][:, None] + slot, len(feature_N) - 1)
        yield torch.from_numpy(np.where(slot < counts_R[part][:, None], feature_N[at], pad))


def _nearest(
    table_BF: Tensor,
    firings_F: NDArray[np.int64],
    first: int,
    nearest: int,
    indices: NDArray[np.int64],
    jaccards: NDArray[np.float32],
) -> None:
    """Fill rows of `indices` and `jaccards` from the counts of a block."""
    n_F = torch.from_numpy(firings_F).float()
    for a in range(0, len(table_BF), 512):
        both = table_BF[a : a + 512].float()
        jaccard = both / (n_F[first + a : first + a + len(both), None] + n_F - both).clamp(min=1)
        jaccard[both < FEWEST_TOGETHER] = -1.0
        jaccard[torch.arange(len(both)), torch.arange(first + a, first + a + len(both))] = -1.0
        best = jaccard.topk(nearest, dim=1)
        rows = slice(first + a, first + a + len(both))
        jaccards[rows] = best.values.numpy()
        indices[rows] = torch.where(best.values > 0, best.indices, -1).numpy()
