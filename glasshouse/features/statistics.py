"""From firings to statistics: rates with intervals, histograms, tokens, quantile bins of peaks, and chosen examples.

Everything is counted for a block of features at once; a block is as large as memory allows.

Legend: F features of the block, N firings, P peaks (one for each context in which a feature fires), C contexts,
T columns of a context, D documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.features.schema import TOP
from glasshouse.features.spill import Firings

BINS = 20  # of the histogram of activations
QUANTILES = 5  # bins of peaks
TOP_EXAMPLES = 12
BIN_EXAMPLES = 3
TOP_TOKENS = 12
SAME_DOCUMENT = 3  # top examples from one document at most
# Two examples show the same text if these tokens about the peak are equal: licences and headers stand in many files.
BEFORE, AFTER = 8, 2
TOP_CANDIDATES, BIN_CANDIDATES = 128, 12
DENSE_KEYS = 1 << 24  # keys that are counted in an array rather than sorted
DENSE = 0.1
Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Text:
    """What was read. ids_CT: int32, BOS in column 0 where `bos`. doc_C: document of a context, counted from 0 among
    those read. kind_D: index into `kinds`. char_C: character of the document at which the context begins.
    kept_CT: positions that were encoded (no padding, no BOS, no outlier)."""

    ids_CT: NDArray[np.int32]
    length_C: NDArray[np.int32]
    doc_C: NDArray[np.int64]
    char_C: NDArray[np.int64]
    kept_CT: NDArray[np.bool_]
    names: Sequence[str]
    kind_D: NDArray[np.int64]
    kinds: Sequence[str]
    bos: bool
    vocabulary: int

    @property
    def context(self) -> int:
        """Tokens of text in the longest context."""
        return self.ids_CT.shape[1] - self.bos

    @cached_property
    def tokens_D(self) -> NDArray[np.int64]:
        """Tokens encoded of each document."""
        return np.bincount(self.doc_C, self.kept_CT.sum(1), len(self.names)).astype(np.int64)

    @cached_property
    def tokens(self) -> int:
        return int(self.kept_CT.sum())

    @cached_property
    def tokens_of_kind(self) -> NDArray[np.int64]:
        return np.bincount(self.kind_D, self.tokens_D, len(self.kinds)).astype(np.int64)

    @cached_property
    def position_edges(self) -> list[int]:
        """0, 1, 2, 4, 8, … to the length of a context: where positions differ most, bins are finest."""
        edges = [0, 1]
        while edges[-1] < self.context:
            edges.append(min(edges[-1] * 2, self.context))
        return edges

    @cached_property
    def bin_of_position(self) -> NDArray[np.int64]:
        return np.searchsorted(self.position_edges, np.arange(self.context), side="right") - 1

    @cached_property
    def position_tokens(self) -> list[int]:
        per_position = self.kept_CT[:, int(self.bos) :].sum(0)
        return np.bincount(self.bin_of_position, per_position).astype(int).tolist()


# -- counting --------------------------------------------------------------------------------------------------------


def group_sums(
    keys: NDArray[np.int64], size: int, weights: NDArray[Any] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """(distinct keys, ascending; how often each occurs; sum of its weights). Keys are below `size`."""
    if not len(keys):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    if size <= DENSE_KEYS:
        counts = np.bincount(keys, minlength=size)
        found = np.flatnonzero(counts)
        sums = np.zeros(len(found)) if weights is None else np.bincount(keys, weights, size)[found].astype(np.float64)
        return found.astype(np.int64), counts[found].astype(np.int64), sums
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[first, len(keys)])
    sums = np.zeros(len(first)) if weights is None else np.add.reduceat(weights[order].astype(np.float64), first)
    return ordered[first], counts.astype(np.int64), sums.astype(np.float64)


def place_in_group(sorted_groups: NDArray[Any]) -> NDArray[np.int64]:
    """0, 1, 2, … within each run of equal values."""
    n = len(sorted_groups)
    new = np.r_[True, sorted_groups[1:] != sorted_groups[:-1]] if n else np.zeros(0, bool)
    return np.arange(n) - np.maximum.accumulate(np.where(new, np.arange(n), 0))


def earlier_alike(*keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each element, how many before it have the same keys."""
    order = np.lexsort(keys[::-1])  # stable, so elements of a group keep their order
    new = np.zeros(len(order), bool)
    if len(order):
        new[0] = True
        for key in keys:
            new[1:] |= np.diff(key[order]) != 0
    result = np.zeros(len(order), np.int64)
    result[order] = place_in_group(np.cumsum(new))
    return result


