"""Readers of files: one small function a format, in a table. Each yields pieces of text or says what it skipped.

Compressed and headed files (gzip, Parquet) are counted while they unpack and refused past a stated size, so that a
small hostile file cannot fill the memory.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import IO, Any, cast

from glasshouse.types import UserError
from glasshouse.workspace import human_bytes

HIDDEN = frozenset({"script", "style", "template", "noscript", "svg"})


@dataclass(frozen=True)
class Piece:
    """The text of one document, before it has a place in a corpus."""

    name: str
    kind: str
    text: str


@dataclass(frozen=True)
class Skipped:
    """A file or row left out, and why."""

    reason: str


class Budget:
    """How many bytes may still be unpacked from `source`."""

    def __init__(self, limit: int, source: str) -> None:
        self.limit, self.source, self.kept = limit, source, 0

    def check(self, size: int) -> None:
        """Raises `UserError` if `size` more bytes than are kept already would be too many."""
        if self.kept + size > self.limit:
            raise UserError(
                f"expected at most {human_bytes(self.limit)} of unpacked text, {self.source} holds more; "
                "give a part of it, or in Python a larger max_unpacked"
            )

    def keep(self, size: int) -> None:
        self.check(size)
        self.kept += size


def suffix_of(file: Path) -> str:
    """Lower-case suffix, with the one before it for .gz: `.jsonl.gz`."""
    suffixes = [s.lower() for s in file.suffixes]
    if suffixes[-1:] == [".gz"]:
        return "".join(suffixes[-2:])
    return suffixes[-1] if suffixes else ""


def read_file(file: Path, name: str, kind: str, text_column: str, budget: Budget) -> Iterator[Piece | Skipped]:
    """The pieces of `file`, by the reader of its suffix; plain text for a suffix that no reader has."""
    reader = READERS.get(suffix_of(file), _plain)
    yield from reader(file, name, kind, text_column, budget)


Reader = Callable[[Path, str, str, str, Budget], Iterator[Piece | Skipped]]


def _decoded(file: Path, budget: Budget) -> str | Skipped:
    budget.check(file.stat().st_size)
    data = file.read_bytes()
    if b"\0" in data[:8192]:
        return Skipped("binary")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Skipped("undecodable")


def _plain(file: Path, name: str, kind: str, text_column: str, budget: Budget) -> Iterator[Piece | Skipped]:
    text = _decoded(file, budget)
    yield text if isinstance(text, Skipped) else Piece(name, kind, text)


def _html(file: Path, name: str, kind: str, text_column: str, budget: Budget) -> Iterator[Piece | Skipped]:
    text = _decoded(file, budget)
    try:
        found = text if isinstance(text, Skipped) else Piece(name, kind, html_text(text))
    except AssertionError:  # how HTMLParser refuses `<![` and a word that it does not know
        found = Skipped("broken HTML")
    yield found


BLOCKS = """
    address article aside blockquote br dd div dl dt figcaption footer form h1 h2 h3 h4 h5 h6 header hr li main
    nav ol p pre section table td th title tr ul
