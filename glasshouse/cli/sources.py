"""What `glasshouse grow` grows from, a corpus as anywhere, or `world`, with the settings that fit it; and what
`glasshouse concepts` takes as known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from glasshouse.text import Corpus, corpus
from glasshouse.types import UserError

WORLD = "world"


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What is used where no option says otherwise."""

    name: str = ""
    shape: str = "default"
    context: int = 256
    minutes: float = 5.0


def defaults(source: str) -> Defaults:
    if source != WORLD:
        return Defaults()
    from glasshouse.organisms.villager import CONTEXT, MINUTES, SHAPE

    return Defaults(name="villager", shape=SHAPE, context=CONTEXT, minutes=MINUTES)


def read(source: str, *, text_column: str, chat: bool, seed: int) -> Corpus:
    """The corpus. Raises `UserError` for `chat` of what is not the world."""
    if source == WORLD:
        from glasshouse.organisms.villager import villager_text
        from glasshouse.organisms.world import build

        return villager_text(build(0), seed=seed, chat=chat)  # one world; the seed is of its text and of the model
    if chat:
        raise UserError(f"expected `world` with --chat, got {source}; leave --chat out")
    return corpus(source, text_column=text_column)


UNSEEN = 1_000_003  # the seed of text that no villager was grown from
BYTES_PER_TOKEN = 5  # of the world's text, and more: it must not run out


def read_labelled(source: str, tokens: int) -> tuple[Corpus, list[Any]]:
    """Text and the spans of each document."""
    if source != WORLD:
        from glasshouse.features.kept import labelled_file

        return labelled_file(source)
    from glasshouse.organisms.villager import labelled_text
    from glasshouse.organisms.world import build

    return labelled_text(build(0), seed=UNSEEN, megabytes=2 * tokens * BYTES_PER_TOKEN / 1e6)