def seeded_hash(*keys: NDArray[np.int64] | int) -> NDArray[np.uint64]:
    """A hash of the keys (splitmix64, Steele et al. 2014): random choices that depend on no order of work."""
    state = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            state = (np.asarray(key).astype(np.uint64) ^ state) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state


# -- one block of features -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Peaks:
    """One row for each feature and context in which it fires, sorted by feature, then context."""

    feature: NDArray[np.int64]
    context: NDArray[np.int64]
    column: NDArray[np.int64]
    peak: NDArray[np.float32]
    firings: NDArray[np.int64]

    def take(self, index: NDArray[Any]) -> Peaks:
        return Peaks(
            self.feature[index], self.context[index], self.column[index], self.peak[index], self.firings[index]
        )


def peaks_of(firings: Firings) -> Peaks:
    """The largest activation in each context, where it first occurs, and how often the feature fires there."""
    if not len(firings):
        nothing = np.zeros(0, np.int64)
        return Peaks(nothing, nothing, nothing, np.zeros(0, np.float32), nothing)
    feature, context = firings.feature, firings.context
    first = np.flatnonzero(np.r_[True, (feature[1:] != feature[:-1]) | (context[1:] != context[:-1])])
    counts = np.diff(np.r_[first, len(firings)])
    peak = np.maximum.reduceat(firings.value, first)
    group = np.repeat(np.arange(len(first)), counts)
    at = np.flatnonzero(firings.value == peak[group])
    at = at[np.r_[True, group[at][1:] != group[at][:-1]]]
    return Peaks(feature[first], context[first], firings.column[at], peak, counts)


@dataclass(frozen=True)
class Counts:
    """What a part of a block's firings adds up to; parts with different contexts are joined by `+`."""

    n_features: int
    histogram: NDArray[np.int64]  # (F, BINS)
    positions: NDArray[np.int64]  # (F, position bins)
    token_keys: NDArray[np.int64]  # feature × vocabulary + token
    token_counts: NDArray[np.int64]
    token_sums: NDArray[np.float64]
    peaks: Peaks

    def __add__(self, other: Counts) -> Counts:
        keys = np.r_[self.token_keys, other.token_keys]
        order = np.argsort(keys, kind="stable")
        first = np.flatnonzero(np.r_[True, np.diff(keys[order]) != 0]) if len(keys) else np.zeros(0, np.int64)
        both = Peaks(*(np.r_[getattr(self.peaks, f), getattr(other.peaks, f)] for f in Peaks.__dataclass_fields__))
        return Counts(
            self.n_features,
            self.histogram + other.histogram,
            self.positions + other.positions,
            keys[order][first],
            np.add.reduceat(np.r_[self.token_counts, other.token_counts][order], first),
            np.add.reduceat(np.r_[self.token_sums, other.token_sums][order], first),
            both.take(np.lexsort((both.context, both.feature))),
        )


def count(firings: Firings, text: Text, max_F: NDArray[np.float32]) -> Counts:
    """max_F: each feature's largest activation of the whole pass, where its histogram ends."""
    F, feature = len(max_F), firings.feature
    share = firings.value / np.maximum(max_F, np.finfo(np.float32).tiny)[feature]
    of_value = np.minimum((share * BINS).astype(np.int64), BINS - 1)
    of_position = text.bin_of_position[firings.column - text.bos]
    position_bins = len(text.position_edges) - 1
    token = text.ids_CT[firings.context, firings.column].astype(np.int64)
    keys, counts, sums = group_sums(feature * text.vocabulary + token, F * text.vocabulary, firings.value)
    return Counts(
        F,
        np.bincount(feature * BINS + of_value, minlength=F * BINS).reshape(F, BINS),
        np.bincount(feature * position_bins + of_position, minlength=F * position_bins).reshape(F, position_bins),
        keys,
        counts,
        sums,
        peaks_of(firings),
    )


