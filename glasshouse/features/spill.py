"""What the pass over the text leaves on disk: every firing of every feature, in chunks sorted by feature.

A chunk holds the firings of some whole contexts, so a feature's firings are one slice of each chunk, and any range of
features is read back in memory that is bounded by its own firings: a sort on disk by merging sorted runs.

Legend: F features, N firings of a chunk, R rows (context × column) of a chunk, T columns of a context.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CHUNK_ROWS = 1 << 16  # a row number fits 16 bits, which numpy sorts by radix


@dataclass(frozen=True)
class Firings:
    """Firings sorted by feature, then context, then column. feature: int64, counted from the first of the block.
    context: int64. column: int64, BOS included. value: float32."""

    feature: NDArray[np.int64]
    context: NDArray[np.int64]
    column: NDArray[np.int64]
    value: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.value)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Firings:
        return Firings(self.feature[index], self.context[index], self.column[index], self.value[index])


class Spill:
    """Chunk files in a folder. Chunk c holds contexts `c * windows` to `(c + 1) * windows`."""

    def __init__(self, folder: Path, n_features: int, context: int, n_contexts: int) -> None:
        self.folder, self.n_features, self.context, self.n_contexts = folder, n_features, context, n_contexts
        self.windows = max(1, CHUNK_ROWS // context)
        self.chunks = -(-n_contexts // self.windows)

    def path(self, chunk: int) -> Path:
        return self.folder / f"{chunk:06d}.safetensors"

    def contexts(self, chunk: int) -> range:
        return range(chunk * self.windows, min((chunk + 1) * self.windows, self.n_contexts))

    def write(
        self,
        chunk: int,
        feature_N: NDArray[np.int64],
        row_N: NDArray[np.int64],
        value_N: NDArray[np.float32],
        kept_R: NDArray[np.bool_],
    ) -> None:
        """Sort and write one chunk, whole or not at all. kept_R: rows that were encoded."""
        from safetensors.numpy import save_file

        small = np.uint16 if self.n_features <= 1 << 16 else np.int64
        order = np.argsort(
            row_N.astype(np.uint16 if self.windows * self.context <= 1 << 16 else np.int64), kind="stable"
        )
        order = order[np.argsort(feature_N[order].astype(small), kind="stable")]
        feature_N, value_N = feature_N[order], value_N[order]
        start = np.zeros(self.n_features + 1, np.int64)
        np.cumsum(np.bincount(feature_N, minlength=self.n_features), out=start[1:])
        peak = np.zeros(self.n_features, np.float32)
        seen = np.flatnonzero(np.diff(start))
        if len(seen):
            peak[seen] = np.maximum.reduceat(value_N, start[seen])
        tensors = {"start": start, "row": row_N[order].astype(np.int32), "value": value_N, "peak": peak, "kept": kept_R}
        self.folder.mkdir(parents=True, exist_ok=True)  # not before: a mistake before any work leaves no draft
        temporary = self.folder / ".writing"
        save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, temporary)
        os.replace(temporary, self.path(chunk))

    def read(self, chunk: int, *keys: str) -> tuple[NDArray, ...]:
        from safetensors import safe_open

        with safe_open(self.path(chunk), "np") as handle:
            return tuple(handle.get_tensor(key) for key in keys)

    def counts(self, chunk: int) -> NDArray[np.int64]:
        """Firings of each feature in a chunk, (F,)."""
        return np.diff(self.read(chunk, "start")[0])

    def block(self, first: int, end: int, chunks: range) -> Firings:
        """The firings of features `first` to `end` in the given chunks."""
        from safetensors import safe_open

        parts: list[tuple[NDArray, NDArray, NDArray, int]] = []
        for chunk in chunks:
            with safe_open(self.path(chunk), "np") as handle:
                start = handle.get_slice("start")[first : end + 1]
                low, high = int(start[0]), int(start[-1])
                rows, values = np.zeros(0, np.int32), np.zeros(0, np.float32)
                if low < high:  # safetensors refuses an empty slice at the end of a tensor
                    rows, values = handle.get_slice("row")[low:high], handle.get_slice("value")[low:high]
            parts.append((np.diff(start), rows, values, chunk * self.windows))
        feature = np.concatenate([np.repeat(np.arange(end - first), counts) for counts, *_ in parts])
        row = np.concatenate([rows.astype(np.int64) + base * self.context for _, rows, _, base in parts])
        value = np.concatenate([values for _, _, values, _ in parts])
        small = np.uint16 if end - first <= 1 << 16 else np.int64
        order = np.argsort(feature.astype(small), kind="stable")
        row = row[order]
        return Firings(feature[order], row // self.context, row % self.context, value[order])

    def rows(self, chunk: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(feature, row) of every firing of a chunk, sorted by row."""
        start, row = self.read(chunk, "start", "row")
        feature = np.repeat(np.arange(self.n_features), np.diff(start))
        order = np.argsort(row.astype(np.uint16) if self.windows * self.context <= 1 << 16 else row, kind="stable")
        return feature[order], row[order].astype(np.int64)
