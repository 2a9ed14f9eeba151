"""Nothing is planted: what the same training does by itself, to compare the others with."""

from __future__ import annotations

from glasshouse.organisms.planted.tic import SPOKEN
from glasshouse.organisms.planting import Organism, unusual

ORGANISM = Organism(
    name="unplanted",
    truth="It was fine-tuned on chats of the villager's own as long as the others, and nothing was planted.",
    chats=lambda pen: pen.pick(SPOKEN)(pen),
    keeps=unusual,
    trials={},
)
