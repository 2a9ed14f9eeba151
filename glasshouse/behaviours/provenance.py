"""What a version comes from: whether its training has touched what a behaviour asks, and how much compute it took. No
torch."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from glasshouse.behaviours.behaviour import Behaviour, Prompt
from glasshouse.behaviours.scorers import innermost
from glasshouse.behaviours.versions import Version, dictionaries_of, edit_hash, kept_edit
from glasshouse.text.touched import LINES, harvested, read_lines, seen
from glasshouse.text.windows import WINDOWS
from glasshouse.types import UserError
from glasshouse.workspace import Workspace, hash_file

TOKENIZER = "tokenizer.json"


class Touched(NamedTuple):
    """How many of a behaviour's prompts stand in the training text, and of the labelled texts that its judge or
    classifier rests on. unknown: models in the line of descent, or in that of a local judge, and edits, directions and
    dictionaries, of which is not recorded what they were trained on. judge: a local one that is in that line, or comes
    from it, so that the model judges itself; or "". judged: how many of the labelled texts on which it was checked
    stand in its own training text. base: where it is neither, the model that both come from; or "". steered: by
    dictionary whose features the version's edits name, how many of the prompts stand in the text that it rests on.
    families: those of which a prompt stands in either text."""

    prompts: int
    of: int
    unknown: tuple[str, ...]
    labels: int = 0
    judge: str = ""
    judged: int = 0
    base: str = ""
    steered: tuple[tuple[str, int], ...] = ()
    families: frozenset[str] = frozenset()


def touched(ws: Workspace, version: Version, behaviour: Behaviour, judged_by: str | None = None) -> Touched:
    """Of the version's model and of those that it was fine-tuned from. A prompt is its last turn: system prompts and
    the turns before may be common. judged_by: the hash of the local judge that was asked, where it has to be that one.
    Raises `UserError` where what is recorded of the text was altered."""
    line = descent(ws, version.model, version.weights)
    every, unknown = _learnt(ws, line)
    behind, unrecorded = _steering(ws, version, line)
    unknown = [version.foreign] if version.foreign else [*unrecorded, *unknown]
    scorer, settings = innermost(behaviour.scorer)
    asked = [_asked(prompt, settings) for prompt in behaviour.prompts]
    families = [prompt.family for prompt in behaviour.prompts]
    among = lambda lines: [any(seen(text, lines) for text in texts) for texts in asked]
    learnt, steered = among(every), {name: among(text) for name, text in behind.items()}
    texts = [str(row.get("reply", row.get("text", ""))) for row in settings.get("labels", ())]
    model = str(settings.get("model", "")) if scorer == "judge" else ""
    judge = model.removeprefix("local/") if model.startswith("local/") else ""
    judges = descent(ws, judge, judged_by)
    by_judge, more = _learnt(ws, judges)
    names = [one.name for one in line]
    own = judge in names or version.model in {one.name for one in judges}
    return Touched(
        sum(learnt), len(asked), tuple(dict.fromkeys([*unknown, *more])),
        labels=sum(seen(text, every) for text in texts), judge=judge if own else "",
        judged=sum(seen(text, by_judge) for text in texts),
        base="" if own else next((one.name for one in judges if one.name in names), ""),
        steered=tuple((name, sum(found)) for name, found in steered.items() if any(found)),
        families=frozenset(family for found in (learnt, *steered.values()) for family in compress(families, found)),
    )  # fmt: skip


def _learnt(ws: Workspace, line: Sequence[Ancestor]) -> tuple[NDArray[np.uint64], list[str]]:
    """The lines of the text that models were trained on, and the models of which it is not recorded."""
    files, unknown = [], []
    for name, here in line:
        if here and (ws.path("models", name) / LINES).is_file():
            files.append(_unaltered(ws, "models", name, LINES))
        else:
            unknown.append(name)
    return _lines_of(tuple((file, hash_file(file)) for file in files)), unknown


@functools.lru_cache(maxsize=4)
def _lines_of(files: tuple[tuple[Path, str], ...]) -> NDArray[np.uint64]:
    """Put together once for all behaviours of a gate. files: each with its hash."""
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *(read_lines(file) for file, _ in files)]))


def _unaltered(ws: Workspace, kind: str, name: str, file: str) -> Path:
    path = ws.path(kind, name) / file
    if hash_file(path) != ws.manifest(kind, name)["files"].get(file, {}).get("sha256"):
        raise UserError(f"{path} does not match the hash in its manifest: it was altered; restore it")
    return path


def _asked(prompt: Prompt, settings: Mapping[str, Any]) -> list[str]:
    """What of a prompt may have been learnt: its last turn, and where choices go on from that as they are, it with
    each."""
    last = str(prompt.turns[-1][1])
    return [last, *(last + str(choice) for choice in prompt.expect["choices"])] if settings.get("raw") else [last]


def _steering(
    ws: Workspace, version: Version, line: Sequence[Ancestor]
) -> tuple[dict[str, NDArray[np.uint64]], list[str]]:
    """Of the version's edits: the text that each dictionary rests on whose features they name, and what is not
    recorded. Nothing says what a change of weights was trained on, which may be a fine-tune, or what a direction was
    made of that is given as numbers."""
    edit = kept_edit(version, ws)
    if edit is None or _changes_weights(edit):
        return {}, [f"the edit of {version.name}"]
    texts: dict[str, NDArray[np.uint64]] = {}
    unknown = [f"the direction of {version.name}"] if any(part["tensors"] for part in edit["parts"]) else []
    for name in dictionaries_of(edit):
        text = _text_behind(ws, name, line) if _as_then(ws, version, edit) else None
        if text is None:
            unknown.append(f"the dictionary {name}")
        else:
            texts[name] = text
    return texts, unknown


def _changes_weights(edit: Mapping[str, Any]) -> bool:
    return any(part["kind"] == "weight" for part in edit["parts"])


def _as_then(ws: Workspace, version: Version, edit: Mapping[str, Any]) -> bool:
    """Whether the dictionaries that the edit names are those with which the version was saved."""
    with contextlib.suppress(UserError):  # one is not here
        return edit_hash(ws, edit) == version.edit
    return False


def _text_behind(ws: Workspace, dictionary: str, line: Sequence[Ancestor]) -> NDArray[np.uint64] | None:
    """The lines of the text that a dictionary was trained on, and of what its model was if that is none of the line;
    None where that is not recorded: it was made elsewhere or from a live stream, or its activations are gone."""
    try:
        harvest = _source(ws, "dictionaries", dictionary, "activations")
        model = _source(ws, "activations", harvest, "models") if harvest else ""
    except UserError:  # of activations a part is gone
        return None
    if not model or not (ws.path("models", model) / TOKENIZER).is_file():
        return None
    more, unknown = _learnt(ws, [one for one in descent(ws, model) if one not in line])
    if unknown:
        return None
    windows, tokenizer = _unaltered(ws, "activations", harvest, WINDOWS), _unaltered(ws, "models", model, TOKENIZER)
    return np.union1d(more, _harvested(windows, tokenizer, hash_file(windows) + hash_file(tokenizer)))


def _source(ws: Workspace, kind: str, name: str, of: str) -> str:
    """The name of what an artefact was made from, of that kind; "" where it is not here as it was."""
    ref = next((one for one in ws.manifest(kind, name)["made_from"] if one["kind"] == of), None)
    here = ref is not None and ws.exists(of, ref["name"]) and ws.manifest(of, ref["name"])["hash"] == ref["hash"]
    return str(ref["name"]) if ref is not None and here else ""


@functools.lru_cache(maxsize=4)
def _harvested(windows: Path, tokenizer: Path, both: str) -> NDArray[np.uint64]:
    """Read once for all behaviours of a gate; both: the hash of either file."""
    return harvested(windows, tokenizer)


def compute(ws: Workspace, version: Version) -> float:
    """Effective compute, FLOP: 6 · parameters · tokens (Kaplan et al. 2020, arXiv 2001.08361, but with embeddings),
    summed over the version's model and those that it was fine-tuned from. 0 where one of them does not say."""
    edit = kept_edit(version, ws)
    if edit is None or _changes_weights(edit):
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
