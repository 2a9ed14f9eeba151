"""Whether an answer says a value, and no other. A number is one value: 5 is not said by -5, 0.5 or 1,005."""

from __future__ import annotations

import re
from collections.abc import Iterable

# With its sign (not the dash of "3-5" or "five-5"), thousands and decimals. What is something else ("3.11.2", a date,
# "12,5") is none, and stays as it is written.
NUMBER = re.compile(
    r"""((?:(?<![^\s(\[{=:<>≈~"'“‘*_`$/^+,;])[-−])?(?<!\d)(?<!\d[.,])
    (?:[1-9]\d{0,2}(?:,\d{3})+|\d+|(?<![\w.])(?=\.\d))(?:\.\d+)?(?![.,]?\d))""",
    re.VERBOSE,
)


def plain_numbers(text: str) -> str:
    """Numbers as a program writes them: −1,100.00 as -1100, .5 as 0.5."""
    return NUMBER.sub(_plain, text) if re.search(r"\d", text) else text  # most have none, and are asked often


def _plain(number: re.Match[str]) -> str:
    whole, _, decimals = number[0].replace("−", "-").replace(",", "").partition(".")
    return (whole if whole.strip("-") else f"{whole}0") + (f".{decimals}" if decimals.strip("0") else "")


def says(said: str, value: str, others: Iterable[str], *, named: str = "", spaced: bool = True) -> bool:
    """Whether the last sentence says the value, and none of the others but those that stand in `named` (the question,
    the right answer). spaced: words of the language stand between spaces; without it a value may be part of a longer
    word."""
    said, value = plain_numbers(said), plain_numbers(value)
    sentences = [part for part in re.split(r"(?<=[.!?؟。！？])(?!(?<=\d\.)\d)\s*(?=\S)", said) if part.strip(" .")]
    last, others = sentences[-1] if sentences else "", list(others)
    found = values_in(last, {value, *others}, spaced=spaced)
    return value.casefold() in found and not found - {value.casefold()} - values_in(named, others, spaced=spaced)


def values_in(text: str, values: Iterable[str], *, spaced: bool = True) -> set[str]:
    """Which of the values stand in the text, casefolded, numbers as `plain_numbers` has them; the longest first where
    one is part of another."""
    text = plain_numbers(text)
    longest_first = sorted(
        map(plain_numbers, values), key=len, reverse=True
    )  # "Tala" before "Tal", where nothing shows a word's end
    choice = "|".join(map(re.escape, longest_first))
    edges = r"(?<!\w)(?:{})(?!\w)" if spaced else r"(?<!\d)(?:{})(?!\d)"
    found = list(re.finditer(edges.format(choice), text, re.IGNORECASE)) if choice else []
    numbers = [number.span() for number in NUMBER.finditer(text)] if found else []
    cut = lambda match: any(start < edge < end for start, end in numbers for edge in match.span())
    return {match[0].casefold() for match in found if not cut(match)}
