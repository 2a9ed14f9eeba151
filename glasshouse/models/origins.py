"""Where the models of a workspace that were not made in it come from: models/NAME holds a note, weights stay where they
are.

    remember(load("path/to/model"), "path/to/model", ws)    # load(its name) finds it from now on
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from glasshouse.types import NAME_PATTERN, UserError
from glasshouse.workspace import Workspace, write_atomically

if TYPE_CHECKING:
    from glasshouse.models.model import Model

SOURCE = "source.json"  # in models/NAME: {"source": folder or hub name, "dtype"}


def remember(model: Model, source: str | Path, ws: Workspace) -> None:
    """Note in models/NAME where the model came from and its dtype, so that `load(NAME)` finds it again as it was.
    Weights are not copied.

    A model that has moved is noted anew. Raises `UserError` if its weights are not those of the model noted.
    """
    folder = ws.path("models", model.name)
    where = str(Path(source).resolve()) if Path(source).is_dir() else str(source)
    note = {"source": where, "dtype": str(model.dtype).removeprefix("torch.")}
    if ws.exists("models", model.name):
        check_known(model, ws)
        if str(source) == model.name or noted(folder).get("source", where) == where:
            return
        shutil.rmtree(folder)
    with ws.writing("models", model.name, config={"version": model.version}, command="open") as draft:
        write_atomically(draft.path / SOURCE, json.dumps(note, indent=1))
        draft.finish()


def check_known(model: Model, ws: Workspace) -> None:
    """Raises `UserError` if the workspace knows a model of that name with other weights."""
    if not ws.exists("models", model.name):
        return
    known = ws.manifest("models", model.name)["config"].get("version")  # none of what was grown here
    if known is not None and known != model.version:
        raise UserError(
            f"expected the weights, dtype and tokenizer with which {model.name} was opened in {ws.root}, found others; "
            "open a folder of another name, or use another --workspace"
        )


def check_dtype(name: str, dtype: str, ws: Workspace) -> None:
    """Raises `UserError` unless the workspace has the model in that dtype."""
    has = noted(ws.path("models", name)).get("dtype", "float32")
    if dtype != has:
        raise UserError(f"expected --dtype {has}, in which {ws.root} knows {name}, got {dtype}; leave it out")


def _name_from(source: str) -> str:
    last = re.sub(r"[^a-z0-9._-]+", "-", Path(source).name.lower()).strip("-._")[:64]
    return last if NAME_PATTERN.fullmatch(last) else "model"


def name_here(source: str, workspace: Workspace | str | Path | None = None) -> str:
    """What a model is called: the end of its path or hub name, with a number where the workspace calls another so."""
    models = root(workspace) / "models"
    if NAME_PATTERN.fullmatch(source) and (models / source / "manifest.json").is_file():
        return source
    base, number = _name_from(source), 1
    name = base
    while not _free_for(models / name, source):
        number += 1
        name = f"{base[:59]}-{number}"
    return name


def _free_for(folder: Path, source: str) -> bool:
    """Whether the workspace has no model in that folder, or the one from `source`, or one whose source has gone (it was
    moved, or the workspace was copied here: the weights tell whether it is the same)."""
    if not (folder / "manifest.json").is_file():
        return True
    where = _origin(folder)
    return _same(where, source) or (Path(where).is_absolute() and not Path(where).is_dir())


def known_as(source: str, ws: Workspace) -> str:
    """The name of the model in the workspace that is from there; "" where there is none."""
    name = name_here(source, ws)
    return name if ws.exists("models", name) and _same(_origin(ws.path("models", name)), source) else ""


def _origin(folder: Path) -> str:
    return noted(folder).get("source", str(folder))


def _same(where: str, source: str) -> bool:
    return where == source or (Path(source).is_dir() and Path(where).resolve() == Path(source).resolve())


def noted(folder: Path) -> dict[str, str]:
    """From where the workspace opened the model in the folder, and in which dtype (in another its weights would be
    others); nothing of one that was grown there."""
    note = folder / SOURCE
    if not note.is_file():
        return {}
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        return {"source": str(found["source"]), "dtype": str(found.get("dtype", "float32"))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"expected {{'source': ..., 'dtype': ...}} in {note}, found a file that does not read ({error!r}); "
            f"remove {folder} and open the model again"
        ) from None


def root(workspace: Workspace | str | Path | None) -> Path:
    return workspace.root if isinstance(workspace, Workspace) else Workspace.find(workspace)
