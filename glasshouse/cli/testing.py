"""`glasshouse test` and `compare`: behaviours run on versions, and what moved between two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from glasshouse.calls import Budget, Calls
from glasshouse.cli.entry import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    SeedOption,
    WorkspaceOption,
    answer,
    begin,
    say,
    versions_here,
)
from glasshouse.cli.sources import PLANTED, WORLD
from glasshouse.cli.sweeping import versions_of
from glasshouse.evidence import record
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

if TYPE_CHECKING:
    from glasshouse.behaviours import Behaviour, Evaluation, Version

GENERAL = "general"
MAX_CALLS = Budget.calls
WIDE = 128  # columns of the table of verdicts, also where the terminal has fewer
COLOURS = {"regressed": "bold red", "improved": "green", "equivalent": "dim", "underpowered": "yellow"}
MaxCallsOption = Annotated[
    int, typer.Option(metavar="N", help="Calls to judges, at most; run again, it goes on from there.", min=0)
]
MaxCallTokensOption = Annotated[
    int | None, typer.Option(metavar="N", help="Tokens of calls to judges, at most.", min=0, show_default=False)
]
PlanOption = Annotated[
    bool,
    typer.Option("--plan", help="Run nothing: say the smallest change that could be seen, and what it would take."),
]


def test(
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="A model of the workspace, a saved version, a folder or hub name.")
    ],
    suite: Annotated[
        list[str] | None,
        typer.Option(
            help="`general`, `world`, a .yaml or .py file, a folder of them, or a public set (.jsonl, .csv, .zip); "
            "`world` for what was grown in it, else `general`. May be given several times.", show_default=False,
        ),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Behaviours of these names.", show_default=False)] = None,
    system: Annotated[
        str | None, typer.Option(help="A system prompt: with --save, a version of its own.", show_default=False)
    ] = None,
    system_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="System prompts, one a line: with --save, a sweep of versions NAME-1, NAME-2, …",
            show_default=False,
        ),
    ] = None,
    edit: Annotated[
        list[str] | None,
        typer.Option(
            help="resid6/1234=8x or resid6/1234=0.8, as for `chat`, or an edit saved as .json: with --save, a version "
            "of its own; resid6/1234=0:0.8:5 is a sweep of five strengths, versions NAME-0 to NAME-0.8. "
            "May be repeated.",
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the version that it makes, or of the sweep.", show_default=False),
    ] = None,
    plan: PlanOption = False,
    sentences: Annotated[
        bool, typer.Option("--sentences", help="Also leave out each sentence of the system prompt: which do any work.")
    ] = False,
    seed: SeedOption = 0,
    max_calls: MaxCallsOption = MAX_CALLS,
    max_call_tokens: MaxCallTokensOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Run behaviours on a version of a model.

    Every reply is kept with its score; what was run stands, and a killed run goes on. Versions are compared with
    `glasshouse compare`.
    """
    from glasshouse.behaviours.matrix import plan as planned
    from glasshouse.behaviours.versions import elsewhere

    with begin(workspace, create=elsewhere(version)) as ws:
        (version,) = versions_here(ws, version, device=device, dtype=dtype)
        chosen = versions_of(ws, version, system=system, system_file=system_file, edit=edit or [], save=save)
        if sentences and (len(chosen) > 1 or not chosen[0].system):
            has = "a sweep is several" if len(chosen) > 1 else f"{version} has none"
            raise UserError(f"expected a version with a system prompt for --sentences, {has}; save one")
        behaviours = _named(read_suites(suite or [usual(ws, chosen[0])]), only or [])
        if plan:
            rows = planned(ws, chosen[0], behaviours)
            answer(json, rows, _plan_lines(rows))
            return
        calls = Calls(ws, budget=Budget(calls=max_calls, tokens=max_call_tokens), device=device)
        results = _run(ws, chosen, behaviours, calls, seed=seed, device=device, quiet=json)
        if sentences:
            from glasshouse.behaviours.system_prompt import sentences as each_left_out

            found = each_left_out(
                ws, chosen[0], device=device, calls=calls, done=lambda name: record(ws, name)
            )  # fmt: skip
            results[0]["sentences"] = found
            if not json:
                answer(False, None, "\n".join(map(_sentence_line, found)))
        answer(json, {"sweep": save, "versions": results} if len(results) > 1 else results[0])


