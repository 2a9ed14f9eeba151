"""Whether an instrument (a judge, a classifier) says what people said, on samples that people have labelled. No torch.

    found = agreement([(1.0, 1.0), (0.0, 1.0), …])           # (a person's label, the instrument's score), in [0, 1]
    found.accuracy, found.kappa                              # Estimates
    found.problem                                            # why it is too little to count, or ""

Kappa is Cohen's, with squared weights where there are more than two labels (Cohen 1968): 1 − D / E, D the mean squared
difference between the two, E what it would be if they had nothing to do with each other. Its interval is Wilson's for D
(a mean of what lies in [0, 1] varies at most as a proportion does), with E held at what was found: a sample in which
almost all labels are the same has a small E, and shows little, whatever its accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glasshouse.types import Estimate

LEAST, FEWEST = 0.4, 20  # lower end of kappa's interval, "moderate" agreement (Landis and Koch 1977); labels
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
