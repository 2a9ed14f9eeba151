"""Changes that may be looked at after every family, while a run goes on. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from glasshouse.types import UserError


def evidence(changes: Sequence[float], null: float = 0.0, *, sides: Literal["both", "above", "below"] = "both") -> Any:
    """After each family, how much its changes and those before speak against a mean of `null`: an e-process (G,).

    Changes lie in [−1, 1]. The product Π (1 + λ (x − null)) is a fair bet where the mean is `null`, whatever the
    changes' distribution, so that it exceeds 1/α at any time with a probability of at most α (Ville): a run may be
    looked at after every family and ended when it does. λ is set from what came before (Waudby-Smith and Ramdas 2023,
    "Estimating means of bounded random variables by betting", aGRAPA), at most ½ of what could lose all. sides "above"
    bets on a mean above `null`, "below" on one below it, "both" half on each.
    """
    x_G = np.asarray(changes, np.float64)
    if len(x_G) and (np.abs(x_G) > 1).any():
        raise UserError(f"expected changes in [-1, 1], got one of {np.abs(x_G).max():.3g}; scale the scores to [0, 1]")
    if not -1 < null < 1:
        raise UserError(f"expected a mean between -1 and 1, got {null}")
    seen = np.arange(len(x_G))
    mean_G = np.concatenate([[0.0], np.cumsum(x_G)[:-1]])[: len(x_G)] / (seen + 1)  # with one change of 0 before all
    square_G = np.concatenate([[0.0], np.cumsum(x_G**2)[:-1]])[: len(x_G)]
    var_G = (0.25 + square_G) / (seen + 1) - mean_G**2 + (mean_G - null) ** 2
    lean_G = (mean_G - null) / np.maximum(var_G, 1e-9)
    up = np.cumprod(1 + np.clip(lean_G, 0.0, 0.5 / (1 + null)) * (x_G - null))
    down = np.cumprod(1 + np.clip(lean_G, -0.5 / (1 - null), 0.0) * (x_G - null))
    return {"above": up, "below": down, "both": (up + down) / 2}[sides]