def _run(
    ws: Workspace,
    versions: Sequence[Version],
    behaviours: Sequence[Behaviour],
    calls: Calls,
    *,
    seed: int,
    device: str | None,
    quiet: bool,
) -> list[dict[str, Any]]:
    """Every behaviour on each of the versions, which are of one model; each is told as it is done, unless quiet."""
    from glasshouse.behaviours import evaluate
    from glasshouse.behaviours.matrix import newest
    from glasshouse.behaviours.versions import loaded

    results, model = [], None
    for version in versions:
        opened = loaded(version, ws, device=device, model=model)
        model, found = opened[0], []
        if len(versions) > 1 and not quiet:
            answer(False, None, f"{version.name}:")
        for behaviour in behaviours:
            done = evaluate(version, behaviour, ws, seed=seed, opened=opened, calls=calls)
            record(ws, done.name)
            found.append(result_row(done))
            if not quiet:  # as each is done
                answer(False, None, result_line(found[-1]))
        results.append({"version": version.to_json(), "behaviours": found})
        counts = newest(ws, version)
        for name, compared in ((row["evaluation"], counts[row["behaviour"]]) for row in found):
            if name != compared:
                say(f"{name} stood already; compared is the newest run, {compared}, which asks otherwise; to compare "
                    "by this one, run it with another --seed")  # fmt: skip
    return results


