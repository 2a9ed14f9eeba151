"""Corpora: what is read, what is skipped and counted, what is refused, and how documents are split and weighted."""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from glasshouse.text import Corpus, Document, corpus
from glasshouse.types import UserError


def made_of(*texts: str, kind: str = "txt") -> Corpus:
    return Corpus("made", tuple(Document(i, f"d{i}", kind, text) for i, text in enumerate(texts)))


def test_folder(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "b" / "two.md").write_text("zwei\n")
    (tmp_path / "a.txt").write_text("\ufeffein Anfang\n", encoding="utf-8")
    (tmp_path / "c.py").write_text("x = 1\n")
    (tmp_path / ".git" / "config.txt").write_text("hidden")
    (tmp_path / "picture.txt").write_bytes(b"\x89PNG\0\0\1")
    (tmp_path / "old.txt").write_bytes("Grüße".encode("latin-1"))
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "sheet.xlsx").write_bytes(b"PK")
    found = corpus(tmp_path)
    assert [(d.index, d.name, d.kind, d.text) for d in found.documents] == [
        (0, "a.txt", "txt", "ein Anfang\n"),
        (1, "b/two.md", "b", "zwei\n"),
        (2, "c.py", "py", "x = 1\n"),
    ]
    assert found.skipped == {"binary": 1, "undecodable": 1, "empty": 1, "of other types": 1}
    assert found.kinds == {"txt": 11, "py": 6, "b": 5} and found.bytes == 22


