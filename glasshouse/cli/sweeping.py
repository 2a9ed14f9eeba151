"""The versions that `glasshouse test` is asked for: one as it is, one of a prompt and edits, or a sweep of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from glasshouse.types import UserError
from glasshouse.workspace import Workspace

if TYPE_CHECKING:
    from glasshouse.behaviours import Version
    from glasshouse.behaviours.versions import Step

MOST_STEPS = 64


class Swept(NamedTuple):
    """What is swept, and of each step where it is, the end of its name, and the edits' texts or the system prompt."""

    what: str
    steps: list[tuple[float, str, list[str], str]]


def versions_of(
    ws: Workspace, name: str, *, system: str | None, system_file: Path | None, edit: Sequence[str], save: str | None
) -> list[Version]:
    """One version, or those of a sweep in its order, saved. Raises `UserError`."""
    from glasshouse.behaviours import version
    from glasshouse.behaviours.versions import Step

    if system is None and system_file is None and not edit:
        if save is not None:
            raise UserError(
                "expected --system, --system-file or --edit with --save, got none of them; say what the version is"
            )
        return [version(name, ws)]
    if save is None:
        raise UserError("expected --save NAME with --system, --system-file or --edit, got none; name the version")
    base = version(name, ws)
    if base.model != name:
        raise UserError(
            f"expected a model with --system, --system-file or --edit, got the version {name}; give {base.model}"
        )
    swept = _swept(system, system_file, edit)
    if swept is None:
        return [_saved(ws, save, name, system or "", edit, None)]
    return [
        _saved(ws, f"{save}-{end}", name, prompt, edits, Step(sweep=save, what=swept.what, at=at))
        for at, end, edits, prompt in swept.steps
    ]


def _swept(system: str | None, system_file: Path | None, edit: Sequence[str]) -> Swept | None:
    """The one sweep that is asked for, or None."""
    ranges = [text for text in edit if not text.endswith(".json") and ":" in text.rpartition("=")[2]]
    if system_file is not None:
        if system is not None or ranges:
            raise UserError(
                "expected one sweep at a time, got --system-file with --system or a swept --edit; leave one out"
            )
        prompts = _prompts(system_file)
        return Swept("system prompt", [(i, f"{i}", list(edit), prompt) for i, prompt in enumerate(prompts, start=1)])
    if len(ranges) > 1:
        raise UserError(f"expected one sweep at a time, got {' and '.join(ranges)}; give the others one strength")
    if not ranges:
        return None
    (text,) = ranges
    place, _, amount = text.rpartition("=")
    strengths, unit = _strengths(text, amount)
    steps = []
    for strength in strengths:
        at = f"{strength:.6g}{unit}"
        # Nothing added is no edit: that step is the model itself, and shares its evaluations.
        mine = [f"{place}={at}" if one == text else one for one in edit if one != text or unit or strength]
        steps.append((strength, at, mine, system or ""))
    return Swept(f"{place}, {'× its largest activation' if unit else '× the typical norm'}", steps)


def _strengths(text: str, amount: str) -> tuple[list[float], str]:
    """Of `0:0.8:5`, five strengths from 0 to 0.8; of `0:8x:5` the same in units of the largest activation ("x")."""
    ends = amount.split(":")
    unit = "x" if any(end.endswith("x") for end in ends[:2]) else ""
    try:
        start, stop = (float(end.removesuffix("x")) for end in ends[:2])
        count = int(ends[2]) if len(ends) == 3 else 0
    except ValueError:
        start = stop = math.nan
        count = 0
    if not 2 <= count <= MOST_STEPS or start == stop or not math.isfinite(start + stop):
        raise UserError(
            f"expected a sweep START:STOP:STEPS of 2 to {MOST_STEPS} steps, such as resid6/1234=0:0.8:5 or "
            f"resid6/1234=0:8x:5, got {text!r}"
        )
    return [float(f"{start + (stop - start) * i / (count - 1):.6g}") for i in range(count)], unit


def _prompts(file: Path) -> list[str]:
    """The lines of a file that are not empty."""
    try:
        found = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"expected a text file of system prompts at {file}, found none that reads ({error})") from None
    if not 2 <= len(found) <= MOST_STEPS:
        raise UserError(f"expected 2 to {MOST_STEPS} system prompts in {file}, one a line, found {len(found)}")
    return found


def _saved(ws: Workspace, save: str, name: str, system: str, edit: Sequence[str], step: Step | None) -> Version:
    from glasshouse.behaviours import save_version

    if not edit:
        return save_version(ws, save, model=name, system=system, step=step)
    from glasshouse.models import Edit, load_edit
    from glasshouse.steering import parse

    parts = [load_edit(text) if text.endswith(".json") else parse(text) for text in edit]
    return save_version(ws, save, model=name, system=system, edit=sum(parts, Edit()), step=step)
