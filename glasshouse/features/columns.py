"""What was gathered of features and their examples, as columns of the tables in `schema.py`. No torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from glasshouse.features.examples import Examples
from glasshouse.features.schema import SCHEMAS
from glasshouse.features.statistics import Peaks, Text


def example_columns(examples: Examples, peaks: Peaks, shown: list[Any], first: int, text: Text) -> dict[str, Any]:
    """Of one block of features, whose first is `first`. shown: (example, column, activation) arrays of its firings."""
    example, column, value = (np.concatenate([part[i] for part in shown]) for i in range(3))
    order = np.argsort(example, kind="stable")
    offsets = np.r_[0, np.cumsum(np.bincount(example, minlength=len(examples.peak)))].astype(np.int32)
    position = pa.array((column[order] - text.bos).astype(np.int32))
    return {
        "feature": pa.array((examples.feature + first).astype(np.int32)),
        "bin": pa.array(examples.bin.astype(np.int8)),
        "rank": pa.array(examples.rank.astype(np.int16)),
        "context": pa.array(peaks.context[examples.peak].astype(np.int32)),
        "position": pa.array((peaks.column[examples.peak] - text.bos).astype(np.int32)),
        "peak": pa.array(peaks.peak[examples.peak]),
        "fires_at": pa.ListArray.from_arrays(pa.array(offsets), position),
        "activations": pa.ListArray.from_arrays(pa.array(offsets), pa.array(value[order])),
    }


class Columns:
    """The columns that do not come from firings, and all of them put in the schema's order."""

    def __init__(self) -> None:
        self._pairs: dict[str, tuple[str, str, Any, Any]] = {}

    def fixed(self, direct: dict[str, tuple[Any, Any]]) -> None:
        for key in ("promotes", "suppresses"):
            if key in direct:
                self._pairs[key] = ("token", "logit", *direct[key])

    def near(self, key: str, measure: str, indices: Any, values: Any) -> None:
        self._pairs[key] = ("feature", measure, indices, values)

    def complete(
        self, block: range, rows: dict[str, Any], measured: dict[int, Any], max_F: NDArray[np.float32]
    ) -> dict[str, Any]:
        known = {"feature": list(block), "max_activation": max_F[block.start : block.stop]} | rows
        nothing: tuple[None, None] = (None, None)
        found = [measured.get(feature, nothing) for feature in block]
        known["measured"] = [
            None if pairs is None else [{"token": t, "change": c} for t, c in pairs] for pairs, _ in found
        ]
        known["measured_loss"] = [loss for _, loss in found]
        for key in ("promotes", "suppresses", "near_decoder", "near_cofiring"):
            known[key] = self._structs(key, block)
        return {key: known[key] for key in SCHEMAS["features"].names}

    def _structs(self, key: str, block: range) -> list[list[dict[str, Any]]]:
        if key not in self._pairs:
            return [[] for _ in block]
        first, second, indices, values = self._pairs[key]
        return [
            [{first: int(i), second: float(v)} for i, v in zip(indices[f], values[f], strict=True) if i >= 0]
            for f in block
        ]
