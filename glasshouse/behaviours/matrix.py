"""Versions compared: every behaviour ever run on the base, run on the new version, in one judged table.

run_missing(ws, base, new)                               # what the base has and the new version lacks
found = compared(ws, base, new)                          # {"cells": [...], ...} as JSON; needs no torch
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from glasshouse.behaviours.behaviour import Behaviour
from glasshouse.behaviours.breadth import NAME as DISCOVERY
from glasshouse.behaviours.evaluation import (
    Evaluation,
    created,
    evaluate,
    evaluation_name,
    evaluations,
    name_parts,
    read_evaluation,
)
from glasshouse.behaviours.scorers import RECORDED, Sample
from glasshouse.behaviours.statistics import (
    Cell,
    Change,
    Scored,
    expected_spread,
    families_for,
    judged,
    paired,
    smallest_change,
)
from glasshouse.behaviours.versions import Version, loaded, version
from glasshouse.calls import Calls
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

SHOWN = 5  # pairs of samples of a cell
NO_SCORES = "no prompt has scores on both; see the errors in samples.jsonl"


def newest(ws: Workspace, version: Version) -> dict[str, str]:
    """By behaviour's name, the newest evaluation of the version; what `discover` asked is no behaviour."""
    found = {name_parts(name)[0]: name for name in evaluations(ws, version)}
    return {behaviour: name for behaviour, name in found.items() if behaviour != DISCOVERY}


def run_missing(
    ws: Workspace, base: Version, new: Version, *, device: str | None = None, calls: Calls | None = None
) -> list[str]:
    """Run on the new version every behaviour that was run on the base, with the base's seed; names of all of them, and
    of what was scored anew on the base, where another version of the scorer had scored it.

    What was imported on the base is left out: a log of the new version has to be imported, too."""
    opened, found = None, []
    for name in newest(ws, base).values():
        behaviour, seed = read_evaluation(ws, name).behaviour, ws.manifest("evals", name)["config"]["seed"]
        if behaviour.scorer[0] == RECORDED:  # imported, so it cannot be run here
            continue
        if not ws.exists("evals", again := evaluation_name(base, behaviour, seed)):
            evaluate(base, behaviour, ws, seed=seed, device=device, calls=calls)
            found.append(again)
        found.append(evaluation_name(new, behaviour, seed))
        if not ws.exists("evals", found[-1]):
            opened = opened or loaded(new, ws, device=device)
            evaluate(new, behaviour, ws, seed=seed, opened=opened, calls=calls)
    return found


def counterparts(ws: Workspace, base: Version, new: Version) -> dict[str, tuple[str, str]]:
    """By behaviour of the base, the names of its evaluation there and on the new version, where it may be missing."""
    return {behaviour: (name, counterpart(name, new)) for behaviour, name in newest(ws, base).items()}


def counterpart(evaluation: str, new: Version) -> str:
    """The evaluation of the new version that asks the same."""
    behaviour, _, asked = name_parts(evaluation)
    return f"{behaviour}.{new.hash[:10]}.{asked}"


