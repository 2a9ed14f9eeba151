"""What `glasshouse grow` and `tune` train on, a corpus as anywhere, `world`, or `planted/NAME`; and what
`glasshouse concepts` takes as known."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glasshouse.text import Corpus, corpus
from glasshouse.types import UserError

if TYPE_CHECKING:
    from glasshouse.organisms.planting import Organism

WORLD, PLANTED = "world", "planted/"


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


def demonstrated(source: str, *, quick: bool) -> dict[str, Any]:
    """What `features.opening.demo` makes of the text: a name, budgets, and how the text is read."""
    from glasshouse.features.opening import DEMO

    name = {WORLD: "villager", "python": "demo"}.get(source) or f"demo-{model_name(source)}"
    budget = DEMO["quick" if quick else WORLD if source == WORLD else "other"]
    if source == "python":  # every character's name and bytes are a seventh of it, and took a quarter of the features
        budget = dataclasses.replace(budget, weights={"table": 0.15})
    text = lambda: read(source, text_column="text", chat=source == WORLD, seed=0)
    return {"name": f"{name}-quick" if quick else name, "budget": budget, "text": text}


def model_name(source: str) -> str:
    """A name for what is grown from `source`: its last part, with what a name may not hold left out."""
    kept = re.sub(r"[^a-z0-9]+", "-", Path(source).name.split(".")[0].lower()).strip("-")
    return f"{kept[:50] or 'my'}-model"


def organism_of(source: str) -> Organism | None:
    """The organism of `planted/NAME`; None for any other text."""
    if not source.startswith(PLANTED):
        return None
    from glasshouse.organisms.planting import organism

    return organism(source.removeprefix(PLANTED))


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
