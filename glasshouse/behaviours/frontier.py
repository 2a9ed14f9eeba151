"""Versions on a plane: two measures against each other, with intervals, and which versions none beats. No torch.

plane(ws)                                                # the refusal frontier, where it was run
plane(ws, "world-facts:tokens", "world-facts", of="villager")

An axis is BEHAVIOUR, its mean score, or BEHAVIOUR:MEASURE: `not` (1 − the score, of a rate), or a cost: `tokens` of a
reply, `seconds` of a sample, `speed` (tokens a second).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np

from glasshouse.behaviours.behaviour import Behaviour
from glasshouse.behaviours.evaluation import Evaluation, evaluations, name_parts, read_evaluation
from glasshouse.behaviours.history import kept_behaviour
from glasshouse.behaviours.matrix import tested
from glasshouse.behaviours.statistics import (
    NOTHING,
    Cell,
    Change,
    Scored,
    Scoring,
    Verdict,
    clustered,
    judged,
    mean,
)
from glasshouse.behaviours.versions import Version
from glasshouse.types import Estimate, UserError
from glasshouse.workspace import Workspace

MEASURES = {
    "score": "", "not": "1 − score", "tokens": "tokens a reply", "seconds": "seconds a sample",
    "speed": "tokens a second",
}  # fmt: skip
CLOCK = ("seconds", "speed")  # measured once, on a machine that may have had other work: shown, and not judged
COST: Scoring = {"bounded": False, "degree": 1, "discrete": True}
COST_MARGIN = 0.1  # a share of a cost that does not matter
USUAL = (("refuses-look-alikes", "refuses-danger:not"), ("false-refusals", "refuses-harm:not"))


@dataclass(frozen=True)
class Axis:
    behaviour: str
    measure: str = "score"

    @classmethod
    def parse(cls, text: str, known: dict[str, dict[str, Any]]) -> Axis:
        """Raises `UserError` for a behaviour that is not among the known, and a measure that there is none of."""
        behaviour, _, measure = text.partition(":")
        measure = measure or "score"
        if behaviour not in known or measure not in MEASURES:
            raise UserError(
                f"expected an axis BEHAVIOUR or BEHAVIOUR:MEASURE of {', '.join(known) or 'no behaviour yet'} and "
                f"{', '.join(MEASURES)}, got {text[:80]!r}"
            )
        if measure == "not" and known[behaviour]["unit"] != "rate":
            raise UserError(f"expected a rate for {text}, {behaviour} counts {known[behaviour]['unit']}")
        return cls(behaviour, measure)

    def __str__(self) -> str:
        return self.behaviour if self.measure == "score" else f"{self.behaviour}:{self.measure}"

    def good(self, b: Behaviour) -> Literal["up", "down"]:
        if self.measure == "score":
            return b.good
        if self.measure == "not":
            return "down" if b.good == "up" else "up"
        return "up" if self.measure == "speed" else "down"

    def unit(self, b: Behaviour) -> str:
        return b.unit if self.measure in ("score", "not") else MEASURES[self.measure]

    def samples(self, run: Evaluation) -> list[Scored]:
        """What the measure is of each sample; not of the clock."""
        if self.measure == "score":
            return run.scored
        if self.measure == "not":
            return [one._replace(score=None if one.score is None else 1.0 - one.score) for one in run.scored]
        return [Scored(s.family, f"{s.prompt}", None if s.error else float(s.tokens)) for s in run.samples]

    def estimate(self, ws: Workspace, run: Evaluation) -> Estimate:
        """Raises `UserError` where nothing was scored, or timed."""
        if self.measure not in CLOCK:
            of_score = self.measure in ("score", "not")
            degree = run.behaviour.scoring["degree"] if of_score else 1
            return mean(self.samples(run), bounded=run.behaviour.bounded and of_score, degree=degree)
        lines = [line for line in ws.metrics("evals", run.name) if line.get("samples")]
        samples, tokens, seconds = (sum(float(line[key]) for line in lines) for key in ("samples", "tokens", "seconds"))
        if not samples or not tokens or not seconds:
            raise UserError(f"expected the time of {run.name} in its metrics.jsonl, found none")
        value = seconds / samples if self.measure == "seconds" else tokens / seconds
        return Estimate(value, math.nan, math.nan, 0.95, int(samples), "", "one measurement")


@dataclass(frozen=True)
class _Point:
    versions: list[Version]  # of one hash
    runs: tuple[Evaluation, Evaluation]
    at: tuple[Estimate, Estimate]

    def name(self) -> str:
        """Of the model, where one of them is a model by itself."""
        return min(self.versions, key=lambda one: (one.name != one.model, one.name)).name


def plane(ws: Workspace, x: str | None = None, y: str | None = None, *, of: str | None = None) -> dict[str, Any]:
    """Versions by two measures: {"x", "y", "points", "sweeps", "left_out", "behaviours", "families"}.

    of: only versions of a model or a sweep of that name. x, y: each `axis`, `behaviour`, `measure`, `unit`, `good`,
    `margin`; None where nothing was run yet. points: `name`, `names` (versions of one hash are one point), `hash`,
    `model`, `system`, the estimates `x` and `y`, and how it stands among the others (see `_standing`): `state`, `by`,
    `undecided`. sweeps: `name`, `what`, and `at` and `points` in order. left_out: versions with one of the two lacking,
    and why. behaviours, of: what there is to choose from. Raises `UserError` for an axis that is none.
    """
    versions = tested(ws)
    chosen = [v for v in versions if of in (None, v.model, v.step and v.step.sweep)]
    runs = {v.name: evaluations(ws, v) for v in versions}
    known = _known(ws, runs, asked=[axis.partition(":")[0] for axis in (x, y) if axis])
    families = sorted({v.model for v in versions} | {v.step.sweep for v in versions if v.step})
    found: dict[str, Any] = {"x": None, "y": None, "of": of, "points": [], "sweeps": [], "left_out": []}
    found |= {"behaviours": list(known.values()), "families": families}
    if not known:
        return found
    if of is not None and not chosen:
        raise UserError(f"expected the name of a model or a sweep ({', '.join(families)}), got {of[:80]!r}")
    usual = _usual(known)
    axes = Axis.parse(x or usual[0], known), Axis.parse(y or usual[1], known)
    points, found["left_out"] = _points(ws, axes, chosen, runs)
    for key, axis, i in (("x", axes[0], 0), ("y", axes[1], 1)):
        b = points[0].runs[i].behaviour if points else None
        found[key] = {"axis": str(axis), "behaviour": axis.behaviour, "measure": axis.measure}
        found[key] |= {"unit": axis.unit(b), "good": axis.good(b), "margin": _margin(axis, i, points)} if b else {}
    standing = _standing(axes, points)
    found["points"] = [
        {
            "name": point.name(), "names": sorted(v.name for v in point.versions), "hash": point.versions[0].hash,
            "model": point.versions[0].model, "system": point.versions[0].system,
            "x": point.at[0].to_json(), "y": point.at[1].to_json(), **how,
        }
        for point, how in zip(points, standing, strict=True)
    ]  # fmt: skip
    found["sweeps"] = _sweeps(points)
    return found


def _known(ws: Workspace, runs: dict[str, list[str]], asked: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By name, what is said of each behaviour that was run, the one on most versions first. One that does not read is
    no reason to refuse the others: it is left out, unless it is asked for."""
    counted = Counter(behaviour for some in runs.values() for behaviour in {name_parts(name)[0] for name in some})
    newest = {name_parts(name)[0]: name for some in runs.values() for name in some}
    found = {}
    for behaviour, count in sorted(counted.items(), key=lambda item: (-item[1], item[0])):
        try:
            kept = kept_behaviour(ws, newest[behaviour])
        except UserError:
            if behaviour in asked:
                raise
            continue
        found[behaviour] = {"name": behaviour, "unit": kept["unit"], "good": kept["good"], "versions": count}
    return found


