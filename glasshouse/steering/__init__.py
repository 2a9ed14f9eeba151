"""Steering: a feature or a direction to an edit; how strong that is, what it does, and what it costs.

    glasshouse chat MODEL --set resid6/1234=8x          # clamped to 8 × its largest activation
    glasshouse chat MODEL --add resid6/1234=0.8         # its direction, 0.8 × the stream's typical norm
    glasshouse chat MODEL --add resid6/1234=0.8 --dose  # effect and cost over a range of strengths

Names are loaded on first use, so that a page which shows what was measured starts without torch.
"""

from __future__ import annotations

from glasshouse.types import on_first_use

_HOMES = {
    "Strength": "glasshouse.steering.amounts",
    "parse": "glasshouse.steering.amounts",
    "strength": "glasshouse.steering.amounts",
    "strengths": "glasshouse.steering.amounts",
    "Completions": "glasshouse.steering.pairs",
    "asked": "glasshouse.steering.pairs",
    "completions": "glasshouse.steering.pairs",
    "embedding_change": "glasshouse.steering.pairs",
    "embedding_moves": "glasshouse.steering.pairs",
    "embeddings": "glasshouse.steering.pairs",
    "Dose": "glasshouse.steering.doses",
    "DoseResponse": "glasshouse.steering.doses",
    "dose_response": "glasshouse.steering.doses",
    "TurnedUp": "glasshouse.steering.search",
    "turned_up": "glasshouse.steering.search",
    "kept_dose": "glasshouse.steering.kept",
    "measure_dose": "glasshouse.steering.kept",
}

__all__ = list(_HOMES)
__getattr__ = on_first_use(__name__, _HOMES)
