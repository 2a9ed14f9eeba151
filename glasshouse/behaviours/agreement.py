"""How far raters agree: Krippendorff's alpha, 1 for agreement without exception, 0 for what chance would give.

    alpha([[6, 7], [2, 2, 3], [4, 5]])                       # of three prompts, by two or three raters each

No torch. Legend: U units (prompts), M values of a unit (one a rater), D draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glasshouse.types import Estimate

DRAWS = 2_000


def alpha(units: Sequence[Sequence[float]], *, draws: int = DRAWS, seed: int = 0) -> Estimate | None:
    """Alpha = 1 − D_o / D_e of interval data, with the interval that resampling units gives (percentiles, 95%).

    D_o is the mean squared difference of values within units, D_e that of all values whatever their unit (Krippendorff
    2011, "Computing Krippendorff's Alpha-Reliability": any number of observers, missing data, the interval metric).
    Units with fewer than two values are left out. None where alpha is not defined: fewer than two units, or all values
    alike.
    """
    rated = [np.asarray(values, np.float64) for values in units if len(values) > 1]
    if len(rated) < 2:
        return None
    sums_U4 = np.array([_sums(values_M) for values_M in rated])
    value = _alpha(sums_U4.sum(0)[None])[0]
    if not np.isfinite(value):
        return None
    picks_DU = np.random.default_rng(seed).integers(len(rated), size=(draws, len(rated)))
    drawn_D = _alpha(sums_U4[picks_DU].sum(1))
    drawn_D = drawn_D[np.isfinite(drawn_D)]  # a draw in which all values are alike says nothing
    low, high = np.quantile(drawn_D, [0.025, 0.975])
    return Estimate(
        float(value), float(low), float(high), 0.95, len(rated), "", "Krippendorff's alpha, interval; bootstrap"
    )


def _sums(values_M: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Of a unit: how many values, their sum and sum of squares, and Σ (v − v')² / (m − 1) over its ordered pairs."""
    m, total, squares = len(values_M), float(values_M.sum()), float((values_M**2).sum())
    return m, total, squares, 2 * (m * squares - total**2) / (m - 1)


def _alpha(sums_D4: NDArray[np.float64]) -> NDArray[np.float64]:
    n_D, total_D, squares_D, within_D = sums_D4.T
    observed_D = within_D / n_D
    expected_D = 2 * (n_D * squares_D - total_D**2) / (n_D * (n_D - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected_D > 1e-12, 1 - observed_D / expected_D, np.nan)
