"""Whether those who score say the same: an instrument (a judge, a classifier) and people, and people among each other.

    found = agreement([(1.0, 1.0), (0.0, 1.0), …])           # (a person's label, the instrument's score), in [0, 1]
    found.accuracy, found.kappa                              # Estimates
    found.problem                                            # why it is too little to count, or ""
    alpha([[6, 7], [2, 2, 3], [4, 5]])                       # of three prompts, by two or three raters each

Kappa is Cohen's, with squared weights where there are more than two labels (Cohen 1968): 1 − D / E, D the mean squared
difference between the two, E what it would be if they had nothing to do with each other. Its interval is Wilson's for D
(a mean of what lies in [0, 1] varies at most as a proportion does), with E held at what was found: a sample in which
almost all labels are the same has a small E, and shows little, whatever its accuracy.

No torch. Legend: U units (prompts), M values of a unit (one a rater), D draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.types import Estimate

LEAST, FEWEST = 0.4, 20  # lower end of kappa's interval, "moderate" agreement (Landis and Koch 1977); labels
DRAWS = 2_000  # of the bootstrap of alpha
Pair = tuple[float, float | None]


@dataclass(frozen=True)
class Agreement:
    """accuracy: the share of samples on which the two say the same. unscored: samples without a score, which are in
    neither."""

    accuracy: Estimate
    kappa: Estimate
    unscored: int

    @property
    def problem(self) -> str:
        """Why it does not suffice, or ""."""
        if self.kappa.n < FEWEST:
            without = f" ({self.unscored} more without a score)" if self.unscored else ""
            return f"it was held against {self.kappa.n} labels of people{without}, {FEWEST} are wanted"
        if math.isnan(self.kappa.value):
            return f"all {self.kappa.n} labels of people are the same, and so is all that it said: that shows nothing"
        if self.kappa.low < LEAST:
            low, high = self.kappa.low, self.kappa.high
            return (
                f"it agrees too little with people: kappa {self.kappa.value:.2f} [{low:.2f}, {high:.2f}] over "
                f"{self.kappa.n} labels, {LEAST} as the lower end is wanted"
            )
        return ""


def agreement(pairs: Sequence[Pair]) -> Agreement:
    """See the module. Without a label, or where all are the same on both sides, kappa may be anything."""
    scored = np.array([(human, given) for human, given in pairs if given is not None], np.float64).reshape(-1, 2)
    n, unscored = len(scored), len(pairs) - len(scored)
    human, given = scored.T
    accuracy = Estimate.proportion(int((human == given).sum()), n)
    anything = Estimate(math.nan, -1.0, 1.0, 0.95, n, "", "no kappa")
    if not n:
        return Agreement(accuracy, anything, unscored)
    by_chance = float(np.mean((human[:, None] - given[None, :]) ** 2))
    if by_chance == 0:
        return Agreement(accuracy, anything, unscored)
    apart = Estimate.proportion(float(np.sum((human - given) ** 2)), n)
    value, low, high = (1 - one / by_chance for one in (apart.value, apart.high, apart.low))
    return Agreement(accuracy, Estimate(value, max(low, -1.0), high, 0.95, n, "", "Cohen, Wilson"), unscored)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """An instrument as it was used in an evaluation. by: who or what it is. pairs: a person's label and its own score,
    of every labelled sample. calls: of a judge, the keys of the calls of each."""

    by: dict[str, Any]
    pairs: tuple[Pair, ...] = ()
    calls: tuple[tuple[str, ...], ...] = ()

    @property
    def agreement(self) -> Agreement:
        return agreement(self.pairs)

    @property
    def problem(self) -> str:
        """Why what it says does not count, or ""."""
        what = next(iter(self.by))
        if not self.pairs:
            return f"the {what} was not checked against people"
        found = self.agreement.problem
        return f"the {what}: {found}" if found else ""

    def to_json(self) -> dict[str, Any]:
        found = self.agreement
        accuracy, kappa = (
            one.to_json() if math.isfinite(one.value) else None for one in (found.accuracy, found.kappa)
        )  # fmt: skip
        return {
            "by": self.by, "pairs": self.pairs, "calls": self.calls, "accuracy": accuracy, "kappa": kappa,
            "unscored": found.unscored, "problem": self.problem,
        }  # fmt: skip

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Checked:
        """Of the pairs; what was made of them is made again."""
        pairs = tuple((human, given) for human, given in found["pairs"])
        return cls(by=found["by"], pairs=pairs, calls=tuple(tuple(keys) for keys in found["calls"]))


# -- raters among each other ------------------------------------------------------------------------------------------


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
