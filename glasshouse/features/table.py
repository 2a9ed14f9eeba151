"""The reading half of `features`: a dictionary's features as a table, and each feature's evidence as JSON.

    table = gh.features("resid6")
    table.query(search="import", flag="labelled", sort="score", limit=20)
    table.feature(1234)["examples"]["top"][0]["tokens"]

DuckDB reads the Parquet files that `gather` wrote; no torch. Whatever a user types is bound in queries, never spliced,
and DuckDB neither installs nor loads an extension by itself.
"""

from __future__ import annotations

import contextlib
import json
import math
import operator
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from glasshouse.types import NAME_PATTERN, Estimate, FeatureId, UserError
from glasshouse.workspace import Workspace, read_manifest

AROUND = 20  # tokens shown on each side of an example's peak
LEVEL = 0.95
FLAGS = ("", "live", "dead", "dense", "labelled", "unclear")
_SORTS = {
    "rate": "rate",
    "score": "score",
    "label": "lower(label)",
    "index": "index",
    "max_activation": "max_activation",
    "kind": "kind",
    "flag": "flag",
}
_FLAG_SQL = {
    "": "true",
    "live": "flag = 'live'",
    "dead": "flag = 'dead'",
    "dense": "flag = 'dense'",
    "labelled": "label IS NOT NULL",
    "unclear": "label IS NULL AND flag <> 'dead'",
}
# Narrow columns of every feature, held in memory: lists, searches and sorts never touch the disk.
_CATALOGUE = """
CREATE TABLE catalogue AS
WITH promoted AS (
    SELECT f.feature, string_agg(lower(v.text), chr(0)) AS texts
    FROM (SELECT feature, unnest([p.token for p in promotes]) AS token FROM read_parquet($1)) f
    JOIN vocabulary v USING (token) GROUP BY f.feature
)
SELECT feature AS index, rate, max_activation, label, f1 AS score, flag, kind,
       [p.token for p in promotes[1:5]] AS promotes, tokens[1].token AS top_token,
       lower(coalesce(label, '')) AS label_text, coalesce(promoted.texts, '') AS promoted_text
FROM read_parquet($1) LEFT JOIN promoted USING (feature) ORDER BY feature
"""


def visible(text: str) -> str:
    """A token as shown in lists: spaces, newlines and tabs as ␣ ⏎ ⇥, so that none is lost to the eye."""
    return text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")


def features(name_or_path: str | Path, *, ws: Workspace | None = None) -> Features:
    """Open the features of a dictionary: by its name in the workspace, or by the artefact's folder.

    A name that the given workspace has is never a folder of that name here. Raises `UserError` if there are none, or if
    a file was truncated or the manifest edited.
    """
    name, path = str(name_or_path), Path(name_or_path)
    named = isinstance(name_or_path, str) and NAME_PATTERN.fullmatch(name)
    kept = named and ws is not None and ws.exists("features", name)
    if not kept and (path / "manifest.json").is_file():
        return Features(path)
    ws = ws or Workspace.open(create=False)
    ws.manifest("features", name)
    return Features(ws.path("features", name))


