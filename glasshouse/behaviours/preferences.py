"""What raters preferred, how far they agree, and their comparisons for later training.

    results(study)["preferred"]                              # an Estimate as JSON: the share in which the new one won
    chosen, ties = comparisons(study)

No torch.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from glasshouse.behaviours.agreement import alpha
from glasshouse.behaviours.peeking import evidence
from glasshouse.behaviours.ratings import SAME, Study
from glasshouse.behaviours.statistics import FEWEST, LEVEL, Scored, mean
from glasshouse.types import Estimate

Rows = Sequence[dict[str, Any]]
CANNOT_TELL = "cannot tell"


def results(study: Study) -> dict[str, Any]:
    """What was said of the study's pairs, as JSON.

    "verdict": in words; while pairs are open "p_anytime" decides, at 5%; once each was rated or skipped by somebody the
    interval of "preferred" does, which is for one look: not where pairs were added after some had been rated, then
    "p_anytime" decides on. Fewer than five families never decide.

    "preferred": the share of pairs in which the new version was preferred, those judged the same counted half;
    "rating": the mean rating, 1 to 7, above 4 for the new version; both clustered by prompt family, the ratings of one
    pair averaged. "p_anytime": against no preference, by `evidence` over the first rating of each family; it may be
    looked at after every rating. "left_won": the share of pairs, not judged the same, in which the left reply won.
    "agreement": Krippendorff's alpha over pairs rated by two or more. "raters", "behaviours": counts. Estimates are
    None where nothing was rated.
    """
    rows, counted = study.ratings(), study.counted
    preferred = _estimate([(row, _won(row)) for row in rows], bounded=True)
    decided = [row for row in rows if row["rating"] != SAME]
    by_pair: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        by_pair[row["id"]].append(row["rating"])
    first = _first(rows)
    agreed, p = alpha(list(by_pair.values())), _p_anytime(first)
    once = study.done and not study.extended
    return {
        "base": study.base.to_json(), "new": study.new.to_json(), **counted, "ratings": len(rows),
        "rated_pairs": len(by_pair), "verdict": _verdict(study, preferred, None if once else (p, sum(first))),
        "preferred": _json(preferred),
        "rating": _json(_estimate([(row, row["rating"]) for row in rows], bounded=False)),
        "p_anytime": p,
        "left_won": _json(_estimate([(row, float(_left_won(row))) for row in decided], bounded=True)),
        "agreement": {"alpha": _json(agreed), "pairs": sum(len(values) > 1 for values in by_pair.values())},
        "raters": _counts(rows, "who"), "behaviours": _counts(rows, "behaviour"),
    }  # fmt: skip


def _won(row: dict[str, Any]) -> float:
    """1: the new version was preferred, 0: the base, ½: neither."""
    return 0.5 if row["rating"] == SAME else float(row["rating"] > SAME)


def _left_won(row: dict[str, Any]) -> bool:
    return (row["rating"] > SAME) == bool(row["new_left"])


def _family(row: dict[str, Any]) -> str:
    return json.dumps([row["behaviour"], row["family"]])


def _estimate(scores: Sequence[tuple[dict[str, Any], float]], *, bounded: bool) -> Estimate | None:
    return mean([Scored(_family(row), row["id"], score) for row, score in scores], bounded=bounded) if scores else None


def _json(found: Estimate | None) -> dict[str, Any] | None:
    return found.to_json() if found else None


def _verdict(study: Study, preferred: Estimate | None, looks: tuple[float, float] | None) -> str:
    """looks: the p-value of many looks and the sum of the first ratings, which it is of; None where there is one look,
    at all the pairs that were set first. Where all ratings lean to the other side it cannot be told."""
    if preferred is None or preferred.n < FEWEST:
        return CANNOT_TELL
    lean = preferred.value - 0.5
    apart = not preferred.low <= 0.5 <= preferred.high
    told = apart if looks is None else looks[0] <= LEVEL and looks[1] * lean > 0
    return f"{(study.new if lean > 0 else study.base).name} is preferred" if told else CANNOT_TELL


def _first(rows: Rows) -> list[float]:
    """The first rating of each family, in order: 1 for the new version, −1 for the base, 0 for neither."""
    first: dict[str, float] = {}
    for row in sorted(rows, key=lambda row: row["rated"]):
        first.setdefault(_family(row), 2 * _won(row) - 1)
    return list(first.values())


def _p_anytime(first: Sequence[float]) -> float:
    odds = evidence(first)
    return min(1.0, 1 / max(odds)) if len(odds) else 1.0


def _counts(rows: Rows, key: str) -> list[dict[str, Any]]:
    """By rater or behaviour: how often each version won, and how often the new one stood on the left."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row[key]].append(row)
    return [
        {
            key: name, "ratings": len(some), "new": sum(row["rating"] > SAME for row in some),
            "same": sum(row["rating"] == SAME for row in some), "base": sum(row["rating"] < SAME for row in some),
            "new_left": sum(row["new_left"] for row in some),
        }
        for name, some in sorted(found.items())
    ]  # fmt: skip


# -- for training ------------------------------------------------------------------------------------------------------


def comparisons(study: Study) -> tuple[list[dict[str, Any]], int]:
    """Every rating as a comparison, and how many there were of replies judged the same, which are left out.

    In the form that preference training reads (TRL's conversational one): "prompt", "chosen" and "rejected" as lists of
    {"role", "content"}; "strength" 1 (a little better) to 3 (much better); beside them who said so, when, and of which
    versions.
    """
    rows = study.ratings()
    hashes = {"base": study.base.hash, "new": study.new.hash}
    found = []
    for row in rows:
        if row["rating"] != SAME:
            chosen, rejected = ("new", "base") if row["rating"] > SAME else ("base", "new")
            found.append(
                {
                    "prompt": json.loads(row["turns"]),
                    "chosen": [{"role": "assistant", "content": row[f"{chosen}_reply"]}],
                    "rejected": [{"role": "assistant", "content": row[f"{rejected}_reply"]}],
                    "strength": abs(row["rating"] - SAME), "rater": row["who"], "at": row["rated"],
                    "behaviour": row["behaviour"], "family": row["family"],
                    "chosen_version": hashes[chosen], "rejected_version": hashes[rejected],
                }
            )  # fmt: skip
    return found, len(rows) - len(found)