def _usual(known: dict[str, dict[str, Any]]) -> tuple[str, str]:
    """The refusal frontier, else what the commonest behaviour costs against how well it goes."""
    for pair in USUAL:
        if all(axis.partition(":")[0] in known for axis in pair):
            return pair
    first = next(iter(known))
    return f"{first}:tokens", first


def _points(
    ws: Workspace, axes: tuple[Axis, Axis], versions: Sequence[Version], runs: dict[str, list[str]]
) -> tuple[list[_Point], list[dict[str, str]]]:
    """Versions that both behaviours were run on, as most of them were asked, and the others with the reason."""
    asked = {axis.behaviour: _commonest(axis.behaviour, [runs[v.name] for v in versions]) for axis in axes}
    by_hash: dict[str, list[Version]] = defaultdict(list)
    for version in versions:
        by_hash[version.hash].append(version)
    points, left_out = [], []
    for some in by_hash.values():
        mine = {name_parts(name)[0]: name for name in runs[some[0].name]}
        picked = [f"{axis.behaviour}.{some[0].hash[:10]}.{asked[axis.behaviour]}" for axis in axes]
        lacking = [axis.behaviour for axis, name in zip(axes, picked, strict=True) if name not in runs[some[0].name]]
        why = ""
        if lacking:
            why = f"run on another {lacking[0]}" if lacking[0] in mine else f"{lacking[0]} was not run"
        else:
            try:
                old, new = (read_evaluation(ws, name) for name in picked)
                if problem := old.problem or new.problem:
                    raise UserError(problem)
                points.append(_Point(some, (old, new), (axes[0].estimate(ws, old), axes[1].estimate(ws, new))))
            except UserError as error:  # damaged, or nothing of it scored
                why = str(error)
        left_out += [{"name": version.name, "why": why} for version in some if why]
    return points, left_out


