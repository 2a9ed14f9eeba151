"""A plain label for each feature: the token or pattern that explains most of its firings, scored on unseen documents.

A candidate is a value of a view (`views.py`: the token, the one before it, how its line begins, …), or up to
`MOST_VALUES` of them: it says that the feature fires where the view has that value. Its precision is the share of those
positions at which the feature fires; its recall the share of the feature's activation that they hold, so that a strong
firing counts for more than a weak one. On half of the documents the candidate with the best F1 is chosen; on the other
half it is scored. What scores too low is no label: "unclear".

Legend: P positions that were encoded, N firings, F features of a block, D documents, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.features.spill import Firings
from glasshouse.features.statistics import Z95, group_sums, place_in_group, seeded_hash
from glasshouse.features.views import View, Views

CLEAR_F1 = 0.5  # a label must reach this F1 on documents it was not made from, and beat the baseline beyond doubt
MADE_FROM = 1000  # firings of a feature that candidates are made from
FEWEST_FIRINGS, FEWEST_DOCUMENTS = 10, 3  # with fewer on either side nothing is claimed
MOST_VALUES = 5
VALUE_COST = 0.01  # a further value must raise F1 by this much: shorter labels are better labels


@dataclass
class _Best:
    """The best candidate of each feature so far."""

    score_F: NDArray[np.float64]
    view_F: NDArray[np.int64]
    values: list[tuple[int, ...]]


def label_block(firings: Firings, views: Views, F: int, first_feature: int, seed: int) -> list[dict[str, Any]]:
    """For each feature of the block, the columns of a label (see docs/formats.md); firings of other contexts than
    those of the views are left aside."""
    firings = firings.take(firings.context < len(views.index_CT))
    position_N = views.index_CT[firings.context, firings.column].astype(np.int64)
    making_N = views.making_P[position_N]
    sides = [
        Side(firings.feature[side_N], position_N[side_N], firings.value[side_N].astype(np.float64))
        for side_N in (making_N, ~making_N)
    ]
    best = _make(sides[0], views, F, first_feature, seed)
    return _score(sides[1], views, F, best)


@dataclass(frozen=True)
class Side:
    """Firings on the side of the documents that makes labels, or on the one that scores them, by feature."""

    feature: NDArray[np.int64]
    position: NDArray[np.int64]
    activation: NDArray[np.float64]


def _f1(precision: Any, recall: Any) -> Any:
    return 2 * precision * recall / np.maximum(precision + recall, 1e-12)


def _make(side: Side, views: Views, F: int, first_feature: int, seed: int) -> _Best:
    """The candidate with the best F1 on the making side, from at most MADE_FROM firings of each feature."""
    feature, position = side.feature, side.position
    n_F = np.bincount(feature, minlength=F).astype(np.float64)
    order = np.lexsort((seeded_hash(seed, feature + first_feature, position), feature))
    some = order[place_in_group(feature[order]) < MADE_FROM]
    feature, position, activation = feature[some], position[some], side.activation[some]
    scale_F = n_F / np.maximum(np.bincount(feature, minlength=F), 1)
    sum_F = np.maximum(np.bincount(feature, activation, F), 1e-12)
    best = _Best(np.full(F, -1.0), np.zeros(F, np.int64), [()] * F)
    for number, view in enumerate(views.views):
        code = view.code_P[position]
        known = code >= 0
        keys, counts, sums = group_sums(feature[known] * view.size + code[known], F * view.size, activation[known])
        owner, value = keys // view.size, keys % view.size
        often = counts >= 3
        owner, value, hits = owner[often], value[often], counts[often] * scale_F[owner[often]]
        _consider(best, number, view, owner, value, hits, views.counts[number][value], sums[often] / sum_F[owner])
    return best


def _consider(
    best: _Best,
    number: int,
    view: View,
    owner: NDArray[np.int64],
    value: NDArray[np.int64],
    hits: NDArray[np.float64],
    total: NDArray[np.int64],
    recall: NDArray[np.float64],
) -> None:
    """Put a view's candidates forward: each value alone, and the first few of the weightiest in order of precision.
    (With all firings alike, the set of values with the best F1 is such a prefix.)"""
    order = np.lexsort((value, -recall, owner))
    order = order[place_in_group(owner[order]) < (2 * MOST_VALUES if view.several else 1 << 30)]
    owner, value, hits, recall = owner[order], value[order], hits[order], recall[order]
    total = np.maximum(total[order], 1)
    alone = _f1(np.minimum(hits / total, 1.0), recall) - view.cost
    _offer(best, number, owner, alone, lambda i: (int(value[i]),))
    if not view.several or not len(owner):
        return
    order = np.lexsort((value, -hits / total, owner))
    owner, value, hits, recall, total = owner[order], value[order], hits[order], recall[order], total[order]
    place = place_in_group(owner)
    starts = np.arange(len(owner)) - place
    hits, total, recall = (_running(numbers, starts) for numbers in (hits, total, recall))
    together = _f1(np.minimum(hits / total, 1.0), recall) - view.cost - VALUE_COST * place
    together[place >= MOST_VALUES] = -1.0
    _offer(best, number, owner, together, lambda i: tuple(int(v) for v in value[starts[i] : i + 1]))


def _running(numbers: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[Any]:
    """Sums from the start of each group up to each element."""
    sums = np.cumsum(numbers)
    return sums - (sums - numbers)[starts]


def _offer(
    best: _Best,
    number: int,
    owner: NDArray[np.int64],
    score: NDArray[np.float64],
    values: Callable[[int], tuple[int, ...]],
) -> None:
    order = np.lexsort((-score, owner))
    order = order[place_in_group(owner[order]) == 0]
    for i in order[score[order] > best.score_F[owner[order]]]:
        f = owner[i]
        best.score_F[f], best.view_F[f], best.values[f] = score[i], number, values(i)


def _score(side: Side, views: Views, F: int, best: _Best) -> list[dict[str, Any]]:
    """Exact hits of each feature's candidate on the scoring side, by document, and what follows from them."""
    feature, position, activation = side.feature, side.position, side.activation
    D, doc = len(views.making_D), views.doc_P[position].astype(np.int64)
    hit_N = np.zeros(len(feature), bool)
    wanted = np.full((F, MOST_VALUES), -2, np.int64)
    for f, values in enumerate(best.values):
        wanted[f, : len(values)] = values
    for number in np.unique(best.view_F):
        at = np.flatnonzero(best.view_F[feature] == number)
        code = views.views[number].code_P[position[at]]
        hit_N[at] = (code[:, None] == wanted[feature[at]]).any(1)
    start = np.searchsorted(feature, np.arange(F + 1))
    common_D = views.occurrences(0, (views.commonest,))
    common_N = views.views[0].code_P[position] == views.commonest
    tokens_D = views.tokens_D
    rows = []
    for f in range(F):
        part = slice(start[f], start[f + 1])
        if not best.values[f]:
            rows.append(_row(None, None))
            continue
        by_document = lambda at, part=part: Detected(
            np.bincount(doc[part][at], minlength=D), np.bincount(doc[part][at], activation[part][at], D)
        )
        hits, fired, common = (by_document(at[part]) for at in (hit_N, np.ones_like(hit_N), common_N))
        said_D = views.occurrences(int(best.view_F[f]), best.values[f])
        scores = detector_scores(hits, fired, said_D, tokens_D)
        always = detector_scores(fired, fired, tokens_D, tokens_D).get("f1", 0.0)
        scores["baseline_f1"] = max(detector_scores(common, fired, common_D, tokens_D).get("f1", 0.0), always)
        rows.append(_row(views.views[best.view_F[f]].describe(list(best.values[f])), scores))
    return rows


