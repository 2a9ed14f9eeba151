"""The evidence that thresholds and safeguards ask for: of the version itself, an elicited one, a sweep, an earlier
one."""

from __future__ import annotations

import contextlib
import datetime
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from glasshouse.evidence.recorded import Ledger, asked, defined, last, problem_of, runs_of, seeds
from glasshouse.evidence.touching import touched_by
from glasshouse.types import Estimate, UserError
from glasshouse.workspace import Workspace

if TYPE_CHECKING:
    from glasshouse.behaviours import Version
    from glasshouse.behaviours.evaluation import Evaluation
    from glasshouse.policy import Evidence
    from glasshouse.policy.policy import Elicited, Required


def evidence_of(
    ws: Workspace, required: Required, template: str, of: Version, recorded: Ledger, today: datetime.date
) -> Evidence | None:
    """What there is of the behaviour on the version that the template names when `of` is judged, with what is wrong
    with it; None where there is nothing. An elicited version has to be made of that.

    Of several runs of one definition, which only other seeds can have, the worst of those that are not too old counts:
    so none can be run until it looks well."""
    from glasshouse.behaviours import version as named
    from glasshouse.policy.policy import JUDGED

    how = next((one for one in required.elicited if one.version == template), None)
    if how is not None and how.tries > 1:
        return _of_sweep(ws, required, how, of, recorded, today)
    try:  # by itself, not by its name, which may be another's now
        one = of if template == JUDGED else named(template.replace(JUDGED, of.name), ws)
    except UserError:  # an elicited version that was not made
        return None
    found = _of_version(ws, required, one, recorded, today)
    if how is not None and found is not None and (problem := _not_made_of(ws, one, of, how.by)):
        return replace(found, problem=problem)
    return found


def _of_sweep(
    ws: Workspace, required: Required, how: Elicited, of: Version, recorded: Ledger, today: datetime.date
) -> Evidence | None:
    """The most telling of a sweep's steps that are made of the version, each another; None where none was tested."""
    from glasshouse.behaviours import version as named
    from glasshouse.policy.policy import JUDGED

    called, steps = how.version.replace(JUDGED, of.name), {}
    for name in ws.names("versions"):
        with contextlib.suppress(UserError):  # of a model that is another now
            one = named(name, ws)
            if one.step is not None and one.step.sweep == called and not _not_made_of(ws, one, of, how.by):
                steps[one.hash] = one
    each = [_of_version(ws, required, one, recorded, today) for one in steps.values()]
    found = [one for one in each if one is not None]
    if not found:
        return None
    worst = (min if required.lowest else max)(found, key=lambda one: one.value)
    if len(steps) < how.tries or len(found) < len(steps):
        tested = f"of its {len(steps)} steps that are made of {of.name} as it is {len(found)} were tested"
        return replace(worst, problem=f"{tested}, {how.tries} tries are wanted")
    return next((one for one in found if one.problem), worst)


def _of_version(
    ws: Workspace, required: Required, one: Version, recorded: Ledger, today: datetime.date
) -> Evidence | None:  # fmt: skip
    from glasshouse.policy.policy import day

    runs = runs_of(ws, one, recorded).get(required.behaviour, [])
    runs = defined(runs, recorded, required.hash) if required.hash else last(runs, recorded)
    found = [_of_run(ws, required, one, run, recorded) for run in seeds(runs, recorded)]
    if not found:
        return None
    if unsound := [each for each in found if each.problem]:
        return unsound[0]
    fresh = [each for each in found if (today - day(each.created)).days <= required.days] or found[-1:]
    worst = (min if required.lowest else max)(fresh, key=lambda each: each.value)
    return replace(worst, runs=len(fresh))


