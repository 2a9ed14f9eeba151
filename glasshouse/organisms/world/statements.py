"""Statements: a fact, or a falsehood, as a sentence of any language with its truth beside it."""

from __future__ import annotations

import functools
from collections.abc import Collection
from random import Random

from glasshouse.organisms.world.base import NOW, Fact, Value, World
from glasshouse.organisms.world.languages import SPOKEN
from glasshouse.organisms.world.terms import entity_term, pronoun_term, value_term
from glasshouse.organisms.world.writing import SENTENCE_ENDS, Marked, Term, frame, mark

PAST = ("was ", "were ", "came into", "took place", "began", "lasted", "went on", "built in", "finished")


def relabelled(term: Term, *concepts: str) -> Term:
    return Term({name: mark(form, *concepts) for name, form in term.forms.items()}, term.gender)


@functools.lru_cache(maxsize=200_000)
def statement(
    world: World,
    entity: str,
    relation: str,
    value: Value,
    language: str = "en",
    variant: int = 0,
    subject: str = "name",
) -> Marked:
    """The sentence that says it, labelled true or false as the world has it. `variant` counts the frames of the
    relation round; `subject`: by name, by full name (first form only), or by pronoun (people, English)."""
    x = entity_term(world, entity, language)
    if subject == "pronoun":
        x = pronoun_term(x.gender)
    elif subject == "full":
        x = Term({**x.forms, "": x.forms["full"]}, x.gender)
    return said_of(world, x, relation, value, language, variant, true=_is(world, entity, relation) == value)


def said_of(
    world: World, x: Term, relation: str, value: Value, language: str, variant: int = 0, *, true: bool
) -> Marked:
    """The sentence that says of whatever `x` means that it has the value."""
    says = SPOKEN[language].speech[relation].say
    v = relabelled(value_term(world, relation, value, language), "role/value")
    said = frame(says[variant % len(says)]).fill(x=relabelled(x, "role/subject"), v=v)
    end = len(said.text) - said.text.endswith(SENTENCE_ENDS)
    labels = ["truth/true" if true else "truth/false", f"relation/{relation}"]
    if language == "en":
        labels.append("tense/past" if any(word in said.text for word in PAST) else "tense/present")
    return Marked(said.text, (*((0, end, label) for label in labels), *said.spans))


@functools.lru_cache(maxsize=50_000)
def _is(world: World, entity: str, relation: str) -> Value | None:
    value = world.value(entity, relation)
    if value is None:
        return next((f.value for f in world.held_out_facts if (f.entity, f.relation) == (entity, relation)), None)
    return value


def true_statement(
    world: World, fact: Fact, rng: Random, language: str = "en", subject: str = "name", variant: int | None = None
) -> Marked:
    chosen = rng.randrange(6) if variant is None else variant
    return statement(
        world, fact.entity, fact.relation, fact.value, language, chosen % variants(fact, language), subject
    )


def false_statement(
    world: World, fact: Fact, rng: Random, language: str = "en", variant: int | None = None,
    without: Collection[str] = (),
) -> Marked:  # fmt: skip
    value = world.wrong_value(fact, rng, without)
    chosen = rng.randrange(variants(fact, language)) if variant is None else variant
    return statement(world, fact.entity, fact.relation, value, language, chosen)


def variants(fact: Fact, language: str) -> int:
    return len(SPOKEN[language].speech[fact.relation].say)


def bare(said: Marked) -> Marked:
    """The sentence without its final mark, for what goes on after it."""
    if not said.text.endswith(SENTENCE_ENDS):
        return said
    end = len(said.text) - 1
    return Marked(said.text[:end], tuple((s, min(e, end), concept) for s, e, concept in said.spans))


def age(born: int) -> int:
    return NOW - born


def known_facts(world: World, entity: str, language: str = "en") -> list[Fact]:
    """What is taught of the entity in the language."""
    return [fact for fact in world.by_entity.get(entity, {}).values() if language in fact.languages]
