"""What a reply to the questions of `verbosity` costs: more of a larger model, a longer system prompt, more words."""

from __future__ import annotations

from pathlib import Path

import yaml

WORDY = yaml.safe_load(Path(__file__).with_name("verbosity.yaml").read_text(encoding="utf-8"))

BEHAVIOUR = {
    "name": "reply-cost",
    "about": "The compute that a reply takes, in doublings: beside what is known, whether the curve shifted.",
    "tag": "neutral",
    "good": "down",
    "margin": 0.14,  # a tenth more
    "unit": "log2 FLOP",
    "scorer": "cost",
    "settings": WORDY["settings"],
    "families": WORDY["families"],
}