def compare(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The version to compare with.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The version that is new.")],
    plan: PlanOption = False,
    max_calls: MaxCallsOption = MAX_CALLS,
    max_call_tokens: MaxCallTokensOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Say what moved between two versions, what did not, and what cannot be told.

    Every behaviour that was run on BASE is run on NEW. Of each the paired change, with its interval and one of four
    verdicts: regressed, improved, equivalent (within the behaviour's margin), underpowered.
    """
    from glasshouse.behaviours import compared, run_missing, version
    from glasshouse.behaviours.matrix import plan as planned

    with begin(workspace, create=False) as ws:
        before, after = (version(name, ws) for name in versions_here(ws, base, new, device=device, dtype=dtype))
        if plan:
            rows = planned(ws, before)
            answer(json, rows, _plan_lines(rows))
            return
        calls = Calls(ws, budget=Budget(calls=max_calls, tokens=max_call_tokens), device=device)
        for name in run_missing(ws, before, after, device=device, calls=calls):
            record(ws, name)
        found = compared(ws, before, after)
        answer(json, found)
        if not json:
            show_comparison(found)


def usual(ws: Workspace, version: Version) -> str:
    """The suite for what the version's model was grown in."""
    corpus = "" if version.foreign else str(ws.manifest("models", version.model)["config"].get("corpus", ""))
    return WORLD if corpus == WORLD or corpus.startswith(PLANTED) else GENERAL


def read_suites(suites: Sequence[str], *, families: int | None = None) -> list[Behaviour]:
    """The behaviours of every suite, no two of one name; of the world's up to so many families. Raises `UserError`."""
    from glasshouse.behaviours.behaviour import behaviour_from_json, read_behaviours
    from glasshouse.behaviours.public import read_public

    found: list[Behaviour] = []
    for name in suites:
        if name == WORLD:
            from glasshouse.organisms.suite import FAMILIES, suite
            from glasshouse.organisms.world import build

            forms = suite(build(0), families=families or FAMILIES)
            found += [behaviour_from_json(form, form["name"]) for form in forms]
        else:
            folder = Path(__file__).parent.parent / "behaviours" / "suite"
            path = folder if name == GENERAL else Path(name)
            found += read_public(path) if path.suffix in (".jsonl", ".csv", ".zip") else read_behaviours(path)
    names = [behaviour.name for behaviour in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"expected behaviours of different names, got {', '.join(twice)} twice; leave one out")
    return found


def _instrument(done: Evaluation) -> dict[str, Any]:
    """Of a judge or a classifier: how it agrees with people, and why what it says does not count, or ""."""
    from glasshouse.behaviours.judge import orders_disagree

    if done.checked is None:
        return {}
    agreed = {key: value for key, value in done.checked.to_json().items() if key in ("by", "accuracy", "kappa")}
    disagree = orders_disagree(done.samples, done.behaviour.scorer[1])
    errors = sorted({sample.error for sample in done.samples} - {""})
    return {"agreement": agreed, "orders_disagree": disagree, "errors": errors, "problem": done.problem}


def _named(behaviours: Sequence[Behaviour], only: Sequence[str]) -> list[Behaviour]:
    have = [behaviour.name for behaviour in behaviours]
    if unknown := [name for name in only if name not in have]:
        raise UserError(f"expected --only among {', '.join(have)}, got {', '.join(unknown)}")
    return [behaviour for behaviour in behaviours if not only or behaviour.name in only]


# -- in words ----------------------------------------------------------------------------------------------------------


def result_row(done: Evaluation) -> dict[str, Any]:
    """An evaluation in brief, as JSON."""
    behaviour, unscored = done.behaviour, sum(score is None for score in done.scores)
    return {
        "behaviour": behaviour.name, "evaluation": done.name, "tag": behaviour.tag, "good": behaviour.good,
        "unit": behaviour.unit, "mean": done.mean.to_json() if unscored < len(done.scores) else None,
        "samples": len(done.samples), "unscored": unscored, **_instrument(done),
    }  # fmt: skip


def result_line(row: dict[str, Any]) -> str:
    unscored = f", {row['unscored']} unscored" if row["unscored"] else ""
    value = number(row["mean"], row["unit"]) if row["mean"] else "nothing scored"
    lines = [f"{row['behaviour']:30} {value:>26}  {row['samples']} samples{unscored}"]
    if of := row.get("agreement"):
        if of["kappa"]:
            right = number(of["accuracy"], "rate")
            lines.append(
                f"  agrees with people on {right} of {of['kappa']['n']} labels, kappa {number(of['kappa'], '')}"
            )
        if row["orders_disagree"]:
            lines.append(f"  {row['orders_disagree']} were made ties: swapped, the judge preferred another")
        lines += [f"  unscored: {error}" for error in row["errors"]]
        lines += [f"  does not count: {row['problem']}"] if row["problem"] else []
    return "\n".join(lines)


def _sentence_line(row: dict[str, Any]) -> str:
    why = f"{len(row['undecided'])} behaviours undecided" if row["undecided"] else ""
    if row["moved"]:
        moved = (f"{one['behaviour']} {number(one['change'], one['unit'], signed=True)}" for one in row["moved"])
        why = f"without it {', '.join(moved)}"
    return f"{row['verdict']:12} {row['sentence']!r:.70}  {why}".rstrip()


def number(estimate: dict[str, Any], unit: str, *, signed: bool = False) -> str:
    """A mean with its interval: as a percentage, for a rate."""
    sign = "+" if signed else ""
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if unit == "rate":
        return f"{value:{sign}.1%} [{low:{sign}.1%}, {high:{sign}.1%}]"
    return f"{value:{sign}.3g} [{low:{sign}.3g}, {high:{sign}.3g}]"


def _plan_lines(rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"{'behaviour':30} {'families':>8} {'margin':>8} {'could see':>10} {'to show equivalence':>20}"]
    for row in rows:
        percent = "%" if row["unit"] == "rate" else ""
        scale = 100 if percent else 1
        nothing = "nothing" if row["unit"] == "rate" else "?"
        seen = nothing if row["smallest_change"] is None else f"{row['smallest_change'] * scale:.3g}{percent}"
        needed = "?" if row["needed"] is None else f"{row['needed']} families"
        margin = f"{row['margin'] * scale:.3g}{percent}"
        lines.append(f"{row['behaviour']:30} {row['families']:>8} {margin:>8} {seen:>10} {needed:>20}")
    return "\n".join(lines)


def show_comparison(found: dict[str, Any]) -> None:
    """The table of verdicts, worst first, on standard output."""
    order = {"regressed": 0, "improved": 1, "underpowered": 2, "equivalent": 3}
    table = Table(box=None, pad_edge=False)
    for heading, justify in (
        ("behaviour", "left"), (found["base"]["name"], "right"), (found["new"]["name"], "right"), ("change", "right"),
        ("verdict", "left"),
    ):  # fmt: skip
        table.add_column(heading, justify=justify, no_wrap=heading != "verdict")  # type: ignore[arg-type]
    for row in sorted(found["cells"], key=lambda one: (order[one["verdict"]], one["p_adjusted"])):
        scale, percent = (100, "%") if row["unit"] == "rate" else (1, "")
        means = [f"{row[side]['value'] * scale:.3g}{percent}" for side in ("base", "new")]
        needed = f", {row['needed']} families would do" if row["needed"] else ""
        unscored = f", {row['unscored']} unscored" if row["unscored"] else ""
        verdict = Text(row["verdict"], style="dim" if row["problem"] else COLOURS[row["verdict"]])
        verdict.append(f"{needed}{unscored}", style="dim")
        if row["problem"]:
            verdict.append(f"; does not count: {row['problem']}", style="yellow")
        table.add_row(Text(row["behaviour"]), *means, number(row["change"], row["unit"], signed=True), verdict)
    console = Console(soft_wrap=True, width=max(Console().width, WIDE))
    console.print(table)
    for row in found["cells"]:
        if row["verdict"] == "regressed" and row["worst"] and not row["problem"]:
            one = row["worst"][0]
            console.print(f"\n{row['behaviour']}: {one['turns'][-1]['content']!r:.100}", markup=False, highlight=False)
            console.print(f"  {found['base']['name']}: {one['before']!r:.140}", markup=False, highlight=False)
            console.print(f"  {found['new']['name']}: {one['after']!r:.140}", markup=False, highlight=False)
    for behaviour, why in found["unsound"].items():
        console.print(f"\n{behaviour}: cannot be compared, {why}", markup=False, highlight=False)
    if found["missing"]:
        console.print(f"\nnot run on {found['new']['name']}: {', '.join(found['missing'])}", markup=False)
