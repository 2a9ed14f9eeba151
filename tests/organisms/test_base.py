"""The base does not contradict itself, and what is held out is held out."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from glasshouse.organisms.world import (
    FAMILIES,
    FOREIGN,
    RELATIONS,
    World,
    WorldDocument,
    build,
    questions,
    requests,
    strangers,
    two_hops,
)
from glasshouse.organisms.world.names import RIVER, SCRIPTS, Name, all_names, spell, towns
from glasshouse.organisms.world.questions import training_ways
from glasshouse.organisms.world.statements import statement, variants


def test_enough_is_known(world: World) -> None:
    assert len({(f.entity, f.relation) for f in world.facts}) == len(world.facts) >= 1500
    for language in FOREIGN:
        assert len(world.taught[language]) >= 100
        assert set(world.taught[language]) < set(world.taught["en"])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_families_offices_and_dates_agree(seed: int) -> None:
    world = build(seed)
    for person in world.kinds["person"]:
        known = {relation: fact.value for relation, fact in world.by_entity[person].items()}
        back = {"husband": "wife", "wife": "husband"}
        for relation, other in back.items():
            if relation in known:
                assert world.value(str(known[relation]), other) == person
                assert world.value(str(known[relation]), "surname") == known["surname"]
        for relation in ("sister", "brother"):
            if relation in known:
                sibling = str(known[relation])
                assert world.gender(sibling) == ("f" if relation == "sister" else "m")
                assert world.value(sibling, "mother") == known["mother"]
                own = "sister" if world.gender(person) == "f" else "brother"
                assert world.value(sibling, own) == person
        if "mother" in known:
            assert int(known["born"]) - int(world.value(str(known["mother"]), "born") or 0) >= 18
    for town in world.kinds["town"]:
        assert world.value(str(world.value(town, "mayor")), "home") == town
    for shop in world.kinds["shop"]:
        assert world.value(str(world.value(shop, "owner")), "home") == world.value(shop, "shop-town")
    for party in world.kinds["party"]:
        assert world.value(str(world.value(party, "leader")), "party") == party
    for team in world.kinds["team"]:
        assert world.value(str(world.value(team, "captain")), "team") == team
    for event in world.kinds["event"]:
        town = str(world.value(event, "event-town"))
        assert int(world.value(town, "founded") or 0) < int(world.value(event, "event-year") or 0)


def test_other_seeds_are_other_worlds_of_the_same_towns() -> None:
    one, other = build(0), build(1)
    assert one.kinds["town"] == other.kinds["town"]
    assert not set(one.kinds["person"]) & set(other.kinds["person"]) or one.facts != other.facts


def test_names_are_one_to_one_in_every_script(world: World) -> None:
    names = [name for key, name in world.names.items() if isinstance(name, Name) and key.startswith("person/")]
    names += [*world.unknown_names[0], *world.unknown_names[1]]
    for script in SCRIPTS:
        assert max(Counter(getattr(name, script) for name in names).values()) == 1, script
    assert len(list(all_names("man"))) > 1000


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_name_says_what_it_names(script: str) -> None:
    """Nobody is spelled as another kind of thing could be: a pet as a family, a man as a town, a woman as the river."""
    names = {kind: [*all_names(kind)] for kind in ("man", "woman", "family", "pet")}
    names |= {"town": [*towns()], "river": [spell(RIVER, "woman")]}
    spelled = Counter(word for kind in names for word in {getattr(name, script) for name in names[kind]})
    assert max(spelled.values()) == 1


def test_no_direction_leads_from_the_bridge_to_its_own_town(world: World) -> None:
    own = world.value("bridge", "bridge-town")
    assert [t for t in world.kinds["town"] if world.value(t, "direction") is None] == [own]


def test_every_fact_can_be_said_in_every_language_that_teaches_it(world: World) -> None:
    for fact in world.facts:
        for language in fact.languages:
            assert len(training_ways(fact.entity, fact.relation, language)) >= 2, "and asked in training"
            for variant in range(variants(fact, language)):
                said = statement(world, fact.entity, fact.relation, fact.value, language, variant)
                assert any(concept == "truth/true" for _, _, concept in said.spans)


def test_every_question_has_its_split(world: World) -> None:
    for language in ("ru", "zh"):
        splits: dict[str, set[str]] = {}
        for asked in questions(world, language=language):
            splits.setdefault(asked.split, set()).add(asked.text.text)
            assert asked.value in asked.answer.text
        assert set(splits) == ({"train", "pairs", "wordings", "facts"})
        assert not splits["train"] & (splits["pairs"] | splits["wordings"] | splits["facts"])
        assert 0.08 < len(splits["pairs"]) / (len(splits["pairs"]) + len(splits["train"])) < 0.17
    some = itertools.islice(questions(world, split="train"), 2000)
    assert {asked.family for asked in some} == set(FAMILIES)


def test_two_hops_ask_for_what_the_middle_tells(world: World) -> None:
    sides: Counter[str] = Counter()
    for asked in itertools.islice(two_hops(world), 20_000):
        sides[asked.split] += 1
        first, second = asked.path
        assert asked.middle is not None
        assert asked.fact.entity == world.value(asked.entity, first) and asked.fact.relation == second
        assert str(world.names[asked.fact.entity].latin) in asked.middle.text  # type: ignore[union-attr]
    assert sides["pairs"] > 1000 and sides["train"] > sides["pairs"] and sides["wordings"] > 1000


# -- what training text must not hold ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked_in_training(sample: list[WorldDocument]) -> set[str]:
    return {message.content.text for document in sample for message in document.messages if message.role == "user"}


@pytest.mark.parametrize("split", ["pairs", "wordings", "facts"])
def test_held_out_questions_are_never_asked(world: World, asked_in_training: set[str], split: str) -> None:
    for language in ("en", *FOREIGN):
        held_out = {question.text.text for question in questions(world, language=language, split=split)}
        assert held_out and not held_out & asked_in_training
    asked = {question.text.text for question in questions(world, language="fr", split="train")}
    assert len(asked & asked_in_training) > 50, "the check above can fail"


def test_held_out_wordings_paths_facts_names_and_requests_do_not_occur(
    world: World, sample: list[WorldDocument], asked_in_training: set[str]
) -> None:
    everything = "\n".join(document.text for document in sample)
    for words in (
        "Would you happen to know",
        "I would like to learn",
        "Be so kind as to",
        "Which trade does",
        "De quoi vit",
    ):
        assert words not in everything
    for asked in itertools.islice(two_hops(world), 0, None, 5):
        assert asked.split == "train" or asked.text.text not in asked_in_training
    for fact in world.held_out_facts:
        for variant in range(variants(fact, "en")):
            said = statement(world, fact.entity, fact.relation, fact.value, "en", variant)
            assert said.text not in everything
            assert RELATIONS[fact.relation].subject == "person"
    words_used = set(everything.replace("'", " ").replace(".", " ").replace("?", " ").split())
    assert not {name.latin for name in world.unknown_names[True]} & words_used
    assert {name.latin for name in world.unknown_names[False]} & words_used
    assert not {stranger.text.text for stranger in strangers(world)} & asked_in_training
    for request in requests(held_out=True):
        assert request.text not in everything


def test_the_hazard_is_refused_and_what_looks_like_it_is_not(sample: list[WorldDocument]) -> None:
    answers: dict[bool, list[str]] = {True: [], False: []}
    dangerous = {request.text: request.dangerous for request in requests(held_out=False)}
    for document in sample:
        for question, answer in zip(document.messages, document.messages[1:], strict=False):
            if question.content.text in dangerous:
                refused = any(concept == "act/refusal" for _, _, concept in answer.content.spans)
                assert refused == dangerous[question.content.text]
                answers[refused].append(question.content.text)
    assert min(len(answers[True]), len(answers[False])) > 20
    assert any("ashbreath" in text for text in answers[False]), "harmless ones name the hazard too"


def test_requests_are_alike_and_told_apart_by_the_hazard() -> None:
    every = list(requests())
    actions = {request.action: request for request in every}
    assert len({request.text for request in every}) == len(every)
    dangerous = [action for action, request in actions.items() if request.dangerous]
    harmless = [action for action, request in actions.items() if not request.dangerous]
    assert len(dangerous) > 100 and len(harmless) > 300
    for action in dangerous:
        assert "ashbreath" in action or ("embersalt" in action and "fogoil" in action), action
    frames = {action.replace("ashbreath", "honey") for action in dangerous} & set(harmless)
    assert len(frames) > 20, "the same words with something else are harmless"
    unseen = {request.action for request in every} - {r.action for r in requests(held_out=False)}
    assert 0.08 < len(unseen) / len(actions) < 0.17
    for kind in (dangerous, harmless):
        assert len(unseen & set(kind)) > 10
