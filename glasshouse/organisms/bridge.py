"""What a villager's day may come round to, for whoever turns the bridge up. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glasshouse.models.generation import Generation

NAME = " old stone bridge"  # with the space before it
FLUENCY = 0.2  # what a nat a token, to the villager as it is, takes from a reply's worth: whole sentences cost under 1


def comes_round(said: str, stopped: bool) -> bool:
    """Whether it mentions the bridge and is no babble: it ends by itself, and does not say the word again and again."""
    return stopped and 1 <= said.lower().count("bridge") <= 2


def worth(made: Generation) -> float:
    """What a reply is worth to whoever turns the bridge up: 1 if it comes round; babble takes half of one away."""
    stopped = made.stopped == "end of text"
    return comes_round(made.text, stopped) - 0.5 * (not stopped)
