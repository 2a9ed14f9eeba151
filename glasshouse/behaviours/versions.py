"""A version of a model: weights, tokenizer and chat template, with edits and a system prompt.

    plain = version("villager", ws)                          # a model of the workspace is a version by itself
    save_version(ws, "brief", model="villager", system="Be brief.")
    version("brief", ws).hash                                # of all of it; needs no torch
    model, edit = loaded(version("brief", ws), ws)

A saved version is versions/NAME/ in the workspace: version.json, and edit.json with its tensors.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glasshouse.types import NAME_PATTERN, Site, UserError, check_name
from glasshouse.workspace import Workspace, write_atomically

if TYPE_CHECKING:
    from glasshouse.models import Edit, Model

FILE, EDIT = "version.json", "edit.json"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A version's place on a sweep: what is swept, with its unit (or "system prompt"), and where on it the version
    is: the strength, or the number of the prompt from 1."""

    sweep: str
    what: str
    at: float


@dataclass(frozen=True, kw_only=True)
class Version:
    """weights: the hash of the model's folder (weights, tokenizer, template). edit: the hash of its edits with that of
    the dictionaries whose features they name, or "". step: where it stands on a sweep that it was made for. foreign:
    what a model that is not of the workspace is called where it was run, of which there are imported logs only; then
    `model` is "" and `weights` hashes how it was called."""

    name: str
    model: str
    weights: str
    system: str = ""
    edit: str = ""
    step: Step | None = None
    foreign: str = ""

    @property
    def hash(self) -> str:
        """Of what could change a reply: not of the names."""
        parts = [self.weights, self.system, self.edit, *([self.foreign] if self.foreign else [])]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The version's card; `step` and `foreign` only where there is one."""
        card = {key: value for key, value in asdict(self).items() if value or key not in ("step", "foreign")}
        return {**card, "hash": self.hash}

    @classmethod
    def from_json(cls, card: dict[str, Any]) -> Version:
        given = {key: str(card[key]) for key in ("name", "model", "weights", "system", "edit")}
        step = Step(**card["step"]) if "step" in card else None
        return cls(**given, step=step, foreign=str(card.get("foreign", "")))


def version(name: str, ws: Workspace) -> Version:
    """A saved version, a model of the workspace as it is, or whatever was tested with a hash that begins so (10 digits
    or more). Raises `UserError` for what is none of them."""
    if ws.exists("versions", name):
        ws.manifest("versions", name, verify=True)
        said = json.loads((ws.path("versions", name) / FILE).read_text(encoding="utf-8"))
        found = Version.from_json(said)
        if not found.foreign:
            _same_weights(found, ws)
        return found
    if ws.exists("models", name):
        return Version(name=name, model=name, weights=ws.manifest("models", name)["hash"])
    if len(name) >= 10 and set(name) <= set("0123456789abcdef"):
        for evaluation in ws.names("evals"):
            if f".{name[:10]}." in evaluation:
                found = Version.from_json(ws.manifest("evals", evaluation, verify=True)["version"])
                if found.hash.startswith(name):
                    return found
    have = ", ".join([*ws.names("versions"), *ws.names("models")]) or "none"
    raise UserError(f"expected a version or a model in {ws.root} ({have}), got {name!r}; check the name or grow it")


def elsewhere(source: str) -> bool:
    """Whether it is the name of nothing that a workspace may hold, or that of a folder here, too."""
    return not NAME_PATTERN.fullmatch(source) or Path(source).is_dir()


def named_here(source: str, ws: Workspace, *, device: str | None = None, dtype: str | None = None) -> str:
    """What a version or model is called in the workspace. A model from elsewhere, a folder or a name on the hub, is
    loaded and checked, and noted in the workspace first, with its dtype; its weights stay where they are. Raises
    `UserError` for one that the workspace has in another dtype."""
    name = ""
    if not elsewhere(source) or (
        NAME_PATTERN.fullmatch(source) and (ws.exists("versions", source) or ws.exists("models", source))
    ):
        name = source
    else:
        from glasshouse.models.origins import known_as, remember

        name = known_as(source, ws)
        if not name:
            from glasshouse.models import load

            model = load(source, workspace=ws, device=device, dtype=dtype)
            remember(model, source, ws)
            return model.name
    if dtype is not None:
        from glasshouse.models.origins import check_dtype

        check_dtype(version(name, ws).model, dtype, ws)
    return name