@dataclass(frozen=True)
class Detected:
    """Positions of a kind in each document: how many, and the sum of the feature's activations there."""

    count_D: NDArray[Any]
    activation_D: NDArray[Any]


def detector_scores(
    hits: Detected, fired: Detected, said_D: NDArray[np.int64], tokens_D: NDArray[np.int64]
) -> dict[str, float]:
    """F1 and AUROC of a yes-or-no detector with 95% intervals clustered by document. hits: positions where it said yes
    and the feature fired; fired: where the feature fired; said_D, tokens_D: positions where it said yes, and all.

    precision = hits / said, recall = activation at hits / activation, F1 their harmonic mean. The ROC of a yes-or-no
    answer has one corner, so AUROC = (recall + 1 − FPR) / 2. Both variances are linearised (Cochran 1977, §6.3).
    """
    used = tokens_D > 0
    n = int(used.sum())
    hit, mass, count, total, said, tokens = (
        a[used].astype(np.float64)
        for a in (hits.count_D, hits.activation_D, fired.count_D, fired.activation_D, said_D, tokens_D)
    )
    quiet = tokens - count
    if n < 2 or not count.sum() or not said.sum() or not quiet.sum():
        return {}
    precision, recall, fpr = hit.sum() / said.sum(), mass.sum() / total.sum(), (said - hit).sum() / quiet.sum()
    f1, auroc = float(_f1(precision, recall)), (recall + 1 - fpr) / 2
    of_precision, of_recall = (hit - precision * said) / said.sum(), (mass - recall * total) / total.sum()
    both = max(precision + recall, 1e-12)
    spread_f1 = 2 * (recall**2 * of_precision + precision**2 * of_recall) / both**2
    spread_auroc = (of_recall - (said - hit - fpr * quiet) / quiet.sum()) / 2
    half_f1, half_auroc = (Z95 * float(np.sqrt(n / (n - 1) * (s**2).sum())) for s in (spread_f1, spread_auroc))
    return {
        "auroc": auroc, "auroc_low": max(0.0, auroc - half_auroc), "auroc_high": min(1.0, auroc + half_auroc),
        "f1": f1, "f1_low": max(0.0, f1 - half_f1), "f1_high": min(1.0, f1 + half_f1),
        "precision": precision, "recall": recall,
        "firings": float(count.sum()), "fired_documents": float((count > 0).sum()), "label_documents": n,
    }  # fmt: skip


def _row(guess: str | None, scores: dict[str, float] | None) -> dict[str, Any]:
    """The label columns of one feature; a guess that is not good enough is kept as `best_guess` only."""
    keys = (
        "auroc", "auroc_low", "auroc_high", "f1", "f1_low", "f1_high", "precision", "recall", "baseline_f1",
        "label_documents",
    )  # fmt: skip
    found = scores if scores and "f1" in scores else {}
    clear = bool(
        found
        and found["firings"] >= FEWEST_FIRINGS
        and found["fired_documents"] >= FEWEST_DOCUMENTS
        and found["f1"] >= CLEAR_F1
        and found["f1_low"] > found["baseline_f1"]
    )
    row = {"label": guess if clear else None, "best_guess": guess} | {key: found.get(key) for key in keys}
    if row["label_documents"] is not None:
        row["label_documents"] = int(row["label_documents"])
    return row