def _commonest(behaviour: str, runs: Sequence[Sequence[str]]) -> str:
    """What was asked of most versions (the end of an evaluation's name): scores of other prompts are not compared."""
    ends = Counter(name_parts(name)[2] for some in runs for name in some if name_parts(name)[0] == behaviour)
    return max(ends, key=lambda end: (ends[end], end), default="")


def _margin(axis: Axis, i: int, points: Sequence[_Point]) -> float | None:
    """What does not matter on the axis; None where it is not judged."""
    if axis.measure in CLOCK:
        return None
    if axis.measure in ("score", "not"):
        return points[0].runs[i].behaviour.margin
    return COST_MARGIN * min(point.at[i].value for point in points) or None  # a log may have no tokens


def _standing(axes: tuple[Axis, Axis], points: Sequence[_Point]) -> list[dict[str, Any]]:
    """Of each point, whether another beats it: `state`, `by` (those that do), `undecided`.

    Every two points are compared on both axes like versions in the matrix (see `statistics.judged`), p-values adjusted
    over all of it by Holm; on an axis of the clock, which has no interval, one never can tell. One *dominates* another
    if it is better on one axis and better or equivalent on the other. A point is `dominated` if one does; on the
    `front` if none does: against each of the others that are not dominated themselves it is better on an axis, or
    equivalent on both; else one `cannot tell`, from whom is in `undecided`.
    """
    if not points:
        return []
    pairs = list(combinations(range(len(points)), 2))
    said: dict[tuple[int, int], list[Verdict]] = {pair: [] for pair in pairs}
    verdicts = _judged_pairs(axes, points, pairs)
    for pair, both in zip(pairs, zip(*verdicts, strict=True), strict=True):
        said[pair] = list(both)
    other: dict[Verdict, Verdict] = {"improved": "regressed", "regressed": "improved"}

    def against(i: int, j: int) -> list[Verdict]:  # of j, from i
        return said[i, j] if i < j else [other.get(one, one) for one in said[j, i]]

    beaten: list[list[int]] = []
    for i in range(len(points)):
        others = [(j, against(i, j)) for j in range(len(points)) if j != i]
        beaten.append([j for j, both in others if "improved" in both and set(both) <= {"improved", "equivalent"}])
    found = []
    for i, by in enumerate(beaten):
        others = [(j, against(i, j)) for j in range(len(points)) if j != i and not beaten[j]]
        open_ = [j for j, both in others if j not in by and "regressed" not in both and set(both) != {"equivalent"}]
        state = "dominated" if by else "cannot tell" if open_ else "front"
        names = {"by": [points[j].name() for j in by], "undecided": [] if by else [points[j].name() for j in open_]}
        found.append({"state": state, **names})
    return found


