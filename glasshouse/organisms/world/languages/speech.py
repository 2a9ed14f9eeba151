"""What a language says and asks of a relation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Speech(NamedTuple):
    """Frames of one relation. `x` is the entity, `v` the value.

    say: statements; the first is the one that answers are made of. ask: direct questions; of three or more the last is
    a held-out wording. clause: what follows "tell me" (English). noun: a noun phrase that means the value.
    """

    say: tuple[str, ...]
    ask: tuple[str, ...]
    clause: tuple[str, ...] = ()
    noun: tuple[str, ...] = ()


class Wording(NamedTuple):
    """A way to put a question: `carrier` holds a direct question {q}, a clause {c} or a noun phrase {n}."""

    family: str
    carrier: str
    held_out: bool = False


class Language(NamedTuple):
    """One language: its speech by relation, its ways to ask, and what is said in chats and texts beside the facts."""

    code: str
    speech: Mapping[str, Speech]
    wordings: tuple[Wording, ...]
    phrases: Mapping[str, tuple[str, ...]]
