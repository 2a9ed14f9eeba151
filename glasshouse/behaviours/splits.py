"""What came out of a split (A/B): the difference in the share of thumbs up between two versions, by whoever gave them.

    split_results(ws, base, new)["change"]                   # an Estimate as JSON
    labelled_replies(ws, base, new)                          # for later training

The outcome of a chat is the mean of its replies', that of a reply the mean of its thumbs, one a person. Chats are
assigned by chance, so they can be compared unpaired; those without a thumb are counted, and say nothing. No torch.

Legend: N chats, G people.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasshouse.behaviours.agreement import alpha
from glasshouse.behaviours.chats import chats_of, thumbs
from glasshouse.behaviours.peeking import evidence
from glasshouse.behaviours.preferences import CANNOT_TELL
from glasshouse.behaviours.statistics import LEVEL, Scored, mean
from glasshouse.behaviours.versions import Version
from glasshouse.types import Estimate, UserError
from glasshouse.workspace import Workspace


class Outcome(NamedTuple):
    """Of one chat. cluster: who gave its first thumb. new: whether it was with the new version. score: in [0, 1]."""

    cluster: str
    new: bool
    score: float


def split_results(ws: Workspace, base: Version, new: Version) -> dict[str, Any]:
    """As JSON: {"base", "new", "share", "sides", "change", "verdict", "p_anytime", "agreement"}.

    sides: of each version "chats", "with_thumbs", and "up", the share of thumbs up (an estimate, or None). change: new
    less base, or None until both have a thumb; its interval is for one look. p_anytime: against no difference, by
    `evidence` over the first thumb of each chat; it may be looked at whenever, and at 5% decides the verdict, since no
    end was set. agreement: Krippendorff's "alpha" (an estimate, or None) over "replies", how many have thumbs of two
    people or more. Raises `UserError` where no chat was split between the two.
    """
    chats = chats_of(ws, base, new)
    if not chats:
        raise UserError(
            f"expected chats that were split between {base.name} and {new.name}, found none; "
            f"run `glasshouse rate {base.name} {new.name} --split` and chat"
        )
    given: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in thumbs(ws):
        given[one["chat"]].append(one)
    of_new = {chat["id"]: chat["version"] == new.hash for chat in chats}
    ups = {chat: _ups(given[chat]) for chat in of_new if given[chat]}
    found = {
        chat: Outcome(given[chat][0]["who"], of_new[chat], float(np.mean([np.mean(reply) for reply in replies])))
        for chat, replies in ups.items()
    }
    sides = {}
    for name, side in (("base", False), ("new", True)):
        some = [(chat, one) for chat, one in found.items() if one.new is side]
        up = mean([Scored(one.cluster, chat, one.score) for chat, one in some], bounded=True) if some else None
        counts = {"chats": sum(value is side for value in of_new.values()), "with_thumbs": len(some)}
        sides[name] = {**counts, "up": up.to_json() if up else None}
    both = all(side["with_thumbs"] for side in sides.values())
    change = difference(list(found.values())) if both else None
    first = sorted((given[chat][0]["given"], of_new[chat], given[chat][0]["up"]) for chat in found)
    share = float(chats[0]["share"])
    outcomes = [(is_new, float(up)) for _, is_new, up in first]
    p, lean = p_anytime(outcomes, share), sum(_bets(outcomes, share))
    shared = [reply for replies in ups.values() for reply in replies if len(reply) > 1]
    agreed = alpha(shared)
    return {
        "base": base.to_json(), "new": new.to_json(), "share": share, "sides": sides,
        "change": change.to_json() if change else None, "verdict": _verdict(base, new, change, p, lean), "p_anytime": p,
        "agreement": {"alpha": agreed.to_json() if agreed else None, "replies": len(shared)},
    }  # fmt: skip


def _ups(given: Sequence[dict[str, Any]]) -> list[list[float]]:
    """Of each reply with a thumb, what people gave it: 1 up, 0 down."""
    replies: dict[int, list[float]] = defaultdict(list)
    for one in given:
        replies[one["turn"]].append(float(one["up"]))
    return list(replies.values())


def labelled_replies(ws: Workspace, base: Version, new: Version) -> list[dict[str, Any]]:
    """Every thumb of the split's chats, for training on single replies, each good or bad.

    A thumb compares nothing: it stands in TRL's form of unpaired preferences, conversational: "prompt" and "completion"
    as lists of {"role", "content"}, "label" true for a thumb up; beside them who gave it, when, the note and the
    version.
    """
    ours = {chat["id"] for chat in chats_of(ws, base, new)}
    return [
        {
            "prompt": one["turns"][:-1], "completion": one["turns"][-1:], "label": one["up"], "rater": one["who"],
            "at": one["given"], "note": one["note"], "version": one["version"]["hash"],
        }
        for one in thumbs(ws)
        if one["chat"] in ours
    ]  # fmt: skip


def _verdict(base: Version, new: Version, change: Estimate | None, p: float, lean: float) -> str:
    """lean: the sum of the first thumbs, which the p-value is of; where all thumbs lean to the other side it cannot be
    told."""
    if change is None or p > LEVEL or change.value * lean <= 0:
        return CANNOT_TELL
    return f"{(new if change.value > 0 else base).name} is preferred"


def p_anytime(outcomes: Sequence[tuple[bool, float]], share: float) -> float:
    """Against no difference, however often it is asked: 1 over the most that `evidence` ever was (Ville).

    outcomes: (whether the new version, score in [0, 1]) of chats in order. Each stands as (score − ½) / share for the
    new version and −(score − ½) / (1 − share) for the base (Horvitz and Thompson), scaled into [−1, 1]: where the
    version makes no difference its mean is 0, whatever people are like, since chance alone assigned the chat.
    """
    odds = evidence(_bets(outcomes, share))
    return min(1.0, 1 / float(max(odds))) if len(odds) else 1.0


def _bets(outcomes: Sequence[tuple[bool, float]], share: float) -> list[float]:
    scale = 2 * min(share, 1 - share)
    return [scale * (score - 0.5) * (1 / share if is_new else -1 / (1 - share)) for is_new, score in outcomes]


def difference(outcomes: Sequence[Outcome], *, bounded: bool = True) -> Estimate:
    """The mean score of the new version's chats less that of the base's, clustered by who gave the thumbs.

    The two means are a regression on the side; its error is CR2, with Bell and McCaffrey's (2002) degrees of freedom,
    and right where a person has chats of either side. bounded: for the interval each side is given a chat of 0 and one
    of 1, each by somebody else (Agresti and Caffo 2000). `n` counts people. Raises `UserError` unless both sides have
    one.
    """
    sides = [[one.score for one in outcomes if one.new is side] for side in (False, True)]
    if not all(sides):
        raise UserError("expected chats with thumbs of both versions, one has none; chat on")
    value = float(np.mean(sides[1]) - np.mean(sides[0]))
    people = {one.cluster for one in outcomes}
    clusters: dict[str, list[tuple[bool, float]]] = defaultdict(list)
    for one in outcomes:
        clusters[f"by {one.cluster}"].append((one.new, one.score))
    if bounded:
        for is_new in (False, True):
            for score in (0.0, 1.0):
                clusters[f"added {is_new} {score}"].append((is_new, score))
    middle, error, freedom = _cr2(list(clusters.values()))
    from scipy.stats import t

    half = float(t.ppf(0.975, freedom)) * error if math.isfinite(error) else math.inf
    low, high = min(value, middle - half), max(value, middle + half)
    if bounded:
        low, high = max(low, -1.0), min(high, 1.0)
    return Estimate(value, low, high, 0.95, len(people), "", "CR2, t")


def _cr2(clusters: Sequence[Sequence[tuple[bool, float]]]) -> tuple[float, float, float]:
    """(new − base, its standard error, its degrees of freedom) of scores by side, in clusters.

    With X the two sides' indicators, B = (XᵀX)⁻¹, c = (−1, 1) and A_g = (I − X_g B X_gᵀ)^−½: the variance is
    Σ (cᵀ B X_gᵀ A_g e_g)², a quadratic form of the residuals e; its degrees of freedom for scores that are independent
    and of one variance are (tr M)² / tr M² with M_gh = p_gᵀ p_h, p_g = (I − X B Xᵀ)_g A_g X_g B c.
    """
    X = [np.array([(1.0 - is_new, float(is_new)) for is_new, _ in some]) for some in clusters]
    y = [np.array([score for _, score in some]) for some in clusters]
    B = np.linalg.inv(sum(X_g.T @ X_g for X_g in X))
    means = B @ sum(X_g.T @ y_g for X_g, y_g in zip(X, y, strict=True))
    c = np.array([-1.0, 1.0])
    a = [_inverse_root(np.eye(len(X_g)) - X_g @ B @ X_g.T) @ X_g @ B @ c for X_g in X]
    variance = sum(float(a_g @ (y_g - X_g @ means)) ** 2 for a_g, X_g, y_g in zip(a, X, y, strict=True))
    W_2G = np.stack([X_g.T @ a_g for X_g, a_g in zip(X, a, strict=True)], 1)
    M_GG = np.diag([float(a_g @ a_g) for a_g in a]) - W_2G.T @ B @ W_2G
    squares = float((M_GG**2).sum())
    freedom = float(np.trace(M_GG)) ** 2 / squares if squares > 1e-15 else 0.0
    error = math.sqrt(variance) if freedom > 0 else math.inf  # one person on a side: nothing is known of the spread
    return float(c @ means), error, max(freedom, 1.0)


def _inverse_root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a symmetric matrix, by Moore and Penrose: directions without any size (a person who is a whole side) are 0."""
    values, vectors = np.linalg.eigh(matrix)
    roots = np.where(values > 1e-9, 1 / np.sqrt(np.maximum(values, 1e-9)), 0.0)
    found: NDArray[np.float64] = (vectors * roots) @ vectors.T
    return found
