"""Evidence for every feature of a dictionary: gathered in one pass over text, labelled, searched, exported.

    table = gh.features("resid6")        # the reading half: DuckDB over Parquet, no torch
    table.query(search="import", limit=10)["rows"]
    table[1234]                          # shows itself in a notebook

`gather` is the writing half and loads torch when it is first used.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from glasshouse.types import on_first_use

_HOMES = {
    "Features": "glasshouse.features.table",
    "Feature": "glasshouse.features.table",
    "features": "glasshouse.features.table",
    "export_html": "glasshouse.features.export",
    "GatherConfig": "glasshouse.features.gathering",
    "gather": "glasshouse.features.gathering",
    "kept_concepts": "glasshouse.features.kept",
    "score_concepts": "glasshouse.features.kept",
}

__all__ = list(_HOMES)
__getattr__ = on_first_use(__name__, _HOMES)


class _Room(types.ModuleType):
    """Importing this room sets `glasshouse.features` to the module, which would hide the function of that name:
    so the module can be called as the function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.features(*args, **kwargs)


sys.modules[__name__].__class__ = _Room
