"""What a policy's verdict rests on: evidence out of the workspace, held to the ledger.

record(ws, evaluate(version("settled", ws), behaviour, ws).name)    # its hash goes into the ledger
decision, comparison = judged(ws, read_policy(Path("policy.yaml")), "settled", date.today())
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from glasshouse.policy import append, verified
from glasshouse.policy.ledger import FILE
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

if TYPE_CHECKING:
    from glasshouse.behaviours import Version
    from glasshouse.policy import Decision, Evidence, Policy
    from glasshouse.policy.policy import Elicited, Required


class Recorded(NamedTuple):
    """What the ledger says of an evaluation: its hash, when it was put there, what it asked (the hash of the behaviour,
    and the seed), the behaviour's tag, and when the replies were made; the last two are "" in entries of before."""

    hash: str
    at: str
    behaviour: str
    seed: int
    tag: str = ""
    made: str = ""


Ledger = Mapping[str, Recorded]  # evaluations, in the order in which they were recorded


def record(ws: Workspace, evaluation: str) -> None:
    """Put an evaluation's hash into the ledger, once: what is altered afterwards does not count. Raises `UserError` for
    one that is another's, or was scored anew from replies that are not those the ledger has recorded."""
    from glasshouse.behaviours import read_evaluation
    from glasshouse.behaviours.evaluation import KEPT

    recorded = _recorded(verified(ws.root / FILE)[0])
    if evaluation in recorded:
        return
    done = read_evaluation(ws, evaluation)  # whole, and itself
    manifest = ws.manifest("evals", evaluation)
    kept = manifest["choices"].get(KEPT)
    before = recorded.get(kept["evaluation"]) if kept is not None else None
    if kept is not None and (before is None or before.hash != kept["hash"]):
        raise UserError(
            f"{evaluation} was scored anew from the replies of {kept['evaluation']}, which is not what the ledger has "
            f"recorded; delete both from {ws.root / 'evals'} and run `glasshouse test`, which asks the model anew"
        )
    config = manifest["config"]
    body = {
        "evaluation": evaluation,
        "hash": manifest["hash"],
        "behaviour": config["behaviour"],
        "seed": config["seed"],
        "tag": done.behaviour.tag,
        "made": done.created,
    }
    append(ws.root / FILE, "evidence", body)


def _recorded(entries: list[dict[str, Any]]) -> Ledger:
    found: dict[str, Recorded] = {}
    for entry in entries:
        body = entry["body"]
        name = str(body.get("evaluation"))
        if entry["kind"] == "evidence" and name not in found:  # the first counts
            asked = str(body.get("behaviour", "")), int(body.get("seed", 0))  # entries of before had neither
            more = str(body.get("tag", "")), str(body.get("made", ""))
            found[name] = Recorded(str(body.get("hash")), entry["at"], *asked, *more)
    return found


def hashes_in(entries: list[dict[str, Any]]) -> dict[str, str]:
    """Of every evaluation that a ledger has, by name."""
    return {name: one.hash for name, one in _recorded(entries).items()}


def judged(ws: Workspace, rules: Policy, name: str, today: datetime.date) -> tuple[Decision, Mapping[str, Any] | None]:
    """What the rules say of the version of that name on that day, and the comparison that it rests on (`compared`; None
    for a policy that compares with nothing, or with this version). It runs nothing and writes nothing: a verdict is put
    into the ledger by `append`. Raises `UserError` for a version that does not exist, a model whose folder was altered,
    or a ledger that is broken."""
    from glasshouse.behaviours import version as named
    from glasshouse.policy import decide
    from glasshouse.policy.policy import JUDGED, day

    of = named(name, ws)
    if of.model:  # what is judged is what was tested
        ws.manifest("models", of.model, verify=True)
    entries, _ = verified(ws.root / FILE)
    recorded = _recorded(entries)
    evidence = {}
    for required, template in dict.fromkeys(rules.required):
        found = _evidence(ws, required, template, of, recorded, today)
        if found is None and required.earlier is not None:
            found = _of_earlier(ws, required, template, of, recorded, today)
        if found is not None:
            evidence[template.replace(JUDGED, of.name), required] = found
    comparison = None
    base = named(rules.pinned or rules.against, ws) if rules.against else None
    if base is not None and not base.hash.startswith(rules.pinned):  # a version whose name is those digits
        raise UserError(f"expected the version whose hash begins with {rules.pinned}, found {base.name}; rename that")
    if base is not None and base.hash != of.hash:
        comparison = _comparison(ws, base, of, recorded, rules.definitions)
    approvals = [
        {**entry["body"], "at": entry["at"]}
        for entry in entries
        if entry["kind"] == "approval" and day(entry["at"]) <= today
    ]
    against = base.hash if base is not None else ""
    decision = decide(
        rules, of.to_json(), evidence, today=today, against=against, comparison=comparison, approvals=approvals
    )
    return decision, comparison


