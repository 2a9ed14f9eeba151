"""Changes and verdicts: cases worked by hand, planted changes, and rates of error in simulation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from glasshouse.behaviours.peeking import evidence
from glasshouse.behaviours.statistics import (
    Cell,
    Change,
    Scored,
    benjamini_hochberg,
    best_of,
    expected_spread,
    families_for,
    holm,
    judged,
    mean,
    paired,
    pseudo_values,
    smallest_change,
)
from glasshouse.types import UserError


def samples(rows: Sequence[Sequence[float | None]]) -> list[Scored]:
    """A family a row, a prompt a score."""
    return [Scored(str(g), str(p), score) for g, row in enumerate(rows) for p, score in enumerate(row)]


def cell(change: Change, margin: float = 0.05, tag: str = "guard", good: str = "up") -> Cell:
    return Cell("b", tag, good, margin, change)  # type: ignore[arg-type]


def test_the_best_of_some_samples_is_the_mean_over_all_ways_to_draw_them() -> None:
    scores = {"a": [0.0, 1.0, 0.0, 0.0, 1.0], "b": [0.2, 0.9, 0.4, 0.1, 0.9], "c": [1.0, None, 0.0, None, None]}
    given = [Scored("f", prompt, score) for prompt, some in scores.items() for score in some]
    for lowest, best in ((False, max), (True, min)):
        found = {one.prompt: one.score for one in best_of(given, 3, lowest=lowest)}
        for prompt in "ab":
            by_hand = np.mean([best(some) for some in itertools.combinations(scores[prompt], 3)])
            assert found[prompt] == pytest.approx(by_hand)
        assert found["c"] is None
    assert [one.score for one in best_of(given, 1)][:2] == pytest.approx([0.4, 0.5])


def test_equal_families_give_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(12, 1)), rng.normal(0.3, 1, size=(12, 1))
    found = paired(samples(before.tolist()), samples(after.tolist()), bounded=False)
    known = stats.ttest_rel(after[:, 0], before[:, 0])
    assert found.freedom == pytest.approx(11) and found.families == 12
    low, high = known.confidence_interval()
    assert (found.change.low, found.change.high) == pytest.approx((low, high))
    assert judged([cell(found)])[0].p_moved == pytest.approx(known.pvalue)


def test_two_families_are_added_to_bounded_scores() -> None:
    """Agresti and Min's interval, but for t: (b - c) / (n + 2) about 0 with the two added pairs of ±1/√2."""
    rows = [[1.0]] * 8
    found = paired(samples(rows), samples(rows), bounded=True)
    error = math.sqrt(1.0 / 9) / math.sqrt(10)  # variance of eight zeros and ±1/√2 over 10
    assert found.change.value == 0 and found.error == pytest.approx(error) and found.freedom == pytest.approx(9)


def test_no_change_of_a_rate_is_larger_than_one() -> None:
    found = paired(samples([[0.0]] * 30), samples([[1.0]] * 30), bounded=True).change
    assert found.value == 1.0 == found.high and 0.8 < found.low < 1


def test_a_family_counts_by_its_prompts_and_freedom_falls_where_one_is_large() -> None:
    before = [[0.0] * 30] + [[0.0]] * 9
    after = [[1.0] * 30] + [[0.0]] * 9
    found = paired(samples(before), samples(after), bounded=False)
    assert found.change.value == pytest.approx(30 / 39)
    assert found.freedom < 3  # CR2 with nine families of one prompt beside one of thirty


def test_only_prompts_with_scores_of_both_are_paired_and_the_rest_is_counted() -> None:
    before = [Scored("a", "0", 1.0), Scored("a", "1", None), Scored("b", "0", 0.0), Scored("c", "0", 1.0)]
    after = [Scored("a", "0", 0.0), Scored("a", "1", 1.0), Scored("b", "0", 0.0), Scored("d", "0", 1.0)]
    found = paired(before, after, bounded=True)
    assert found.prompts == 2 and found.families == 2 and found.unscored == 1
    assert found.change.value == -0.5
    with pytest.raises(UserError, match="expected prompts that both versions have scores of, found none"):
        paired(before[:1], after[3:], bounded=True)


