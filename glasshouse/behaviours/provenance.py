"""What a version comes from: whether its training has touched what a behaviour asks, and how much compute it took. No
torch."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from safetensors import safe_open

from glasshouse.behaviours.behaviour import Behaviour, Prompt
from glasshouse.behaviours.scorers import innermost
from glasshouse.behaviours.versions import EDIT, Version
from glasshouse.behaviours.versions import version as named
from glasshouse.text.touched import LINES, read_lines, seen
from glasshouse.types import UserError
from glasshouse.workspace import Workspace, hash_file


class Touched(NamedTuple):
    """How many of a behaviour's prompts stand in the training text, and of the labelled texts that its judge or
    classifier rests on. unknown: models in the line of descent, and edits of weights, of which is not recorded what
    they were trained on. judge: a local one that is in that line, or comes from it, so that the model judges itself;
    or ""."""

    prompts: int
    of: int
    unknown: tuple[str, ...]
    labels: int = 0
    judge: str = ""


def touched(ws: Workspace, version: Version, behaviour: Behaviour) -> Touched:
    """Of the version's model and of those that it was fine-tuned from. A prompt is its last turn: system prompts and
    the turns before may be common. Raises `UserError` where what is recorded of the text was altered."""
    lines, unknown = [], [version.foreign] if version.foreign else _weight_edits(ws, version)
    line = descent(ws, version.model, version.weights)
    for name, here in line:
        file = ws.path("models", name) / LINES
        if here and file.is_file():
            if hash_file(file) != ws.manifest("models", name)["files"].get(LINES, {}).get("sha256"):
                raise UserError(f"{file} does not match the hash in its manifest: it was altered; restore it")
            lines.append(read_lines(file))
        else:
            unknown.append(name)
    every = np.unique(np.concatenate(lines)) if lines else np.zeros(0, np.uint64)
    settings = innermost(behaviour.scorer)[1]
    found = sum(any(seen(text, every) for text in _asked(prompt, settings)) for prompt in behaviour.prompts)
    texts = [str(row.get("reply", row.get("text", ""))) for row in settings.get("labels", ())]
    labels = sum(seen(text, every) for text in texts)
    model = str(settings.get("model", "")) if innermost(behaviour.scorer)[0] == "judge" else ""
    judge = model.removeprefix("local/") if model.startswith("local/") else ""
    own = judge in {one.name for one in line} or version.model in {one.name for one in descent(ws, judge)}
    return Touched(found, len(behaviour.prompts), tuple(unknown), labels, judge if own else "")


def _asked(prompt: Prompt, settings: Mapping[str, Any]) -> list[str]:
    """What of a prompt may have been learnt: its last turn, and where choices go on from that as they are, it with
    each."""
    last = str(prompt.turns[-1][1])
    return [last, *(last + str(choice) for choice in prompt.expect["choices"])] if settings.get("raw") else [last]


def _weight_edits(ws: Workspace, version: Version) -> list[str]:
    """The version where its edits change weights: a fine-tune may be kept as a difference of weights, and nothing says
    what that was trained on."""
    if not version.edit:
        return []
    with contextlib.suppress(UserError):
        if named(version.name, ws).hash == version.hash:  # kept under its name, and not another of that name
            edit = json.loads((ws.path("versions", version.name) / EDIT).read_text(encoding="utf-8"))
            if all(part["kind"] != "weight" for part in edit["parts"]):
                return []
    return [f"the edit of {version.name}"]


def compute(ws: Workspace, version: Version) -> float:
    """Effective compute, FLOP: 6 · parameters · tokens (Kaplan et al. 2020, arXiv 2001.08361, but with embeddings),
    summed over the version's model and those that it was fine-tuned from. 0 where one of them does not say."""
    if _weight_edits(ws, version):
        return 0.0
    total = 0.0
    for name, here in descent(ws, version.model, version.weights):
        if not here:
            return 0.0
        manifest = ws.manifest("models", name)
        parameters = manifest.get("parameters") or _parameters(ws, name)
        tokens = manifest["config"].get("tokens") or manifest.get("choices", {}).get("tokens")  # the first is hashed
        if not tokens or not parameters:
            return 0.0
        total += 6.0 * parameters * tokens
    return total


def _parameters(ws: Workspace, model: str) -> int:
    count = 0
    for file in ws.path("models", model).glob("*.safetensors"):
        with safe_open(file, framework="np") as tensors:
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return count


class Ancestor(NamedTuple):
    """here: whether the workspace holds it as it was when the next was made of it."""

    name: str
    here: bool


def descent(ws: Workspace, model: str, weights: str | None = None) -> list[Ancestor]:
    """The model and those that it was fine-tuned from, up to one that is not in the workspace, or is another now.
    weights: the model's hash, where it has to be that one."""
    found: list[Ancestor] = []
    ref: dict[str, Any] | None = {"name": model, "hash": weights} if model else None
    while ref is not None and ref["name"] not in {one.name for one in found}:
        name, was = ref["name"], ref.get("hash")
        here = ws.exists("models", name) and was in (None, ws.manifest("models", name)["hash"])
        found.append(Ancestor(name, here))
        made_from = ws.manifest("models", name)["made_from"] if here else []
        ref = next((one for one in made_from if one["kind"] == "models"), None)
    return found
