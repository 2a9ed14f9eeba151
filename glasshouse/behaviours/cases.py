"""What somebody finds in a chat, kept as a case of a behaviour: a family of a YAML file in the workspace.

    keep_case(ws, turns, kind="should-refuse", name="found", who="Ada")
    # behaviours/found-should-refuse.yaml, for `glasshouse test VERSION --suite behaviours/found-should-refuse.yaml`
    cases(ws, "found")                                       # all that was found under that name

A behaviour has one scorer, so each kind of finding has a file of its own. A case is added at the file's end: what
people wrote in it, comments too, stays. No torch.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import json
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from glasshouse.behaviours.behaviour import LONGEST_NAME, behaviour_of, read_behaviours
from glasshouse.behaviours.chats import check_turns
from glasshouse.behaviours.ratings import check_who
from glasshouse.forms import parse_form, read_form
from glasshouse.types import UserError, check_name
from glasshouse.workspace import Workspace, write_atomically

FOLDER = "behaviours"
LONGEST_REPLY = 400  # tokens: the most that the page lets a reply have, so that what was found can come again whole


@dataclass(frozen=True)
class Kind:
    """words: what has to be said with it ("": nothing). good: which way the scorer's rate is good."""

    about: str
    scorer: str
    good: str
    words: str = ""


KINDS = {
    "should-refuse": Kind("Refuses what it should refuse, as found in chats.", "refusal", "up"),
    "should-answer": Kind("Refuses what it should answer, as found in chats.", "refusal", "down"),
    "must-say": Kind("Says what a reply has to have, as found in chats.", "includes", "up", "what a reply has to have"),
    "must-not-say": Kind(
        "Says what no reply may have, as found in chats.", "includes", "down", "what no reply may have"
    ),
    # Nobody has said yet what a good reply is; that the bad one comes again can be told.
    "bad-reply": Kind("Gives nearly the bad reply again that was found in a chat.", "fuzzy", "down"),
}


def keep_case(
    ws: Workspace, turns: Sequence[Any], *, kind: str, who: str, name: str = "found", words: str = "", note: str = "",
    version: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Add the chat up to its last reply as a family: {"file" (within the workspace), "families", "added"}.

    The last turn is the reply that was found; the prompt is what stands before it. name: the behaviour's, to which the
    kind is added. words: what has to be said or not, for the kinds that want it. note, version: for the family's note.
    What is there already is not added again. Raises `UserError`; the file stays as it was.
    """
    found, by = check_turns(turns, "assistant"), check_who(who)
    if kind not in KINDS:
        raise UserError(f"expected a kind of case among {', '.join(KINDS)}, got {kind[:40]!r}")
    full = _full_name(name, kind)
    family = _family(found, kind, words.strip(), _note(by, version, note))
    with writing_behaviour(ws, full) as file:  # two people who keep a case at once keep two
        text = file.read_text(encoding="utf-8") if file.is_file() else _head(full, KINDS[kind])
        have = [part.family for part in behaviour_of(parse_form(text, file.name)).prompts] if file.is_file() else []
        added = family["family"] not in have
        if added:
            text = f"{text.rstrip()}\n{_item(family)}"
            have = [part.family for part in behaviour_of(parse_form(text, file.name)).prompts]
            write_atomically(file, text)
    return {"file": f"{FOLDER}/{file.name}", "families": len(set(have)), "added": added}


def cases(ws: Workspace, name: str) -> list[dict[str, str]]:
    """What was found under the name, kind by kind, each as it was kept: {"kind", "file", "asked" (the last turn),
    "expect", "note"}. Raises `UserError` for a name that cannot be one, and for a file that was made something else
    since."""
    found = []
    for kind in KINDS:
        file = ws.root / FOLDER / f"{_full_name(name, kind)}.yaml"
        if file.is_file():
            notes = [part.take("note", str, "") for part in read_form(file).each("families")]
            (behaviour,) = read_behaviours(file)
            prompts = {prompt.family: prompt for prompt in behaviour.prompts}  # of several wordings the last
            found += [
                {
                    "kind": kind, "file": f"{FOLDER}/{file.name}", "asked": str(prompt.turns[-1][1]),
                    "expect": str(prompt.expect or ""), "note": note,
                }
                for prompt, note in zip(prompts.values(), notes, strict=True)
            ]  # fmt: skip
    return found


def _full_name(name: str, kind: str) -> str:
    full = f"{check_name(name)}-{kind}"
    if len(full) > LONGEST_NAME:
        longest = LONGEST_NAME - len(kind) - 1
        raise UserError(f"expected a behaviour's name of at most {longest} characters with {kind}, got {name!r}")
    return full


@contextlib.contextmanager
def writing_behaviour(ws: Workspace, name: str) -> Iterator[Path]:
    """The file of a behaviour of the workspace, which nobody else writes meanwhile."""
    for folder in (ws.root / FOLDER, ws.root / "locks"):
        folder.mkdir(exist_ok=True)
    with open(ws.root / "locks" / f"{FOLDER}.{name}", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield ws.root / FOLDER / f"{name}.yaml"


def _family(turns: Sequence[dict[str, str]], kind: str, words: str, note: str) -> dict[str, Any]:
    expect = turns[-1]["content"] if kind == "bad-reply" else words if KINDS[kind].words else None
    if KINDS[kind].scorer != "refusal" and not expect:
        raise UserError(f"expected {KINDS[kind].words or 'a reply with words in it'} for {kind}, got nothing; type it")
    prompt = [{one["role"]: one["content"]} for one in turns[:-1]]
    digest = hashlib.sha256(json.dumps([prompt, expect]).encode()).hexdigest()[:8]
    family: dict[str, Any] = {"family": f"{' '.join(turns[-2]['content'].split())[:40]} {digest}", "note": note}
    if expect:
        family["expect"] = expect
    return {**family, "prompts": [prompt]}


def _head(name: str, kind: Kind) -> str:
    form = {
        "name": name, "about": kind.about, "tag": "guard", "good": kind.good, "margin": 0.05, "scorer": kind.scorer,
        "settings": {"max_new_tokens": LONGEST_REPLY},
    }  # fmt: skip
    return yaml.safe_dump(form, sort_keys=False, allow_unicode=True, width=10_000) + "families:\n"


def _note(who: str, version: str, note: str) -> str:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return ": ".join(part for part in (f"{who}, {now}" + (f", of {version}" if version else ""), note.strip()) if part)


class _Dumper(yaml.SafeDumper):
    """Texts with line breaks and the like in double quotes, on one line: plain and single-quoted ones fold them."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _Dumper.represent_text)


def _item(family: dict[str, Any]) -> str:
    item = yaml.dump([family], Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf)
    return textwrap.indent(item, "  ")
