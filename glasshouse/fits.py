"""Power-law fits with intervals: numbers in, fit out.

    fit = power_law([1e12, 4e12, 1.6e13], [3.1, 2.7, 2.4], [0.02, 0.02, 0.02])
    fit.slope                                  # the exponent
    fit.at(6.4e13)                             # (value, low, high) there
    rate_law(flops, rates, lows, highs).at(...)    # of rates: their log-odds are linear in log x

A straight line between transformed values, by least squares weighted with what is known of each point's error. Where
the points lie further from the line than their errors let one expect, the errors are taken for too small by that factor
(Birge 1932, Physical Review 40, 207), which is never taken for less than 1. Intervals are Student's with n − 2 degrees
of freedom, so that three points say little, as they should.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm, t

FEWEST = 3  # points


@dataclass(frozen=True)
class Fit:
    """The line f(y) = intercept + slope · (log x − centre). covariance_22: of intercept and slope. spread: the standard
    deviation of one more point about it, in units of f. back: from f to y."""

    intercept: float
    slope: float
    centre: float
    covariance_22: NDArray[np.float64]
    spread: float
    points: int
    back: Callable[[float], float]

    def at(self, x: float, level: float = 0.95) -> tuple[float, float, float]:
        """Value and interval in which one more measurement at x is expected, if the law goes on to hold there."""
        row_2 = np.array([1.0, math.log(x) - self.centre])
        middle = self.intercept + self.slope * float(row_2[1])
        half = self._times(level) * math.sqrt(float(row_2 @ self.covariance_22 @ row_2) + self.spread**2)
        low, high = sorted((self.back(middle - half), self.back(middle + half)))
        return self.back(middle), low, high

    def slope_interval(self, level: float = 0.95) -> tuple[float, float]:
        half = self._times(level) * math.sqrt(float(self.covariance_22[1, 1]))
        return self.slope - half, self.slope + half

    def _times(self, level: float) -> float:
        return float(t.ppf((1 + level) / 2, self.points - 2))


def power_law(x: Sequence[float], y: Sequence[float], errors: Sequence[float] | None = None) -> Fit:
    """y = a · x^slope through three points or more, all positive. errors: the standard error of each y; without them
    all count alike. Raises `ValueError` for too few points, or ones that are not positive."""
    if not all(value > 0 for value in y):
        raise ValueError(f"expected values above 0 for a power law, got {min(y):g}")
    relative = None if errors is None else [e / value for e, value in zip(errors, y, strict=True)]
    return _line(x, [math.log(value) for value in y], relative, math.exp)


def rate_law(
    x: Sequence[float], rates: Sequence[float], lows: Sequence[float], highs: Sequence[float], level: float = 0.95
) -> Fit:
    """The log-odds of rates as a line in log x (for capabilities against compute: Ruan et al. 2024, arXiv 2405.10938).
    lows, highs: the rates' intervals at `level`, which give their errors; a rate of 0 or 1 is moved half way to the
    other end of its interval, as its log-odds have no value. Raises `ValueError`."""
    odds, errors = [], []
    for rate, low, high in zip(rates, lows, highs, strict=True):
        if not 0 <= low <= rate <= high <= 1 or low == high:
            raise ValueError(f"expected rates within intervals of [0, 1], got {rate:g} [{low:g}, {high:g}]")
        inside = (rate + (high if rate <= 0 else low)) / 2 if rate in (0, 1) else rate
        ends = [_logit(end) for end in (low, high) if 0 < end < 1]
        wide = max(abs(end - _logit(inside)) for end in ends) if ends else 1.0 / max(inside * (1 - inside), 1e-6)
        odds.append(_logit(inside))
        errors.append(wide / float(norm.ppf((1 + level) / 2)))
    return _line(x, odds, errors, lambda value: float(expit(value)))


def _logit(rate: float) -> float:
    return math.log(rate / (1 - rate))


def _line(
    x: Sequence[float], f: Sequence[float], errors: Sequence[float] | None, back: Callable[[float], float]
) -> Fit:
    if len(x) < FEWEST or len(set(x)) < 2 or not all(value > 0 for value in x):
        raise ValueError(f"expected {FEWEST} points or more at different places above 0, got {list(x)}")
    at_N, f_N = np.log(np.asarray(x, float)), np.asarray(f, float)
    error_N = np.ones(len(f_N)) if errors is None else np.maximum(np.asarray(errors, float), 1e-9)
    weight_N = error_N**-2
    centre = float(np.average(at_N, weights=weight_N))
    design_N2 = np.stack([np.ones_like(at_N), at_N - centre], 1)
    inverse_22 = np.linalg.inv(design_N2.T @ (weight_N[:, None] * design_N2))
    intercept, slope = inverse_22 @ (design_N2.T @ (weight_N * f_N))
    left_N = f_N - design_N2 @ np.array([intercept, slope])
    scale = float((weight_N * left_N**2).sum()) / (len(f_N) - 2)  # χ² a degree of freedom
    scale = scale if errors is None else max(scale, 1.0)
    typical = math.sqrt(scale * len(f_N) / float(weight_N.sum()))
    return Fit(float(intercept), float(slope), centre, scale * inverse_22, typical, len(f_N), back)
