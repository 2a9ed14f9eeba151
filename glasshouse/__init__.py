"""Glasshouse opens language models: find the features inside, name them, steer with them, see them on a page.

    import glasshouse as gh

    m = gh.load("Qwen/Qwen3-0.6B")
    run = m.run(["How was your day?"], get=["resid.8"], stop=True)

Names are loaded on first use (PEP 562), so `import glasshouse` is quick and brings no torch.
"""

from __future__ import annotations

from glasshouse.types import on_first_use

_HOMES = {
    "Estimate": "glasshouse.types",
    "FeatureId": "glasshouse.types",
    "Site": "glasshouse.types",
    "UserError": "glasshouse.types",
    "Workspace": "glasshouse.workspace",
    "corpus": "glasshouse.text",
    "load": "glasshouse.models",
    "grow": "glasshouse.models.grow",
    "tune": "glasshouse.models.tune",
    "add": "glasshouse.models",
    "set": "glasshouse.models",
    "ablate": "glasshouse.models",
    "patch": "glasshouse.models",
    "weight": "glasshouse.models",
    "load_edit": "glasshouse.models",
    "harvest": "glasshouse.activations",
    "stream": "glasshouse.activations",
    "dictionary": "glasshouse.dictionaries",
    "learn": "glasshouse.dictionaries",
    "gather": "glasshouse.features.gathering",
    "features": "glasshouse.features",
    "open_model": "glasshouse.features.opening",
    "dose_response": "glasshouse.steering",
}

__version__ = "0.1.0"
__all__ = list(_HOMES)
__getattr__ = on_first_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
