"""What is told can be so: no text contradicts the base or itself, and questions and answers fit each other."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

from glasshouse.organisms.world import RELATIONS, World, WorldDocument
from glasshouse.organisms.world.chat.requests import requests
from glasshouse.organisms.world.chat.scenes import follow_up
from glasshouse.organisms.world.kinds.pen import Pen
from glasshouse.organisms.world.questions import ways
from glasshouse.organisms.world.terms import entity_term, value_term


def test_a_log_contradicts_no_base_and_not_itself(world: World, sample: list[WorldDocument]) -> None:
    shops = {str(world.names[key]): key for key in world.kinds["shop"]}
    line = re.compile(r"(\d\d):.*(the \w+ \w+) (had a visitor|is out of|sold (.+) for (\d+) coins)")
    logs = [document.text for document in sample if document.kind == "log"]
    sold = 0
    for text in logs:
        empty: set[str] = set()
        for hour, shop, said, goods, price in line.findall(text):
            assert shop not in empty, text
            assert int(hour) >= int(str(world.value(shops[shop], "opens"))), text
            if goods:
                facts = world.by_entity[shops[shop]]
                assert goods == value_term(world, "sells", facts["sells"].value, "en").plain.text
                assert int(price) == facts["price"].value
                sold += 1
            empty |= {shop} if said == "is out of" else set()
        people = re.findall(r"([A-Z]\w+) (?:paid|entered|left|crossed|is too wide)", text)
        assert len(people) == len(set(people)), text
    assert sold > 10


def test_letters_name_neither_writer_nor_reader(sample: list[WorldDocument]) -> None:
    letters = [d for d in sample if (d.kind, d.language) == ("letter", "en")]
    for document in letters:
        reader = re.search(r"(?:Dear|My dear|Hello) (\w+),", document.text)
        assert reader is not None
        writer = document.text.split()[-1]
        body = document.text[reader.end() : document.text.rindex(writer)]
        assert not re.search(rf"\b({reader[1]}|{writer})\b", body), document.text
    assert len(letters) > 50


def test_nobody_tells_facts_about_themselves_by_name(sample: list[WorldDocument]) -> None:
    told = re.compile(
        r'"([^"]+),?" (?:said|lied|whispered|explained) (\w+)|"([^"]+),?" (\w+) (?:explained|told|added)|'
        r'(\w+) (?:said|answered), "([^"]+)"'
    )
    count = 0
    for document in sample:
        if (document.kind, document.language) in (("news", "en"), ("story", "en")):
            for one, speaker, two, other, third, three in told.findall(document.text):
                count += 1
                assert (speaker or other or third) not in re.findall(r"\w+", one or two or three), document.text
    assert count > 100


def test_a_pronoun_of_a_second_question_can_mean_one_person_only(world: World) -> None:
    gender = {str(entity_term(world, key, "en").plain.text): world.gender(key) for key in world.kinds["person"]}
    for seed in range(300):
        chat = follow_up(Pen(world, Random(seed)))
        _, first, again, answer = (m.content.text for m in chat[-4:])
        pronoun = "m" if re.search(r"\b(he|his|him)\b", again) else "f"
        assert len({n for n in re.findall(r"\w+", first) if gender.get(n) == pronoun}) <= 1, (first, again, answer)


def test_no_wording_asks_for_an_age_where_the_year_is_told() -> None:
    for relation in RELATIONS.values():
        if relation.range == "year":
            for way in ways("en", relation.name):
                assert not re.match("How (old|long|far)", way.inner_source), way


def test_who_answers_a_request_speaks_of_the_things_of_who_asked() -> None:
    answers = {request.answer for request in requests(dangerous=False)}
    assert "Wash your hands with cold water and soap." in answers
    assert not [answer for answer in answers if re.search(r"\bmy\b|before a |until a |Close a ", answer)]


def test_nobody_lies_about_themselves_or_who_listens(world: World) -> None:
    """Also where one's name begins another's, as Dala's does Dalasar's, and all that can be said has it in it."""
    names = {key: str(entity_term(world, key, "en").plain.text) for key in world.kinds["person"]}
    begins = [(a, b) for a in names for b in names if a != b and names[b].startswith(names[a])]
    assert begins
    for one, other in begins:
        for fact in world.by_entity[other].values():
            if world.deniable(fact):
                told = {Pen(world, Random(seed)).false(fact, without=(one,)).text for seed in range(40)}
                assert len(told) > 1 and not [text for text in told if re.search(rf"\b{names[one]}\b", text)]


def test_minutes_bring_up_a_wish_once(sample: list[WorldDocument]) -> None:
    for document in (d for d in sample if d.kind == "minutes"):
        items = re.findall(r"^\d\. (.*Party.*?)\. ", document.text, re.M)
        parties = Counter(re.sub(r".*?(Lantern|Harvest).*?((?:bridge|tolls|festivals)).*", r"\1 \2", i) for i in items)
        assert not parties or max(parties.values()) == 1, document.text
