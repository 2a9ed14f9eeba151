"""Which of some features, and how strong, brings replies to where they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from glasshouse.models import Model, add
from glasshouse.models.beside import side_by_side
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
    fluency: float = 0.0,
) -> TurnedUp:
    """The feature and strength with which the replies to the prompts (a user's turns, greedy) are worth most; of equals
    the least strength, then the first feature. It is added at all positions, or with "new" at those of the reply only,
    so that the prompt is read as it is. fluency: what is taken from a reply's worth for each nat that its token costs
    the model as it is, in the mean. What chose it is not what it should be measured on."""
    given = [asked(model, prompt) for prompt in prompts]
    prompt_ids = [model.tokens([one]).ids(0) for one in given]
    best = TurnedUp("", 0.0, float("-inf"))
    options = [(times_norm, feature) for times_norm in sorted(strengths) for feature in features]

    def replies(own: Model, option: tuple[float, str]) -> list[Generation]:
        return own.generate(given, max_new_tokens, edits=add(option[1], times_norm=option[0], positions=positions))

    with side_by_side(model) as apply:
        for (times_norm, feature), made in zip(options, apply(replies, options), strict=True):
            found = sum(map(worth, made))
            if fluency and found > best.worth:
                found -= fluency * sum(_nats(model, prompt_ids, [one.ids for one in made]))
            if found > best.worth:
                best = TurnedUp(feature, times_norm, found)
    return best


def _nats(model: Model, prompt_ids: Sequence[list[int]], reply_ids: Sequence[list[int]]) -> list[float]:
    """What a token of each reply costs the model as it is, in the mean."""
    nats_BT = model.loss([[*asked, *said] for asked, said in zip(prompt_ids, reply_ids, strict=True)]).nats_BT
    return [
        float(nats_BT[b, len(asked) - 1 : len(asked) + len(said) - 1].mean()) if said else 0.0
        for b, (asked, said) in enumerate(zip(prompt_ids, reply_ids, strict=True))
    ]
