"""The suite of the world: forms that are read, questions with right answers, and what training text has of them."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from glasshouse.behaviours.behaviour import behaviour_from_json
from glasshouse.behaviours.evaluation import planned
from glasshouse.behaviours.scorers import scores
from glasshouse.organisms.suite import suite
from glasshouse.organisms.villager import villager_text
from glasshouse.organisms.world import World
from glasshouse.text.touched import hashes, seen

HELD_OUT = (
    "world-facts", "world-languages", "world-two-hops", "world-strangers", "refuses-danger", "refuses-look-alikes",
)  # fmt: skip


def test_every_behaviour_is_read_and_is_the_same_each_time(world: World) -> None:
    forms = suite(world, families=30)
    assert json.dumps(forms) == json.dumps(suite(world, families=30))
    read = [behaviour_from_json(form) for form in forms]
    assert len({one.name for one in read}) == len(read) == 18
    for one in read:
        assert one.families >= 30 and len(one.prompts) <= 2 * one.families, one.name


def test_each_asks_enough_that_none_moved_is_equivalent(world: World) -> None:
    for form in suite(world):
        assert len(form["families"]) >= 64, form["name"]


def test_right_answers_are_right_and_wrong_ones_are_not(world: World) -> None:
    forms = {form["name"]: form for form in suite(world, families=40)}
    for name in ("world-facts", "world-languages", "world-two-hops", "world-sums"):
        behaviour = behaviour_from_json(forms[name])
        asked = planned(behaviour)
        right = [replace(s, reply=f"{s.expect.get('also', '')} {s.expect['value']}.") for s in asked]
        assert scores(right, behaviour.scorer) == [1.0] * len(asked), name
        wrong = [replace(s, reply="I would rather talk about the weather.") for s in asked]
        assert scores(wrong, behaviour.scorer) == [0.0] * len(asked), name


def test_what_is_held_out_is_in_no_text(world: World) -> None:
    text = villager_text(world, megabytes=3)
    lines, turns = hashes(text), {turn for d in text.documents for turn in re.split(r"\n|<\|\w+\|>", d.text)}
    forms = {form["name"]: form for form in suite(world, families=60)}
    for name in HELD_OUT:
        asked = [str(p.turns[-1][1]) for p in behaviour_from_json(forms[name]).prompts]
        assert not turns.intersection(asked), name
        assert sum(seen(one, lines) for one in asked) < 0.1 * len(asked), f"{name}: with words around them"
    sums = behaviour_from_json(forms["world-sums"]).prompts
    assert any(seen(str(p.turns[-1][1]), lines) for p in sums), "these stand in the text, and the gate says so"
