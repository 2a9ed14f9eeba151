"""The corpus `python`: the same on every run, only the standard library, each docstring in one place."""

from __future__ import annotations

import subprocess
import sys

import pytest

from glasshouse.text import Corpus, corpus


@pytest.fixture(scope="module")
def library() -> Corpus:
    return corpus("python")


def test_kinds(library: Corpus) -> None:
    assert set(library.kinds) == {"code", "docstring", "help", "licence", "table"}
    assert library.bytes > 8_000_000 and library.kinds["help"] > 300_000
    print(library)


def test_the_same_on_every_run(library: Corpus) -> None:
    again = "from glasshouse.text import corpus; print(corpus('python').hash)"
    out = subprocess.run(
        [sys.executable, "-c", again], env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert out.stdout.strip() == library.hash


def test_only_the_standard_library(library: Corpus) -> None:
    names = [d.name for d in library.documents]
    assert len(set(names)) == len(names)
    assert not [n for n in names if "site-packages" in n or "/test/" in n]
    assert not [n for n in names if n.startswith("code/") and n.split("/")[1] in ("torch", "numpy", "pytest")]


def test_a_docstring_stands_in_its_own_document_only(library: Corpus) -> None:
    by_name = {d.name: d.text for d in library.documents}
    (title,) = [n for n in by_name if n.startswith("docstring/json.dumps:")]
    assert by_name[title].startswith("json.dumps(obj, *, skipkeys=False")
    assert "Serialize ``obj`` to a JSON formatted ``str``" in by_name[title]
    assert "Serialize ``obj`` to a JSON formatted ``str``" not in by_name["code/json/__init__.py"]
    assert "def dumps(obj, *, skipkeys=False" in by_name["code/json/__init__.py"]


def test_tables_read_as_text(library: Corpus) -> None:
    by_name = {d.name: d.text for d in library.documents}
    assert "U+0416 Ж Lu CYRILLIC CAPITAL LETTER ZHE" in by_name["table/unicode/0400"]
    assert "7 x 8 = 56" in by_name["table/times/7"] and "1949 is MCMXLIX" in by_name["table/roman/1920"]
    assert "404 Not Found" in by_name["table/http"]
