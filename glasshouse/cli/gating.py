"""`glasshouse gate` and `ledger`: a policy's verdict on a version, from recorded evidence."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glasshouse.cli.entry import Commands, JsonOption, VersionArgument, WorkspaceOption, answer
from glasshouse.policy import append, verified
from glasshouse.policy.ledger import FILE
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

if TYPE_CHECKING:
    from glasshouse.behaviours import Evaluation, Version
    from glasshouse.policy import Decision, Evidence, Policy
    from glasshouse.policy.policy import Required

STATUS = {"pass": 0, "hold": 1, "unknown": 3}
SHOWN = 8  # rules that hold

ledger = typer.Typer(cls=Commands, help="The log of evidence, approvals and verdicts.", no_args_is_help=True)
HeadOption = Annotated[
    str,
    typer.Option(metavar="HASH", help="A head that was kept elsewhere: it has to be in the chain.", show_default=False),
]


def gate(
    policy: Annotated[Path, typer.Argument(metavar="POLICY", help="A policy as YAML.")],
    version: VersionArgument,
    report: Annotated[
        Path | None, typer.Option(help="Write the verdict as a page, .html or .md.", show_default=False)
    ] = None,
    on: Annotated[
        str | None, typer.Option(metavar="DATE", help="Judge as of that day; today without it.", show_default=False)
    ] = None,
    head: HeadOption = "",
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Decide by a policy whether a version may be released.

    From what `glasshouse test` and `compare` have recorded; runs nothing, and needs no torch. Exit status 0 for pass, 1
    for hold, 3 for unknown, which holds the release too. Evidence and verdict go into the ledger, whose head is
    printed.
    """
    from glasshouse.policy import read_policy, write_report

    rules = read_policy(policy)
    ws = Workspace.open(workspace, create=False)
    verified(ws.root / FILE, known=head)
    today = datetime.datetime.now(datetime.UTC).date() if on is None else _day(on)
    decision, comparison = judged(ws, rules, version, today)
    new_head = append(ws.root / FILE, "verdict", decision.to_json())
    if report is not None:
        write_report(report, decision, comparison, new_head)
    answer(json, {**decision.to_json(), "ledger": new_head}, _lines(decision, new_head))
    raise typer.Exit(STATUS[decision.verdict])


