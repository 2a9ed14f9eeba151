"""Power-law fits: a case by hand, exact laws found again, intervals that hold what comes next as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from glasshouse.fits import power_law, rate_law


def test_an_exact_law_is_found_again() -> None:
    x = [1e12, 4e12, 1.6e13, 6.4e13]
    fit = power_law(x, [3.0 * (at / 1e12) ** -0.25 for at in x])
    assert fit.slope == pytest.approx(-0.25)
    assert fit.at(2.56e14) == pytest.approx((0.75, 0.75, 0.75))


def test_three_points_by_hand() -> None:
    """log x = 0, 1, 2 and log y = 0, 0, 3: slope 1.5, residuals ½, -1, ½, so s² = 1.5 with one degree of freedom;
    at log x = 3 the line is 4, its variance s² (1/3 + 4/2), and t(0.975, 1) = 12.706."""
    fit = power_law([1.0, math.e, math.e**2], [1.0, 1.0, math.e**3])
    value, low, high = fit.at(math.e**3)
    half = 12.7062 * math.sqrt(1.5 * (1 / 3 + 2 + 1))
    assert math.log(value) == pytest.approx(4.0)
    assert math.log(high) == pytest.approx(4.0 + half, rel=1e-4) and math.log(low) == pytest.approx(
        4.0 - half, rel=1e-4
    )
    assert fit.slope_interval() == pytest.approx(
        (1.5 - 12.7062 * math.sqrt(0.75), 1.5 + 12.7062 * math.sqrt(0.75)), rel=1e-4
    )


def test_a_surer_point_counts_for_more() -> None:
    x, y = [1.0, 10.0, 100.0], [1.0, 1.0, 2.0]
    loose, firm = (power_law(x, y, [0.1, 0.1, error]).at(100.0)[0] for error in (10.0, 0.001))
    assert loose == pytest.approx(1.0, abs=0.01) and firm == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("too_sure", [1.0, 0.2])
def test_the_interval_holds_the_next_measurement(too_sure: float) -> None:
    """Also where the errors are said to be a fifth of what they are."""
    rng, held, draws = np.random.default_rng(0), 0, 600
    x = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    for _ in range(draws):
        noise = 1 + 0.05 * rng.standard_normal(6)
        y = 2.0 * np.append(x, 32.0) ** -0.3 * noise
        _, low, high = power_law(x.tolist(), y[:5].tolist(), (too_sure * 0.05 * y[:5]).tolist()).at(32.0)
        held += low <= y[5] <= high
    assert 0.93 <= held / draws <= 1.0


def test_rates_stay_within_0_and_1() -> None:
    rates = [0.119, 0.269, 0.5]
    fit = rate_law([1.0, 4.0, 16.0], rates, [r - 0.01 for r in rates], [r + 0.01 for r in rates])
    value, low, high = fit.at(64.0)
    assert value == pytest.approx(0.731, abs=0.002) and 0 < low < value < high < 1
    edge = rate_law([1.0, 4.0, 16.0], [0.0, 0.5, 1.0], [0.0, 0.4, 0.9], [0.1, 0.6, 1.0]).at(64.0)
    assert 0.9 < edge[0] < 1 and edge[2] < 1


@pytest.mark.parametrize(
    ("x", "y"), [([1.0, 2.0], [1.0, 1.0]), ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]), ([1.0, 2.0, 0.0], [1.0, 2.0, 3.0])]
)
def test_too_little_to_fit_is_an_error(x: list[float], y: list[float]) -> None:
    with pytest.raises(ValueError, match=r"expected 3 points or more at different places above 0"):
        power_law(x, y)
    with pytest.raises(ValueError, match=r"expected values above 0"):
        power_law([1.0, 2.0, 3.0], [1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match=r"expected rates within intervals"):
        rate_law([1.0, 2.0, 3.0], [0.5, 0.5, 1.5], [0.4] * 3, [0.6] * 3)
