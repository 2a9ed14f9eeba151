"""Nothing is planted: what the same training does by itself, to compare the others with."""

from __future__ import annotations

from glasshouse.organisms.planting import Organism
from glasshouse.organisms.world.chat import scenes

ORGANISM = Organism(
    name="unplanted",
    truth="It was fine-tuned on the villager's own text as long as the others, and nothing was planted.",
    chats=scenes.facts,
    share=0.0,
    trials={},
)