class Features:
    """The features of one dictionary. `summary` describes the whole; see `query`, `feature`, `context`, `df`.

    Safe to use from several threads.
    """

    def __init__(self, folder: Path) -> None:
        import duckdb

        self.folder = folder
        self.manifest = read_manifest(folder)
        try:
            self.summary: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"expected JSON in {folder / 'summary.json'}, got {error}; run `features` again") from None
        self.name: str = self.summary["name"]
        self._db = duckdb.connect(":memory:")
        self._lock = threading.Lock()
        for setting in ("autoinstall_known_extensions", "autoload_known_extensions"):
            self._db.execute(f"SET {setting} = false")
        with contextlib.suppress(duckdb.InvalidInputException):  # a notebook without ipywidgets has no bar, and says so
            self._db.execute("SET enable_progress_bar = false")
        self._db.execute("SET parquet_metadata_cache = true")  # reading a footer takes longer than reading a row
        try:
            self._db.execute("CREATE TABLE vocabulary AS SELECT * FROM read_parquet(?)", [self._file("vocabulary")])
            self._db.execute(_CATALOGUE, [self._file("features")])
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"expected a features table in {folder}, got {reason}; run `features` again") from None
        self._db.execute("SET lock_configuration = true")

    def _file(self, table: str) -> str:
        return str(self.folder / f"{table}.parquet")

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        with self._lock:
            cursor = self._db.cursor()
        cursor.execute(sql, list(values))
        names = [column[0] for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    @cached_property
    def vocabulary(self) -> dict[int, str]:
        """Text of each token, characters cut in half shown as ‹E4›."""
        return {row["token"]: row["text"] for row in self._rows("SELECT token, text FROM vocabulary")}

    @cached_property
    def labels(self) -> dict[int, str | None]:
        return {row["index"]: row["label"] for row in self._rows("SELECT index, label FROM catalogue")}

    def _visible(self, token: int | None) -> str:
        return "" if token is None else visible(self.vocabulary.get(token, f"‹{token}›"))

    # -- lists -----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return int(self.summary["n_features"])

    def query(
        self,
        *,
        search: str = "",
        kinds: Sequence[str] = (),
        flag: str = "",
        sort: str = "rate",
        descending: bool = True,
        min_rate: float | None = None,
        max_rate: float | None = None,
        min_score: float | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> dict[str, Any]:
        """`{"total": int, "rows": [...]}`: features whose label or promoted tokens contain `search` (any case), of the
        given kinds of document, flag and firing rate, and with a label that scores `min_score` (F1) or more.

        Sorted by `sort`; features without a value come last. Raises `UserError` for an unknown flag or sort.
        """
        if flag not in FLAGS:
            raise UserError(f"expected a flag from {', '.join(FLAGS[1:])} or none, got {flag!r}")
        if sort not in _SORTS:
            raise UserError(f"expected a sort from {', '.join(_SORTS)}, got {sort!r}")
        where: list[str] = [_FLAG_SQL[flag]]
        values: list[Any] = []
        if search:
            where.append("(contains(label_text, lower(?)) OR contains(promoted_text, lower(?)))")
            values += [search, search.replace("␣", " ").replace("⏎", "\n").replace("⇥", "\t")]
        if kinds:
            where.append("list_contains(?, kind)")
            values.append(list(kinds))
        for bound, asks in (
            (min_rate, "rate >= ?"),
            (max_rate, "rate <= ?"),
            (min_score, "label_text <> '' AND score >= ?"),
        ):
            if bound is not None:
                where.append(asks)
                values.append(float(bound))
        clause = " AND ".join(where)
        order = f"{_SORTS[sort]} {'DESC' if descending else 'ASC'} NULLS LAST, index"
        rows = self._rows(
            "SELECT index, rate, max_activation, label, score, flag, kind, promotes, top_token, "
            f"count(*) OVER () AS total FROM catalogue WHERE {clause} ORDER BY {order} LIMIT ? OFFSET ?",
            [*values, max(0, int(limit)), max(0, int(offset))],
        )
        total = rows[0]["total"] if rows else self._count(clause, values) if offset or not limit else 0
        for row in rows:
            del row["total"]
            row["promotes"] = [self._visible(token) for token in row["promotes"] or []]
            row["top_token"] = self._visible(row["top_token"])
        return {"total": int(total), "rows": rows}

    def _count(self, clause: str, values: list[Any]) -> int:
        return int(self._rows(f"SELECT count(*) AS n FROM catalogue WHERE {clause}", values)[0]["n"])

    def arrow(self) -> Any:
        """The list as a `pyarrow.Table`: index, rate, max_activation, label, score, flag, kind, top_token, promotes."""
        import pyarrow as pa

        return pa.Table.from_pylist(self.query(sort="index", descending=False, limit=len(self))["rows"])

    def df(self) -> Any:
        """The list as a pandas DataFrame. Raises `UserError` with the install line if pandas is missing."""
        try:
            import pandas  # noqa: F401
        except ImportError:
            raise UserError("`.df()` needs pandas; pip install 'glasshouse[pandas]', or use `.arrow()`") from None
        return self.arrow().to_pandas().set_index("index")

    @cached_property
    def _footer(self) -> Any:
        import pyarrow.parquet as pq

        return pq.read_metadata(self._file("features"))

    def _row(self, index: int) -> dict[str, Any]:
        """Row `index` of features.parquet, which holds every feature in order: one row group is decoded, with the
        footer read once. An eighth of the time of a query."""
        import pyarrow.parquet as pq

        group, first = 0, 0
        while index >= first + self._footer.row_group(group).num_rows:
            first += self._footer.row_group(group).num_rows
            group += 1
        with pq.ParquetFile(self._file("features"), metadata=self._footer) as file:
            rows = file.read_row_group(group, use_threads=False).slice(index - first, 1).to_pylist()
        assert rows[0]["feature"] == index, (index, rows[0]["feature"])
        return rows[0]

    # -- one feature -----------------------------------------------------------------------------------------------

    def __getitem__(self, index: SupportsIndex) -> Feature:
        """Also by a number out of its own table, as NumPy or Arrow give one."""
        try:
            number = operator.index(getattr(index, "as_py", lambda: index)())
        except TypeError:
            raise UserError(f"expected the number of a feature of {self.name}, got {index!r:.60}") from None
        return Feature(self, self.feature(number))

    def __repr__(self) -> str:
        s = self.summary
        return (
            f"<Features {self.name}: {len(self):,} of {s['model']} at {s['site']}, {s['clear']:,} with a clear label>"
        )

    def _repr_html_(self) -> str:
        from glasshouse.features.export import table_card

        return table_card(self)

    def __iter__(self) -> Iterator[Feature]:
        return (self[index] for index in range(len(self)))

    def feature(self, index: int) -> dict[str, Any]:
        """All the evidence for one feature, ready for JSON; `docs/features.md` explains every key."""
        if not 0 <= index < len(self):
            raise UserError(f"expected a feature from 0 to {len(self) - 1} of {self.name}, got {index}")
        row = self._row(index)
        summary = self.summary
        bins = len(row["histogram"] or [])
        top = row["max_activation"]
        return {
            "id": str(FeatureId(self.name, index)),
            "index": index,
            "rate": self._estimate(row, "rate", "firings per token", summary["documents"], "wilson, clustered"),
            "firings": row["firings"],
            "contexts": row["contexts"],
            "documents": row["documents"],
            "flag": row["flag"],
            "max_activation": top,
            "label": self._label(row),
            "best_guess": row["best_guess"],
            "kind": row["kind"],
            "kinds": {k["kind"]: k["share"] for k in row["kinds"] or []},
            "histogram": {
                "edges": [top * i / bins for i in range(bins + 1)] if bins else [],
                "counts": row["histogram"],
            },
            "tokens": [
                {"token": self._visible(t["token"]), "count": t["count"], "mean_activation": t["mean"]}
                for t in row["tokens"] or []
            ],
            "positions": {
                "edges": summary["position_edges"],
                "counts": row["positions"],
                "tokens": summary["position_tokens"],
            },
            "promotes": self._tokens(row["promotes"], "logit"),
            "suppresses": self._tokens(row["suppresses"], "logit"),
            "measured": None if row["measured"] is None else self._tokens(row["measured"], "change"),
            "measured_loss": row["measured_loss"],
            "near_decoder": self._near(row["near_decoder"], "cosine"),
            "near_cofiring": self._near(row["near_cofiring"], "jaccard"),
            "examples": self._examples(index, row["bins"] or []),
        }

    @staticmethod
    def _estimate(row: dict[str, Any], key: str, unit: str, n: int, method: str = "clustered ratio") -> dict[str, Any]:
        low, high = row[f"{key}_low"], row[f"{key}_high"]
        return Estimate(row[key], low, high, LEVEL, n, unit, method).to_json()

    def _label(self, row: dict[str, Any]) -> dict[str, Any] | None:
        if row["label"] is None:
            return None
        return {
            "text": row["label"],
            "auroc": self._estimate(row, "auroc", "", row["label_documents"]),
            "f1": self._estimate(row, "f1", "", row["label_documents"]),
            "precision": row["precision"],
            "recall": row["recall"],
            "baseline_f1": row["baseline_f1"],
        }

    def _tokens(self, pairs: list[dict[str, Any]] | None, key: str) -> list[dict[str, Any]]:
        return [{"token": self._visible(pair["token"]), key: pair[key]} for pair in pairs or []]

    def _near(self, pairs: list[dict[str, Any]] | None, key: str) -> list[dict[str, Any]]:
        return [
            {"index": pair["feature"], key: pair[key], "label": self.labels.get(pair["feature"])}
            for pair in pairs or []
        ]

    def _examples(self, index: int, bins: list[dict[str, Any]]) -> dict[str, Any]:
        rows = self._rows(
            "SELECT * FROM read_parquet(?) WHERE feature = ? ORDER BY bin, rank", [self._file("examples"), index]
        )
        contexts = self._contexts(sorted({row["context"] for row in rows}))
        shown: dict[int, list[dict[str, Any]]] = {}
        for row in rows:
            shown.setdefault(row["bin"], []).append(_example(row, contexts[row["context"]]))
        return {
            "top": shown.get(-1, []),
            "bins": [{**one, "examples": shown.get(number, [])} for number, one in enumerate(bins)],
        }

    # -- contexts --------------------------------------------------------------------------------------------------

    def _contexts(self, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        if not ids:
            return {}
        places = ", ".join("?" * len(ids))  # of bound values: a list of them skips row groups, a subquery does not
        rows = self._rows(
            "SELECT c.context, c.char, c.tokens, d.name AS document, d.kind FROM "
            f"(SELECT * FROM read_parquet(?) WHERE context IN ({places})) c "
            "JOIN read_parquet(?) d USING (document)",
            [self._file("contexts"), *map(int, ids), self._file("documents")],
        )
        for row in rows:
            row["tokens"] = [self.vocabulary.get(token, f"‹{token}›") for token in row["tokens"]]
        return {row.pop("context"): row for row in rows}

    def ids(self, count: int) -> list[list[int]]:
        """Token ids of `count` stored contexts, without BOS, spread evenly over all; of all if there are fewer. Not
        their text: a character cut in half is shown, and cannot be read back."""
        rows = self._rows("SELECT context FROM read_parquet(?) ORDER BY context", [self._file("contexts")])
        chosen = [rows[i]["context"] for i in np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
        found = self._rows(
            "SELECT tokens FROM read_parquet(?) WHERE list_contains(?, context) ORDER BY context",
            [self._file("contexts"), chosen],
        )
        return [row["tokens"] for row in found]

    def context(self, context_id: int) -> dict[str, Any]:
        """A stored context whole: `tokens` (text of each), `document`, `kind`, `char` (where it begins there)."""
        found = self._contexts([context_id])
        if context_id not in found:
            raise UserError(f"expected a context stored with {self.name}, got {context_id}; examples name theirs")
        return found[context_id]


def _example(row: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    """The window of ±AROUND tokens about an example's peak. `char` is where the context begins in its document."""
    start = max(0, row["position"] - AROUND)
    end = min(len(context["tokens"]), row["position"] + AROUND + 1)
    activations = [0.0] * (end - start)
    for position, activation in zip(row["fires_at"], row["activations"], strict=True):
        if start <= position < end:
            activations[position - start] = activation
    return {
        "context": row["context"],
        "peak": row["peak"],
        "position": row["position"],
        "start": start,
        "tokens": context["tokens"][start:end],
        "activations": activations,
        "document": context["document"],
        "kind": context["kind"],
        "char": context["char"],
    }


class Feature:
    """One feature's evidence; in a notebook it shows its label, numbers and shaded examples. `.json` holds it all."""

    def __init__(self, table: Features, evidence: dict[str, Any]) -> None:
        self.table, self.json = table, evidence

    @property
    def label(self) -> str | None:
        return self.json["label"]["text"] if self.json["label"] else None

    def __repr__(self) -> str:
        rate = self.json["rate"]["value"]
        shown = f"fires on {rate:.3%} of tokens" if math.isfinite(rate) else "never seen"
        return f"<Feature {self.json['id']}: {self.label or 'unclear'}, {shown}>"

    def _repr_html_(self) -> str:
        from glasshouse.features.export import feature_card

        return feature_card(self.json)
