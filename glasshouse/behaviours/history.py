"""A behaviour over time, and over the wordings of what it asks. No torch.

history_of(ws, "world-facts")                            # every evaluation of it in the workspace, oldest first
wordings(old, new)                                       # of two evaluations: where the wording decides
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import numpy as np

from glasshouse.behaviours.behaviour import Behaviour
from glasshouse.behaviours.evaluation import BEHAVIOUR, Evaluation, name_parts, read_evaluation
from glasshouse.behaviours.matrix import by_prompt, tested
from glasshouse.behaviours.statistics import Scored, mean, parts_of_mean, pseudo_values
from glasshouse.types import Estimate, UserError
from glasshouse.workspace import Workspace

SHOWN = 8  # families whose wordings are shown


def runs_of(ws: Workspace, behaviour: str) -> list[str]:
    """Names of every evaluation of the behaviour."""
    return [name for name in ws.names("evals") if name_parts(name)[0] == behaviour]


def history_of(ws: Workspace, behaviour: str) -> dict[str, Any]:
    """Every evaluation of a behaviour, oldest first, of all versions: evaluations are never overwritten.

    rows: `evaluation`, `created`, the card of the version as it was run (`name`, `model`, `hash`, `system`, `edit`),
    `names` (what the workspace calls that version now; none for a model that is another now, or a variation that was
    not saved), `asked` (the beginning of the hash of what was asked: rows are alike only where it is the same), `seed`,
    `mean` (an estimate, or None), `samples`, `unscored`; or, for one that does not read, `error`. Raises `UserError`
    for a behaviour that was never run.
    """
    names = runs_of(ws, behaviour)
    if not names:
        raise UserError(f"expected a behaviour that was run in {ws.root}, got {behaviour!r}; run `glasshouse test`")
    called: dict[str, list[str]] = defaultdict(list)
    for version in tested(ws):
        called[version.hash].append(version.name)
    rows: list[dict[str, Any]] = []
    about: dict[str, Any] = {"about": "", "unit": "rate", "good": "up", "margin": None}
    for name in names:
        try:
            done = read_evaluation(ws, name)
        except UserError as error:
            rows.append({"evaluation": name, "created": "", "error": str(error)})
            continue
        b, card = done.behaviour, done.version
        about = {"about": b.about, "unit": b.unit, "good": b.good, "margin": b.margin}
        unscored = sum(score is None for score in done.scores)
        rows.append({
            "evaluation": name, "created": done.created,
            **{key: card[key] for key in ("name", "model", "hash", "system", "edit")},
            "names": called.get(card["hash"], []), "asked": b.hash[:8],
            "seed": ws.manifest("evals", name)["config"]["seed"],
            "mean": done.mean.to_json() if unscored < len(done.scores) else None,
            "samples": len(done.samples), "unscored": unscored,
        })  # fmt: skip
    rows.sort(key=lambda row: (row["created"], row["evaluation"]))
    return {"behaviour": behaviour, **about, "rows": rows}


def kept_behaviour(ws: Workspace, evaluation: str) -> dict[str, Any]:
    """What was asked, as it was kept: unchecked, for lists. Raises `UserError` where it does not read."""
    try:
        found = json.loads((ws.path("evals", evaluation) / BEHAVIOUR).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"expected {BEHAVIOUR} in evals/{evaluation}, found none that reads ({error})") from None
    if not isinstance(found, dict) or not {"unit", "good"} <= found.keys():
        raise UserError(f"expected {BEHAVIOUR} in evals/{evaluation}, found something else in it; put it back")
    return found


def wordings(old: Evaluation, new: Evaluation) -> dict[str, Any]:
    """What the wording of a prompt decides, on a base and a new version, over the families that have several.

    base, new: `spread`, the mean gap between a family's best and worst wording (an estimate; for one greedy reply a
    prompt, how often wordings disagree); `parts`, the variance of the mean score by where it comes from (all families).
    numbers: by the wording's number, both means over the families that have it. rows: the families of the largest gap,
    each wording with its turns and both scores. families: how many have several wordings with scores of both.
    """
    sides = [by_prompt(old), by_prompt(new)]
    scores = [{key: float(np.mean([s for _, s in some])) for key, some in side.items()} for side in sides]
    groups: dict[str, list[int]] = defaultdict(list)
    for family, number in sorted(scores[0].keys() & scores[1].keys()):
        groups[family].append(number)
    several = {family: numbers for family, numbers in groups.items() if len(numbers) > 1}
    gaps = {
        family: [max(s[family, n] for n in numbers) - min(s[family, n] for n in numbers) for s in scores]
        for family, numbers in several.items()
    }
    bounded = old.behaviour.bounded
    found: dict[str, Any] = {"behaviour": old.behaviour.name, "unit": old.behaviour.unit, "families": len(several)}
    for i, (who, run) in enumerate((("base", old), ("new", new))):
        spread = mean([Scored(f, "", gap[i]) for f, gap in gaps.items()], bounded=bounded).to_json() if gaps else None
        found[who] = {"spread": spread, "parts": parts_of_mean(run.scored)}
    by_number: dict[int, list[str]] = defaultdict(list)
    for family, numbers in several.items():
        for number in numbers:
            by_number[number].append(family)
    found["numbers"] = [
        {
            "wording": number, "families": len(families),
            **{
                who: _mean([Scored(f, "", scores[i][f, number]) for f in families], old.behaviour).to_json()
                for i, who in enumerate(("base", "new"))
            },
        }
        for number, families in sorted(by_number.items())
    ]  # fmt: skip
    widest = sorted((f for f in gaps if max(gaps[f]) > 0), key=lambda f: (-max(gaps[f]), -sum(gaps[f]), f))[:SHOWN]
    asked = {(p.family, p.number): [{"role": r, "content": c} for r, c in p.turns] for p in old.behaviour.prompts}
    found["rows"] = [
        {
            "family": f, "spread": max(gaps[f]),
            "wordings": [
                {"wording": n, "turns": asked[f, n], "base": scores[0][f, n], "new": scores[1][f, n]}
                for n in several[f]
            ],
        }
        for f in widest
    ]  # fmt: skip
    return found


def _mean(samples: list[Scored], behaviour: Behaviour) -> Estimate:
    degree = behaviour.scoring["degree"]
    return mean(pseudo_values(samples, degree), bounded=behaviour.bounded, degree=degree)
