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


def model_ref(ws: Workspace, model: Any) -> ArtifactRef:
    """The model as the workspace knows it; of one that it does not, its version stands for the hash."""
    if ws.exists("models", model.name):
        return ws.ref("models", model.name)
    return ArtifactRef("models", model.name, model.version)
