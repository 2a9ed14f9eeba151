"""Chats that people have with versions, and their thumbs up and down, kept in index.sqlite. No torch.

    chat = begin_chat(ws, version("villager", ws))
    thumb(ws, chat, turns, up=False, who="Ada", note="wrong river")
    thumbs(ws)

A chat may be one of a split (A/B): a share of chats goes to the new of two versions, by a hash of the chat's id, and
whoever chats is not told which it is. See `splits` for what came out.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from glasshouse.behaviours.ratings import check_who
from glasshouse.behaviours.versions import Version
from glasshouse.types import UserError, is_text
from glasshouse.workspace import Workspace

LONGEST_NOTE = 2_000


@dataclass(frozen=True)
class Split:
    """A share of chats goes to `new`, the rest to `base`."""

    base: Version
    new: Version
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UserError(f"expected a share of chats between 0 and 1, got {self.share}")
        if self.base.hash == self.new.hash:
            raise UserError(f"expected two versions that differ, {self.base.name} and {self.new.name} are the same")

    def version(self, chat: str) -> Version:
        """The one that the chat of this id is with."""
        digest = hashlib.sha256(f"{self.base.hash} {self.new.hash} {chat}".encode()).digest()
        return self.new if int.from_bytes(digest[:6], "big") < self.share * 2**48 else self.base


def begin_chat(ws: Workspace, version: Version | Split) -> str:
    """Keep a new chat with the version, or with one of the split's; its id. Raises `UserError` for a split whose chats
    so far had another share: days with different shares cannot be put together."""
    chat = secrets.token_hex(8)
    split = version if isinstance(version, Split) else None
    chosen = version.version(chat) if isinstance(version, Split) else version
    sides = (split.base.hash, split.new.hash, split.share) if split else ("", "", None)
    with contextlib.closing(ws.index()) as db:
        db.execute("BEGIN IMMEDIATE")
        with db:
            if split:
                row = db.execute("SELECT share FROM chats WHERE base = ? AND new = ?", sides[:2]).fetchone()
                if row is not None and row["share"] != split.share:
                    raise UserError(
                        f"expected a share of {row['share']} for {split.new.name}, as in the chats so far, got "
                        f"{split.share}; keep to it"
                    )
            db.execute(
                "INSERT INTO chats (id, begun, version, card, base, new, share) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (chat, time.time(), chosen.hash, json.dumps(chosen.to_json()), *sides),
            )
    return chat


def chat_version(ws: Workspace, chat: str) -> Version:
    """The version that the chat is with. Raises `UserError` for a chat that was not begun."""
    return Version.from_json(_chat(ws, chat)["card"])


def _chat(ws: Workspace, chat: str) -> dict[str, Any]:
    with contextlib.closing(ws.index()) as db:
        row = db.execute("SELECT * FROM chats WHERE id = ?", (chat,)).fetchone()
    if row is None:
        raise UserError(f"expected a chat of this workspace, got {chat[:40]!r}; begin a new one")
    return {**dict(row), "card": json.loads(row["card"])}


def check_turns(turns: Sequence[Any], last: str) -> list[dict[str, str]]:
    """A chat as user and assistant say it in turn, the last turn by `last`. Raises `UserError`."""
    roles = [one.get("role") if isinstance(one, dict) else None for one in turns]
    wanted = [("user", "assistant")[i % 2] for i in range(len(turns))]
    if not turns or roles != wanted or roles[-1] != last or not all(is_text(one.get("content")) for one in turns):
        raise UserError(
            f"expected texts of user and assistant, one after the other, the last by the {last}; got {roles!r:.120}"
        )
    return [{"role": one["role"], "content": one["content"]} for one in turns]


def thumb(
    ws: Workspace, chat: str, turns: Sequence[Any], up: bool | None, *, who: str, note: str = ""
) -> list[dict[str, Any]]:
    """Keep a thumb on the chat's last reply, one a person: another of `who` takes its place, and its time stays that of
    the first; up None takes it back.

    turns: the whole chat up to the reply. The thumbs of all people on this reply: {"who", "up", "note"}, oldest first.
    """
    _chat(ws, chat)
    found, name, note = check_turns(turns, "assistant"), check_who(who), note.strip()
    if len(note) > LONGEST_NOTE or not is_text(note):
        raise UserError(f"expected a note of at most {LONGEST_NOTE} characters, got {len(note)}")
    turn = len(found) - 1
    with contextlib.closing(ws.index()) as db, db:
        if up is None:
            db.execute("DELETE FROM thumbs WHERE chat = ? AND turn = ? AND who = ?", (chat, turn, name))
        else:
            db.execute(
                "INSERT INTO thumbs (chat, turn, who, given, up, note, turns) VALUES (?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (chat, turn, who) DO UPDATE SET up = excluded.up, note = excluded.note,"
                " turns = excluded.turns",
                (chat, turn, name, time.time(), int(up), note, json.dumps(found, ensure_ascii=False)),
            )
        rows = db.execute("SELECT * FROM thumbs WHERE chat = ? AND turn = ? ORDER BY given, rowid", (chat, turn))
        return [{"who": row["who"], "up": bool(row["up"]), "note": row["note"]} for row in rows]


def thumbs(ws: Workspace) -> list[dict[str, Any]]:
    """Every thumb, oldest first: {"chat", "turn", "who", "given", "up", "note", "turns", "version", "split"}."""
    with contextlib.closing(ws.index()) as db:
        rows = db.execute("SELECT * FROM thumbs JOIN chats ON chats.id = chat ORDER BY given, thumbs.rowid").fetchall()
    return [
        {
            **{key: row[key] for key in ("chat", "turn", "who", "given", "note")}, "up": bool(row["up"]),
            "turns": json.loads(row["turns"]), "version": json.loads(row["card"]),
            "split": [row["base"], row["new"]] if row["base"] else None,
        }
        for row in rows
    ]  # fmt: skip


def chats_of(ws: Workspace, base: Version, new: Version) -> list[dict[str, Any]]:
    """Every chat of the split, oldest first: {"id", "version" (hash), "share"}."""
    with contextlib.closing(ws.index()) as db:
        rows = db.execute("SELECT * FROM chats WHERE base = ? AND new = ? ORDER BY begun", (base.hash, new.hash))
        return [{key: row[key] for key in ("id", "version", "share")} for row in rows]