def _judged_pairs(
    axes: tuple[Axis, Axis], points: Sequence[_Point], pairs: Sequence[tuple[int, int]]
) -> list[list[Verdict]]:
    """By axis, the verdict of the second of every pair against the first."""
    cells: list[Cell] = []
    verdicts: list[list[Verdict]] = [[], []]
    for i, axis in enumerate(axes):
        margin = _margin(axis, i, points)
        if margin is None:
            verdicts[i] = ["underpowered"] * len(pairs)
            continue
        b = points[0].runs[i].behaviour
        scoring = b.scoring if axis.measure in ("score", "not") else COST
        changes = _changes([axis.samples(point.runs[i]) for point in points], pairs, scoring)
        cells += [Cell(f"{i}", "guard", axis.good(b), margin, change) for change in changes]
    for cell in judged(cells):
        verdicts[int(cell.behaviour)].append(cell.verdict)
    return verdicts


def _changes(
    samples: Sequence[Sequence[Scored]], pairs: Sequence[tuple[int, int]], scoring: Scoring
) -> Iterator[Change]:
    """`statistics.paired` of every two of many versions that were asked the same, without what only the matrix shows.

    X prompts: their mean scores by version are laid out once, (versions, X).
    """
    scores: list[dict[tuple[str, str], list[float]]] = [defaultdict(list) for _ in samples]
    for mine, some in zip(scores, samples, strict=True):
        for one in some:
            if one.score is not None:
                mine[one.family, one.prompt].append(one.score)
    prompts = sorted({key for mine in scores for key in mine})
    table_VX = np.array([[np.mean(mine[key]) if key in mine else math.nan for key in prompts] for mine in scores])
    _, family_X = np.unique([family for family, _ in prompts], return_inverse=True)
    for m, n in pairs:
        d_X = table_VX[n] - table_VX[m]
        both_X = np.isfinite(d_X)
        size_G = np.bincount(family_X[both_X]).astype(np.float64)
        some_G = size_G > 0
        if not some_G.any():
            yield Change(
                NOTHING, NOTHING, NOTHING, error=math.inf, freedom=1.0, spread=math.inf, parts={}, families=0,
                prompts=0, unscored=0, alike=0.0, moved=0, bounded=scoring["bounded"], reach=0.0,
            )  # fmt: skip
            continue
        base_G, new_G = (
            np.bincount(family_X[both_X], weights=table_VX[i][both_X])[some_G] / size_G[some_G] for i in (m, n)
        )
        yield replace(clustered(base_G, new_G, size_G[some_G], **scoring), prompts=int(both_X.sum()))


def _sweeps(points: Sequence[_Point]) -> list[dict[str, Any]]:
    """Those of which two steps or more are among the points, each in its order."""
    steps: dict[str, list[tuple[float, int]]] = defaultdict(list)
    what: dict[str, str] = {}
    for i, point in enumerate(points):
        for version in point.versions:
            if version.step:
                steps[version.step.sweep].append((version.step.at, i))
                what[version.step.sweep] = version.step.what
    return [
        {"name": name, "what": what[name], "at": [at for at, _ in sorted(some)], "points": [i for _, i in sorted(some)]}
        for name, some in sorted(steps.items())
        if len(some) > 1
    ]
