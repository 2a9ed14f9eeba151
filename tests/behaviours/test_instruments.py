"""The classifier that is trained on labelled text, and the languages of replies."""

from __future__ import annotations

import re
from collections import Counter
from random import Random
from typing import Any

import pytest

from glasshouse.behaviours import Behaviour
from glasshouse.behaviours.behaviour import behaviour_from_json
from glasshouse.behaviours.classifier import check
from glasshouse.behaviours.language import language
from glasshouse.behaviours.scorers import Sample, scores
from glasshouse.organisms.world import build, documents
from glasshouse.types import UserError

POLITE = [
    "Thank you so much, {}.",
    "Could you please look at {}?",
    "I would be glad to help with {}.",
    "Sorry about {}!",
]
RUDE = ["Shut up about {}.", "{} is your problem, fool.", "Who cares about {}?", "Go away with your {}."]
THINGS = ["the lamp", "my letter", "bread", "the old map", "this bridge", "a coat"]


def tones(noise: float = 0.0) -> list[dict[str, str]]:
    rng = Random(0)
    rows = []
    for label, frames in (("polite", POLITE), ("rude", RUDE)):
        for frame in frames:
            for thing in THINGS:
                said = rng.choice(("polite", "rude")) if rng.random() < noise else label
                rows.append({"text": frame.format(thing), "label": said})
    return rows


def behaviour(labels: Any, scorer: str = "classifier", says: str = "polite") -> Behaviour:
    form = {"name": "tone", "about": "Is polite.", "tag": "guard", "good": "up", "margin": 0.1}
    settings = {"says": says, "labels": labels} if scorer == "classifier" else {}
    return behaviour_from_json(
        {**form, "scorer": {scorer: settings}, "families": [{"family": "a", "prompts": ["Hi"], "expect": labels}]}
    )


def replies(*texts: str, expect: Any = None) -> list[Sample]:
    return [Sample(family="f", prompt=i, reply=text, expect=expect) for i, text in enumerate(texts)]


def test_a_classifier_of_labelled_text() -> None:
    scorer = behaviour(tones()).scorer
    found = scores(replies("Thank you so much for the hat.", "Shut up about the hat, fool.", "  "), scorer)
    assert found == [1.0, 0.0, None]
    assert scores(replies("Sorry about that!"), scorer) == [1.0]  # alone as among others
    checked = check(scorer[1])
    assert checked.agreement.accuracy.n == 48 and checked.agreement.accuracy.value > 0.9 and checked.problem == ""
    assert check(scorer[1]) == checked and checked.by == {"classifier": "polite"}
    assert behaviour(tones()).hash != behaviour(tones()[:-1]).hash


def test_a_classifier_that_knows_too_little_is_refused() -> None:
    with pytest.raises(UserError, match=r"a classifier of 'polite' that knows held-out texts, it agrees too little"):
        check(behaviour(tones(noise=1.0)).scorer[1])


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        (tones()[:30], "10 texts or more of 'polite' and of each other label, got 'polite': 24, 'rude': 6"),
        (tones()[:24], "10 texts or more"),
        ([*tones(), {"text": POLITE[0].format("bread"), "label": "rude"}], "each text once in `labels`, got .* row 49"),
        ([*tones(), {"text": "Hm"}], "text and label, both texts, in row 49"),
        ([*tones(), {"text": " ", "label": "rude"}], "text and label, both texts, in row 49"),
    ],
)  # fmt: skip
def test_labels_that_teach_nothing_are_told(rows: Any, wrong: str) -> None:
    with pytest.raises(UserError, match=wrong):
        behaviour(rows)
    with pytest.raises(UserError, match="of 'kind' and of each other"):
        behaviour(tones(), says="kind")


def test_languages() -> None:
    said = {
        "en": "The old stone bridge has seven arches.", "fr": "Le vieux pont de pierre a sept arches.",
        "ru": "У старого каменного моста семь арок.", "ar": "للجسر الحجري القديم سبعة أقواس.",
        "he": "לגשר האבן הישן יש שבע קשתות.", "zh": "古老的石桥有七个桥拱。",
        "ja": "古い石の橋には七つのアーチがあります。",
        "de": "Die alte Steinbrücke hat sieben Bögen.",
    }  # fmt: skip
    assert {code: language(text) for code, text in said.items()} == {code: code for code in said}
    assert [language(text) for text in ("", "42!", "12:30, 7 €", "Ok", "“”")] == [None] * 5
    samples = replies(said["fr"], said["en"], "42.", expect="fr")
    assert scores(samples, ("language", {})) == [1.0, 0.0, None]
    assert scores(replies(said["fr"], said["de"], said["ru"], expect=["fr", "de"]), ("language", {})) == [1, 1, 0]
    assert behaviour(["fr", "de"], "language").scorer == ("language", {})
    for wrong in (None, "French", ["fr", "FR"], [], 3):
        with pytest.raises(UserError, match="a code of a language such as fr"):
            behaviour(wrong, "language")


def test_the_languages_of_the_world() -> None:
    """Sentences of the world, whose names no model has seen: hardly one is taken for another language's."""
    told: dict[str, Counter[Any]] = {}
    for document in documents(build(0), seed=0, megabytes=1):
        if document.kind in ("encyclopaedia", "news", "letter", "story"):
            for sentence in re.split(r"(?<=[.!?。！？؟])\s+", document.text)[:6]:
                found = told.setdefault(document.language, Counter())
                if sentence and sum(found.values()) < 150:
                    found[language(sentence)] += 1
    assert set(told) == {"en", "fr", "ru", "ar", "he", "zh"}
    for code, found in told.items():
        total = sum(found.values())
        assert total > 90 and found[code] >= 0.8 * total, (code, found)
        assert total - found[code] - found[None] <= 0.02 * total, (code, found)
