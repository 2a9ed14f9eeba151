"""Whether an answer says a value, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterable


def says(said: str, value: str, others: Iterable[str], *, named: str = "", spaced: bool = True) -> bool:
    """Whether the last sentence says the value, and none of the others but those that stand in `named` (the question,
    the right answer). spaced: words of the language stand between spaces; without it a value may be part of a longer
    word."""
    sentences = [part for part in re.split(r"(?<=[.!?؟。！？])\s*(?=\S)", said) if part.strip(" .")]
    last, others = sentences[-1] if sentences else "", list(others)
    found = values_in(last, {value, *others}, spaced=spaced)
    return value.casefold() in found and not found - {value.casefold()} - values_in(named, others, spaced=spaced)


def values_in(text: str, values: Iterable[str], *, spaced: bool = True) -> set[str]:
    """Which of the values stand in the text, casefolded; the longest first where one is part of another."""
    longest_first = sorted(values, key=len, reverse=True)  # "Tala" before "Tal", where nothing shows a word's end
    choice = "|".join(map(re.escape, longest_first))
    edges = r"(?<!\w)(?:{})(?!\w)" if spaced else r"(?<!\d)(?:{})(?!\d)"
    return {match.casefold() for match in re.findall(edges.format(choice), text, re.IGNORECASE)} if choice else set()
