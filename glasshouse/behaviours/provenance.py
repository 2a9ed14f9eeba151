"""Whether training has touched what a behaviour asks: its prompts are looked for in the lines of the training text. No
torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from glasshouse.behaviours.behaviour import Behaviour
from glasshouse.behaviours.versions import Version
from glasshouse.text.touched import LINES, read_lines, seen
from glasshouse.workspace import Workspace


class Touched(NamedTuple):
    """How many of a behaviour's prompts stand in the training text. unknown: models in the line of descent whose
    folders do not say what they were trained on."""

    prompts: int
    of: int
    unknown: tuple[str, ...]


def touched(ws: Workspace, version: Version, behaviour: Behaviour) -> Touched:
    """Of the version's model and of those that it was fine-tuned from. A prompt is its last turn: system prompts and
    the turns before may be common."""
    lines, unknown = [], [version.foreign] if version.foreign else []
    name, before = version.model, set[str]()
    while name and name not in before:
        before.add(name)
        file = ws.path("models", name) / LINES
        if ws.exists("models", name) and file.is_file():
            lines.append(read_lines(file))
        else:
            unknown.append(name)
            if not ws.exists("models", name):
                break
        name = next((ref["name"] for ref in ws.manifest("models", name)["made_from"] if ref["kind"] == "models"), "")
    every = np.unique(np.concatenate(lines)) if lines else np.zeros(0, np.uint64)
    found = sum(seen(str(prompt.turns[-1][1]), every) for prompt in behaviour.prompts)
    return Touched(found, len(behaviour.prompts), tuple(unknown))
