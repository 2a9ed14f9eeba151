"""`glasshouse rate`: people compare two versions, blind, side by side or by thumbs in chats, or find one's faults."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glasshouse.cli.entry import (
    PORT,
    CountOption,
    JsonOption,
    NoServeOption,
    PortOption,
    WorkspaceOption,
    answer,
    begin,
    file_to_write,
    say,
)
from glasshouse.cli.page import page
from glasshouse.cli.testing import number
from glasshouse.types import UserError
from glasshouse.workspace import Workspace, write_atomically

if TYPE_CHECKING:
    from glasshouse.behaviours import Version


def rate(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The version to compare with.")],
    new: Annotated[
        str | None, typer.Argument(metavar="NEW", help="The version that is new.", show_default=False)
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Prompts of behaviours of these names.", show_default=False)
    ] = None,
    count: Annotated[int | None, CountOption("Pairs to rate; 50 without it.")] = None,
    results: Annotated[bool, typer.Option("--results", help="Serve no page: say what came out so far.")] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Serve no page: write the comparisons as .jsonl, for preference training; of --split the thumbs.",
            show_default=False, callback=file_to_write,
        ),
    ] = None,
    split: Annotated[
        bool, typer.Option("--split", help="A/B: chats on the page go to one of the two; thumbs are what counts.")
    ] = False,
    share: Annotated[float, typer.Option(help="Of --split: the share of chats that goes to NEW.")] = 0.5,
    bash: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", show_default=False,
            help="With one version: find its faults in chats; each becomes a case of behaviours of this name.",
        ),
    ] = None,
    no_serve: NoServeOption = False,
    port: PortOption = PORT,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Have people compare two versions, blind.

    Replies that both gave to the same prompts (of `test` and `compare`) are shown side by side on the page, judged with
    the keys 1 to 7; which is whose is not said. With --results: which is preferred, whether the left side was, and how
    far raters agree.

    With --split people chat instead; each chat goes to one of the two, by chance, and thumbs up and down are compared.

    With --bash NAME and one version it is a bash session: people chat with it to find faults, each of which becomes a
    case of behaviours/NAME-… with two clicks; the page shows what was found by all of them, and so does --results.
    """
    from glasshouse.behaviours import version

    if (split or bash is not None) and (only or count is not None):
        raise UserError("expected --only and --count for pairs alone, got one with --split or --bash; leave it out")
    if bash is not None and (new is not None or split or export is not None):
        raise UserError("expected --bash with one version, got NEW, --split or --export beside it; leave that out")
    if bash is None and new is None:
        raise UserError("expected two versions to compare, BASE and NEW, got one; or --bash NAME to find its faults")
    with begin(workspace, create=False) as ws:
        if bash is not None:
            _bash(ws, version(base, ws), bash, results=results or no_serve, port=port, json=json)
            return
        assert new is not None, "said above"
        before, after = version(base, ws), version(new, ws)
        if split:
            _split(ws, before, after, share, results=results, export=export, no_serve=no_serve, port=port, json=json)
        else:
            _pairs(
                ws, before, after, only=only or [], count=count, results=results, export=export, no_serve=no_serve,
                port=port, json=json,
            )  # fmt: skip


def _pairs(
    ws: Workspace, base: Version, new: Version, *, only: list[str], count: int | None, results: bool,
    export: Path | None, no_serve: bool, port: int, json: bool,
) -> None:  # fmt: skip
    from glasshouse.behaviours.preferences import comparisons
    from glasshouse.behaviours.preferences import results as read_results
    from glasshouse.behaviours.ratings import COUNT, Study

    study = Study(ws, base, new)
    if export is not None:
        found, ties = comparisons(study)
        if not found:
            raise UserError(
                f"expected ratings of {base.name} and {new.name} to export, found none; rate some pairs first"
            )
        _write_lines(export, found)
        said = f"wrote {len(found)} comparisons to {export}; {ties} ratings of replies judged the same are left out"
        answer(json, {"file": str(export), "comparisons": len(found), "ties_left_out": ties}, said)
        return
    if not results:
        prepared = study.prepare(count=count or COUNT, only=only)
        same = f"; {prepared['same']} more say the same word for word, and are not shown" if prepared["same"] else ""
        say(f"{prepared['pairs']} pairs of replies of {base.name} and {new.name}{same}")
    if results or no_serve:
        found_so_far = read_results(study)
        answer(json, found_so_far, _result_lines(found_so_far))
        return
    with page(ws, port, wanted=True) as served:
        answer(json, prepared)
        served.wait(f"/rate/{base.name}/{new.name}")


