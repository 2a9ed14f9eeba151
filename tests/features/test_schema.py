"""The page of formats and the schemas say the same, column by column."""

from __future__ import annotations

import re
from pathlib import Path

from glasshouse.features.schema import SCHEMAS

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"


def written() -> dict[str, list[tuple[str, str]]]:
    """(column, type) of every table in the section on features."""
    text = PAGE.read_text("utf-8")
    text = text[text.index("\n## Features") :]
    text = text[: text.index("\n## ", 5)] if "\n## " in text[5:] else text
    tables: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in text.splitlines():
        if (heading := re.match(r"### (\w+)\.parquet$", line)) or (heading := re.match(r"\| column of (\w+) ", line)):
            name = heading[1]
        elif row := re.match(r"\| `(\w+)` \| ([^|]+?) \|", line):
            tables.setdefault(name, []).append((row[1], row[2]))
    return tables


def test_formats_page_is_the_schema():
    expected = {}
    for name, schema in SCHEMAS.items():
        types = [re.sub(r"list<(item|element): ", "list<", str(field.type)) for field in schema]
        expected[name] = list(zip(schema.names, types, strict=True))
    assert written() == expected
