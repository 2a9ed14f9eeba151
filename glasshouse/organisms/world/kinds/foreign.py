"""Encyclopaedia entries, news, letters and stories in the other languages, made of their frames."""

from __future__ import annotations

from glasshouse.organisms.world.base import Fact
from glasshouse.organisms.world.kinds.pen import Made, Pen, sentences
from glasshouse.organisms.world.languages import SPOKEN
from glasshouse.organisms.world.writing import Marked, Term, join, mark


def between(pen: Pen) -> str:
    return "" if pen.language == "zh" else " "


def phrase(pen: Pen, name: str, **fillings: Term | Marked) -> Marked:
    return pen.tell(SPOKEN[pen.language].phrases[name], **fillings)


def deed(pen: Pen, who: str) -> Marked:
    """What somebody did with something somewhere."""
    phrases = SPOKEN[pen.language].phrases
    thing, place = pen.pick(phrases["thing"]), pen.pick(phrases["place"])
    return mark(pen.tell(phrases["deed"], x=pen.term(who), o=thing, p=place), "tense/past")


def encyclopaedia(pen: Pen) -> Made:
    chance = pen.rng.random()
    key = "bridge" if chance < 0.2 else pen.entity("town") if chance < 0.4 else pen.pick(pen.people)
    facts = pen.facts(key)
    pen.rng.shuffle(facts)
    x = pen.term(key)
    head = mark(x.forms.get("full", x.plain), "markup/heading")
    head = Marked(head.text[0].upper() + head.text[1:], head.spans)
    said = sentences([pen.true(fact) for fact in facts[: pen.number(3, 9)]], between(pen))
    return Made("encyclopaedia", pen.language, join([head, "\n\n", said, "\n"]))


def news(pen: Pen) -> Made:
    head = mark(phrase(pen, "headline"), "markup/heading")
    said = [pen.tell((source,)) for source in pen.some(SPOKEN[pen.language].phrases["news"], pen.number(1, 2))]
    said += [pen.true(pen.fact()) for _ in range(pen.number(2, 4))]
    for fact in about_others(pen, "", "", 1):
        speaker = pen.pick([person for person in pen.people if person not in (fact.entity, fact.value)])
        said.append(pen.spoken(pen.true(fact), speaker, SPOKEN[pen.language].phrases["says"]))
    said.append(deed(pen, pen.pick(pen.world.kinds["person"])))
    pen.rng.shuffle(said)
    return Made("news", pen.language, join([head, "\n\n", sentences(said, between(pen)), "\n"]))


def letter(pen: Pen) -> Made:
    writer, reader, other = pen.persons(3)
    salutation = mark(phrase(pen, "dear", x=pen.term(reader)), "letter/salutation")
    said = [phrase(pen, pen.pick(("glad", "sad")))]
    if pen.chance(0.7):
        said.append(deed(pen, other))
    facts = pen.some([fact for fact in pen.facts(other) if fact.value not in (reader, writer)], pen.number(2, 4))
    said += [pen.true(fact) for fact in facts]
    closing = mark(join([phrase(pen, "close"), "\n", pen.term(writer).plain]), "letter/closing")
    body = mark(sentences(said, between(pen)), "speaker/author")
    return Made("letter", pen.language, join([salutation, "\n\n", body, "\n\n", closing, "\n"]))


def about_others(pen: Pen, one: str, other: str, count: int) -> list[Fact]:
    found: dict[str, Fact] = {}
    while len(found) < count:
        fact = pen.fact()
        if not {fact.entity, fact.value} & {one, other}:
            found[f"{fact.entity} {fact.relation}"] = fact
    return list(found.values())


def story(pen: Pen) -> Made:
    """Two people walk and talk; now and then one of them lies and is put right by the narrator."""
    one, other = pen.some(pen.world.kinds["person"] if pen.chance(0.4) else pen.people, 2)
    phrases = SPOKEN[pen.language].phrases
    said = [
        mark(pen.tell((source,), x=pen.term(one), y=pen.term(other)), "speaker/narrator", "tense/past")
        for source in pen.some(phrases["walk"], pen.number(1, 3))
    ]
    for fact in about_others(pen, one, other, pen.number(2, 4)):
        if pen.chance(0.3) and pen.world.deniable(fact):
            said.append(pen.spoken(pen.false(fact, without=(one, other)), other, phrases["says"], "lies"))
            said.append(mark(phrase(pen, "lie", x=pen.term(other)), "speaker/narrator", "act/correction"))
            said.append(pen.true(fact))
        else:
            said.append(pen.spoken(pen.true(fact), one, phrases["says"]))
        one, other = other, one
        if pen.chance(0.4):
            said.append(mark(deed(pen, one), "speaker/narrator"))
    said.append(mark(phrase(pen, "end"), "speaker/narrator", "tense/past"))
    return Made("story", pen.language, join([join(said, pen.pick(("\n", between(pen)))), "\n"]))
