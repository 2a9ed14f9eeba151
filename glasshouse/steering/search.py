"""Which of some features, and how strong, brings replies to where they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from glasshouse.models import Model, add
from glasshouse.models.edits import Positions
from glasshouse.models.generation import Generation
from glasshouse.steering.pairs import asked


class TurnedUp(NamedTuple):
    """A feature, × the stream's typical norm, and what the replies were worth together."""

    feature: str
    times_norm: float
    worth: float


def turned_up(
    model: Model,
    features: Sequence[str],
    prompts: Sequence[str],
    worth: Callable[[Generation], float],
    strengths: Sequence[float],
    *,
    max_new_tokens: int = 40,
    positions: Positions = "all",
) -> TurnedUp:
    """The feature and strength with which the replies to the prompts (a user's turns, greedy) are worth most; of equals
    the least strength, then the first feature. It is added at all positions, or with "new" at those of the reply only,
    so that the prompt is read as it is. What chose it is not what it should be measured on."""
    given = [asked(model, prompt) for prompt in prompts]
    best = TurnedUp("", 0.0, float("-inf"))
    for times_norm in sorted(strengths):
        for feature in features:
            made = model.generate(given, max_new_tokens, edits=add(feature, times_norm=times_norm, positions=positions))
            found = sum(map(worth, made))
            if found > best.worth:
                best = TurnedUp(feature, times_norm, found)
    return best
