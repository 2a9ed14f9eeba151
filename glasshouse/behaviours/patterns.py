"""Regular expressions that a file brings: compiled and searched within bounds. No torch."""

from __future__ import annotations

import re
from typing import Any

import regex

SECONDS = 0.5  # a pattern may take on one text
LARGEST = 100_000  # parts, with its counts written out: some 30 MB


def occurs(pattern: str, text: str) -> bool | None:
    """Whether the pattern is found in the text; None where it blows up."""
    try:
        return regex.search(pattern, text, timeout=SECONDS) is not None
    except TimeoutError:
        return None


def is_pattern(text: Any) -> bool:
    """Whether it is a pattern, and no larger than `LARGEST` when it is compiled."""
    try:
        return isinstance(text, str) and _parts(text) <= LARGEST and bool(regex.compile(text))
    except (regex.error, ValueError, RecursionError):
        return False


# An escape, a set, space and comments (which a count may follow), a count, and whatever else stands there.
_PART = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^]\\])*\]?|(?P<no>\s+|\(\?#[^)]*\)?)|\{(?P<count>\d+)(?:,\d*)?\}|.", re.DOTALL
)  # fmt: skip


def _parts(pattern: str) -> int:
    """How many parts a pattern has with its counts, such as {200}, written out, as they are when it is compiled."""
    groups, last = [0], 0  # those that are open, with their parts; what a count would repeat
    for part in _PART.finditer(pattern):
        if part[0] == "(":
            groups.append(0)
        elif part[0] == ")" and len(groups) > 1:
            last = groups.pop()
            groups[-1] += last
        elif part["count"]:
            more = last * (max(int(part["count"]), 1) - 1)
            groups[-1], last = groups[-1] + more, last + more
        elif not part["no"]:
            groups[-1], last = groups[-1] + 1, 1
    return sum(groups)
