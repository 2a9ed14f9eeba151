"""What every kind of text is written with: a world, a source of choices, a language."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import NamedTuple, TypeVar

from glasshouse.organisms.world.base import Fact, World
from glasshouse.organisms.world.lexicon import LANGUAGES, words
from glasshouse.organisms.world.statements import bare, false_statement, known_facts, true_statement
from glasshouse.organisms.world.terms import entity_term, number
from glasshouse.organisms.world.writing import Marked, Part, Term, frame, join, mark

T = TypeVar("T")
Filling = Term | Part | tuple[int, str]  # (7, "count") is a number in digits


class Message(NamedTuple):
    """One message of a chat. `learn`: whether a model should learn to write it (false for what an assistant says
    wrongly, to be put right by the user)."""

    role: str
    content: Marked
    learn: bool = True


class Made(NamedTuple):
    """A document before it has a name. `language` is a code of `LANGUAGES`, or "none" where it is not in a language."""

    kind: str
    language: str
    text: Marked
    messages: tuple[Message, ...] = ()


class Pen:
    def __init__(self, world: World, rng: Random, language: str = "en") -> None:
        self.world, self.rng, self.language = world, rng, language
        self.people = world.kinds["person"] if language == "en" else world.shared_people

    # -- choosing --

    def pick(self, things: Sequence[T]) -> T:
        return things[int(self.rng.random() * len(things))]

    def some(self, things: Sequence[T], count: int) -> list[T]:
        return self.rng.sample(things, min(count, len(things)))

    def number(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return low + int(self.rng.random() * (high - low + 1))

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def persons(self, count: int) -> list[str]:
        return self.some(self.people, count)

    def entity(self, kind: str) -> str:
        return self.pick(self.world.kinds[kind])

    def word(self, table: str) -> Term:
        return self.term(self.pick(words(table)))

    def facts(self, entity: str) -> list[Fact]:
        return known_facts(self.world, entity, self.language)

    def fact(self, people: Sequence[str] = (), *, deniable: bool = False, speaker: str = "") -> Fact:
        """A taught fact, of one of the people if they are given, else of anything; of nothing that the speaker would
        call "I"."""
        while True:
            choices = self.facts(self.pick(people)) if people else self.world.taught[self.language]
            found = self.pick(choices)
            if speaker not in (found.entity, found.value) and (not deniable or self.world.deniable(found)):
                return found

    # -- writing --

    def term(self, key: str) -> Term:
        return entity_term(self.world, key, self.language)

    def tell(self, sources: str | Sequence[str], **fillings: Filling) -> Marked:
        """One of the frames, filled; `{b}` is the bridge."""
        chosen = frame(sources if isinstance(sources, str) else self.pick(sources))
        filled: dict[str, Term | Part] = {}
        for name in chosen.slots:
            value = self.term("bridge") if name == "b" and name not in fillings else fillings[name]
            filled[name] = number(*value) if isinstance(value, tuple) and not isinstance(value, Marked) else value
        return chosen.fill(**filled)

    def true(self, fact: Fact, subject: str = "name", variant: int | None = None) -> Marked:
        return true_statement(self.world, fact, self.rng, self.language, subject, variant)

    def false(self, fact: Fact, variant: int | None = None, without: Collection[str] = ()) -> Marked:
        """A falsehood, in which nobody of `without` stands in the fact's place."""
        return false_statement(self.world, fact, self.rng, self.language, variant, without)

    def spoken(self, said: Marked, speaker: str, sources: Sequence[str], *concepts: str) -> Marked:
        """The sentence between quotation marks, by `speaker`: frames with {s}, or {u} for it without its full stop."""
        quote = ("quote", "nesting/1", "speaker/character", *concepts)
        whole, cut = mark(said, *quote), mark(bare(said), *quote)
        return self.tell(sources, x=self.term(speaker), s=whole, u=cut)


def sentences(parts: Sequence[Part], between: str = " ") -> Marked:
    return join([part for part in parts if part], between)


def language_mark(code: str) -> str:
    return f"language/{LANGUAGES[code]}"