def _comparison(
    ws: Workspace, base: Version, new: Version, recorded: Ledger, pinned: Mapping[str, str]
) -> dict[str, Any]:  # fmt: skip
    """Of what was recorded of the base with the same on the new version; of several seeds that both have, the worst.
    Of guards, what cannot count is under "unsound", and what the new version lacks under "missing"."""
    from glasshouse.behaviours import compared, read_evaluation
    from glasshouse.behaviours.matrix import counterpart, newest

    runs = _runs(ws, base, recorded)
    if not runs and not newest(ws, base):
        return compared(ws, base, new)  # which says that there are none
    pairs: dict[str, list[tuple[str, str]]] = {}
    unsound = {
        name: f"the definition {begins} was not run on {base.name}"
        for name, begins in pinned.items()
        if not _defined(runs.get(name, []), recorded, begins)
    }
    for behaviour, names in ((name, some) for name, some in runs.items() if name not in unsound):
        which = _defined(names, recorded, pinned[behaviour]) if behaviour in pinned else _last(names, recorded)
        every = [(old, counterpart(old, new)) for old in _seeds(which, recorded)]
        pairs[behaviour] = [(o, n) for o, n in every if n in recorded or ws.exists("evals", n)] or every[-1:]
    guards = {*pairs, *unsound}
    for behaviour, (old, fresh) in ((name, pair) for name, each in pairs.items() for pair in each):
        if problem := _problem(ws, old, base, recorded):
            unsound[behaviour] = problem
            continue
        if (tag := read_evaluation(ws, old).behaviour.tag) != "guard":
            was = sum(name in recorded and recorded[name].tag == "guard" for name in runs[behaviour])
            if was:
                unsound[behaviour] = f"it was a guard in {was} of its runs on {base.name}, and is {tag} in the last"
                continue
            guards.discard(behaviour)
        if problem := _problem(ws, fresh, new, recorded):
            unsound[behaviour] = problem
    sound = {name: each for name, each in pairs.items() if name not in unsound}
    found = compared(ws, base, new, pairs={name: each[0] for name, each in sound.items()})
    compared_again = [compared(ws, base, new, pairs={n: pair}) for n, each in sound.items() for pair in each[1:]]
    worst: dict[str, dict[str, Any]] = {}
    for one in (found, *compared_again):
        unsound |= one["unsound"]
        for cell in one["cells"]:
            worst[cell["behaviour"]] = min(cell, worst.get(cell["behaviour"], cell), key=_sound_and_gained)
    cells = []
    for cell in worst.values():
        touched = _touched(ws, new, cell["sources"][1])
        if problem := cell["problem"] or touched.problem:
            unsound[cell["behaviour"]] = problem
        else:
            asked = {recorded[name].behaviour for name in runs[cell["behaviour"]] if name in recorded}
            more = {
                "definitions": len(asked), "definition": recorded[cell["sources"][0]].behaviour,
                "runs": len(sound[cell["behaviour"]]),
            }  # fmt: skip
            by = {"touched": touched.prompts, "unknown": touched.unknown, "judge": touched.judge}
            cells.append({**cell, **by, **more})
    missing = [behaviour for behaviour in found["missing"] if behaviour in guards]
    unsound = {behaviour: problem for behaviour, problem in unsound.items() if behaviour in guards}
    return {**found, "cells": cells, "missing": missing, "unsound": unsound}


