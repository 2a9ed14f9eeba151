"""Rows that people keep in files: CSV with a heading, or JSON lines. Read whole, as plain text; nothing is fetched."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from glasshouse.types import UserError

LARGEST = 8_000_000  # bytes of a table
Row = dict[str, Any]


def read_table(path: Path, *, largest: int = LARGEST) -> list[Row]:
    """A mapping a row. Raises `UserError`, with the line where there is one, for what is missing, of more bytes than
    `largest`, or no table."""
    try:
        size = path.stat().st_size
        if size > largest:
            raise UserError(f"expected at most {largest:,} bytes in {path.name}, found {size:,}; give fewer rows")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"expected a table (.csv or .jsonl) at {path}, could not read it ({error})") from None
    if path.suffix == ".csv":
        return _of_csv(path.name, text)
    return rows_of_lines(path.name, text)


def rows_of_lines(file: str, text: str) -> list[Row]:
    """Of JSON lines; `file` names them in errors."""
    return [_of_json(file, number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _of_csv(file: str, text: str) -> list[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    try:
        for row in reader:
            if None in row or None in row.values():
                columns = len(reader.fieldnames or ())
                raise UserError(f"{file}, line {reader.line_num}: expected {columns} columns, found another number")
            rows.append(row)
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: expected CSV, {error}") from None
    return rows


def _of_json(file: str, number: int, line: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise UserError(f"{file}, line {number}: expected a JSON object, found {line!r:.60}")
    return row
