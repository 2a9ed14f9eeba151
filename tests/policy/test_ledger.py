"""The ledger: every way of tampering that a chain can show."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from glasshouse.policy import append, verified
from glasshouse.types import UserError
from glasshouse.workspace.files import hash_json

START = datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    ledger = tmp_path / "ledger.jsonl"
    for n in range(4):
        append(ledger, "evidence", {"number": n}, now=START + datetime.timedelta(minutes=n))
    return ledger


def test_entries_chain_and_the_head_is_the_last_hash(file: Path) -> None:
    entries, head = verified(file)
    assert [entry["body"]["number"] for entry in entries] == [0, 1, 2, 3]
    assert head == entries[-1]["hash"] and entries[1]["previous"] == entries[0]["hash"]
    assert verified(file, known=entries[1]["hash"])[1] == head
    assert verified(file.with_name("none.jsonl")) == ([], "0" * 64)


def test_an_altered_entry_is_found(file: Path) -> None:
    file.write_text(file.read_text().replace('"number": 2', '"number": 7'))
    with pytest.raises(UserError, match="line 3: the entry does not match its own hash"):
        verified(file)
    with pytest.raises(UserError, match="line 3"):
        append(file, "evidence", {}, now=START + datetime.timedelta(hours=1))


def test_an_entry_altered_with_its_hash_breaks_the_chain(file: Path) -> None:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[1]["body"] = {"number": 9}
    lines[1].pop("hash")
    lines[1]["hash"] = hash_json(lines[1])
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match="line 3: the entry does not follow the one before"):
        verified(file)


@pytest.mark.parametrize("order", [[0, 2, 3], [1, 2, 3], [0, 2, 1, 3]])
def test_an_entry_taken_out_or_moved_is_found(file: Path, order: list[int]) -> None:
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[i] for i in order))
    with pytest.raises(UserError, match="does not follow the one before"):
        verified(file)


def test_a_cut_tail_is_found_by_a_head_that_was_kept(file: Path) -> None:
    _, head = verified(file)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:2]))
    verified(file)  # by itself a shorter chain is whole
    with pytest.raises(UserError, match="its tail was cut"):
        verified(file, known=head)
    file.write_text("".join(lines)[:-30])
    with pytest.raises(UserError, match="line 4: expected an entry, found one that does not read or was cut"):
        verified(file)
    file.write_text("".join(lines)[:-1])
    with pytest.raises(UserError, match="line 4: expected a whole line"):
        verified(file)


@pytest.mark.parametrize(
    "line", [b"\xff\xfe\n", b"[1]\n", b"{}\n", b'{"at": 3, "previous": "", "hash": ""}\n', b"[" * 100_000]
)
def test_a_line_that_is_no_entry_is_said(file: Path, line: bytes) -> None:
    file.write_bytes(file.read_bytes() + line)
    with pytest.raises(UserError, match="line 5: expected an entry, found one that does not read or was cut"):
        verified(file)


def test_a_clock_set_back_is_refused_and_found(file: Path) -> None:
    with pytest.raises(UserError, match="expected a time after the ledger's last entry"):
        append(file, "evidence", {}, now=START)
    _, head = verified(file)
    entry = {"at": "2026-11-25T11:00:00+00:00", "kind": "evidence", "body": {}, "previous": head}
    entry["hash"] = hash_json(entry)
    file.write_text(file.read_text() + json.dumps(entry) + "\n")
    with pytest.raises(UserError, match=r"line 5: dated .* the clock was set back"):
        verified(file)