def _of_run(ws: Workspace, required: Required, one: Version, run: str, recorded: Ledger) -> Evidence:
    from glasshouse.behaviours import read_evaluation
    from glasshouse.behaviours import version as named
    from glasshouse.behaviours.matrix import doubt
    from glasshouse.behaviours.provenance import compute
    from glasshouse.policy import Evidence

    given: dict[str, Any] = {
        "behaviour": required.behaviour, "version": one.hash, "value": 0.0, "low": 0.0, "high": 0.0, "families": 0,
        "epochs": 0, "unscored": 0.0, "created": "", "source": run, "over": required.over,
        "hash": recorded[run].hash if run in recorded else "",
    }  # fmt: skip
    used = [(run, one)]
    if required.over:
        try:
            base = named(required.over, ws)
        except UserError as error:
            return Evidence(**given, problem=str(error))
        same = [
            each for each in runs_of(ws, base, recorded).get(required.behaviour, [])
            if run in recorded and each in recorded and asked(recorded[each]) == asked(recorded[run])
        ]  # fmt: skip
        if not same:
            how = f"glasshouse test {base.name}" + (f" --seed {recorded[run].seed}" if run in recorded else "")
            return Evidence(**given, problem=f"the same was not run on {base.name}: run `{how}`")
        used.append((same[-1], base))
    if problem := next(filter(None, (problem_of(ws, each, whose, recorded) for each, whose in used)), ""):
        return Evidence(**given, problem=problem)
    done, before = read_evaluation(ws, run), read_evaluation(ws, used[-1][0])
    if problem := doubt(before, done):
        return Evidence(**given, problem=problem)
    touches = [touched_by(ws, whose, each) for each, whose in used]
    out = frozenset[str]().union(*(touched.families for touched in touches))
    clean = before.without(out), done.without(out)
    wrong = [touched.problem or touched.instrument for touched in touches]
    wrong += [touched.unknown for touched in touches if required.provenance == "recorded"]
    if not clean[1].samples:
        wrong += [touched.prompts for touched in touches]
        clean = before, done
    try:
        (whole, unscored), (found, _) = _estimated(required, before, done), _estimated(required, *clean)
    except UserError as error:  # nothing was scored, or nothing in common
        return Evidence(**given, problem=str(error))
    given |= {
        "value": found.value, "low": min(whole.low, found.low), "high": max(whole.high, found.high),
        "families": found.n, "left_out": len(out),
        "touched": "; ".join(dict.fromkeys(touched.prompts for touched in touches if touched.prompts)),
        "epochs": done.behaviour.settings.epochs,
        "created": min(done.created, before.created), "unscored": unscored, "compute": compute(ws, one),
        "rate": done.behaviour.bounded and not required.over,
        "judge": next((touched.judge for touched in touches if touched.judge), ""),
    }  # fmt: skip
    return Evidence(**given, problem=next(filter(None, wrong), ""))


def _estimated(required: Required, before: Evaluation, done: Evaluation) -> tuple[Estimate, float]:
    """The score that is wanted, or what it gained over the version before; and the share that lacks a score."""
    from glasshouse.behaviours.statistics import best_of, mean, paired

    tries = min(required.best_of, done.behaviour.settings.epochs)  # fewer than are wanted: told by `asked`
    was, now = (
        best_of(each.scored, tries, lowest=required.lowest) if tries > 1 else each.scored for each in (before, done)
    )
    unscored = max(sum(each.score is None for each in side) / max(len(side), 1) for side in (was, now))
    if required.over:
        return paired(was, now, **done.behaviour.scoring).change, unscored
    return mean(now, bounded=done.behaviour.bounded, degree=done.behaviour.scoring["degree"]), unscored


def of_earlier(
    ws: Workspace, required: Required, template: str, new: Version, recorded: Ledger, today: datetime.date
) -> Evidence | None:
    """The evidence of the earlier version that the policy lets stand in, with what has changed since. An elicited one
    has to be made of that earlier version."""
    from glasshouse.behaviours import version as named
    from glasshouse.behaviours.provenance import compute
    from glasshouse.policy.policy import JUDGED

    assert required.earlier is not None
    try:
        old = named(required.earlier.version, ws)
    except UserError:
        return None
    found = evidence_of(ws, required, template, old, recorded, today)
    if found is None:
        return None
    pairs = {"weights": (old.weights, new.weights), "prompt": (old.system, new.system), "edits": (old.edit, new.edit)}
    before, after = compute(ws, old), compute(ws, new)
    return replace(
        found, earlier=template.replace(JUDGED, old.name),
        changed=tuple(what for what, (was, now) in pairs.items() if was != now),
        grown=after / before if before and after else 0.0,
    )  # fmt: skip


def _not_made_of(ws: Workspace, one: Version, judged: Version, by: str) -> str:
    """Why a version elicits nothing from the one that is judged, or "": it has to be another, of the same weights (with
    a prompt or edits) or of a model that was fine-tuned from it, and differ in what `by` says."""
    from glasshouse.behaviours.provenance import descent

    if one.hash == judged.hash:
        return f"{one.name} is {judged.name} itself, with nothing done to bring the behaviour out"
    differs = {
        "fine-tune": one.weights != judged.weights,
        "edits": one.edit not in ("", judged.edit),
        "prompt": one.system not in ("", judged.system),
    }
    if by and not differs[by]:
        return f"{one.name} is not made of {judged.name} by {'a ' * (by != 'edits')}{by}"
    if one.weights == judged.weights:
        return ""
    tuned = any(ancestor == (judged.model, True) for ancestor in descent(ws, one.model, one.weights))
    same = tuned and ws.manifest("models", judged.model)["hash"] == judged.weights
    return "" if same else f"{one.name} is not made of {judged.name} as it is"