def _split(
    ws: Workspace, base: Version, new: Version, share: float, *, results: bool, export: Path | None, no_serve: bool,
    port: int, json: bool,
) -> None:  # fmt: skip
    from glasshouse.behaviours.chats import Split
    from glasshouse.behaviours.splits import labelled_replies, split_results

    Split(base, new, share)  # says now what is wrong with it
    if export is not None:
        thumbs = labelled_replies(ws, base, new)
        if not thumbs:
            raise UserError(
                f"expected thumbs in chats split between {base.name} and {new.name} to export, found none; chat first"
            )
        _write_lines(export, thumbs)
        answer(json, {"file": str(export), "thumbs": len(thumbs)}, f"wrote {len(thumbs)} thumbs to {export}")
        return
    if results or no_serve:
        found = split_results(ws, base, new)
        answer(json, found, _split_lines(found))
        return
    with page(ws, port, wanted=True) as served:
        served.wait(f"/chat/{base.name}/{new.name}?share={share:g}")


def _bash(ws: Workspace, of: Version, name: str, *, results: bool, port: int, json: bool) -> None:
    from glasshouse.behaviours.cases import cases

    found = cases(ws, name)  # says now what is wrong with the name, or with what was found
    if results:
        lines = [f"{one['kind']}: {one['asked']!r:.80} ({one['note']})" for one in found]
        each = [
            f"  glasshouse test VERSION --suite {ws.root / file}" for file in sorted({one["file"] for one in found})
        ]
        answer(json, {"name": name, "found": found}, "\n".join([f"{len(found)} found under {name}", *lines, *each]))
        return
    with page(ws, port, wanted=True) as served:
        served.wait(f"/chat/{of.name}?bash={name}")


def _write_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    write_atomically(file, "".join(json_.dumps(one, ensure_ascii=False) + "\n" for one in rows))


# -- in words ----------------------------------------------------------------------------------------------------------


def _result_lines(found: dict[str, Any]) -> str:
    base, new = found["base"]["name"], found["new"]["name"]
    if not found["ratings"]:
        return f"no rating of {found['pairs']} pairs yet; `glasshouse rate {base} {new}` serves the page"
    lines = [
        f"{found['verdict']}: {new} over {base} in {number(found['preferred'], 'rate')} of {found['rated_pairs']} pairs"
        " (the same counts half)",
        f"mean rating {number(found['rating'], '')} of 1 to 7, above 4 for {new}; p = {found['p_anytime']:.3g} however "
        "often you look",
    ]
    for one in found["raters"]:
        lines.append(
            f"  {one['who']}: {one['new']} for {new}, {one['base']} for {base}, {one['same']} the same; "
            f"{new} was on the left in {one['new_left']} of {one['ratings']}"
        )
    if found["left_won"]:
        lines.append(f"the left reply won in {number(found['left_won'], 'rate')} of pairs that were not the same")
    return "\n".join([*lines, _agreed(found["agreement"], "pairs")])


def _agreed(found: dict[str, Any], what: str) -> str:
    if found["alpha"]:
        return f"raters agree to alpha = {number(found['alpha'], '')} over {found[what]} {what} of several"
    return f"how far raters agree cannot be told: it takes two {what}, not all alike, rated by two people"


def _split_lines(found: dict[str, Any]) -> str:
    lines = []
    for side in ("base", "new"):
        one, name = found["sides"][side], found[side]["name"]
        up = f"{number(one['up'], 'rate')} up" if one["up"] else "no thumb yet"
        lines.append(f"{name}: {up}, in {one['with_thumbs']} of {one['chats']} chats with a thumb")
    if found["change"]:
        change = number(found["change"], "rate", signed=True)
        lines.insert(
            0, f"{found['verdict']}: {change} of thumbs up; p = {found['p_anytime']:.3g} however often you look"
        )
    return "\n".join([*lines, _agreed(found["agreement"], "replies")])