def test_the_variance_is_split_as_it_was_drawn() -> None:
    rng = np.random.default_rng(1)
    families, wordings, sampling, g, p, k = 0.5, 0.3, 0.8, 400, 4, 3
    before, after = [], []
    for i in range(g):
        u = rng.normal(0, families)
        for j in range(p):
            d = u + rng.normal(0, wordings)
            before += [Scored(str(i), str(j), x) for x in rng.normal(0, sampling, k)]
            after += [Scored(str(i), str(j), x) for x in rng.normal(d, sampling, k)]
    parts = paired(before, after, bounded=False).parts
    assert parts["families"] == pytest.approx(families**2 / g, rel=0.15)
    assert parts["wordings"] == pytest.approx(wordings**2 / (g * p), rel=0.25)
    assert parts["sampling"] == pytest.approx(2 * sampling**2 / k / (g * p), rel=0.05)


def test_four_verdicts() -> None:
    rng = np.random.default_rng(2)
    even = [[float(x)] for x in rng.integers(0, 2, 300)]
    worse = [[0.0] if g % 4 == 0 else row for g, row in enumerate(even)]
    few = samples(even[:10])
    cells = judged(
        [
            cell(paired(samples(even), samples(even), bounded=True)),
            cell(paired(samples(even), samples(worse), bounded=True)),
            cell(paired(samples(worse), samples(even), bounded=True)),
            cell(paired(samples(even), samples(worse), bounded=True), good="down"),
            cell(paired(few, few, bounded=True)),
        ]
    )
    assert [c.verdict for c in cells] == ["equivalent", "regressed", "improved", "improved", "underpowered"]
    assert cells[4].needed is not None and cells[4].needed > 10
    assert cells[0].needed is None


def test_the_families_that_would_do_are_more_than_there_are() -> None:
    """Of 120 three fell, half of the margin: 112 would show that nothing moved, and it did."""
    old, new = samples([[1.0]] * 120), samples([[0.0]] * 3 + [[1.0]] * 117)
    (found,) = judged([cell(paired(old, new, bounded=True))])
    assert families_for(found.change.spread, 0.05) < 120
    assert found.verdict == "underpowered" and found.needed is not None and 120 < found.needed < 400
    many = math.ceil(found.needed / 120)
    new = samples(([[0.0]] * 3 + [[1.0]] * 117) * many)
    (enough,) = judged([cell(paired(samples([[1.0]] * 120 * many), new, bounded=True))])
    assert enough.verdict != "underpowered"


def test_four_families_say_nothing_however_alike() -> None:
    rows = [[5.0, 5.0]] * 4
    found = judged([cell(paired(samples(rows), samples(rows), bounded=False))])[0]
    assert found.verdict == "underpowered"


def test_scores_without_bounds_need_as_many_families_that_did_not_move() -> None:
    """A twentieth of the families that fall silent move the mean by the margin, and are missed by five in most runs."""
    for families, verdict in ((5, "underpowered"), (58, "underpowered"), (59, "equivalent")):
        rows = samples([[1.0]] * families)
        assert judged([cell(paired(rows, rows, bounded=False))])[0].verdict == verdict, families
    wide = samples([[float(i % 40)] for i in range(59)])  # a move from 0 to 39 is of 780 margins
    (found,) = judged([cell(paired(wide, wide, bounded=False))])
    assert found.verdict == "underpowered" and found.change.change.high > 1 and found.needed == 2336
    assert judged([cell(paired(wide, wide, bounded=False, discrete=False))])[0].verdict == "equivalent", "likelihoods"
    little = samples([[float(i % 40) + 0.01 * (-1) ** i] for i in range(59)])
    assert judged([cell(paired(wide, little, bounded=False))])[0].verdict == "equivalent", "all moved, a little"