def rates(peaks: Peaks, text: Text, F: int) -> dict[str, NDArray[Any]]:
    """Firings, contexts, documents and kinds of each feature; its rate with the 95% interval clustered by document.

    rate = Σ n_d / Σ N_d over documents d; its variance is linearised as in `Estimate.mean` (Cochran 1977, §6.3).
    """
    D, tokens_D = len(text.names), text.tokens_D
    keys, _, firings = group_sums(peaks.feature * D + text.doc_C[peaks.context], F * D, peaks.firings)
    feature, doc = keys // D, keys % D
    n_F = np.bincount(feature, firings, F)
    total = text.tokens
    rate_F = n_F / total
    squares_F = (
        np.bincount(feature, firings**2, F)
        - 2 * rate_F * np.bincount(feature, firings * tokens_D[doc], F)
        + rate_F**2 * float((tokens_D.astype(float) ** 2).sum())
    )
    clusters = int((tokens_D > 0).sum())
    factor = clusters / (clusters - 1) if clusters > 1 else np.inf
    with np.errstate(invalid="ignore"):
        half_F = np.nan_to_num(Z95 * np.sqrt(factor * np.maximum(squares_F, 0)) / total, nan=1.0, posinf=1.0)
    # A feature that never fired has a variance of 0; the rule of three bounds it: 3 / n (Hanley & Lippman-Hand 1983).
    high_F = np.where(n_F > 0, rate_F + half_F, min(1.0, 3 / max(clusters, 1)))
    kinds = np.bincount(feature * len(text.kinds) + text.kind_D[doc], firings, F * len(text.kinds))
    return {
        "firings": n_F.astype(np.int64),
        "contexts": np.bincount(peaks.feature, minlength=F),
        "documents": np.bincount(feature, minlength=F),
        "rate": rate_F,
        "rate_low": np.maximum(rate_F - half_F, 0.0),
        "rate_high": np.minimum(high_F, 1.0),
        "kinds": kinds.reshape(F, len(text.kinds)),
    }


def top_tokens(counts: Counts, text: Text) -> list[list[dict[str, Any]]]:
    """The tokens on which each feature fires most often."""
    feature, token = counts.token_keys // text.vocabulary, counts.token_keys % text.vocabulary
    order = np.lexsort((token, -counts.token_counts, feature))
    order = order[place_in_group(feature[order]) < TOP_TOKENS]
    rows: list[list[dict[str, Any]]] = [[] for _ in range(counts.n_features)]
    mean = counts.token_sums / np.maximum(counts.token_counts, 1)
    for f, t, n, m in zip(feature[order], token[order], counts.token_counts[order], mean[order], strict=True):
        rows[f].append({"token": int(t), "count": int(n), "mean": float(m)})
    return rows


def kind_columns(kinds_FK: NDArray[np.float64], text: Text) -> tuple[list[str], list[list[dict[str, Any]]]]:
    """(kind where it fires most often per token, among those with a tenth of its firings; shares of all kinds)."""
    total_F = np.maximum(kinds_FK.sum(1, keepdims=True), 1e-9)
    share_FK = kinds_FK / total_F
    rate_FK = np.where(share_FK >= 0.1, kinds_FK / np.maximum(text.tokens_of_kind, 1), -1.0)
    best_F = rate_FK.argmax(1)
    shares = [
        [{"kind": text.kinds[k], "share": float(row[k])} for k in np.argsort(-row, kind="stable") if row[k] > 0]
        for row in share_FK
    ]
    return [text.kinds[k] if rows else "" for k, rows in zip(best_F, shares, strict=True)], shares


# -- examples --------------------------------------------------------------------------------------------------------


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
    small = (high - low)[:, None] <= draw  # no more draws than the bin has peaks
    place = np.where((high - low)[:, None] <= BIN_CANDIDATES, draw, place)
    use = ~small
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