def compared(
    ws: Workspace, base: Version, new: Version, *, pairs: Mapping[str, tuple[str, str]] | None = None,
    without: Mapping[str, Collection[str]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The base and the new version, behaviour by behaviour: {"base", "new", "cells", "missing", "unsound"}.

    cells: each judged (see `statistics.judged`), with when the older run of the two was made, the two (`sources`), the
    larger share of samples that lack a score (`lacking`), the samples that changed most for the worse, and `problem`,
    why it does not count (see `doubt`), or "": such a one is judged by itself. missing: behaviours of the base that the
    new version was not run on. unsound: those of which no prompt has scores on both, each with the reason. pairs: the
    evaluations to compare; without them the newest of the base and their counterparts. without: by behaviour, families
    that are left out. Raises `UserError` where nothing was run on the base, and for what was altered.
    """
    both = counterparts(ws, base, new) if pairs is None else pairs
    if pairs is None and not both:
        raise UserError(
            f"expected behaviours that were run on {base.name}, found none; run `glasshouse test {base.name}` first"
        )
    missing = sorted(behaviour for behaviour, (_, other) in both.items() if not ws.exists("evals", other))
    found = [pair for behaviour, pair in both.items() if behaviour not in missing]
    done = [(read_evaluation(ws, old), read_evaluation(ws, fresh)) for old, fresh in found]
    if without:
        out = [without.get(old.behaviour.name, ()) for old, _ in done]
        done = [(old.without(some), fresh.without(some)) for (old, fresh), some in zip(done, out, strict=True)]
    unsound = {
        old.behaviour.name: NO_SCORES for old, fresh in done if not by_prompt(old).keys() & by_prompt(fresh).keys()
    }
    done = [pair for pair in done if pair[0].behaviour.name not in unsound]
    problems = [doubt(old, fresh) for old, fresh in done]
    counted = [cell(old, fresh) for (old, fresh), problem in zip(done, problems, strict=True) if not problem]
    together = iter(judged(counted))
    rows = [
        {
            **cell_json(judged([cell(old, fresh)])[0] if problem else next(together), old.behaviour),
            "created": min(old.created, fresh.created), "sources": [old.name, fresh.name],
            "lacking": max(old.lacking, fresh.lacking), "problem": problem, "worst": worst(old, fresh),
        }
        for (old, fresh), problem in zip(done, problems, strict=True)
    ]  # fmt: skip
    return {"base": base.to_json(), "new": new.to_json(), "cells": rows, "missing": missing, "unsound": unsound}


def tested(ws: Workspace) -> list[Version]:
    """Every version of the workspace that a behaviour was run on, saved ones and models, in the order in which they
    were first run: a base comes before what is compared with it."""
    found: list[tuple[str, Version]] = []
    for name in sorted({*ws.names("models"), *ws.names("versions")}):
        try:
            one = version(name, ws)
        except UserError:  # saved of a model that is another now: its results stand under its own hash
            continue
        if runs := evaluations(ws, one):
            found.append((created(ws, runs[0]), one))
    return [one for _, one in sorted(found, key=lambda each: each[0])]


def doubt(old: Evaluation, new: Evaluation) -> str:
    """Why a comparison of the two does not count, or "": a judge that was not checked against people or agrees too
    little with them, or another judge on either side."""
    by = [one.checked.by if one.checked is not None else None for one in (old, new)]
    if problem := old.problem or new.problem:
        return problem
    return "" if by[0] == by[1] else f"the two were not judged by the same: {by[0]} and {by[1]}"


def cell(old: Evaluation, new: Evaluation) -> Cell:
    """Not yet judged."""
    b = old.behaviour
    return Cell(b.name, b.tag, b.good, b.margin, paired(old.scored, new.scored, **b.scoring))


def cell_json(found: Cell, behaviour: Behaviour) -> dict[str, Any]:
    change: Change = found.change
    return {
        **{key: value for key, value in asdict(found).items() if key != "change"}, "unit": behaviour.unit,
        "about": behaviour.about, "change": change.change.to_json(), "base": change.base.to_json(),
        "new": change.new.to_json(), "parts": change.parts, "families": change.families, "prompts": change.prompts,
        "unscored": change.unscored, "spread": change.spread if math.isfinite(change.spread) else None,
    }  # fmt: skip


def worst(old: Evaluation, new: Evaluation) -> list[dict[str, Any]]:
    """The prompts whose score moved furthest from what is good, with a reply of each version side by side: of the epoch
    in which it moved furthest."""
    sign = 1.0 if old.behaviour.good == "up" else -1.0
    found: list[dict[str, Any]] = []
    fresh = by_prompt(new)
    for key, before in by_prompt(old).items():
        after = fresh.get(key)
        if after is None:
            continue
        was, now = (float(np.mean([score for _, score in some])) for some in (before, after))
        if was != now:
            first = {sample.epoch: (sample, score) for sample, score in before}
            both = [(*first[sample.epoch], sample, score) for sample, score in after if sample.epoch in first]
            both = both or [(*before[0], *after[0])]  # of no epoch have both a score
            base, _, pick, _ = min(both, key=lambda one: sign * (one[3] - one[1]))
            turns = [{"role": role, "content": content} for role, content in pick.turns]
            said = {"before": base.reply, "after": pick.reply}
            found.append({"family": key[0], "prompt": key[1], "turns": turns, "was": was, "now": now, **said})
    return sorted(found, key=lambda one: sign * (one["now"] - one["was"]))[:SHOWN]


def by_prompt(evaluation: Evaluation) -> dict[tuple[str, int], list[tuple[Sample, float]]]:
    """The scored samples of each prompt."""
    found: dict[tuple[str, int], list[tuple[Sample, float]]] = defaultdict(list)
    for sample, score in zip(evaluation.samples, evaluation.scores, strict=True):
        if score is not None:
            found[sample.family, sample.prompt].append((sample, score))
    return dict(found)


def plan(ws: Workspace, base: Version, behaviours: Sequence[Behaviour] = ()) -> list[dict[str, Any]]:
    """Before a run: of each behaviour that was run on the base, or is given, the smallest change that its families
    could show among all of these, and how many would show equivalence. For what was never run as it is given, as if
    half of the families' scores were 1."""
    given = {behaviour.name: behaviour.hash for behaviour in behaviours}
    runs = {name: read_evaluation(ws, found) for name, found in newest(ws, base).items()}
    known = {name: run for name, run in runs.items() if given.get(name, run.behaviour.hash) == run.behaviour.hash}
    spread_of = lambda scored, b: expected_spread(scored, bounded=b.bounded, degree=b.scoring["degree"])
    rows = [
        (one.behaviour, spread_of(one.scored, one.behaviour), one.mean.value)
        for one in known.values()
        if one.lacking < 1
    ]
    for behaviour in behaviours:
        if behaviour.name not in known:
            even = [Scored(str(i), "", float(i % 2)) for i in range(max(behaviour.families, 2))]
            spread = spread_of(even, behaviour) if behaviour.bounded else math.inf
            rows.append((behaviour, spread, 0.5))
    like = Counter(b.tag == "guard" for b, _, _ in rows)
    return [
        {
            "behaviour": b.name, "families": b.families, "prompts": len(b.prompts), "margin": b.margin, "unit": b.unit,
            "smallest_change": _seen(
                smallest_change(spread, b.families, rate=_from_worst(b, middle), among=like[b.tag == "guard"]), b
            ),
            "needed": families_for(spread, b.margin, reach=float(b.bounded)) if math.isfinite(spread) else None,
        }
        for b, spread, middle in rows
    ]  # fmt: skip


def _seen(change: float, behaviour: Behaviour) -> float | None:
    """None where no change that there can be would be seen: a rate changes by at most 1."""
    return change if math.isfinite(change) and (change <= 1 or not behaviour.bounded) else None


def _from_worst(behaviour: Behaviour, middle: float) -> float | None:
    """The mean of bounded scores, counted so that 1 is best."""
    if not behaviour.bounded:
        return None
    return middle if behaviour.good == "up" else 1 - middle