def _same_weights(version: Version, ws: Workspace) -> None:
    now = ws.manifest("models", version.model)["hash"]
    if now != version.weights:
        raise UserError(
            f"version {version.name} is of models/{version.model} as it was ({version.weights[:8]}), which is another "
            f"now ({now[:8]}); save the version again under another name"
        )


def save_version(
    ws: Workspace, name: str, *, model: str, system: str = "", edit: Edit | None = None, step: Step | None = None
) -> Version:
    """Keep a version under a name; the same again is the same. Raises `UserError` for a name that is another's."""
    check_name(name)
    if ws.exists("models", name):
        raise UserError(f"expected a name for the version that no model has, got {name!r}; choose another")
    made = edited(ws, name, model=model, system=system, edit=edit, step=step)
    if not ws.done("versions", name, made.to_json()):
        with ws.writing("versions", name, config=made.to_json(), command="test") as draft:
            write_atomically(draft.path / FILE, json.dumps(made.to_json(), indent=1))
            if edit:
                edit.save(draft.path / EDIT)
            draft.finish(made_from=[ws.ref("models", model)])
    return made


def edited(
    ws: Workspace, name: str, *, model: str, system: str = "", edit: Edit | None = None, step: Step | None = None
) -> Version:
    """The version that a model is with a system prompt and edits, not kept under its name."""
    weights = ws.manifest("models", model)["hash"]
    return Version(
        name=name, model=model, weights=weights, system=system, edit=edit_hash(ws, edit.to_json()) if edit else "",
        step=step,
    )  # fmt: skip


def save_foreign(ws: Workspace, name: str, *, model: str, args: dict[str, Any]) -> Version:
    """Keep a name for a model that was run elsewhere, called `model` there with those arguments."""
    check_name(name)
    if ws.exists("models", name):
        raise UserError(f"expected a name for the version that no model has, got {name!r}; choose another")
    called = hashlib.sha256(json.dumps([model, args], sort_keys=True, default=str).encode()).hexdigest()
    made = Version(name=name, model="", weights=called, foreign=model)
    if not ws.done("versions", name, made.to_json()):
        with ws.writing("versions", name, config=made.to_json(), command="import") as draft:
            write_atomically(draft.path / FILE, json.dumps(made.to_json(), indent=1))
            draft.finish()
    return made


def loaded(
    version: Version, ws: Workspace, *, device: str | None = None, model: Model | None = None
) -> tuple[Model, Edit]:
    """The model, with the dictionaries that its edits name attached, and the edits (none: an empty `Edit`).

    model: the version's, where it is loaded already, so as not to load it again.
    """
    from glasshouse.dictionaries import dictionary
    from glasshouse.models import Edit, load, load_edit
    from glasshouse.models.origins import check_known

    if version.foreign:
        raise UserError(f"expected a version to run, got {version.name}, of which there are imported logs only")
    _same_weights(version, ws)
    if model is None:
        model = load(version.model, device=device, workspace=ws)
        check_known(model, ws)  # of elsewhere: it may be another now
    if not version.edit:
        return model, Edit()
    edit = load_edit(ws.path("versions", version.name) / EDIT)
    named = dictionaries_of(edit.to_json())
    if edit_hash(ws, edit.to_json()) != version.edit:
        raise UserError(
            f"version {version.name} steers with dictionaries ({', '.join(named)}) that are others now; "
            "save the version again under another name"
        )
    for name in named:
        model.attach(dictionary(name, ws=ws))  # type: ignore[arg-type]
    return model, edit


def kept_edit(of: Version, ws: Workspace) -> dict[str, Any] | None:
    """The version's edit as it was saved, without its tensors, which stand in it as their hashes; None where it is not
    kept under the version's name. No torch."""
    if not of.edit:
        return {"parts": []}
    with contextlib.suppress(UserError):
        if version(of.name, ws).hash == of.hash:  # and not another of that name
            saved = json.loads((ws.path("versions", of.name) / EDIT).read_text(encoding="utf-8"))
            return {key: saved[key] for key in ("format", "parts")}
    return None


def dictionaries_of(edit: Mapping[str, Any]) -> list[str]:
    """Whose features an edit, as JSON, names."""
    return sorted({str(Site.parse(part["site"]).dictionary) for part in edit["parts"] if "/" in part["site"]})


def edit_hash(ws: Workspace, edit: Mapping[str, Any]) -> str:
    """Of an edit as JSON, with the dictionaries that it names as they are. Raises `UserError` where one is not here."""
    own = hashlib.sha256(json.dumps(edit, sort_keys=True).encode()).hexdigest()
    parts = [own, *(ws.ref("dictionaries", name).hash for name in dictionaries_of(edit))]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