@pytest.mark.parametrize(("families", "often"), [(60, 0.5), (20, 0.9)])
def test_shares_of_other_families_vary_as_pairs_do(families: int, often: float) -> None:
    """Nothing moved: the habit of both versions is to begin so many of their replies alike."""
    rng = np.random.default_rng(7)

    def replies() -> list[Scored]:
        words = [0 if rng.random() < often else int(rng.integers(1, 1000)) for _ in range(families)]
        alike = [(words.count(word) - 1) / (families - 1) for word in words]
        return pseudo_values([Scored(str(i), "0", share) for i, share in enumerate(alike)], 2)

    alarms = held = 0
    for _ in range(200):
        before, after = replies(), replies()
        found = judged([cell(paired(before, after, bounded=True, degree=2))])[0]
        alarms += found.verdict in ("regressed", "improved")
        one = mean(before, bounded=True, degree=2)
        held += one.low <= often**2 <= one.high
    assert alarms <= 200 * 0.05 + 3 * math.sqrt(200 * 0.05 * 0.95)
    assert held >= 200 * 0.95 - 3 * math.sqrt(200 * 0.05 * 0.95)


def test_the_plan_counts_the_behaviours_beside() -> None:
    alone, among = (smallest_change(1.0, 60, among=count) for count in (1, 20))
    assert 1.3 * alone < among < 1.6 * alone


def test_a_margin_has_to_be_given() -> None:
    rows = samples([[1.0]] * 6)
    with pytest.raises(UserError, match="expected a margin above 0 for b, got 0"):
        judged([cell(paired(rows, rows, bounded=True), margin=0)])


def test_adjustments_are_those_of_the_papers() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert holm([]) == [] and benjamini_hochberg([]) == []


def test_guards_and_others_are_adjusted_apart() -> None:
    rng = np.random.default_rng(3)
    change = paired(
        samples(rng.normal(size=(30, 1)).tolist()), samples(rng.normal(0.5, 1, (30, 1)).tolist()), bounded=False
    )
    found = judged([cell(change), *[cell(change, tag="target")] * 3])
    assert found[0].p_adjusted == pytest.approx(found[0].p_moved)  # alone among the guards


@pytest.mark.parametrize("families", [5, 12, 40])
def test_the_interval_covers_at_its_rate_with_few_families(families: int) -> None:
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(400):
        p_G = rng.beta(4, 1, families)
        before, after = ((rng.random((families, 2)) < p_G[:, None]).astype(float).tolist() for _ in range(2))
        found = paired(samples(before), samples(after), bounded=True).change
        held += found.low <= 0 <= found.high
    assert held >= 400 * 0.95 - 3 * math.sqrt(400 * 0.05 * 0.95)


def test_the_plan_says_what_is_then_seen() -> None:
    rng = np.random.default_rng(5)
    families = 60
    size = smallest_change(1.0, families)
    seen = sum(
        judged(
            [
                cell(
                    paired(
                        samples([[0.0]] * families),
                        samples(rng.normal(-size, 1, (families, 1)).tolist()),
                        bounded=False,
                    )
                )
            ]
        )[0].verdict
        == "regressed"
        for _ in range(300)
    )
    assert seen / 300 == pytest.approx(0.8, abs=0.08)
    assert families_for(1.0, 0.5, reach=0.0) == math.ceil(((1.6449 + 1.2816) / 0.5) ** 2)
    assert smallest_change(1.0, 1) == math.inf
    assert smallest_change(1.0, families, rate=0.5) == size, "nothing varies more than what is right in half"
    assert smallest_change(0.1, families, rate=0.05) == smallest_change(0.1, families)


