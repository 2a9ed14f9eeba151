"""The ledger: evidence, approvals and verdicts in a hash-chained log.

    head = append(file, "approval", {"role": "safety", "by": "Ada", "version": "0f1e…"})
    entries, head = verified(file, known=head)               # an altered line, or a cut tail, is found

ledger.jsonl in the workspace: every line holds the hash of the one before, and its own. A head that is kept elsewhere
shows later that nothing up to it was altered or cut. A chain proves the order and the wholeness of what was recorded,
against whoever did not rewrite all of it after that head; it does not prove that an entry was true, who wrote it, or
when.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from glasshouse.types import UserError
from glasshouse.workspace.files import hash_json

FILE, START = "ledger.jsonl", "0" * 64


def append(file: Path, kind: str, body: dict[str, Any], *, now: datetime.datetime | None = None) -> str:
    """Add an entry and return the new head. Raises `UserError` for a ledger that does not verify, and for a clock that
    is behind its last entry."""
    at = (now or datetime.datetime.now(datetime.UTC)).isoformat(timespec="seconds")
    _require_file(file)
    with open(file, "a+", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        entries, head = verified(file)
        if entries and at < entries[-1]["at"]:
            raise UserError(
                f"expected a time after the ledger's last entry ({entries[-1]['at']}), got {at}; set the clock"
            )
        entry = {"at": at, "kind": kind, "body": body, "previous": head}
        entry["hash"] = hash_json(entry)
        handle.write(json.dumps(entry, ensure_ascii=False) + "\n")
        handle.flush()
        os.fsync(handle.fileno())
    return str(entry["hash"])


def verified(file: Path, *, known: str = "") -> tuple[list[dict[str, Any]], str]:
    """All entries and the head. Raises `UserError`, with the line, for an entry that was altered, moved or dated before
    the one above it, a last line that is cut, and a chain that does not hold the head `known`."""
    head, entries = START, list[dict[str, Any]]()
    _require_file(file)
    *whole, rest = file.read_bytes().split(b"\n") if file.is_file() else [b""]
    for number, line in enumerate([*whole, *([rest] if rest else [])], 1):
        where = f"{file.name}, line {number}"
        try:
            entry = json.loads(line)
            said, previous, at = (str(entry.pop("hash")), *(str(entry[key]) for key in ("previous", "at")))
            known_kind = isinstance(entry["kind"], str) and isinstance(entry["body"], dict)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            known_kind = False
        if not known_kind:
            raise UserError(f"{where}: expected an entry, found one that does not read or was cut; restore it")
        if number > len(whole):
            raise UserError(f"{where}: expected a whole line, found one that was cut; restore the ledger")
        if hash_json(entry) != said:
            raise UserError(f"{where}: the entry does not match its own hash: it was altered; restore it")
        if previous != head:
            raise UserError(f"{where}: the entry does not follow the one before: one was taken out, put in or moved")
        if entries and at < entries[-1]["at"]:
            raise UserError(
                f"{where}: dated {at}, before the entry above it ({entries[-1]['at']}): the clock was set back"
            )
        head = said
        entries.append({**entry, "hash": said})
    if known and known != START and known not in {entry["hash"] for entry in entries}:
        raise UserError(
            f"expected the head {known[:16]}… in {file.name}, found it nowhere: its tail was cut, or it is another"
        )
    return entries, head


def _require_file(file: Path) -> None:
    if file.exists() and not file.is_file():
        raise UserError(f"expected the ledger as a file at {file}, found something else; move it away")
