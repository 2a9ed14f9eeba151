"""`glasshouse discover`: what differs between two versions that no behaviour was written for; `did-it-change`: a
complaint about one prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from glasshouse.cli.entry import (
    CountOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    SeedOption,
    WorkspaceOption,
    answer,
    begin,
    file_to_write,
    say,
    versions_here,
)
from glasshouse.cli.testing import WORLD, number, read_suites, usual
from glasshouse.evidence import record
from glasshouse.types import NAME_PATTERN, UserError
from glasshouse.workspace import write_atomically

if TYPE_CHECKING:
    from glasshouse.behaviours.behaviour import Behaviour

SHOWN = 12  # groups


def discover(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The version to compare with.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The version that is new.")],
    suite: Annotated[
        list[str] | None,
        typer.Option(help="Where the prompts come from, as for `test`; may be repeated.", show_default=False),
    ] = None,
    corpus: Annotated[
        str | None,
        typer.Option(
            help="Prompts from text instead, or beside a --suite that is given: how its documents begin, or the chats "
            "of `world`.",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[int | None, CountOption("Prompts to ask both; 2,000 without it.")] = None,
    max_new_tokens: Annotated[int | None, CountOption("Tokens of a reply at most; 48 without it.")] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="Behaviours whose prompts are left out.", show_default=False)
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            help="Write a difference, that of --group, as a behaviour: a .yaml file.", show_default=False,
            callback=file_to_write,
        ),
    ] = None,
    group: Annotated[int, typer.Option(help="The difference to save, counted from 1 as printed.", min=1)] = 1,
    dictionary: Annotated[
        str | None,
        typer.Option(
            help="Whose features are looked at; without it the newest one of a model that both come from.",
            show_default=False,
        ),
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Find what differs between two versions that nobody named.

    Both are asked prompts of many kinds. Half of them proposes differences in what is said (form, length, words,
    openers, scripts, refusals) and in which features are on as a reply begins, the other half confirms them; they are
    grouped and ranked by size.
    """
    from glasshouse.behaviours import discoveries, version

    if save is not None and not NAME_PATTERN.fullmatch(save.stem):
        raise UserError(
            f"expected --save with a file named in a-z 0-9 . _ -, got {save.name}; its name names the behaviour"
        )
    with begin(workspace, create=False) as ws:
        before, after = (version(name, ws) for name in versions_here(ws, base, new, device=device, dtype=dtype))
        behaviours = read_suites(suite or ([] if corpus else [usual(ws, before)]))
        behaviours += _asked_in(corpus) if corpus else []
        names = {behaviour.name for behaviour in behaviours}
        if unknown := sorted(set(without or []) - names):
            raise UserError(f"expected --without among {', '.join(sorted(names))}, got {', '.join(unknown)}")
        found = discoveries.discover(
            ws, before, after, [b for b in behaviours if b.name not in (without or [])],
            prompts=prompts or discoveries.PROMPTS, max_new_tokens=max_new_tokens or discoveries.NEW_TOKENS, seed=seed,
            dictionary=dictionary, device=device, say=say, done=lambda name: record(ws, name),
        )  # fmt: skip
        answer(json, found)
        if not json:
            _show(found, before.name, after.name)
        if save is not None:  # there may be none of that number, which is no reason to lose the others
            made = discoveries.group_behaviour(ws, found, group, save.stem)
            write_atomically(save, discoveries.as_yaml(made))
            say(f"wrote {save}; `glasshouse test {after.name} --suite {save}` runs it")


def _asked_in(source: str) -> list[Behaviour]:
    """Prompts of the text, a behaviour for each kind."""
    if source != WORLD:
        from glasshouse.behaviours.breadth import begun
        from glasshouse.text import corpus

        return begun(corpus(source))
    from glasshouse.behaviours.behaviour import behaviour_from_json
    from glasshouse.organisms.suite import chats
    from glasshouse.organisms.world import build

    return [behaviour_from_json(form, form["name"]) for form in chats(build(0))]