"""


class _Words(HTMLParser):
    """Text of a page: without scripts and styles, a new line at each block."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.depth = self.as_typed = 0
        self.blocks = frozenset(BLOCKS.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.depth += tag in HIDDEN
        self.as_typed += tag == "pre"
        if tag in self.blocks:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self.as_typed = max(0, self.as_typed - (tag == "pre"))
        self.depth = max(0, self.depth - (tag in HIDDEN))
        if tag in self.blocks:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self.depth:
            self.parts.append(data if self.as_typed else " ".join(data.split("\n")))


def html_text(page: str) -> str:
    """The text a reader of the page sees, one line a block, runs of white space collapsed."""
    words = _Words()
    words.feed(page)
    words.close()
    lines = (" ".join(line.split()) for line in "".join(words.parts).split("\n"))
    return "\n".join(line for line in lines if line) + "\n"


def _jsonl(file: Path, name: str, kind: str, text_column: str, budget: Budget) -> Iterator[Piece | Skipped]:
    def rows(stream: IO[bytes]) -> Iterator[dict[str, Any] | Skipped]:
        for line in _lines(stream, budget):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except UnicodeDecodeError:
                yield Skipped("undecodable")
                continue
            except (ValueError, RecursionError):
                yield Skipped("rows that are not JSON")
                continue
            yield row if isinstance(row, dict) else Skipped("rows that are not JSON objects")

    yield from _opened(file, lambda stream: _rows(rows(stream), file, name, kind, text_column))


def _lines(stream: IO[bytes], budget: Budget) -> Iterator[bytes]:
    """Lines of a stream that may unpack without end; what was read since the last kept document is bounded."""
    total = 0
    while line := stream.readline(budget.limit - budget.kept + 1):
        total += len(line)
        if total > budget.limit:
            budget.check(budget.limit + 1)
        budget.check(len(line))
        yield line


def _csv(file: Path, name: str, kind: str, text_column: str, budget: Budget) -> Iterator[Piece | Skipped]:
    def rows(stream: IO[bytes]) -> Iterator[dict[str, Any] | Skipped]:
        head = stream.peek(8192)[:8192] if isinstance(stream, io.BufferedReader | gzip.GzipFile) else b""
        if b"\0" in head:
            yield Skipped("binary")
            return
        decoded = (line.decode("utf-8-sig", "surrogateescape") for line in _lines(stream, budget))
        lines = itertools.dropwhile(lambda line: not line.strip(), decoded)  # the header is the first line with words
        csv.field_size_limit(min(budget.limit, 2**31 - 1))
        table = csv.DictReader(lines, delimiter="\t" if ".tsv" in suffix_of(file) else ",")
        try:
            if table.fieldnames is not None and text_column not in table.fieldnames:
                raise _no_column(file, text_column, table.fieldnames)
            yield from table
        except csv.Error as error:
            yield Skipped(f"broken CSV ({error})")

    yield from _opened(file, lambda stream: _rows(rows(stream), file, name, kind, text_column))


def _opened(file: Path, read: Callable[[IO[bytes]], Iterator[Piece | Skipped]]) -> Iterator[Piece | Skipped]:
    """`read` on the file's bytes, unpacked if it is gzip; a broken archive is skipped from where it breaks."""
    try:
        with gzip.open(file, "rb") if suffix_of(file).endswith(".gz") else open(file, "rb") as stream:
            yield from read(cast(IO[bytes], stream))
    except (gzip.BadGzipFile, EOFError, zlib.error):
        yield Skipped("broken gzip")


def _rows(
    rows: Iterator[dict[str, Any] | Skipped], file: Path, name: str, kind: str, text_column: str
) -> Iterator[Piece | Skipped]:
    """A table's head has said that it has the column; of rows of JSON, which name their own, some may lack it."""
    lacking, found = 0, False
    columns: list[str] = []
    for i, row in enumerate(rows):
        if isinstance(row, Skipped):
            yield row
            continue
        if text_column not in row:
            lacking, columns = lacking + 1, columns or [str(key) for key in row]
            continue
        found = True
        text, own = row[text_column], row.get("kind")
        if not isinstance(text, str):
            yield Skipped("rows without text")
        else:
            yield Piece(f"{name}#{i}", own if isinstance(own, str) and own else kind, text)
    if lacking and not found:
        raise _no_column(file, text_column, columns)
    yield from [Skipped("rows without text")] * lacking


class NoColumn(UserError):
    """A table without the column of text asked for."""


def _no_column(file: Path, column: str, have: Sequence[str]) -> NoColumn:
    return NoColumn(
        f"expected a column {column!r} in {file.name}, found {', '.join(have[:20]) or 'no columns'}; "
        "name the column of text: --text-column of `harvest`, `open` and `features`"
    )


def _parquet(file: Path, name: str, kind: str, text_column: str, budget: Budget) -> Iterator[Piece | Skipped]:
    """Text read as dictionary-encoded strings, so that one long value repeated in a million rows is held once."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as table:
            columns = table.schema_arrow.names
            if text_column not in columns:
                raise _no_column(file, text_column, columns)
            wanted = [text_column] + ["kind"] * ("kind" in columns and text_column != "kind")
            if twice := [column for column in wanted if columns.count(column) > 1]:
                yield Skipped(f"tables with two columns {twice[0]!r}")
                return
            paths = [table.schema.column(i).path for i in range(len(table.schema))]
            leaves = [path for path in paths if any(f"{path}.".startswith(f"{column}.") for column in wanted)]
            budget.check(_headed_size(table.metadata, leaves))
        with parquet.ParquetFile(file, read_dictionary=leaves) as table:
            row = 0
            for batch in table.iter_batches(batch_size=1024, columns=wanted):
                yield from _batch(batch, row, name, kind, text_column)
                row += batch.num_rows
    except (pa.ArrowException, OSError, OverflowError) as error:
        yield Skipped(f"broken Parquet ({type(error).__name__})")


def _headed_size(metadata: Any, leaves: Sequence[str]) -> int:
    """Bytes that the file's own header says these columns unpack to (before repeats of dictionary values); leaves: by
    path, `text` or, of lists, `text.list.element`."""
    sizes = 0
    for group in range(metadata.num_row_groups):
        for i in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(i)
            if chunk.path_in_schema in leaves:
                sizes += chunk.total_uncompressed_size
    return sizes


def _batch(batch: Any, first: int, name: str, kind: str, text_column: str) -> Iterator[Piece | Skipped]:
    kinds = batch.column("kind") if "kind" in batch.schema.names else None
    texts = batch.column(text_column)
    for i in range(batch.num_rows):
        try:
            text, own = texts[i].as_py(), kinds[i].as_py() if kinds is not None else None
        except UnicodeDecodeError:
            yield Skipped("undecodable")
            continue
        if not isinstance(text, str):
            yield Skipped("rows without text")
        else:
            yield Piece(f"{name}#{first + i}", own if isinstance(own, str) and own else kind, text)


READERS: dict[str, Reader] = {
    ".txt": _plain,
    ".md": _plain,
    ".rst": _plain,
    ".py": _plain,
    ".html": _html,
    ".htm": _html,
    ".jsonl": _jsonl,
    ".jsonl.gz": _jsonl,
    ".csv": _csv,
    ".csv.gz": _csv,
    ".tsv": _csv,
    ".parquet": _parquet,
}
SUFFIXES = tuple(READERS)
