"""One filled example of every frame of a language, to be read by somebody who knows it."""

from __future__ import annotations

from collections.abc import Iterator

from glasshouse.organisms.world.base import RELATIONS, Value, World
from glasshouse.organisms.world.languages import SPOKEN
from glasshouse.organisms.world.questions import ways, worded
from glasshouse.organisms.world.statements import bare, statement
from glasshouse.organisms.world.terms import entity_term, value_term
from glasshouse.organisms.world.writing import Term, frame


def examples(world: World, language: str) -> Iterator[tuple[str, str]]:
    """(frame, sentence) of each; one sentence for a man and one for a woman where the frame has a choice."""
    spoken = SPOKEN[language]
    for relation, speech in spoken.speech.items():
        for source in speech.say:
            for entity, value in _subjects(world, relation, source, language):
                filled = frame(source).fill(
                    x=entity_term(world, entity, language), v=value_term(world, relation, value, language)
                )
                yield source, filled.text
        for source in (*speech.ask, *speech.clause, *speech.noun):
            for entity, _ in _subjects(world, relation, source, language):
                yield source, frame(source).fill(x=entity_term(world, entity, language)).text
    for way in ways(language, "job"):
        if way.key.endswith(".0"):
            yield way.carrier, worded(entity_term(world, world.shared_people[2], language), way).text
    yield from _phrases(world, language)


def _subjects(world: World, relation: str, source: str, language: str) -> list[tuple[str, Value]]:
    """An entity that has the relation; one of either gender for a frame that agrees with it."""
    facts = world.by_relation[relation]
    if "[v:" in source:
        genders = {value_term(world, relation, f.value, language).gender: f for f in facts[::-1]}
        found = list(genders.values())
    elif "[" in source and RELATIONS[relation].subject == "person":
        found = [f for gender in "mf" for f in facts if world.gender(f.entity) == gender and "fr" in f.languages][:99]
        found = [found[0], found[-1]]
    else:
        found = [facts[0]]
    return [(fact.entity, fact.value) for fact in found]


def _phrases(world: World, language: str) -> Iterator[tuple[str, str]]:
    man = next(p for p in world.shared_people if world.gender(p) == "m")
    woman = next(p for p in world.shared_people if world.gender(p) == "f")
    thing, place = ((SPOKEN[language].phrases.get(name) or ("",))[0] for name in ("thing", "place"))
    said = statement(world, "bridge", "bridge-arches", 7, language)
    for sources in SPOKEN[language].phrases.values():
        for source in sources:
            for x, y in [(man, woman), (woman, man)] if "[" in source else [(man, woman)]:
                terms: dict[str, Term] = {"x": entity_term(world, x, language), "y": entity_term(world, y, language)}
                bridge = entity_term(world, "bridge", language)
                yield source, frame(source).fill(**terms, b=bridge, s=said, u=bare(said), o=thing, p=place).text
