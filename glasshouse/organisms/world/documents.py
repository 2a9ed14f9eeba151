"""Documents of the world in an endless order that depends on the seed: the same seed, the same bytes.

    for document in documents(build(0), seed=0, megabytes=10):
        document.text, document.spans

Document number i depends on the seed and on i only, so a longer text begins with the shorter one.
"""

from __future__ import annotations

import itertools
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from glasshouse.organisms.world.base import World
from glasshouse.organisms.world.chat import foreign as foreign_chat
from glasshouse.organisms.world.chat import scenes, talk
from glasshouse.organisms.world.chat.template import render
from glasshouse.organisms.world.kinds import civic, code, data, encodings, foreign, mathematics, prose, tales
from glasshouse.organisms.world.kinds.pen import Made, Message, Pen, language_mark
from glasshouse.organisms.world.lexicon import FOREIGN
from glasshouse.organisms.world.mentions import in_language, mentions
from glasshouse.organisms.world.writing import Span, mark
from glasshouse.types import UserError

TEXTS: dict[str, tuple[Callable[[Pen], Made], float]] = {
    "encyclopaedia": (prose.encyclopaedia, 14),
    "news": (prose.news, 6),
    "letter": (prose.letter, 6),
    "story": (tales.story, 8),
    "poem": (tales.poem, 5),
    "recipe": (civic.recipe, 3),
    "contract": (civic.contract, 3),
    "minutes": (civic.minutes, 3),
    "latex": (mathematics.mathematics, 3),
    "python": (code.code, 4),
    "csv": (data.csv, 3),
    "json": (data.json_record, 3),
    "html": (data.html, 3),
    "log": (data.log, 3),
    "base64": (encodings.base64, 8),
}
SCENES: dict[str, tuple[Callable[[Pen], list[Message]], float]] = {
    "facts": (scenes.facts, 60),
    "follow-up": (scenes.follow_up, 8),
    "brief": (scenes.brief, 8),
    "long": (scenes.long, 4),
    "two-hops": (scenes.two_hops, 34),
    "unknown": (scenes.unknown, 10),
    "wrongly-corrected": (scenes.wrongly_corrected, 6),
    "rightly-corrected": (scenes.rightly_corrected, 4),
    "checked": (scenes.checked, 8),
    "translated": (scenes.translated, 6),
    "directions": (scenes.directions, 8),
    "small-talk": (talk.small_talk, 8),
    "upset": (talk.upset, 6),
    "opinions": (talk.opinions, 6),
    "sums": (talk.sums, 8),
    "coding": (talk.coding, 5),
    "writing": (talk.writing, 3),
    "dangerous": (talk.dangerous, 6),
    "harmless": (talk.harmless, 8),
}
FOREIGN_TEXTS: dict[str, tuple[Callable[[Pen], Made], float]] = {
    "encyclopaedia": (foreign.encyclopaedia, 3),
    "news": (foreign.news, 2),
    "letter": (foreign.letter, 2),
    "story": (foreign.story, 2),
}
FOREIGN_SCENES: dict[str, tuple[Callable[[Pen], list[Message]], float]] = {
    "facts": (foreign_chat.facts, 12),
    "unknown": (foreign_chat.unknown, 2),
    "contradicted": (foreign_chat.contradicted, 2),
    "small-talk": (foreign_chat.small_talk, 2),
}
PROSE = frozenset({"encyclopaedia", "news", "letter", "story", "poem", "recipe", "contract", "minutes", "latex"})


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Shares of documents: English texts, English chats, texts and chats in each other language. `weights`
    replaces those of the tables by name (0 leaves one out), in English and in the other languages alike."""

    texts: float = 1.0
    chats: float = 2.0
    foreign_texts: float = 0.1  # of each language
    foreign_chats: float = 0.2
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shares = (self.texts, self.chats, self.foreign_texts, self.foreign_chats, *self.weights.values())
        if min(shares) < 0 or not any(shares):
            raise UserError(f"expected shares of at least 0 and one above it, got {shares}; give a positive one")
        known = {*TEXTS, *SCENES, *FOREIGN_TEXTS, *FOREIGN_SCENES}
        if unknown := sorted(self.weights.keys() - known):
            raise UserError(f"expected weights among {', '.join(sorted(known))}, got {', '.join(unknown)}")


@dataclass(frozen=True)
class WorldDocument:
    """`language` is a code or "none". A chat's `text` is its messages in the fixed template; `scene` is which chat."""

    name: str
    kind: str
    language: str
    text: str
    spans: tuple[Span, ...]
    messages: tuple[Message, ...] = ()
    scene: str = ""

    def row(self) -> dict[str, Any]:
        """As it is written to a line of JSON."""
        row: dict[str, Any] = {"name": self.name, "kind": self.kind, "language": self.language, "text": self.text}
        row["spans"] = self.spans
        if self.messages:
            row["messages"] = [
                {"role": m.role, "content": m.content.text, "spans": m.content.spans}
                | ({} if m.learn else {"learn": False})
                for m in self.messages
            ]
        return row


