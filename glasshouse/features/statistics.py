"""From firings to statistics: rates with intervals, histograms, tokens, peaks.

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

from glasshouse.features.spill import Firings

BINS = 20  # of the histogram of activations
TOP_TOKENS = 12
DENSE_KEYS = 1 << 24  # keys that are counted in an array rather than sorted
DENSE = 0.1
Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Text:
    """What was read. ids_CT: int32, BOS in column 0 where `bos`. doc_C: document of a context, counted from 0 among
    those read. key_D: hash of a document's text. kind_D: index into `kinds`. char_C: character of the document at which
    the context begins. kept_CT: positions that were encoded (no padding, no BOS, no outlier)."""

    ids_CT: NDArray[np.int32]
    length_C: NDArray[np.int32]
    doc_C: NDArray[np.int64]
    char_C: NDArray[np.int64]
    kept_CT: NDArray[np.bool_]
    names: Sequence[str]
    key_D: NDArray[np.uint64]
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


def seeded_hash(*keys: NDArray[Any] | int) -> NDArray[np.uint64]:
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

    rate = Σ n_d / Σ N_d over documents d, its interval that of `Estimate.clustered_proportion`.
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
    spread_F = rate_F * (1 - rate_F)
    with np.errstate(divide="ignore", invalid="ignore"):
        effective_F = np.nan_to_num(spread_F * total**2 / (factor * np.maximum(squares_F, 0)), nan=0.0)
    effective_F = np.where(spread_F > 0, np.minimum(effective_F, total), clusters)
    centre_F = (rate_F * effective_F + Z95**2 / 2) / (effective_F + Z95**2)
    half_F = Z95 * np.sqrt(spread_F * effective_F + Z95**2 / 4) / (effective_F + Z95**2)
    kinds = np.bincount(feature * len(text.kinds) + text.kind_D[doc], firings, F * len(text.kinds))
    return {
        "firings": n_F.astype(np.int64),
        "contexts": np.bincount(peaks.feature, minlength=F),
        "documents": np.bincount(feature, minlength=F),
        "rate": rate_F,
        "rate_low": np.maximum(centre_F - half_F, 0.0),
        "rate_high": np.minimum(centre_F + half_F, 1.0),
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