def _runs(ws: Workspace, version: Version, recorded: Ledger) -> dict[str, list[str]]:
    """By behaviour, the evaluations of the version that the ledger has, in its order: also those that are gone. Of a
    behaviour of which it has none, those of the workspace, but for what was imported, which is no evidence."""
    from glasshouse.behaviours.breadth import NAME as DISCOVERY
    from glasshouse.behaviours.evaluation import evaluations, name_parts

    kept: dict[str, list[str]] = {}
    for name in recorded:
        behaviour, whose, _ = name_parts(name)
        if whose == version.hash[:10] and behaviour != DISCOVERY:
            kept.setdefault(behaviour, []).append(name)
    others: dict[str, list[str]] = {}
    for name in evaluations(ws, version):
        behaviour = name_parts(name)[0]
        if behaviour not in {*kept, DISCOVERY} and not _imported(ws, name):
            others.setdefault(behaviour, []).append(name)
    return {**others, **kept}


def _last(runs: list[str], recorded: Ledger) -> list[str]:
    """Those of the last definition."""
    if not runs or runs[-1] not in recorded:
        return runs
    return [run for run in runs if run in recorded and recorded[run].behaviour == recorded[runs[-1]].behaviour]


def _defined(runs: list[str], recorded: Ledger, begins: str) -> list[str]:
    """Those of the definition whose hash begins so."""
    return [run for run in runs if run in recorded and recorded[run].behaviour.startswith(begins)]


def _seeds(runs: list[str], recorded: Ledger) -> list[str]:
    """One a seed: of what was scored anew the last."""
    return list({recorded[run].seed if run in recorded else 0: run for run in runs}.values())


def _asked(one: Recorded) -> tuple[str, int]:
    return one.behaviour, one.seed


def _sound_and_gained(cell: Mapping[str, Any]) -> tuple[bool, float]:
    """The least of several counts: one that is not sound, else the one that has fallen most."""
    change = float(cell["change"]["value"])
    return not cell["problem"], change if cell["good"] == "up" else -change


def _imported(ws: Workspace, evaluation: str) -> bool:
    """Whether it is of a log, which is no evidence: `glasshouse import` puts nothing into the ledger."""
    try:
        return bool(ws.manifest("evals", evaluation)["command"] == "import")
    except UserError:  # damaged: told where it is read
        return False


def _evidence(
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

    runs = _runs(ws, one, recorded).get(required.behaviour, [])
    runs = _defined(runs, recorded, required.hash) if required.hash else _last(runs, recorded)
    found = [_of_run(ws, required, one, run, recorded) for run in _seeds(runs, recorded)]
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
    from glasshouse.behaviours.statistics import best_of, mean, paired
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
            each for each in _runs(ws, base, recorded).get(required.behaviour, [])
            if run in recorded and each in recorded and _asked(recorded[each]) == _asked(recorded[run])
        ]  # fmt: skip
        if not same:
            how = f"glasshouse test {base.name}" + (f" --seed {recorded[run].seed}" if run in recorded else "")
            return Evidence(**given, problem=f"the same was not run on {base.name}: run `{how}`")
        used.append((same[-1], base))
    if problem := next(filter(None, (_problem(ws, each, whose, recorded) for each, whose in used)), ""):
        return Evidence(**given, problem=problem)
    done, before = read_evaluation(ws, run), read_evaluation(ws, used[-1][0])
    if problem := doubt(before, done):
        return Evidence(**given, problem=problem)
    try:
        tries = min(required.best_of, done.behaviour.settings.epochs)  # fewer than are wanted: told by `asked`
        was, now = (
            best_of(each.scored, tries, lowest=required.lowest) if tries > 1 else each.scored for each in (before, done)
        )
        estimate = mean(now, bounded=done.behaviour.bounded)
        if required.over:
            estimate = paired(was, now, **done.behaviour.scoring).change
    except UserError as error:  # nothing was scored, or nothing in common
        return Evidence(**given, problem=str(error))
    given |= {
        "value": estimate.value, "low": estimate.low, "high": estimate.high, "families": estimate.n,
        "epochs": done.behaviour.settings.epochs, "created": min(done.created, before.created),
        "unscored": max(sum(each.score is None for each in side) / max(len(side), 1) for side in (was, now)),
        "compute": compute(ws, one), "rate": done.behaviour.bounded and not required.over,
    }  # fmt: skip
    for each, whose in used:
        touched = _touched(ws, whose, each)
        unknown = touched.unknown if required.provenance == "recorded" else ""
        if problem := touched.problem or touched.prompts or unknown:
            return Evidence(**given, problem=problem)
        given["judge"] = given.get("judge") or touched.judge
    return Evidence(**given)


