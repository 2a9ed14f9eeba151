"""Steering: a feature or a direction to an edit; how strong that is, what it does, and what it costs.

    glasshouse chat MODEL --set resid6/1234=8x          # clamped to 8 × its largest activation
    glasshouse chat MODEL --add resid6/1234=0.8         # its direction, 0.8 × the stream's typical norm
    glasshouse chat MODEL --add resid6/1234=0.8 --dose  # effect and cost over a range of strengths

Names are loaded on first use, so that a page which shows what was measured starts without torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Strength": "amounts",
    "parse": "amounts",
    "strength": "amounts",
    "strengths": "amounts",
    "Completions": "pairs",
    "asked": "pairs",
    "completions": "pairs",
    "embedding_change": "pairs",
    "embedding_moves": "pairs",
    "embeddings": "pairs",
    "Dose": "doses",
    "DoseResponse": "doses",
    "dose_response": "doses",
    "kept_dose": "kept",
    "measure_dose": "kept",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'glasshouse.steering' has no attribute {name!r}")
    return getattr(importlib.import_module(f"glasshouse.steering.{_HOMES[name]}"), name)
