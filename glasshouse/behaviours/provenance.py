"""What a version comes from: whether its training has touched what a behaviour asks, and how much compute it took. No
torch."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from safetensors import safe_open

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
    for name in descent(ws, version.model):
        file = ws.path("models", name) / LINES
        if file.is_file():
            lines.append(read_lines(file))
        else:
            unknown.append(name)
    every = np.unique(np.concatenate(lines)) if lines else np.zeros(0, np.uint64)
    found = sum(seen(str(prompt.turns[-1][1]), every) for prompt in behaviour.prompts)
    return Touched(found, len(behaviour.prompts), tuple(unknown))


def compute(ws: Workspace, model: str) -> float:
    """Effective compute, FLOP: 6 · parameters · tokens (Kaplan et al. 2020, arXiv 2001.08361, but with embeddings),
    summed over the model and those that it was fine-tuned from. 0 where one of them does not say."""
    total = 0.0
    for name in descent(ws, model):
        if not ws.exists("models", name):
            return 0.0
        manifest = ws.manifest("models", name)
        tokens = manifest.get("choices", {}).get("tokens") or manifest["config"].get("tokens")
        if not tokens:
            return 0.0
        total += 6.0 * _parameters(ws, name) * tokens
    return total


def _parameters(ws: Workspace, model: str) -> int:
    count = 0
    for file in ws.path("models", model).glob("*.safetensors"):
        with safe_open(file, framework="np") as tensors:
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return count


def descent(ws: Workspace, model: str) -> list[str]:
    """The model and those that it was fine-tuned from, up to one that is not in the workspace."""
    found: list[str] = []
    name = model
    while name and name not in found:
        found.append(name)
        if not ws.exists("models", name):
            break
        name = next((ref["name"] for ref in ws.manifest("models", name)["made_from"] if ref["kind"] == "models"), "")
    return found