def test_same_text_same_hash_wherever_it_lies(tmp_path: Path) -> None:
    for place in ("x", "y"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.txt").write_text("same")
    assert corpus(tmp_path / "x").hash == corpus(tmp_path / "y").hash
    (tmp_path / "y" / "a.txt").write_text("other")
    assert corpus(tmp_path / "x").hash != corpus(tmp_path / "y").hash


def test_links_do_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("open")
    (tmp_path / "in" / "b.txt").symlink_to(tmp_path / "secret.txt")
    found = corpus(tmp_path / "in")
    assert [d.text for d in found.documents] == ["open"] and found.skipped == {"links out of the folder": 1}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, "found none \\(skipped: nothing\\)"),
        ({"a.txt": b"\0\1\2", "b.md": b"\0"}, "found none \\(skipped: 2 binary\\)"),
        ({"a.txt": b"\n"}, "1 empty"),
        ({"a.jpg": b"\xff\xd8"}, "1 of other types"),
    ],
)
def test_nothing_to_read(tmp_path: Path, files: dict[str, bytes], expected: str) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=expected) as caught:
        corpus(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_such_corpus(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a folder, a file or `python`"):
        corpus(tmp_path / "nowhere")


def test_a_file_named_by_the_user_is_text_whatever_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "notes.org").write_text("* heading")
    assert corpus(tmp_path / "notes.org").documents[0] == Document(0, "notes.org", "org", "* heading")


def rows_as(file: Path, rows: list[dict[str, str]]) -> Path:
    if file.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), file)
    elif file.suffix == ".csv":
        with open(file, "w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)
    return file


TABLES = ("t.jsonl", "t.jsonl.gz", "t.csv", "t.parquet")


@pytest.mark.parametrize("name", TABLES)
def test_rows_are_documents(tmp_path: Path, name: str) -> None:
    rows = [
        {"body": "erste\nZeile, „ja“", "kind": "verse", "n": "1"},
        {"body": "", "kind": "verse", "n": "2"},
        {"body": "三", "kind": "", "n": "3"},
    ]
    found = corpus(rows_as(tmp_path / name, rows), text_column="body")
    kind = name.removeprefix("t.").removesuffix(".gz") if not name.endswith(".gz") else "jsonl.gz"
    assert [(d.name, d.kind, d.text) for d in found.documents] == [
        (f"{name}#0", "verse", "erste\nZeile, „ja“"),
        (f"{name}#2", kind, "三"),
    ]
    assert found.skipped == {"empty": 1}


@pytest.mark.parametrize("name", TABLES)
def test_unknown_column_names_those_there_are(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"expected a column 'text' in t.*, found body, n; name"):
        corpus(rows_as(tmp_path / name, [{"body": "a", "n": "1"}]))


def test_one_table_among_texts_is_skipped(tmp_path: Path) -> None:
    rows_as(tmp_path / "t.csv", [{"body": "a", "n": "1"}])
    with pytest.raises(UserError, match=r"expected a column 'text' in t.csv, found body, n"):
        corpus(tmp_path)
    (tmp_path / "a.txt").write_text("good")
    assert corpus(tmp_path).skipped == {"tables without a column 'text'": 1}


def test_a_row_without_the_column_costs_no_other(tmp_path: Path) -> None:
    lines = ['{"title": "a"}', '{"text": "one"}', '{"id": 3}', '{"text": "two"}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    found = corpus(tmp_path)
    assert [(d.name, d.text) for d in found.documents] == [("t.jsonl#1", "one"), ("t.jsonl#3", "two")]
    assert found.skipped == {"rows without text": 2}
    (tmp_path / "t.jsonl").write_text("\n".join(lines[::2]))
    (tmp_path / "a.txt").write_text("good")
    assert corpus(tmp_path).skipped == {"tables without a column 'text'": 1}


def test_broken_rows_are_counted(tmp_path: Path) -> None:
    lines = [
        b'{"text": "good"}',
        b"{broken",
        b"[1]",
        b'{"text": 3}',
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b"[" * 9999,
    ]
    (tmp_path / "t.jsonl").write_bytes(b"\n".join(lines))
    found = corpus(tmp_path)
    assert [d.text for d in found.documents] == ["good"]
    assert found.skipped == {
        "rows that are not JSON": 2, "rows that are not JSON objects": 1, "rows without text": 1, "undecodable": 2,
    }  # fmt: skip


@pytest.mark.parametrize("twice", ["text", "kind"])
def test_a_parquet_file_with_two_columns_of_one_name_is_counted(twice: str, tmp_path: Path) -> None:
    columns = ["text", "kind", twice]
    parquet.write_table(pa.Table.from_arrays([pa.array(["a"])] * 3, names=columns), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=f"found none \\(skipped: 1 tables with two columns '{twice}'\\)"):
        corpus(tmp_path / "t.parquet")
    (tmp_path / "good.txt").write_text("some text")
    found = corpus(tmp_path)
    assert [d.text for d in found.documents] == ["some text"]
    assert found.skipped == {f"tables with two columns {twice!r}": 1}


@pytest.mark.parametrize("name", ["t.jsonl.gz", "t.parquet"])
def test_broken_archives_are_skipped(tmp_path: Path, name: str) -> None:
    file = rows_as(tmp_path / name, [{"text": "a" * 5000}])
    file.write_bytes(file.read_bytes()[:-12])
    (tmp_path / "a.txt").write_text("good")
    found = corpus(tmp_path)
    assert [d.text for d in found.documents if len(d.text) < 100] == ["good"] and sum(found.skipped.values()) == 1


def test_blank_lines_of_a_field_are_kept(tmp_path: Path) -> None:
    rows_as(tmp_path / "t.csv", [{"text": "one\n\n \ntwo", "n": "1"}, {"text": "three", "n": "2"}])
    file = tmp_path / "t.csv"
    file.write_bytes(b"\n \n" + file.read_bytes().replace(b"three", b"\r\nthree") + b"\n")
    assert [d.text for d in corpus(file).documents] == ["one\n\n \ntwo", "three"]


def test_parquet_columns_that_are_no_plain_strings(tmp_path: Path) -> None:
    kinds = {"numbers": [1, 2], "lists": [["x"], ["x"]], "structures": [{"q": "x"}] * 2, "nothing": [None, None]}
    for name, kind in kinds.items():
        parquet.write_table(pa.table({"text": ["a", "b"], "kind": kind}), tmp_path / f"{name}.parquet")
    large = pa.table({"text": pa.array(["a", "b"], pa.large_string()), "kind": ["x", "y"]})
    parquet.write_table(large, tmp_path / "large.parquet")
    parquet.write_table(pa.table({"text": [["a"], ["b"]], "kind": ["x", "y"]}), tmp_path / "texts.parquet")
    found = corpus(tmp_path)
    assert [d.text for d in found.documents] == ["a", "b"] * 5 and found.skipped == {"rows without text": 2}
    assert found.kinds == {"parquet": 8, "x": 1, "y": 1}


@pytest.mark.parametrize("column", ["text", "kind"])
def test_undecodable_parquet_is_counted(tmp_path: Path, column: str) -> None:
    bad = pa.array([b"good", b"caf\xe9", b"better"], pa.binary()).view(pa.string())
    other = {"text": "kind", "kind": "text"}[column]
    parquet.write_table(pa.table({column: bad, other: ["a", "b", "c"]}), tmp_path / "t.parquet")
    found = corpus(tmp_path)
    assert [getattr(d, column) for d in found.documents] == ["good", "better"]
    assert [d.name for d in found.documents] == ["t.parquet#0", "t.parquet#2"]
    assert found.skipped == {"undecodable": 1}


def test_one_bad_file_among_many_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind and a name of a file that UTF-8 has no bytes for; a page that HTMLParser refuses."""
    (tmp_path / "t.jsonl").write_text('{"text": "a", "kind": "\\ud800"}\n{"text": "good", "kind": "k"}\n')
    (tmp_path / "t.html").write_text("<p>One</p><![unknown word]>")
    with contextlib.suppress(OSError):  # a file system that takes no such name
        (tmp_path / os.fsdecode(b"\xff.txt")).write_text("b")
    monkeypatch.setattr("html.parser.HTMLParser.parse_marked_section", refuse)  # as Python 3.11 does by itself
    found = corpus(tmp_path)
    assert [d.text for d in found.documents] == ["good"] and found.hash
    assert found.skipped.pop("undecodable") in (1, 2) and found.skipped == {"broken HTML": 1}


def refuse(*_: object) -> None:
    raise AssertionError("unknown status keyword")


def test_archives_that_unpack_without_end(tmp_path: Path) -> None:
    """A line of 40 MB in 40 kB; rows of 40 MB in all that Parquet holds once; both far past a limit of 1 MB."""
    limit = 1 << 20
    with gzip.open(tmp_path / "bomb.jsonl.gz", "wb") as handle:
        handle.write(b'{"text": "' + b"a" * (40 << 20) + b'"}')
    with gzip.open(tmp_path / "blank.jsonl.gz", "wb") as handle:
        handle.write(b"\n" * (40 << 20))
    with gzip.open(tmp_path / "bomb.csv.gz", "wb") as handle:
        handle.write(b"text\n" + b'"' + b"a" * (40 << 20))
    table = pa.table({"text": pa.array(["b" * 1000] * 40_000)})
    parquet.write_table(table, tmp_path / "rows.parquet", use_dictionary=True)
    table = pa.table({"text": pa.array(["b" * (4 << 20), "c" * (4 << 20)])})
    parquet.write_table(table, tmp_path / "headed.parquet", use_dictionary=False)
    table = pa.table({"text": pa.array(["a", "b"]), "kind": pa.array(["b" * (4 << 20), "c" * (4 << 20)])})
    parquet.write_table(table, tmp_path / "kinds.parquet", use_dictionary=False)
    table = pa.table({"text": pa.array([["b" * (4 << 20)], ["c" * (4 << 20)]])})
    parquet.write_table(table, tmp_path / "lists.parquet", use_dictionary=False)
    with gzip.open(tmp_path / "kinds.jsonl.gz", "wt") as handle:
        handle.writelines(f'{{"text": "a", "kind": "{str(i) * 1000}"}}\n' for i in range(1000))
    for file in sorted(tmp_path.iterdir()):
        assert file.stat().st_size < 1 << 20, file
        with pytest.raises(UserError, match=r"expected at most 1.05 MB of unpacked text"):
            corpus(file, max_unpacked=limit)


def test_folder_past_the_limit(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.txt").write_text("x" * 500)
    assert len(corpus(tmp_path, max_unpacked=1503).documents) == 3  # and the kind, once
    with pytest.raises(UserError, match=r"expected at most 1.4 kB"):
        corpus(tmp_path, max_unpacked=1400)


def test_html(tmp_path: Path) -> None:
    head = "<head><style>p {}</style><script>if (a < b) x()</script></head>"
    page = f"<html>{head}<p>One &amp; <b>two</b>\n words<p>Three<br>4"
    (tmp_path / "p.html").write_text(page)
    assert corpus(tmp_path).documents[0].text == "One & two words\nThree\n4\n"


def test_split_depends_on_the_document_only() -> None:
    texts = [f"document number {i} " * 20 for i in range(400)]
    train, held_out = made_of(*texts).split(0.1)
    assert len(train.documents) + len(held_out.documents) == 400 and 20 <= len(held_out.documents) <= 60
    assert [d.index for d in held_out.documents] == list(range(len(held_out.documents)))
    fewer = Corpus("fewer", made_of(*texts).documents[100:])
    _, again = fewer.split(0.1)
    assert {d.name for d in again.documents} == {d.name for d in held_out.documents if int(d.name[1:]) >= 100}
    assert {d.name for d in made_of(*texts).split(0.1, seed=1)[1].documents} != {d.name for d in held_out.documents}


def test_split_of_one_long_document_cuts_it() -> None:
    text = "".join(f"line {i}\n" for i in range(1000))
    train, held_out = made_of(text).split(0.05)
    (head,), (tail,) = train.documents, held_out.documents
    assert head.text + tail.text == text and head.text.endswith("\n") and tail.start == len(head.text)
    assert 0.03 < len(tail.text) / len(text) < 0.16


def test_split_of_few_long_documents_takes_a_part_of_each() -> None:
    texts = ["".join(f"{name} {i}\n" for i in range(9000)) for name in "abcde"]
    train, held_out = made_of(*texts).split()
    assert [d.name for d in train.documents] == [d.name for d in held_out.documents] == [f"d{i}" for i in range(5)]
    assert [a.text + b.text for a, b in zip(train.documents, held_out.documents, strict=True)] == texts


def test_weighted() -> None:
    docs = [Document(i, f"d{i}", "code" if i % 2 else "table", f"text {i}") for i in range(400)]
    found = Corpus("made", tuple(docs)).weighted({"code": 2.5, "table": 0.25})
    names = [d.name for d in found.documents]
    code = [names.count(f"d{i}") for i in range(1, 400, 2)]
    assert set(code) == {2, 3} and 80 <= code.count(3) <= 120
    assert 30 <= sum(names.count(f"d{i}") for i in range(0, 400, 2)) <= 70
    assert [d.index for d in found.documents] == list(range(len(names)))
    train, held_out = found.split(0.1)
    assert not {d.name for d in train.documents} & {d.name for d in held_out.documents}
    assert "table" not in Corpus("made", tuple(docs)).weighted({"table": 0}).kinds
    with pytest.raises(UserError, match=r"expected kinds among .*code.*, got poem"):
        found.weighted({"poem": 2})
    with pytest.raises(UserError, match="got -1 for code"):
        found.weighted({"code": -1})