def _of_earlier(
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
    found = _evidence(ws, required, template, old, recorded, today)
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


def _problem(ws: Workspace, evaluation: str, version: Version, recorded: Ledger) -> str:
    """Why an evaluation cannot be evidence of the version: gone, altered, another's, or not in the ledger as it is; ""
    for one that was never made."""
    from glasshouse.behaviours.evaluation import SAID

    at = recorded.get(evaluation)
    if not ws.exists("evals", evaluation):
        return f"{evaluation} is in the ledger and no longer in {ws.root / 'evals'}: restore it" if at else ""
    try:
        manifest = ws.manifest("evals", evaluation, verify=True)
    except UserError as error:
        return str(error)
    if at is None:
        return f"{evaluation} is not in the ledger; `glasshouse test` and `compare` put it there"
    if at.hash != manifest["hash"]:
        return f"{evaluation} is not what the ledger has recorded"
    if manifest["name"] != evaluation or manifest["config"].get("version") != version.hash:
        return f"{evaluation} holds {manifest['name']}, of another version"
    made = manifest["choices"].get(SAID, manifest["created"])
    if at.made and made != at.made:
        return f"{evaluation} is dated {made}, the ledger has {at.made}"
    try:
        moment = datetime.datetime.fromisoformat(made).replace(microsecond=0)
        later = moment > datetime.datetime.fromisoformat(at.at)
    except (ValueError, TypeError):
        later = True
    return f"{evaluation} is dated {made}, after it was recorded ({at.at})" if later else ""


class Touch(NamedTuple):
    """What is wrong with where a behaviour's prompts and its instrument come from: what training has touched, what is
    not known of it, and what was altered. judge: what a judge has in common with the model, which is nothing wrong."""

    prompts: str = ""
    unknown: str = ""
    problem: str = ""
    judge: str = ""


def _touched(ws: Workspace, version: Version, evaluation: str) -> Touch:
    from glasshouse.behaviours import read_evaluation
    from glasshouse.behaviours.provenance import touched

    try:
        done = read_evaluation(ws, evaluation)
        found = touched(ws, version, done.behaviour, done.checked.by.get("at") if done.checked else None)
    except UserError as error:
        return Touch(problem=str(error))
    text = "stand in the text that the model was trained on"
    prompts = [f"{found.prompts} of its {found.of} prompts {text}"] if found.prompts else []
    prompts += [f"{found.labels} of the labelled texts of its instrument {text}"] if found.labels else []
    prompts += [f"its judge, {found.judge}, is of the model's own line"] if found.judge else []
    prompts += [
        f"{count} of its {found.of} prompts stand in the text that the dictionary {name} was trained on"
        for name, count in found.steered
    ]
    on = "on which its judge was checked stand in the text that the judge was trained on"
    prompts += [f"{found.judged} of the labelled texts {on}"] if found.judged else []
    unknown = f"what {', '.join(found.unknown)} was trained on is not recorded"
    judge = f"its judge comes from {found.base}, as the model does" if found.base else ""
    return Touch("; ".join(prompts), unknown if found.unknown else "", judge=judge)
