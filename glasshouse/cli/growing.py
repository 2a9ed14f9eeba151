"""What `glasshouse grow` grows from: a corpus as anywhere, or `world`, with the settings that fit it."""

from __future__ import annotations

from dataclasses import dataclass

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
