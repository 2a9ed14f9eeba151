"""Views: what is said of each position, against what a reader says of the same text."""

from __future__ import annotations

import numpy as np
import pytest

from glasshouse.features.views import build_views
from tests.features.planted import plain_text

CODE = [
    "\n       ",
    " print",
    "(",
    "don",
    "'",
    "t",
    " [",
    "x",
    "]",
    " '",
    "(",
    "#",
    "'",
    ")",
    " #",
    " a",
    "(",
    "\n",
    "b",
]


def said(tokens: list[str], view: str) -> list[str]:
    """What the view of that name says of each token; "" for nothing."""
    texts = sorted(set(tokens))
    ids = np.array([[texts.index(token) for token in tokens]] * 2)  # a document for each side
    views = build_views(plain_text(ids, 2, vocabulary=len(texts)), texts, 2, seed=0)
    (found,) = [one for one in views.views if one.name == view]
    return [found.describe([int(code)]) if code >= 0 else "" for code in found.code_P[: len(tokens)]]


def test_brackets_count_outside_quotes_only_and_close_their_own_kind():
    inside = said(CODE, "bracket")
    assert inside[:2] == ["", ""] and inside[2] == "inside round brackets"
    assert inside[6:8] == ["inside square brackets"] * 2 and inside[8] == "inside round brackets"
    assert inside[10:13] == ["inside round brackets"] * 3 and inside[13:] == [""] * 6


def test_the_token_before_a_bracket_names_it():
    opener = said(CODE, "opener")
    assert opener[3] == 'inside round brackets after "print"' and opener[7] == 'inside square brackets after "t"'


def test_quotes_end_with_themselves_or_their_line_and_an_apostrophe_is_none():
    quote = said(CODE, "quote")
    assert quote[3:6] == ["", "", ""] and quote[9:12] == ["inside single quotes"] * 3 and quote[12] == ""
    assert quote[14:17] == ["inside a comment after #"] * 3 and quote[17:] == ["", ""]


def test_a_line_is_indented_as_its_newline_says():
    assert said(CODE, "indent") == [""] + ["in lines indented by 8 spaces"] * 17 + ["in lines indented by 0 spaces"]


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        ("seen", ["tokens new in the context"] * 3 + ["tokens seen before in the context"] * 2),
        ("seen pair", ["pairs of tokens new in the context"] * 4 + ["pairs of tokens seen before in the context"]),
        ("after two", ["", "", 'after "a" "b"', 'after "b" "c"', 'after "c" "a"']),
    ],
)
def test_what_stood_before(view, expected):
    assert said([" a", " b", " c", " a", " b"], view) == expected
