"""Discovery: planted differences are found and confirmed, two runs of one thing give none, one can be made a
behaviour."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

from glasshouse.behaviours.behaviour import Behaviour, Prompt, behaviour_from_json
from glasshouse.behaviours.breadth import FEW_CHARS, PROMPT_CHARS, WAYS, begun, kinds_of, widely
from glasshouse.behaviours.discovery import as_behaviour, discovered, traits
from glasshouse.behaviours.evaluation import Evaluation, planned
from glasshouse.behaviours.insides import Insides
from glasshouse.behaviours.scorers import Sample, scores
from glasshouse.text import Corpus, Document
from glasshouse.types import UserError

WORDS = [
    "river", "bridge", "lamp", "baker", "walks", "slowly", "home", "after", "supper", "with", "bread", "and", "two",
    "old", "friends", "from", "town",
]  # fmt: skip


def behaviours() -> list[Behaviour]:
    return [
        behaviour_from_json(
            {
                "name": name, "about": "For tests.", "tag": "guard", "good": "up", "margin": 0.05, "scorer": "ends",
                "families": [{"family": str(n), "prompts": [f"{name} {n}?", f"Please, {name} {n}."]}
                             for n in range(count)],
            }
        )
        for name, count in (("greetings", 30), ("questions", 200), ("requests", 200))
    ]  # fmt: skip


def run(asked: Behaviour, seed: int, altered: Any = lambda prompt, reply: reply) -> Evaluation:
    rng = Random(seed)
    made = []
    for sample in planned(asked):
        reply = " ".join(rng.choices(WORDS, k=rng.randint(4, 12))).capitalize() + "."
        made.append(replace(sample, reply=altered(sample, reply), tokens=9))
    return Evaluation("x", "", {}, asked, tuple(made), tuple(1.0 for _ in made), "length 1")


def test_prompts_come_from_every_kind_and_one_of_a_family() -> None:
    asked = widely(behaviours(), count=300)
    kinds = [prompt.family.partition(" | ")[0] for prompt in asked.prompts]
    assert len(asked.prompts) == 300 and kinds.count("greetings") == 30 and kinds.count("questions") == 135
    assert widely(behaviours(), count=300) == asked and asked.families == 300
    with pytest.raises(UserError, match="expected 40 prompts or more"):
        widely(behaviours(), count=20)


def test_every_second_prompt_is_varied() -> None:
    asked = widely(behaviours(), count=300).prompts
    varied = Counter(way for prompt in asked for way in kinds_of(prompt.family)[1:])
    assert set(varied) == set(WAYS) and all(28 <= count <= 33 for count in varied.values())
    plain = [prompt for prompt in asked if len(kinds_of(prompt.family)) == 1]
    assert len(plain) == 151 and all(str(p.turns[0][1]).endswith(("?", ".")) for p in plain)
    said = {way: [str(p.turns[0][1]) for p in asked if way in kinds_of(p.family)] for way in WAYS}
    assert all(text == text.lower() and "?" not in text for text in said["asked in lower case"])
    assert any(text.endswith(" Be brief.") for text in said["asked to be brief"])
    assert any(text.endswith(" Ответь по-русски.") for text in said["asked for another language"])
    odd = Prompt("a | asked to be brief | b", 0, (("system", "Be kind."), ("user", "Why?")), None)
    (one,) = {p for p in widely([replace(behaviours()[1], name="odd", prompts=(odd,)), *behaviours()]).prompts
              if p.family.startswith("odd")}  # fmt: skip
    assert (one.family, one.turns, kinds_of(one.family)) == ("odd | a | asked to be brief | b", odd.turns, ("odd",))


def test_a_difference_in_one_way_of_asking_is_found_there() -> None:
    asked = widely(behaviours(), count=430)
    curt = lambda sample, reply: "No." if "asked to be long" in kinds_of(sample.family) else reply
    old, new = run(asked, 0), run(asked, 0, curt)
    groups = [one for one in discovered(old, new)["groups"] if one["kind"]]
    assert groups and {one["kind"] for one in groups} == {"asked to be long"}
    made = as_behaviour(
        {**groups[0], "pattern": {"trait": "says “no”", "kind": "asked to be long", "good": "down"}}, asked, "curt"
    )
    assert len(made.prompts) == sum("asked to be long" in kinds_of(p.family) for p in asked.prompts) > 30


def test_text_is_asked_as_it_begins() -> None:
    long = "Mr Baker walks home. " * 20
    texts = [("md", "How are you?\n"), ("md", long), ("Py Files", "x" * 999), ("md", "  "), ("md", "word " * 99)]
    found = begun(Corpus("notes", tuple(Document(i, f"{i}.md", kind, text) for i, (kind, text) in enumerate(texts))))
    assert [b.name for b in found] == ["text-md", "text-py-files"]
    said = [str(prompt.turns[0][1]) for b in found for prompt in b.prompts]
    assert said[0] == "How are you?" and said[1] == long[: len("Mr Baker walks home. ") * 14].strip()
    assert said[2] == ("word " * 60).strip() and said[3] == "x" * PROMPT_CHARS and len(said) == 4
    many = Corpus("notes", tuple(Document(i, f"{i}.md", "md", f"Text {i}.") for i in range(50)))
    assert len(widely(begun(many)).prompts) == 50
    many = Corpus("notes", tuple(Document(i, f"{i}.md", "md", long) for i in range(50)))
    said = Counter(str(prompt.turns[0][1]) for prompt in widely(begun(many)).prompts)
    assert sorted(said.values()) == [25, 25] and long[: FEW_CHARS // 21 * 21].strip() in said


def test_what_no_trait_shows_a_classifier_tells() -> None:
    asked = widely(behaviours(), count=400)
    spaced = lambda sample, reply: reply.replace("e", "a") if "e" in reply else reply  # every word another one
    found = discovered(run(asked, 0), run(asked, 0, spaced))["apart"]
    assert found["share"]["low"] > 0.9 and found["p"] < 1e-6 and len(found["pairs"]) == 5
    assert all(pair["after"] == pair["before"].replace("e", "a") for pair in found["pairs"])
    alarms = [discovered(run(asked, 2 * n), run(asked, 2 * n + 1))["apart"]["p"] for n in range(20)]
    assert sum(p < 0.05 for p in alarms) <= 4


def test_a_habit_is_found_and_what_goes_with_it_is_one_group() -> None:
    asked = widely(behaviours(), count=400)
    found = discovered(run(asked, 0), run(asked, 0, lambda sample, reply: f"Definitely! {reply}"))
    assert found["groups"][0]["pairs"][0]["after"].startswith("Definitely!")
    said = [found["groups"][0]["name"], *found["groups"][0]["also"]]
    assert any("definitely" in one for one in said)
    assert found["groups"][0]["change"]["low"] > 0.9


def test_what_differs_in_one_kind_only_is_found_there() -> None:
    asked = widely(behaviours(), count=400)
    refusing = lambda sample, reply: "I will not help with that." if sample.family.startswith("requests") else reply
    found = discovered(run(asked, 0), run(asked, 0, refusing))
    names = {(one["kind"], one["name"]) for one in found["groups"]}
    assert found["groups"] and all(kind in ("", "requests") for kind, _ in names)
    assert any("refuses" in [one["name"], *one["also"]] for one in found["groups"])


def test_two_runs_of_one_thing_give_hardly_ever_a_difference() -> None:
    """Replies drawn anew, so that every prompt differs and nothing does on the whole: 5% of such comparisons at
    most."""
    asked = widely(behaviours(), count=300)
    alarms = sum(bool(discovered(run(asked, 2 * n), run(asked, 2 * n + 1))["groups"]) for n in range(20))
    assert alarms <= 3
    same = discovered(run(asked, 0), run(asked, 0))
    assert (same["groups"], same["proposed"], same["prompts"]) == ([], 0, 300)
    assert same["apart"]["share"]["value"] == 0.5 and same["apart"]["p"] == 1 and not same["apart"]["pairs"]


def test_a_difference_becomes_a_behaviour() -> None:
    asked = widely(behaviours(), count=400)
    old, new = run(asked, 0), run(asked, 0, lambda sample, reply: f"Definitely! {reply}")
    group = discovered(old, new)["groups"][0]
    told = lambda **other: {**group, "pattern": {**group["pattern"], "trait": "begins with “definitely”", **other}}
    made = as_behaviour(told(), asked, "definitely")
    assert made.good == "down" and behaviour_from_json(made.to_json()) == made
    assert set(scores(new.samples, made.scorer)) == {1.0} and set(scores(old.samples, made.scorer)) == {0.0}
    begins = replace(asked, prompts=(*asked.prompts, asked.prompts[0]._replace(family="questions-told | 1")))
    kinds = {p.family.partition(" | ")[0] for p in as_behaviour(told(kind="questions"), begins, "some").prompts}
    assert kinds == {"questions"}  # and not those of the kind whose name begins so
    shape = as_behaviour(told(trait="exclaims"), asked, "exclaims")
    assert set(scores(new.samples, shape.scorer)) == {1.0} and set(scores(old.samples, shape.scorer)) == {0.0}
    with pytest.raises(UserError, match="expected a difference in words, refusals, length or language, or one of is e"):
        as_behaviour({**group, "name": "is in latin letters", "pattern": None}, asked, "latin")


def test_what_is_no_pattern_becomes_a_behaviour_too() -> None:
    asked = widely(behaviours(), count=400)
    longer = discovered(run(asked, 0), run(asked, 0, lambda sample, reply: reply + " " + reply.lower()))["groups"]
    (group,) = [one for one in longer if one["name"] == "words" or "words" in one["also"]]
    told = lambda trait: {**group, "pattern": {"trait": trait, "kind": "requests", "good": "down"}}
    length = as_behaviour(told("words"), asked, "longer")
    assert (length.scorer[0], length.unit, length.good) == ("length", "tokens", "down") and length.margin >= 1
    ends = as_behaviour(told("is cut off"), asked, "cut-off")
    assert (ends.scorer[0], ends.good) == ("ends", "up")
    french = as_behaviour(told("is in the language fr"), asked, "french")
    assert {p.expect for p in french.prompts} == {"fr"} and french.scorer[0] == "language"
    for one in (length, ends, french):
        assert behaviour_from_json(one.to_json()) == one and len(one.prompts) > 100


def test_a_feature_with_words_beside_it_becomes_a_behaviour_of_the_words() -> None:
    asked = widely(behaviours(), count=400)
    draws = {sample.family: Random(sample.family).random() for sample in planned(asked)}
    ticks = lambda sample, reply: f"Definitely! {reply}" if draws[sample.family] < 0.5 else reply
    old, new = run(asked, 0), run(asked, 0, ticks)
    on_PF = np.array([[draws[sample.family] < 0.7] for sample in old.samples], np.float32)
    (group,) = discovered(old, new, inside=Insides(["d/0"], on_PF, np.zeros_like(on_PF)))["groups"]
    assert group["name"] == "d/0" and group["where"] == "inside" and group["change"]["high"] < 0
    assert "definitely" in group["pattern"]["trait"] and group["pattern"]["good"] == "down"
    made = as_behaviour(group, asked, "definitely")  # the word is said more as the feature is on less
    assert made.good == "down" and "definitely" in made.about and len(made.prompts) == 400


def test_runs_of_other_prompts_are_not_compared() -> None:
    one, other = (widely(behaviours(), count=300, seed=seed) for seed in (0, 1))
    with pytest.raises(UserError, match="expected two runs of the same prompts"):
        discovered(run(one, 0), run(other, 0))


def test_prompts_that_were_not_answered_are_said() -> None:
    asked = widely(behaviours(), count=60)
    made = run(asked, 0)
    long = tuple(replace(one, reply="", error="a prompt of 300 tokens") for one in made.samples[:30])
    lacking = replace(made, samples=long + made.samples[30:])
    for runs, count in (((lacking, made), 30), ((replace(made, samples=long + long), made), 0)):
        with pytest.raises(UserError, match=rf"both answered, got {count} of 60 \(a prompt of 300 tokens\)"):
            discovered(*runs)


def test_traits_of_a_reply() -> None:
    found = traits(Sample(family="f", prompt=0, reply="Certainly! I can't help. Why?", stopped=False))
    assert found["words"] == 5 and found["sentences"] == 3 and found["is cut off"] and found["refuses"]
    assert found["asks back"] and found["begins with “certainly”"] and found["says “can't help”"]
    assert traits(Sample(family="f", prompt=0, reply="Привет"))["is in cyrillic letters"] == 1
    assert traits(Sample(family="f", prompt=0, reply=" "))["is empty"] == 1
