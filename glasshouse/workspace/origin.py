"""Which model a dictionary is of, as the manifests say."""

from __future__ import annotations

from typing import Any

from glasshouse.types import ArtifactRef
from glasshouse.workspace.artefacts import Workspace


def own_model(ws: Workspace, dictionary: str) -> str | None:
    """The name of the model that it was learnt on, or whose evidence was gathered."""
    model = ws.manifest("dictionaries", dictionary).get("model")
    if model is None and ws.exists("features", dictionary):
        model = ws.manifest("features", dictionary)["config"].get("model")
    return None if model is None else str(model)


def weights_key(ws: Workspace, model: str) -> str:
    """What tells a model of the workspace from another of its name: the version with which it was opened, wherever it
    lies, or the hash of what was grown here."""
    manifest = ws.manifest("models", model)
    return str(manifest["config"].get("version", manifest["hash"]))


def model_ref(ws: Workspace, model: Any) -> tuple[ArtifactRef, str]:
    """The model as the workspace knows it, and its `weights_key`; of one that it does not, its version is both."""
    if ws.exists("models", model.name):
        return ws.ref("models", model.name), weights_key(ws, model.name)
    return ArtifactRef("models", model.name, model.version), model.version