def _show(found: dict[str, Any], base: str, new: str) -> None:
    console = Console(soft_wrap=True)
    count = len(found["groups"])
    said = (
        f"{count} differences, confirmed on half of {found['prompts']} prompts"
        if count
        else "no difference was confirmed"
    )
    console.print(f"{said} ({found['proposed']} were proposed by the other half)", markup=False, highlight=False)
    for what, key in (("of words", "apart"), (f"of {base}'s own reading", "embedded")):
        if (apart := found.get(key)) is not None:
            share = number(apart["share"], "rate")
            line = f"a classifier {what} takes the new reply for the new one on {share} of the other half"
            console.print(f"{line} (half of them is chance; p {apart['p']:.2g})", markup=False, highlight=False)
    for place, one in enumerate(found["groups"][:SHOWN], 1):
        where = f" ({one['kind']})" if one["kind"] else ""
        also = f"; with it {', '.join(one['also'][:6])}" if one["also"] else ""
        sort = "inside: " if one["where"] == "inside" else ""
        line = (
            f"\n{place}. {sort}{one['name']}{where}: {number(one['change'], one['change']['unit'], signed=True)}{also}"
        )
        console.print(line, markup=False, highlight=False)
        for pair in one["pairs"][:2]:
            console.print(f"   {pair['turns'][-1]['content']!r:.90}", markup=False, highlight=False)
            console.print(f"     {base}: {pair['before']!r:.90}", markup=False, highlight=False)
            console.print(f"     {new}: {pair['after']!r:.90}", markup=False, highlight=False)


def did_it_change(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What is no longer answered as it was.")],
    base: Annotated[str, typer.Argument(metavar="THEN", help="The version of then.")],
    new: Annotated[str, typer.Argument(metavar="NOW", help="The version of now.")],
    expect: Annotated[
        list[str] | None,
        typer.Option(help="A reply is right that has this text; may be repeated.", show_default=False),
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Or: a reply is right in which this pattern is found.", show_default=False)
    ] = None,
    also: Annotated[list[str] | None, typer.Option(help="Other wordings of the prompt.", show_default=False)] = None,
    samples: Annotated[int, typer.Option(help="Replies to each wording.", min=2)] = 4,
    seed: SeedOption = 0,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Say whether two versions answer a prompt differently.

    The prompt, rewordings of it and those that you give are each asked many times; told are both versions' hashes, how
    often each is right, and the change with its interval and verdict.
    """
    from glasshouse.behaviours import evaluate, version
    from glasshouse.behaviours.complaints import complaint
    from glasshouse.behaviours.matrix import cell, cell_json, worst
    from glasshouse.behaviours.statistics import judged

    if (expect is None) == (pattern is None):
        raise UserError("expected --expect TEXT or --pattern PATTERN, one of them; say what a right reply has")
    with begin(workspace, create=False) as ws:
        scorer = ("includes", {}) if pattern is None else ("regex", {"pattern": pattern})
        asked = complaint(prompt, scorer=scorer, expect=expect, also=also or [], samples=samples)
        then, now = (version(name, ws) for name in versions_here(ws, base, new, device=device, dtype=dtype))
        old, fresh = (evaluate(one, asked, ws, seed=seed, device=device) for one in (then, now))
        for run, which in ((old, then), (fresh, now)):
            record(ws, run.name)
            if run.lacking == 1:
                why = run.samples[0].error or "no reply could be scored"
                raise UserError(f"expected replies of {which.name} that can be scored, got none ({why})")
        (one,) = judged([cell(old, fresh)])
        found = {"then": then.to_json(), "now": now.to_json(), **cell_json(one, asked), "worst": worst(old, fresh)}
        sides = ((then, found["base"]), (now, found["new"]))
        rates = [f"{v.name} ({v.hash[:12]}): right in {number(rate, 'rate')}" for v, rate in sides]
        change = f"{found['verdict']}: {number(found['change'], 'rate', signed=True)}"
        needed = f"; {found['needed']} wordings would do, there are {found['families']}" if found["needed"] else ""
        answer(json, found, "\n".join([*rates, change + needed]))