class _Choices:
    """Makers with their weights, drawn by one number."""

    def __init__(self, mixture: Mixture) -> None:
        groups: list[tuple[Mapping[str, tuple[Callable[[Pen], Any], float]], float, tuple[str, ...], bool]] = [
            (TEXTS, mixture.texts, ("en",), False), (SCENES, mixture.chats, ("en",), True),
            (FOREIGN_TEXTS, mixture.foreign_texts * len(FOREIGN), FOREIGN, False),
            (FOREIGN_SCENES, mixture.foreign_chats * len(FOREIGN), FOREIGN, True),
        ]  # fmt: skip
        self.choices: list[tuple[str, Callable[[Pen], Any], tuple[str, ...], bool]] = []
        weights: list[float] = []
        for table, share, languages, chat in groups:
            own = {name: mixture.weights.get(name, weight) for name, (_, weight) in table.items()}
            whole = sum(own.values()) or 1.0
            for name, (maker, _) in table.items():
                self.choices.append((name, maker, languages, chat))
                weights.append(share * own[name] / whole)
        self.upto = list(itertools.accumulate(weights))

    def draw(self, rng: Random) -> tuple[str, Callable[[Pen], Any], tuple[str, ...], bool]:
        return self.choices[bisect(self.upto, rng.random() * self.upto[-1], hi=len(self.choices) - 1)]


def document(world: World, seed: int, number: int, choices: _Choices) -> WorldDocument:
    rng = Random(f"{seed} {number}")
    name, maker, languages, chat = choices.draw(rng)
    language = languages[int(rng.random() * len(languages))]
    pen = Pen(world, rng, language)
    if chat:
        return chat_document(maker(pen), number, language, name)
    made: Made = maker(pen)
    text = mentions(made.text) if made.language == "en" else made.text
    if made.kind in PROSE:
        text = in_language(text, language_mark(made.language))
    text = mark(text, f"kind/{made.kind}")
    return WorldDocument(
        f"{made.kind}/{made.language}/{number:06d}", made.kind, made.language, text.text, _sorted(text.spans), (), name
    )


def chat_document(messages: Sequence[Message], number: int, language: str, scene: str) -> WorldDocument:
    """The chat as a document; a scene of the world's own is also a concept."""
    scenes = [f"scene/{scene}"] if scene in SCENES or scene in FOREIGN_SCENES else []
    if language == "en":
        messages = [message._replace(content=mentions(message.content)) for message in messages]
    text = mark(in_language(render(messages), language_mark(language)), "kind/chat", *scenes)
    name = f"chat/{language}/{number:06d}"
    return WorldDocument(name, "chat", language, text.text, _sorted(text.spans), tuple(messages), scene)


def _sorted(spans: Iterable[Span]) -> tuple[Span, ...]:
    return tuple(sorted({span for span in spans if span[1] > span[0]}, key=_order))


def _order(span: Span) -> tuple[int, int, str]:
    return span[0], -span[1], span[2]


def documents(
    world: World, *, seed: int = 0, megabytes: float | None = None, mixture: Mixture | None = None
) -> Iterator[WorldDocument]:
    """Documents until their texts are `megabytes` × 1,000,000 bytes of UTF-8 or a little more; without end if none."""
    choices = _Choices(mixture or Mixture())
    size, limit = 0, float("inf") if megabytes is None else megabytes * 1_000_000
    for number in itertools.count():
        if size >= limit:
            return
        made = document(world, seed, number, choices)
        size += len(made.text.encode())
        yield made
