"""What is labelled true is true in the base, what is labelled false is not: statements are read back from the text."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from glasshouse.organisms.world import LANGUAGES, RELATIONS, World, WorldDocument, build, documents
from glasshouse.organisms.world.base import Value
from glasshouse.organisms.world.statements import _is
from glasshouse.organisms.world.terms import entity_term, value_term

PRONOUNS = {"he", "his", "she", "her"}
UNNAMED = re.compile(r"the (?P<office>\w+) of (?P<thing>.+?)(?:'s?)?|(?P<person>\w+)'s (?P<relative>\w+?)(?:'s)?")


class Reader:
    """Reads an entity, and the value of a relation, from their words in any language."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.entities: dict[str, set[str]] = {}
        keys = [key for key in world.names if not key.startswith(("family/", "pet/"))]
        for key in keys:
            for language in LANGUAGES:
                try:
                    term = entity_term(world, key, language)
                except AssertionError:
                    continue  # named in English only
                for form in term.forms.values():
                    self.entities.setdefault(self.plain(form.text), set()).add(key)

    @staticmethod
    def plain(words: str) -> str:
        return words[:1].lower() + words[1:]

    def entity(self, words: str) -> set[str]:
        words = self.plain(words)
        if found := self.entities.get(words):
            return found
        unnamed = UNNAMED.fullmatch(words)
        assert unnamed, words
        relation = unnamed["office"] or unnamed["relative"]
        (start,) = self.entities[self.plain(unnamed["thing"] or unnamed["person"])]
        return {str(self.world.value(start, relation))}

    def says(self, relation: str, value: Value, words: str) -> bool:
        forms = set()
        for language in LANGUAGES:
            try:
                forms |= {form.text for form in value_term(self.world, relation, value, language).forms.values()}
            except AssertionError:
                continue
        return words in forms | {self.plain(form) for form in forms} | {form[:1].upper() + form[1:] for form in forms}


def subject(document: WorldDocument, start: int, end: int) -> tuple[str, int]:
    """The words for whom or what the statement is about, with a pronoun followed back."""
    at = next(s for s in document.spans if s[2] == "role/subject" and start <= s[0] and s[1] <= end)
    words = document.text[at[0] : at[1]]
    if words.lower() not in PRONOUNS:
        return words, at[0]
    values = {(s, e) for s, e, concept in document.spans if concept == "role/value"}
    before = [
        span for span in document.spans
        if span[2] == "entity/person" and span[1] <= at[0] and span[:2] not in values
    ]  # fmt: skip
    named = max(before, key=lambda span: (span[0], span[1]))
    return document.text[named[0] : named[1]], named[0]


Span = tuple[int, int, str]
SUM = re.compile(r"(\d+) (\+|-|×|\\times) (\d+) = (\d+)")


def check(reader: Reader, document: WorldDocument, span: Span, relations: dict[tuple[int, int], str]) -> str:
    """Which kind of statement it was; raises if its label is wrong."""
    start, end, label = span
    words = document.text[start:end]
    if found := SUM.fullmatch(words):
        a, sign, b, c = found.groups()
        right = {"+": int(a) + int(b), "-": int(a) - int(b)}.get(sign, int(a) * int(b)) == int(c)
        assert right == (label == "truth/true"), words
        return "sum"
    relation = relations[start, end]
    about, _ = subject(document, start, end)
    value = next(s for s in document.spans if s[2] == "role/value" and start <= s[0] and s[1] <= end)
    said = document.text[value[0] : value[1]]
    full = reader.entity(about.split()[0]) if " " in about and about.split()[0] in reader.entities else None
    entities = full or reader.entity(about)
    entities = {entity for entity in entities if entity.partition("/")[0] == RELATIONS[relation].subject}
    assert len(entities) == 1, (about, relation, entities)
    (entity,) = entities
    true = _is(reader.world, entity, relation)
    assert true is not None, (entity, relation)
    assert reader.says(relation, true, said) == (label == "truth/true"), (words, true)
    return relation


def test_labels_of_truth_follow_from_the_base(world: World, sample: list[WorldDocument]) -> None:
    reader, found = Reader(world), Counter[tuple[str, str]]()
    for document in sample:
        relations = {(s, e): c.partition("/")[2] for s, e, c in document.spans if c.startswith("relation/")}
        for span in document.spans:
            if span[2].startswith("truth/"):
                found[span[2], check(reader, document, span, relations)] += 1
    assert {relation for _, relation in found} >= set(RELATIONS), set(RELATIONS) - {r for _, r in found}
    assert sum(n for (label, _), n in found.items() if label == "truth/false") > 200


@pytest.mark.parametrize("seed", [1, 2])
def test_labels_of_truth_follow_from_other_bases(seed: int) -> None:
    world = build(seed)
    reader = Reader(world)
    for document in documents(world, seed=seed, megabytes=0.2):
        relations = {(s, e): c.partition("/")[2] for s, e, c in document.spans if c.startswith("relation/")}
        for span in document.spans:
            if span[2].startswith("truth/"):
                check(reader, document, span, relations)


def test_the_check_can_fail(world: World, sample: list[WorldDocument]) -> None:
    """A statement with its label turned round is caught."""
    reader, caught = Reader(world), 0
    for document in sample[:400]:
        relations = {(s, e): c.partition("/")[2] for s, e, c in document.spans if c.startswith("relation/")}
        for start, end, label in document.spans:
            if label.startswith("truth/"):
                other = "truth/false" if label == "truth/true" else "truth/true"
                with pytest.raises(AssertionError):
                    check(reader, document, (start, end, other), relations)
                caught += 1
    assert caught > 100


def test_lies_are_false_and_mended(sample: list[WorldDocument]) -> None:
    """A lie holds a false statement; each false one in a story is somebody's lie; each is put right after it."""
    for document in sample:
        lies = [span for span in document.spans if span[2] == "lies"]
        for start, end, _ in lies:
            assert any(c == "truth/false" and start <= s and e <= end for s, e, c in document.spans)
            assert any(c == "act/correction" and s >= end for s, e, c in document.spans)
        if document.kind != "chat":
            for start, end, concept in document.spans:
                if concept == "truth/false":
                    assert any(s <= start and end <= e for s, e, _ in lies)


def test_wrong_corrections_are_wrong_and_right_ones_right(sample: list[WorldDocument]) -> None:
    expected = {
        "act/wrong-correction": "truth/false",
        "act/right-correction": "truth/true",
        "act/stand-firm": "truth/true",
        "act/yield": "truth/true",
        "act/mistake": "truth/false",
        "middle-fact": "truth/true",
    }
    seen = Counter[str]()
    for document in sample:
        for start, end, concept in document.spans:
            if concept in expected:
                inside = {c for s, e, c in document.spans if c.startswith("truth/") and start <= s and e <= end}
                assert inside == {expected[concept]}, document.text
                seen[concept] += 1
    assert set(seen) == set(expected)