def test_the_plan_knows_that_a_fallen_rate_varies_more() -> None:
    """Of a base that is right in 97%: a fall of the size that was planned is seen in four of five runs."""
    rng = np.random.default_rng(6)
    families, rate = 80, 0.97

    def drawn(p: float) -> list[list[float]]:
        return (rng.random((families, 1)) < p).astype(float).tolist()

    still = [paired(samples(drawn(rate)), samples(drawn(rate)), bounded=True) for _ in range(40)]
    spread = float(np.mean([one.spread for one in still]))
    size = smallest_change(spread, families, rate=float(np.mean([one.base.value for one in still])))
    seen = 0
    for _ in range(300):
        found = judged([cell(paired(samples(drawn(rate)), samples(drawn(rate - size)), bounded=True))])[0]
        seen += found.p_adjusted <= 0.05 and found.change.change.value < 0
    assert 0.77 < seen / 300 < 0.95
    assert size > 1.1 * smallest_change(spread, families)


def test_what_a_base_run_tells_of_the_spread() -> None:
    rows = samples([[1.0]] * 50 + [[0.0]] * 50)
    assert expected_spread(rows, bounded=False) == pytest.approx(math.sqrt(2) * 0.5, rel=0.02)
    assert expected_spread(samples([[1.0]]), bounded=False) == math.inf


def test_one_mean_has_an_interval_within_its_range() -> None:
    found = mean(samples([[1.0]] * 20), bounded=True)
    assert found.value == 1.0 and 0.75 < found.low < 0.95 and found.high == 1.0
    with pytest.raises(UserError, match="expected samples with scores, found none"):
        mean([Scored("a", "0", None)], bounded=True)


def test_evidence_may_be_looked_at_after_every_family() -> None:
    rng = np.random.default_rng(6)
    runs = [evidence(rng.choice([-1, 0, 0, 0, 1], 150).astype(float)) for _ in range(500)]
    assert sum(bool((run >= 20).any()) for run in runs) <= 500 * 0.05 + 3 * math.sqrt(500 * 0.05 * 0.95)
    assert evidence(np.full(60, -0.3))[-1] > 20 and evidence(np.full(60, -0.3), sides="above")[-1] <= 1
    assert evidence(np.zeros(300), null=-0.1, sides="above")[-1] > 20  # that nothing fell by as much as 0.1
    with pytest.raises(UserError, match=r"expected changes in \[-1, 1\]"):
        evidence([3.0])


def test_a_guard_at_its_ceiling_is_not_called_equivalent_too_soon() -> None:
    """Of a base that is always right, families fall all the way or not at all: with a chance as large as the margin at
    most 5% of draws may be called equivalent, and where nothing fell so many as `families_for` says are enough."""
    from scipy.stats import binom

    def verdict(families: int, fell: int) -> str:
        base = [Scored(str(i), "0", 1.0) for i in range(families)]
        new = [Scored(str(i), "0", float(i >= fell)) for i in range(families)]
        return judged([Cell("x", "guard", "up", 0.05, paired(base, new, bounded=True))])[0].verdict

    for families in (20, 35, 58, 59, 100, 200):
        called = [fell for fell in range(families // 10) if verdict(families, fell) == "equivalent"]
        assert sum(binom.pmf(called, families, 0.05)) <= 0.05
        assert (0 in called) == (families >= 59)
    assert families_for(0.0, 0.05) == 59


@pytest.mark.parametrize("families", [12, 60, 200])
@pytest.mark.parametrize("of_families", [0.5, 1.0, 2.2, 3.5, 8.0])
def test_an_interval_at_a_ceiling_holds_the_fall(families: int, of_families: float) -> None:
    """Exactly, over how many families fall, some 0.5 to 8 of them."""
    from scipy.stats import binom

    base, fall, held = [Scored(str(i), "0", 1.0) for i in range(families)], of_families / families, 0.0
    for fell in range(families + 1):
        new = [Scored(str(i), "0", float(i >= fell)) for i in range(families)]
        change = paired(base, new, bounded=True).change
        held += float(binom.pmf(fell, families, fall)) * (change.low <= -fall <= change.high)
    assert held >= 0.93