@ledger.command("verify")
def verify(head: HeadOption = "", workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Say whether the chain is whole, and print its head."""
    entries, found = verified(Workspace.open(workspace, create=False).root / FILE, known=head)
    answer(json, {"entries": len(entries), "head": found}, f"{len(entries)} entries, whole; head {found}")


@ledger.command("approve")
def approve(
    version: VersionArgument,
    role: Annotated[str, typer.Option(help="In which role, as the policy names it.")],
    by: Annotated[str, typer.Option(help="Who approves; a name, which nothing proves.")],
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Record that somebody approves a version."""
    from glasshouse.behaviours import version as named

    ws = Workspace.open(workspace, create=False)
    found = named(version, ws)
    body = {"role": role, "by": by, "name": found.name, "version": found.hash}
    head = append(ws.root / FILE, "approval", body)
    answer(
        json, {**body, "ledger": head}, f"{by} approves {found.name} ({found.hash[:16]}) as {role}; ledger head {head}"
    )


def _day(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise UserError(f"expected a day such as 2026-01-31 for --on, got {text!r}") from None


# -- evidence ----------------------------------------------------------------------------------------------------------


def record(ws: Workspace, evaluation: str) -> None:
    """Put an evaluation's hash into the ledger, once: what is altered afterwards does not count. Raises `UserError` for
    one that was scored anew from replies that are not those the ledger has recorded."""
    from glasshouse.behaviours.evaluation import KEPT

    recorded = _recorded(verified(ws.root / FILE)[0])
    if evaluation in recorded:
        return
    manifest = ws.manifest("evals", evaluation)
    kept = manifest["choices"].get(KEPT)
    if kept is not None and recorded.get(kept["evaluation"], kept["hash"]) != kept["hash"]:
        raise UserError(
            f"{evaluation} was scored anew from the replies of {kept['evaluation']}, which is not what the ledger has "
            f"recorded; delete both from {ws.root / 'evals'} and run `glasshouse test`, which asks the model anew"
        )
    append(ws.root / FILE, "evidence", {"evaluation": evaluation, "hash": manifest["hash"]})


def _recorded(entries: list[dict[str, Any]]) -> dict[str, str]:
    return {e["body"]["evaluation"]: e["body"]["hash"] for e in reversed(entries) if e["kind"] == "evidence"}


def judged(ws: Workspace, rules: Policy, name: str, today: datetime.date) -> tuple[Decision, Mapping[str, Any] | None]:
    """The decision, and the comparison that it rests on."""
    from glasshouse.behaviours import compared
    from glasshouse.behaviours import version as named
    from glasshouse.behaviours.matrix import counterparts
    from glasshouse.policy import decide

    judged_version = named(name, ws)
    entries, _ = verified(ws.root / FILE)
    recorded = _recorded(entries)
    evidence = {}
    for required, one in rules.required(name):
        found = _evidence(ws, required, one, recorded)
        if found is None and required.earlier is not None:
            found = _of_earlier(ws, required, one, recorded)
        if found is not None:
            evidence[required.of(one)] = found
    comparison = None
    base = named(rules.pinned or rules.against, ws) if rules.against else None
    if base is not None and base.hash != judged_version.hash:
        pairs = counterparts(ws, base, judged_version)
        imported = {behaviour for behaviour, (old, _) in pairs.items() if old not in recorded and _imported(ws, old)}
        unsound = {
            behaviour: problem
            for behaviour, pair in pairs.items()
            if behaviour not in imported
            and (problem := next(filter(None, (_problem(ws, one, recorded) for one in pair)), ""))
        }
        comparison = compared(ws, base, judged_version, without={*unsound, *imported})
        unsound |= comparison["unsound"]
        unsound |= {cell["behaviour"]: cell["problem"] for cell in comparison["cells"] if cell["problem"]}
        cells = [
            _with_provenance(ws, judged_version, cell) for cell in comparison["cells"] if not cell["problem"]
        ]  # fmt: skip
        missing = [behaviour for behaviour in comparison["missing"] if behaviour not in imported]
        comparison = {**comparison, "cells": cells, "missing": missing, "unsound": unsound}
    approvals = [entry["body"] for entry in entries if entry["kind"] == "approval"]
    decision = decide(
        rules, judged_version.to_json(), evidence, today=today, comparison=comparison, approvals=approvals
    )  # fmt: skip
    return decision, comparison


def _imported(ws: Workspace, evaluation: str) -> bool:
    """Whether it is of a log, which is no evidence: `glasshouse import` puts nothing into the ledger."""
    try:
        return bool(ws.manifest("evals", evaluation)["command"] == "import")
    except UserError:  # damaged: told where it is read
        return False


def _evidence(ws: Workspace, required: Required, name: str, recorded: Mapping[str, str]) -> Evidence | None:
    """What there is of the behaviour on the version, with what is wrong with it; None where there is nothing."""
    from glasshouse.behaviours import read_evaluation
    from glasshouse.behaviours import version as named
    from glasshouse.behaviours.matrix import doubt, newest
    from glasshouse.behaviours.provenance import compute
    from glasshouse.behaviours.statistics import best_of, mean, paired
    from glasshouse.policy import Evidence

    try:
        one = named(name, ws)
        source = newest(ws, one).get(required.behaviour)
    except UserError:  # an elicited version that was not made
        return None
    if source is None:
        return None
    given: dict[str, Any] = {
        "behaviour": required.behaviour, "version": one.hash, "value": 0.0, "low": 0.0, "high": 0.0, "families": 0,
        "epochs": 0, "unscored": 0.0, "created": "", "source": source, "hash": recorded.get(source, ""),
        "over": required.over,
    }  # fmt: skip
    used = [source]
    if required.over:
        base = newest(ws, named(required.over, ws)).get(required.behaviour)
        if base is None:
            return None
        used.append(base)
    if problem := next(filter(None, (_problem(ws, each, recorded) for each in used)), ""):
        return Evidence(**given, problem=problem)
    done, before = read_evaluation(ws, source), read_evaluation(ws, used[-1])
    if problem := doubt(before, done):
        return Evidence(**given, problem=problem)
    try:
        tries = min(required.best_of, done.behaviour.settings.epochs)  # fewer than are wanted: told by `asked`
        was, now = (
            best_of(each.scored, tries, lowest=required.lowest) if tries > 1 else each.scored for each in (before, done)
        )
        estimate, families = mean(now, bounded=done.behaviour.bounded), done.behaviour.families
        if required.over:
            change = paired(was, now, bounded=done.behaviour.bounded)
            estimate, families = change.change, change.families
    except UserError as error:  # nothing was scored, or nothing in common
        return Evidence(**given, problem=str(error))
    given |= {
        "value": estimate.value, "low": estimate.low, "high": estimate.high, "families": families,
        "epochs": done.behaviour.settings.epochs, "created": done.created,
        "unscored": sum(score is None for score in done.scores) / max(len(done.scores), 1),
        "compute": compute(ws, one.model), "rate": done.behaviour.bounded and not required.over,
    }  # fmt: skip
    prompts, unknown = _touched(ws, one, done)
    return Evidence(**given, problem=prompts or (unknown if required.provenance == "recorded" else ""))


def _of_earlier(ws: Workspace, required: Required, name: str, recorded: Mapping[str, str]) -> Evidence | None:
    """The evidence of the earlier version that the policy lets stand in, with what has changed since."""
    from glasshouse.behaviours import version as named
    from glasshouse.behaviours.provenance import compute

    assert required.earlier is not None
    found = _evidence(ws, required, required.earlier.version, recorded)
    try:
        old, new = named(required.earlier.version, ws), named(name, ws)
    except UserError:
        return None
    if found is None:
        return None
    pairs = {"weights": (old.weights, new.weights), "prompt": (old.system, new.system), "edits": (old.edit, new.edit)}
    before, after = compute(ws, old.model), compute(ws, new.model)
    return replace(
        found, earlier=old.name, changed=tuple(what for what, (was, now) in pairs.items() if was != now),
        grown=after / before if before and after else 0.0,
    )  # fmt: skip


def _problem(ws: Workspace, evaluation: str, recorded: Mapping[str, str]) -> str:
    """Why an evaluation cannot be evidence: altered, or not in the ledger as it is; "" for one that is missing."""
    if not ws.exists("evals", evaluation):
        return ""
    try:
        found = ws.manifest("evals", evaluation, verify=True)["hash"]
    except UserError as error:
        return str(error)
    if evaluation not in recorded:
        return f"{evaluation} is not in the ledger; `glasshouse test` and `compare` put it there"
    return "" if recorded[evaluation] == found else f"{evaluation} is not what the ledger has recorded"


def _touched(ws: Workspace, version: Version, done: Evaluation) -> tuple[str, str]:
    """What is wrong with where the behaviour's prompts come from: what training has touched, what is not known of
    it."""
    from glasshouse.behaviours.provenance import touched

    found = touched(ws, version, done.behaviour)
    prompts = f"{found.prompts} of its {found.of} prompts stand in the text that the model was trained on"
    unknown = f"what {', '.join(found.unknown)} was trained on is not recorded"
    return prompts if found.prompts else "", unknown if found.unknown else ""


def _with_provenance(ws: Workspace, version: Version, cell: dict[str, Any]) -> dict[str, Any]:
    from glasshouse.behaviours import read_evaluation
    from glasshouse.behaviours.matrix import newest

    done = read_evaluation(ws, newest(ws, version)[cell["behaviour"]])
    return {**cell, "touched": _touched(ws, version, done)[0]}


# -- in words ----------------------------------------------------------------------------------------------------------


def _lines(decision: Decision, head: str) -> str:
    from glasshouse.policy.report import rows

    found = rows(decision)
    kept = [row for row in found if not row[1].startswith("holds")] + [r for r in found if r[1].startswith("holds")][
        :SHOWN
    ]
    left = len(found) - len(kept)
    lines = [
        f"{decision.verdict}: {decision.version['name']} by {decision.policy}, level {decision.level} required",
        "",
    ]
    lines += [f"{word:16} {rule}: {why}" for rule, word, why in kept]
    lines += [f"{'':16} and {left} rules more that hold (--report FILE.html for all)"] if left else []
    return "\n".join([*lines, "", f"ledger head {head}"])
