"""The Parquet tables of a features artefact, column by column, as `docs/formats.md` shows them (a test compares).

Rows of `features` and `examples` are sorted by feature, rows of `contexts` by context, so that a reader that wants one
feature or a few contexts decodes a few row groups. No torch here.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_TOKEN_COUNT = pa.struct([("token", pa.int32()), ("count", pa.int64()), ("mean", pa.float32())])
_TOKEN_LOGIT = pa.struct([("token", pa.int32()), ("logit", pa.float32())])
_TOKEN_CHANGE = pa.struct([("token", pa.int32()), ("change", pa.float32())])
_KIND_SHARE = pa.struct([("kind", pa.string()), ("share", pa.float32())])
_NEAR_DECODER = pa.struct([("feature", pa.int32()), ("cosine", pa.float32())])
_NEAR_COFIRING = pa.struct([("feature", pa.int32()), ("jaccard", pa.float32())])
_BIN = pa.struct([("low", pa.float32()), ("high", pa.float32()), ("count", pa.int64())])

SCHEMAS: dict[str, pa.Schema] = {
    "features": pa.schema(
        [
            ("feature", pa.int32()),
            ("flag", pa.string()),
            ("firings", pa.int64()),
            ("contexts", pa.int64()),
            ("documents", pa.int32()),
            ("rate", pa.float64()),
            ("rate_low", pa.float64()),
            ("rate_high", pa.float64()),
            ("max_activation", pa.float32()),
            ("kind", pa.string()),
            ("kinds", pa.list_(_KIND_SHARE)),
            ("histogram", pa.list_(pa.int64())),
            ("positions", pa.list_(pa.int64())),
            ("tokens", pa.list_(_TOKEN_COUNT)),
            ("promotes", pa.list_(_TOKEN_LOGIT)),
            ("suppresses", pa.list_(_TOKEN_LOGIT)),
            ("measured", pa.list_(_TOKEN_CHANGE)),
            ("measured_loss", pa.float32()),
            ("near_decoder", pa.list_(_NEAR_DECODER)),
            ("near_cofiring", pa.list_(_NEAR_COFIRING)),
            ("bins", pa.list_(_BIN)),
            ("label", pa.string()),
            ("best_guess", pa.string()),
            ("auroc", pa.float64()),
            ("auroc_low", pa.float64()),
            ("auroc_high", pa.float64()),
            ("f1", pa.float64()),
            ("f1_low", pa.float64()),
            ("f1_high", pa.float64()),
            ("precision", pa.float64()),
            ("recall", pa.float64()),
            ("baseline_f1", pa.float64()),
            ("label_documents", pa.int32()),
        ]
    ),
    "examples": pa.schema(
        [
            ("feature", pa.int32()),
            ("bin", pa.int8()),
            ("rank", pa.int16()),
            ("context", pa.int32()),
            ("position", pa.int32()),
            ("peak", pa.float32()),
            ("fires_at", pa.list_(pa.int32())),
            ("activations", pa.list_(pa.float32())),
        ]
    ),
    "contexts": pa.schema(
        [
            ("context", pa.int32()),
            ("document", pa.int32()),
            ("char", pa.int64()),
            ("tokens", pa.list_(pa.int32())),
        ]
    ),
    "documents": pa.schema([("document", pa.int32()), ("name", pa.string()), ("kind", pa.string())]),
    "vocabulary": pa.schema([("token", pa.int32()), ("text", pa.string())]),
}

# Small enough that one row costs little to reach, large enough to compress: about 100 kB a group.
ROW_GROUP = {"features": 256, "examples": 8192, "contexts": 64, "documents": 65536, "vocabulary": 65536}

TOP = -1  # `bin` of the top examples; quantile bins count from 0, the lowest peaks


class TableWriter:
    """Appends rows to one table of a features artefact, checked against its schema."""

    def __init__(self, folder: Path, name: str) -> None:
        self.schema, self._group = SCHEMAS[name], ROW_GROUP[name]
        self._writer = pq.ParquetWriter(folder / f"{name}.parquet", self.schema, compression="zstd")

    def append(self, columns: dict[str, object]) -> None:
        assert list(columns) == self.schema.names, (list(columns), self.schema.names)
        arrays = [
            column if isinstance(column, pa.Array) else pa.array(column, type=field.type)
            for column, field in zip(columns.values(), self.schema, strict=True)
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self.schema), row_group_size=self._group)

    def close(self) -> None:
        self._writer.close()


def write_table(folder: Path, name: str, columns: dict[str, object]) -> None:
    """Write one whole table; `columns` holds lists or Arrow arrays in the schema's order."""
    writer = TableWriter(folder, name)
    writer.append(columns)
    writer.close()
