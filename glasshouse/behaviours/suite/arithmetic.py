"""Sums and products of two numbers, in three wordings."""

from __future__ import annotations

from random import Random
from typing import Any

WORDINGS = ("What is {}?", "Please work out {}.", "{} = ?")


def families() -> list[dict[str, Any]]:
    rng = Random(0)
    found: dict[str, int] = {}
    while len(found) < 90:
        sign = rng.choice("+-×")
        low, high = (2, 12) if sign == "×" else (11, 99)
        a, b = sorted((rng.randint(low, high), rng.randint(low, high)), reverse=True)
        found[f"{a} {sign} {b}"] = a + b if sign == "+" else a - b if sign == "-" else a * b
    return [
        {"family": asked, "expect": {"value": str(value)}, "prompts": [way.format(asked) for way in WORDINGS]}
        for asked, value in found.items()
    ]


BEHAVIOUR = {
    "name": "arithmetic", "about": "Adds, subtracts and multiplies two numbers.", "tag": "guard", "good": "up",
    "margin": 0.05, "scorer": "says", "settings": {"max_new_tokens": 40}, "families": families(),
}  # fmt: skip
