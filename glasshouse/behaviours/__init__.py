"""Behaviours of versions of a model: run, compared with statistics that know when they cannot tell.

    glasshouse test villager --suite world
    glasshouse compare villager villager-tic

Names are loaded on first use; only running a behaviour needs torch.
"""

from __future__ import annotations

from glasshouse.types import on_first_use

_HOMES = {
    "Behaviour": "glasshouse.behaviours.behaviour",
    "read_behaviours": "glasshouse.behaviours.behaviour",
    "Version": "glasshouse.behaviours.versions",
    "save_version": "glasshouse.behaviours.versions",
    "version": "glasshouse.behaviours.versions",
    "Evaluation": "glasshouse.behaviours.evaluation",
    "evaluate": "glasshouse.behaviours.evaluation",
    "evaluations": "glasshouse.behaviours.evaluation",
    "read_evaluation": "glasshouse.behaviours.evaluation",
    "history_of": "glasshouse.behaviours.history",
    "wordings": "glasshouse.behaviours.history",
    "plane": "glasshouse.behaviours.frontier",
    "compared": "glasshouse.behaviours.matrix",
    "plan": "glasshouse.behaviours.matrix",
    "run_missing": "glasshouse.behaviours.matrix",
    "sentences": "glasshouse.behaviours.system_prompt",
}

__all__ = list(_HOMES)
__getattr__ = on_first_use(__name__, _HOMES)
