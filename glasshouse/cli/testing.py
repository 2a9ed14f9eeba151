"""`glasshouse test` and `compare`: behaviours run on versions, and what moved between two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from glasshouse.cli.entry import (
    DeviceOption,
    JsonOption,
    SeedOption,
    VersionArgument,
    WorkspaceOption,
    answer,
    begin,
)
from glasshouse.cli.gating import record
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

if TYPE_CHECKING:
    from glasshouse.behaviours import Behaviour, Evaluation, Version

WORLD, GENERAL = "world", "general"
WIDE = 128  # columns of the table of verdicts, also where the terminal has fewer
COLOURS = {"regressed": "bold red", "improved": "green", "equivalent": "dim", "underpowered": "yellow"}
PlanOption = Annotated[
    bool,
    typer.Option("--plan", help="Run nothing: say the smallest change that could be seen, and what it would take."),
]


def test(
    version: VersionArgument,
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
    edit: Annotated[
        list[str] | None,
        typer.Option(
            help="resid6/1234=8x or resid6/1234=0.8, as for `chat`, or an edit saved as .json: with --save, a version "
            "of its own. May be repeated.", show_default=False,
        ),
    ] = None,
    save: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the version that it makes.", show_default=False)
    ] = None,
    plan: PlanOption = False,
    sentences: Annotated[
        bool, typer.Option("--sentences", help="Also leave out each sentence of the system prompt: which do any work.")
    ] = False,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Run behaviours on a version of a model.

    Every reply is kept with its score; what was run stands, and a killed run goes on. Versions are compared with
    `glasshouse compare`.
    """
    from glasshouse.behaviours import evaluate
    from glasshouse.behaviours.matrix import plan as planned
    from glasshouse.behaviours.versions import loaded

    with begin(workspace, create=False) as ws:
        chosen = _version(ws, version, system, edit, save)
        if sentences and not chosen.system:
            raise UserError(f"expected a version with a system prompt for --sentences, {version} has none; save one")
        behaviours = _named(read_suites(suite or [usual(ws, chosen)]), only or [])
        if plan:
            rows = planned(ws, chosen, behaviours)
            answer(json, rows, _plan_lines(rows))
            return
        opened = loaded(chosen, ws, device=device)
        found = []
        for behaviour in behaviours:
            done = evaluate(chosen, behaviour, ws, seed=seed, opened=opened)
            record(ws, done.name)
            found.append(result_row(done))
            if not json:  # as each is done
                answer(False, None, result_line(found[-1]))
        result = {"version": chosen.to_json(), "behaviours": found}
        if sentences:
            from glasshouse.behaviours.system_prompt import sentences as each_left_out

            result["sentences"] = each_left_out(ws, chosen, device=device, done=lambda name: record(ws, name))
            if not json:
                answer(False, None, "\n".join(map(_sentence_line, result["sentences"])))
        answer(json, result)


def compare(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The version to compare with.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The version that is new.")],
    plan: PlanOption = False,
    device: DeviceOption = None,
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
        before, after = version(base, ws), version(new, ws)
        if plan:
            rows = planned(ws, before)
            answer(json, rows, _plan_lines(rows))
            return
        for name in run_missing(ws, before, after, device=device):
            record(ws, name)
        found = compared(ws, before, after)
        answer(json, found)
        if not json:
            show_comparison(found)


def _version(ws: Workspace, name: str, system: str | None, edit: list[str] | None, save: str | None) -> Version:
    from glasshouse.behaviours import save_version, version

    if system is None and not edit:
        if save is not None:
            raise UserError("expected --system or --edit with --save, got neither; say what the version is")
        return version(name, ws)
    if save is None:
        raise UserError("expected --save NAME with --system or --edit, got none; name the version")
    base = version(name, ws)
    if base.model != name:
        raise UserError(f"expected a model with --system or --edit, got the version {name}; give {base.model}")
    if not edit:
        return save_version(ws, save, model=name, system=system or "")
    from glasshouse.models import Edit, load_edit
    from glasshouse.steering import parse

    parts = [load_edit(text) if text.endswith(".json") else parse(text) for text in edit]
    return save_version(ws, save, model=name, system=system or "", edit=sum(parts, Edit()))


def usual(ws: Workspace, version: Version) -> str:
    """The suite for what the version's model was grown in."""
    corpus = "" if version.foreign else str(ws.manifest("models", version.model)["config"].get("corpus", ""))
    return WORLD if corpus == WORLD or corpus.startswith("planted/") else GENERAL


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
        "samples": len(done.samples), "unscored": unscored,
    }  # fmt: skip


def result_line(row: dict[str, Any]) -> str:
    unscored = f", {row['unscored']} unscored" if row["unscored"] else ""
    value = number(row["mean"], row["unit"]) if row["mean"] else "nothing scored"
    return f"{row['behaviour']:30} {value:>26}  {row['samples']} samples{unscored}"


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
        seen = "?" if row["smallest_change"] is None else f"{row['smallest_change'] * scale:.3g}{percent}"
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
        verdict = Text(row["verdict"], style=COLOURS[row["verdict"]]).append(f"{needed}{unscored}", style="dim")
        table.add_row(Text(row["behaviour"]), *means, number(row["change"], row["unit"], signed=True), verdict)
    console = Console(soft_wrap=True, width=max(Console().width, WIDE))
    console.print(table)
    for row in found["cells"]:
        if row["verdict"] == "regressed" and row["worst"]:
            one = row["worst"][0]
            console.print(f"\n{row['behaviour']}: {one['turns'][-1]['content']!r:.100}", markup=False, highlight=False)
            console.print(f"  {found['base']['name']}: {one['before']!r:.140}", markup=False, highlight=False)
            console.print(f"  {found['new']['name']}: {one['after']!r:.140}", markup=False, highlight=False)
    if found["missing"]:
        console.print(f"\nnot run on {found['new']['name']}: {', '.join(found['missing'])}", markup=False)
