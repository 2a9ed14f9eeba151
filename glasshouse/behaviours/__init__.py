"""Behaviours of versions of a model: run, compared with statistics that know when they cannot tell.

    glasshouse test villager --suite world
    glasshouse compare villager villager-tic

Names are loaded on first use; only running a behaviour needs torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Behaviour": "behaviour",
    "read_behaviours": "behaviour",
    "Version": "versions",
    "save_version": "versions",
    "version": "versions",
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "evaluations": "evaluation",
    "read_evaluation": "evaluation",
    "compared": "matrix",
    "plan": "matrix",
    "run_missing": "matrix",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'glasshouse.behaviours' has no attribute {name!r}")
    return getattr(importlib.import_module(f"glasshouse.behaviours.{_HOMES[name]}"), name)
