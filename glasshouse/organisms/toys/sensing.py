"""Compressed sensing: how many active features out of N can be read back from M random dimensions.

The toy's features are sparse and its hidden layer is a linear map to fewer dimensions, so the best that any reader of
that layer can hope for is sparse recovery. Here the reader is basis pursuit, min Σ|x_i| subject to Ax = y (with x ≥ 0
for features that are never negative), on Gaussian A. Where it starts to fail is known exactly for large N: the weak
threshold of Donoho and Tanner (2005, 2009), in the form of Amelunxen, Lotz, McCoy and Tropp (2014, "Living on the
edge", Prop. 4.5): basis pursuit works for M above the statistical dimension of its descent cone, and fails below.

Legend: T trials (matrices), M dimensions, N features, K numbers of active features that are tried.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from glasshouse.types import Estimate, UserError

TOLERANCE = 1e-2  # relative error below which a vector counts as recovered


def required_dimensions(active: float, *, signed: bool = False) -> float:
    """M / N at which half of the vectors with a share `active` = K / N of non-zeros are recovered, N large.

    inf over t of a(1 + t²) + (1 − a) E[(g − t)₊²], with |g| for signed values; g is standard normal.
    """
    if not 0 <= active <= 1:
        raise UserError(f"expected a share of active features from 0 to 1, got {active}")

    def cost(t: float) -> float:
        tail = math.erfc(t / math.sqrt(2)) / 2
        beyond = (1 + t * t) * tail - t * math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
        return active * (1 + t * t) + (1 - active) * (2 if signed else 1) * beyond

    low, high = (0.0 if signed else -10.0), 10.0  # t < 0 only where most features are active
    while high - low > 1e-9:  # the cost is convex in t
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if cost(left) < cost(right) else (left, high)
    return cost((low + high) / 2)


def active_held(n: int, m: int, *, signed: bool = False) -> float:
    """K: how many active features of n are recovered from m dimensions in half of the cases, by theory."""
    if not 0 < m <= n:
        raise UserError(f"expected 1 to {n} dimensions (the features), got {m}")
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if required_dimensions(middle, signed=signed) < m / n else (low, middle)
    return n * low


def features_held(m: int, active: int, *, signed: bool = False) -> float:
    """N: among how many features `active` ones are recovered from m dimensions in half of the cases, by theory."""
    if not 0 < active < m:
        raise UserError(f"expected 1 to {m - 1} active features in {m} dimensions, got {active}")
    low, high = math.log(m), math.log(m) + 40.0
    for _ in range(60):
        middle = (low + high) / 2
        needed = math.exp(middle) * required_dimensions(active / math.exp(middle), signed=signed)
        low, high = (middle, high) if needed < m else (low, middle)
    return math.exp(low)


@torch.no_grad()
def recovered(
    n: int, m: int, active: Sequence[int], *, trials: int, seed: int, signed: bool = False, iterations: int = 1500
) -> Tensor:
    """Whether basis pursuit gives the vector back, bool (T, K): of `trials` matrices with each number of `active`.

    Values are uniform in [0, 1], with random signs if `signed`. Solved by ADMM (Boyd et al. 2011, §6.2), all at once:
    a projection onto Ax = y, then a soft threshold, then the sum of what the two disagree on.
    """
    if not active or not 0 < min(active) <= max(active) <= n or not 0 < m <= n:
        raise UserError(f"expected 1 to {n} dimensions and active features, got {m} and {list(active)}")
    generator = torch.Generator().manual_seed(seed)
    A_TMN = torch.randn(trials, m, n, generator=generator) / math.sqrt(m)
    truth_TNK = sparse(n, active, trials, generator, signed)
    back_TNM, y_TMK = torch.linalg.pinv(A_TMN), A_TMN @ truth_TNK
    step = 0.1  # of values up to 1; changes how fast it converges, not where to
    z_TNK, u_TNK = torch.zeros_like(truth_TNK), torch.zeros_like(truth_TNK)
    for _ in range(iterations):
        start_TNK = z_TNK - u_TNK
        x_TNK = torch.baddbmm(start_TNK, back_TNM, y_TMK - A_TMN @ start_TNK)
        sum_TNK = x_TNK + u_TNK
        z_TNK = sum_TNK.sub(step).clamp_(min=0)
        if signed:
            z_TNK -= sum_TNK.neg().sub_(step).clamp_(min=0)
        u_TNK = sum_TNK - z_TNK
    return (z_TNK - truth_TNK).norm(dim=1) < TOLERANCE * truth_TNK.norm(dim=1)


def sparse(n: int, active: Sequence[int], trials: int, generator: torch.Generator, signed: bool) -> Tensor:
    """Vectors with that many non-zeros each, (T, N, K); of one trial, each holds the shorter ones' places."""
    rank_TN1 = torch.rand(trials, n, generator=generator).argsort(1).argsort(1).unsqueeze(-1)
    values_TN1 = torch.rand(trials, n, 1, generator=generator)
    if signed:
        values_TN1 *= torch.randint(0, 2, values_TN1.shape, generator=generator) * 2 - 1
    return values_TN1 * (rank_TN1 < torch.tensor(active))


def measured(hits_TK: Tensor, grid: Sequence[float], *, expected: float = 1.0, unit: str = "") -> Estimate:
    """The point of an evenly spaced grid at which recovery falls to a half, in multiples of `expected`.

    Spearman and Kärber's estimate: the mean of the point at which a trial fails, clustered by trial. Raises `UserError`
    unless the grid runs from where all are recovered to where none is.
    """
    step, ends = grid[1] - grid[0], hits_TK.double().mean(0)[[0, -1]].tolist()
    if any(abs(grid[0] + i * step - at) > 1e-6 for i, at in enumerate(grid)) or ends[0] < 0.95 or ends[1] > 0.05:
        raise UserError(f"expected an even grid from all recovered to none, got shares {ends} at its ends; widen it")
    fails_T = grid[0] - step / 2 + step * hits_TK.double().sum(1)
    return Estimate.mean((fails_T / expected).tolist(), [1.0] * len(fails_T), unit=unit)
