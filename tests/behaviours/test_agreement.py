"""Agreement with people: worked by hand, and its interval in simulation."""

from __future__ import annotations

import json
from random import Random

import pytest

from glasshouse.behaviours.agreement import Checked, agreement


def pairs(yes: int, missed: int, added: int, no: int) -> list[tuple[float, float | None]]:
    return [*[(1.0, 1.0)] * yes, *[(1.0, 0.0)] * missed, *[(0.0, 1.0)] * added, *[(0.0, 0.0)] * no]


def test_kappa_by_hand() -> None:
    """20 + 15 of 50 alike; by chance 0.5 (25 × 30 + 25 × 20, of 2500): (0.7 − 0.5) / (1 − 0.5)."""
    found = agreement(pairs(20, 5, 10, 15))
    assert found.accuracy.value == 0.7 and found.kappa.value == pytest.approx(0.4) and found.kappa.n == 50
    assert found.kappa.low < 0.4 < found.kappa.high and "agrees too little" in found.problem
    graded = agreement([(0.0, 0.0), (0.5, 0.5), (1.0, 0.5), (1.0, 1.0)])
    # D = (1 − ½)² / 4 = 1/16; E over 16 pairs: (0: 0 + ¼ + ¼ + 1) + (½: ¼ + 0 + 0 + ¼) + 2 × (1: 1 + ¼ + ¼ + 0) = 5
    assert graded.kappa.value == pytest.approx(1 - (1 / 16) / (5 / 16)) and graded.accuracy.value == 0.75


def test_what_suffices() -> None:
    assert agreement(pairs(10, 0, 0, 10)).problem == ""
    assert agreement(pairs(10, 0, 0, 9)).problem == "it was held against 19 labels of people, 20 are wanted"
    without = agreement([*pairs(10, 0, 0, 9), (1.0, None), (0.0, None)])
    assert without.unscored == 2 and "19 labels of people (2 more without a score)" in without.problem
    skewed = agreement(pairs(38, 0, 0, 2))  # right on all of them, and little is shown
    assert skewed.accuracy.value == 1 and "agrees too little" in skewed.problem
    always = agreement(pairs(30, 0, 10, 0))
    assert always.accuracy.value == 0.75 and always.kappa.value == pytest.approx(0) and always.problem
    same = agreement(pairs(40, 0, 0, 0))  # one label only
    assert same.accuracy.value == 1 and same.kappa.low == -1
    assert same.problem == "all 40 labels of people are the same, and so is all that it said: that shows nothing"


def test_the_interval_covers() -> None:
    """Kappa's 95% interval, and how often a judge whose kappa is the floor itself would pass."""
    rng = Random(0)
    for n, share, right in ((20, 0.5, 0.7), (40, 0.5, 0.85), (40, 0.8, 0.85), (100, 0.8, 0.95)):
        says = share * right + (1 - share) * (1 - right)
        chance = share * says + (1 - share) * (1 - says)
        kappa = (right - chance) / (1 - chance)
        covered = passed = 0
        for _ in range(400):
            drawn = []
            for _ in range(n):
                human = float(rng.random() < share)
                drawn.append((human, human if rng.random() < right else 1 - human))
            found = agreement(drawn)
            covered += found.kappa.low <= kappa <= found.kappa.high
            passed += not found.problem
        assert covered >= 0.92 * 400, (n, share, right, covered)
        if right == 0.7:
            assert kappa == pytest.approx(0.4) and passed <= 0.05 * 400


def test_what_is_kept_is_made_again_from_the_pairs() -> None:
    checked = Checked(by={"judge": "openai/mini"}, pairs=tuple(pairs(12, 1, 0, 12)))
    kept = json.loads(json.dumps(checked.to_json(), allow_nan=False))
    kept["problem"], kept["kappa"]["low"] = "altered", 0.0
    assert Checked.from_json(kept) == checked and checked.problem == ""
    nobody = Checked(by={"judge": "openai/mini"})
    assert nobody.problem == "the judge was not checked against people"
    assert json.loads(json.dumps(nobody.to_json(), allow_nan=False))["kappa"] is None
