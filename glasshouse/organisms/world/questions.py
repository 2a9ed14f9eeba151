"""Questions about the world: every wording of every fact, and which of them are kept from training.

    for question in questions(world, language="en", split="pairs"):
        question.text.text, question.answer.text, question.value    # "Tala's job?", "Tala is a baker.", "baker"

Splits: `train` may stand in training text; `pairs` are held-out pairs of an entity and a wording, each of which is
taught with others; `wordings` are asked of nobody in training; `facts` ask for what is never taught.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from typing import NamedTuple

from glasshouse.organisms.world.base import RELATIONS, Fact, World
from glasshouse.organisms.world.languages import SPOKEN
from glasshouse.organisms.world.statements import bare, relabelled, said_of, statement
from glasshouse.organisms.world.terms import entity_term, name_term, value_term
from glasshouse.organisms.world.writing import Marked, Term, frame, join, lower, mark

SPLITS = ("train", "pairs", "wordings", "facts")
FAMILIES = ("ask", "tell", "can", "please", "bare", "typo")
FIRST_HOPS = ("mother", "father", "sister", "brother", "husband", "wife", "mayor", "captain", "owner", "leader")
SECOND_HOPS = (
    "job", "home", "born", "food", "colour", "pet", "pet-name", "party", "team", "hobby", "dislike",
    "mother", "father", "sister", "brother", "husband", "wife",
)  # fmt: skip


class Way(NamedTuple):
    """One wording of one relation: its family, what is asked inside (`q`, `c` or `n`), and the frame around it."""

    key: str
    family: str
    inner: str
    inner_source: str
    carrier: str
    held_out: bool


@dataclass(frozen=True)
class Question:
    """`answer` is the sentence that answers, `value` the words in it that have to be right, `middle` the sentence with
    the fact in between of a two-hop question (answered with it spoken: middle + " " + answer)."""

    language: str
    family: str
    wording: str
    text: Marked
    fact: Fact
    answer: Marked
    value: str
    split: str
    path: tuple[str, ...]
    entity: str
    middle: Marked | None = None


@functools.cache
def ways(language: str, relation: str) -> tuple[Way, ...]:
    """Every wording of the relation in the language."""
    spoken = SPOKEN[language]
    speech = spoken.speech[relation]
    found = []
    for number, wording in enumerate(spoken.wordings):
        slot = next(s for s in "qlcnt" if f"{{{s}}}" in wording.carrier)
        inner = {"c": speech.clause, "n": speech.noun}.get(slot, speech.ask)
        plain = wording.carrier == "{q}"
        for i, source in enumerate(inner if plain or slot in "cn" else inner[:2]):
            last = plain and len(inner) > 2 and i == len(inner) - 1
            key = f"{language}:{relation}:{wording.family}:{number}.{i}"
            found.append(Way(key, wording.family, slot, source, wording.carrier, wording.held_out or last))
    return tuple(found)


@functools.lru_cache(maxsize=400_000)
def held_out_pair(entity: str, wording: str) -> bool:
    """One pair in eight, by hash."""
    return blake2b(f"{entity}|{wording}".encode(), digest_size=1).digest()[0] % 8 == 0


@functools.lru_cache(maxsize=100_000)
def training_ways(entity: str, relation: str, language: str) -> tuple[Way, ...]:
    return tuple(w for w in ways(language, relation) if not w.held_out and not held_out_pair(entity, w.key))


@functools.lru_cache(maxsize=200_000)
def worded(x: Term, way: Way) -> Marked:
    """The question about whatever `x` means, in this wording."""
    inner = frame(way.inner_source).fill(x=x)
    if way.inner == "l":
        inner = lower(inner)
    elif way.inner == "t":
        inner = with_typo(inner, way.key)
    return mark(frame(way.carrier).fill(**{way.inner: inner}), "act/question", f"family/{way.family}")


def with_typo(question: Marked, salt: str) -> Marked:
    """Two neighbouring letters exchanged, outside of names; the same each time for the same question."""
    text, names = question.text, [(s, e) for s, e, concept in question.spans if concept.startswith(("entity", "role"))]
    places = [
        i
        for i in range(1, len(text) - 2)
        if text[i - 1 : i + 2].isalpha() and text[i] != text[i + 1] and text[i + 1].isalpha()
        and not any(start <= i + 1 and i < end for start, end in names)
    ]  # fmt: skip
    if not places:
        return question
    place = places[int.from_bytes(blake2b(f"{text}{salt}".encode(), digest_size=4).digest()) % len(places)]
    swapped = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    start = max(text.rfind(" ", 0, place), text.rfind("'", 0, place)) + 1
    end = next((i for i in range(place, len(text)) if not text[i].isalpha()), len(text))
    return Marked(swapped, (*question.spans, (start, end, "typo")))


@functools.lru_cache(maxsize=20_000)
def _subject(world: World, entity: str, language: str) -> Term:
    return relabelled(entity_term(world, entity, language), "role/subject")


@functools.lru_cache(maxsize=400_000)
def question(world: World, fact: Fact, language: str, way: Way) -> Question:
    text = mark(worded(_subject(world, fact.entity, language), way), f"relation/{fact.relation}", "hops/1")
    answer = statement(world, fact.entity, fact.relation, fact.value, language)
    value, split = value_in(answer), _split(world, fact, way)
    return Question(language, way.family, way.key, text, fact, answer, value, split, (fact.relation,), fact.entity)


def _split(world: World, fact: Fact, way: Way) -> str:
    if fact in world.held_out_facts:
        return "facts"
    return "wordings" if way.held_out else "pairs" if held_out_pair(fact.entity, way.key) else "train"


def value_in(answer: Marked) -> str:
    """The words of an answer that are its value."""
    start, end = next((start, end) for start, end, concept in answer.spans if concept == "role/value")
    return answer.text[start:end]


def questions(world: World, *, language: str = "en", split: str | None = None) -> Iterator[Question]:
    """Every question of the language: each fact, taught in it or not (see `Fact.languages`), in each wording."""
    for fact in (*world.facts, *world.held_out_facts):
        if not (language == "en" or RELATIONS[fact.relation].foreign):
            continue
        if fact.entity.startswith(("bridge", "river")) and language not in fact.languages:
            continue
        for way in ways(language, fact.relation):
            if split is None or _split(world, fact, way) == split:
                yield question(world, fact, language, way)


class Stranger(NamedTuple):
    """A question about a name that nobody bears; the right answer is not to know."""

    language: str
    family: str
    wording: str
    text: Marked
    name: str


def strangers(world: World, *, language: str = "en", held_out: bool = True) -> Iterator[Stranger]:
    """Questions about unknown names, those never used in training if `held_out`; one wording a name and relation."""
    relations = [r.name for r in RELATIONS.values() if r.subject == "person" and (language == "en" or r.foreign)]
    for i, name in enumerate(world.unknown_names[held_out]):
        x = relabelled(name_term(name, "unknown", language), "role/subject")
        relation = relations[i % len(relations)]
        choices = training_ways(f"unknown/{name.latin}", relation, language)
        way = choices[i % len(choices)]
        yield Stranger(language, way.family, way.key, worded(x, way), x.plain.text)


def ask(world: World, fact: Fact, rng: Random, language: str = "en") -> Question:
    """A training question for the fact."""
    assert language in fact.languages, fact
    choices = training_ways(fact.entity, fact.relation, language)
    return question(world, fact, language, choices[rng.randrange(len(choices))])


# -- two hops ----------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=20_000)
def by_way_of(world: World, entity: str, relation: str) -> Term:
    """ "Tala's sister", "the mayor of Veden": whoever stands in the relation, unnamed."""
    noun = frame(SPOKEN["en"].speech[relation].noun[0]).fill(x=_subject(world, entity, "en"))
    gender = world.gender(str(world.value(entity, relation)))
    named = mark(noun, "entity/person", "entity/unnamed", f"relation/{relation}")
    return Term({"": named, "s": join([named, "'" if noun.text.endswith("s") else "'s"])}, gender)


def held_out_path(entity: str, first: str, second: str) -> bool:
    """One path in five, by hash."""
    return blake2b(f"{entity}>{first}>{second}".encode(), digest_size=1).digest()[0] % 5 == 0


@functools.lru_cache(maxsize=100_000)
def two_hop(world: World, entity: str, first: str, second: str, number: int = 0) -> Question | None:
    """ "What does Tala's sister do for a living?" in wording `number`, or nothing where the world does not say."""
    middle, choices = world.value(entity, first), ways("en", second)
    fact = world.by_entity.get(str(middle), {}).get(second)
    if fact is None or fact.value == entity:
        return None
    way = choices[number % len(choices)]
    x = by_way_of(world, entity, first)
    text = mark(worded(x, way), f"relation/{second}", "hops/2")
    named = statement(world, str(middle), second, fact.value)
    spoken = mark(statement(world, entity, first, str(middle)), "middle-fact")
    value, split = value_in(named), _path_split(entity, first, second, way)
    return Question("en", way.family, way.key, text, fact, named, value, split, (first, second), entity, spoken)


def _path_split(entity: str, first: str, second: str, way: Way) -> str:
    return "wordings" if way.held_out else "pairs" if held_out_path(entity, first, second) else "train"


def unspoken(world: World, asked: Question) -> Marked:
    """The answer to a two-hop question without the middle fact: "Tala's sister is a baker."."""
    x = by_way_of(world, asked.entity, asked.path[0])
    return said_of(world, x, asked.fact.relation, asked.fact.value, "en", true=True)


def two_hops(world: World, *, split: str | None = None) -> Iterator[Question]:
    """Every two-hop question in English, in each wording."""
    for entity, first in [(f.entity, f.relation) for f in world.facts if f.relation in FIRST_HOPS]:
        for second in SECOND_HOPS:
            for number, way in enumerate(ways("en", second)):
                if split is None or _path_split(entity, first, second, way) == split:
                    found = two_hop(world, entity, first, second, number)
                    if found is not None:
                        yield found


def short_answer(world: World, asked: Question) -> Marked:
    """The value alone."""
    value = value_term(world, asked.fact.relation, asked.fact.value, asked.language)
    forms = value.forms
    gender = world.gender(asked.fact.entity) if asked.fact.relation == "job" else value.gender
    chosen = forms.get("unit") or forms.get("by") or forms.get(f".{gender}") or forms[""]
    return mark(bare(chosen), "role/value")
