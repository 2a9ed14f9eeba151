"""Load a model, name and check its sites, run it, edit it, undo, generate; grow a small one, or fine-tune one."""

from __future__ import annotations

from typing import Any

from glasshouse.models.edits import DictionaryLike, Edit, ablate, add, load_edit, patch, set, weight
from glasshouse.models.families import FAMILIES, Place, SiteMap
from glasshouse.models.generation import Generation
from glasshouse.models.load import load
from glasshouse.models.model import Loss, Model, SiteInfo
from glasshouse.models.runs import Batch, Run, SiteValues

__all__ = [
    "Batch", "DictionaryLike", "Edit", "FAMILIES", "Generation", "Loss", "Model", "Place", "Run", "SiteInfo",
    "SiteMap", "SiteValues", "ablate", "add", "grow", "load", "load_edit", "patch", "set", "weight",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "grow":
        from glasshouse.models.grow import grow

        globals()["grow"] = grow  # in place of the submodule, which the import has just bound to the same name
        return grow
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
