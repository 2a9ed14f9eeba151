"""The record of calls: calls.jsonl in the workspace, by the hash of what was asked.

    record = Record(ws.root / FILE)
    record.get(call.key)                                     # the reply's text, or None
    record.keep(call, "Yes.", tokens=(812, 5))

Only calls that were answered stand in it, and no key of an endpoint. A run with the same calls is answered from it,
offline.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from glasshouse.types import UserError
from glasshouse.workspace.files import hash_json

FILE = "calls.jsonl"


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """Who is asked. kind: "openai" (any endpoint that speaks like it), "anthropic" or "local". at: the address, or of a
    local model the hash of its folder: what two models of one name differ in."""

    kind: str
    name: str
    at: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Call:
    """messages: (role, content) each. max_tokens: of the reply. temperature None: the endpoint's own, for models that
    take none."""

    model: LanguageModel
    messages: tuple[tuple[str, str], ...]
    max_tokens: int = 1024
    temperature: float | None = 0.0

    def to_json(self) -> dict[str, Any]:
        messages = [{"role": role, "content": content} for role, content in self.messages]
        return {
            **asdict(self.model), "messages": messages, "max_tokens": self.max_tokens, "temperature": self.temperature
        }  # fmt: skip

    @cached_property
    def key(self) -> str:
        return hash_json(self.to_json())


class Record:
    """Of one file, read once; what is kept by this object is known to it."""

    def __init__(self, file: Path) -> None:
        """Raises `UserError` for a line that is no call or was altered (of lines without a hash, as they were once
        written, only what was asked is checked); a last line that a killed run has cut is passed over."""
        self.file = file
        self._said: dict[str, str] = {}
        lines = file.read_bytes().split(b"\n")[:-1] if file.is_file() else []
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                key, text = entry["key"], entry["reply"]
                of = entry.pop("hash", None)
                sound = isinstance(text, str) and hash_json(entry["asked"]) == key and of in (None, hash_json(entry))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                sound = False
            if not sound:
                raise UserError(
                    f"{file.name}, line {number}: expected a call with its key, found one that was altered or does not "
                    "read; take the line out, and the call is made again"
                )
            self._said[key] = text

    def get(self, key: str) -> str | None:
        return self._said.get(key)

    def keep(self, call: Call, reply: str, *, tokens: tuple[int, int]) -> None:
        """Append the call, synced. tokens: of the messages and of the reply, as the endpoint counts."""
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        entry = {"key": call.key, "asked": call.to_json(), "reply": reply, "tokens": tokens, "when": when}
        line = json.dumps({**entry, "hash": hash_json(entry)}, ensure_ascii=False).encode("utf-8") + b"\n"
        with open(self.file, "a+b") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            _drop_cut_line(handle)
            handle.write(line)
            handle.flush()
            os.fsync(handle.fileno())
        self._said[call.key] = reply


def _drop_cut_line(handle: Any) -> None:
    """With the lock held, a last line without its end is of a killed run."""
    end = handle.seek(0, os.SEEK_END)
    handle.seek(max(end - 1, 0))
    if handle.read() not in (b"", b"\n"):
        handle.seek(0)
        handle.truncate(handle.read().rfind(b"\n") + 1)
