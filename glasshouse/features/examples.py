"""Examples of features: the top ones, and some of each exact quantile bin of peaks, no text twice.

Legend: F features of the block, C contexts, T columns of a context, D documents, B bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.features.schema import TOP
from glasshouse.features.spill import Firings
from glasshouse.features.statistics import Peaks, Text, earlier_alike, place_in_group, seeded_hash

QUANTILES = 5  # bins of peaks
TOP_EXAMPLES = 12
BIN_EXAMPLES = 3
SAME_DOCUMENT = 3  # top examples from one document at most
# Two examples show the same text if these tokens about the peak are equal: licences and headers stand in many files.
BEFORE, AFTER = 8, 2
TOP_CANDIDATES, BIN_CANDIDATES = 128, 12


@dataclass(frozen=True)
class Examples:
    """Chosen examples: `peak` indexes Peaks; sorted by feature, bin (TOP first), rank."""

    feature: NDArray[np.int64]
    bin: NDArray[np.int64]
    rank: NDArray[np.int64]
    peak: NDArray[np.int64]


def choose_examples(
    peaks: Peaks, text: Text, F: int, first_feature: int, seed: int
) -> tuple[Examples, list[list[dict[str, Any]]]]:
    """(examples, bins): the top ones and some of each exact quantile bin of the peaks, no text twice.

    Bin b of n peaks in ascending order holds ranks ⌊b·n/B⌋ to ⌊(b+1)·n/B⌋, with fewer bins where n < B: its count is
    true, its examples a seeded random draw.
    """
    order = np.lexsort((peaks.context, peaks.peak, peaks.feature))  # ascending peaks; ties by context
    n_F = np.bincount(peaks.feature, minlength=F)
    start_F = np.cumsum(n_F) - n_F
    top = _top(peaks, text, order, n_F, start_F)
    bins_F = np.minimum(n_F, QUANTILES)
    edges_FB = start_F[:, None] + np.arange(QUANTILES + 1) * n_F[:, None] // np.maximum(bins_F, 1)[:, None]
    drawn = _drawn(peaks, text, order, edges_FB, bins_F, top, first_feature, seed)
    feature = np.r_[peaks.feature[top[0]], peaks.feature[drawn[0]]]
    number = np.r_[np.full(len(top[0]), TOP), drawn[1]]
    peak = np.r_[top[0], drawn[0]]
    rank = earlier_alike(feature, number)
    final = np.lexsort((rank, number, feature))
    examples = Examples(feature[final], number[final], rank[final], peak[final])
    ordered = peaks.peak[order]
    rows = [
        [
            {
                "low": float(ordered[edges[b]]),
                "high": float(ordered[edges[b + 1] - 1]),
                "count": int(edges[b + 1] - edges[b]),
            }
            for b in range(bins)
        ]
        for edges, bins in zip(edges_FB, bins_F, strict=True)
    ]
    return examples, rows


def _text_keys(peaks: Peaks, text: Text, at: NDArray[np.int64]) -> NDArray[np.int64]:
    """A hash of the tokens about each peak, equal where the text is."""
    columns = peaks.column[at, None] + np.arange(-BEFORE, AFTER + 1)
    inside = (columns >= int(text.bos)) & (columns < text.length_C[peaks.context[at], None])
    ids = text.ids_CT[peaks.context[at, None], np.where(inside, columns, 0)].astype(np.int64)
    ids = np.where(inside, ids + 1, 0)
    return seeded_hash(*(ids[:, i] for i in range(ids.shape[1]))).view(np.int64)


def _top(
    peaks: Peaks, text: Text, order: NDArray[np.int64], n_F: NDArray[np.int64], start_F: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(indices into peaks, text keys) of the top examples: the largest peaks, no text twice, no document often."""
    counts = np.minimum(n_F, TOP_CANDIDATES)
    feature = np.repeat(np.arange(len(n_F)), counts)
    at = order[(start_F + n_F)[feature] - 1 - place_in_group(feature)]
    keys = _text_keys(peaks, text, at)
    fresh = earlier_alike(feature, keys) == 0
    feature, at, keys = feature[fresh], at[fresh], keys[fresh]
    few = earlier_alike(feature, text.doc_C[peaks.context[at]]) < SAME_DOCUMENT
    # A feature of few documents keeps them all: those that were too many come last.
    ordered = np.lexsort((np.arange(len(at)), ~few, feature))
    feature, at, keys = feature[ordered], at[ordered], keys[ordered]
    chosen = np.flatnonzero(place_in_group(feature) < TOP_EXAMPLES)
    by_peak = chosen[np.lexsort((peaks.context[at[chosen]], -peaks.peak[at[chosen]], feature[chosen]))]
    return at[by_peak], keys[by_peak]


def _drawn(
    peaks: Peaks,
    text: Text,
    order: NDArray[np.int64],
    edges_FB: NDArray[np.int64],
    bins_F: NDArray[np.int64],
    top: tuple[NDArray[np.int64], NDArray[np.int64]],
    first_feature: int,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(indices into peaks, bin) of examples drawn from the bins, none with the text of another example."""
    feature, number = np.nonzero(np.arange(QUANTILES) < bins_F[:, None])
    low, high = edges_FB[feature, number], edges_FB[feature, number + 1]
    draw = np.arange(BIN_CANDIDATES)
    random = seeded_hash(seed, (feature + first_feature)[:, None], number[:, None], draw)
    # The fraction random / 2^64 of the bin, from the upper 32 bits: exact in 64-bit integers up to 2^31 peaks.
    place = ((random >> np.uint64(32)).astype(np.int64) * (high - low)[:, None]) >> 32
    use = draw < (high - low)[:, None]  # no more draws than the bin has peaks
    shuffled = np.argsort(np.where(use, random, np.iinfo(np.uint64).max), axis=1)  # of few peaks, each once
    place = np.where((high - low)[:, None] <= BIN_CANDIDATES, shuffled, place)
    at = order[np.minimum(low[:, None] + place, high[:, None] - 1)[use]]
    feature = np.broadcast_to(feature[:, None], use.shape)[use]
    number = np.broadcast_to(number[:, None], use.shape)[use]
    keys = np.r_[top[1], _text_keys(peaks, text, at)]
    owner = np.r_[peaks.feature[top[0]], feature]
    fresh = (earlier_alike(owner, keys) == 0)[len(top[0]) :]
    feature, number, at = feature[fresh], number[fresh], at[fresh]
    few = earlier_alike(feature, number) < BIN_EXAMPLES
    return at[few], number[few]


def firings_of(
    firings: Firings, peaks: Peaks, examples: Examples
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """(example, column, value) of every firing of each example's feature in its context, among these firings."""
    width = int(max(firings.context.max(initial=0), peaks.context.max(initial=0))) + 1
    keys = firings.feature * width + firings.context
    wanted = examples.feature * width + peaks.context[examples.peak]
    low, high = np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")
    lengths = high - low
    ends = np.cumsum(lengths)
    example = np.repeat(np.arange(len(lengths)), lengths)
    at = np.arange(len(example)) - (ends - lengths - low)[example]
    return example, firings.column[at], firings.value[at]
