"""What an answer says, numbers above all."""

from __future__ import annotations

import pytest

from glasshouse.text.answers import plain_numbers, says, values_in


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("−1,100.50 m", "-1100.50 m"), (".5, 5. and 5.00", "0.5, 5. and 5"), ("3-5, UTC-5, (-5)", "3-5, UTC-5, (-5)"),
        ("06.05.2024, v3.11.2, 12,5", "06.05.2024, v3.11.2, 12,5"), ("1,10 and 0,100", "1,10 and 0,100"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_a_program_writes_them(written: str, plain: str) -> None:
    assert plain_numbers(written) == plain == plain_numbers(plain)


def test_a_value_is_no_part_of_a_number() -> None:
    assert values_in("−5, 0.5, 1,005 and 12.5", ["5", "12", "1,005", "0.5"]) == {"1005", "0.5"}
    assert says("Not 4. It is 0.5.", "0.5", ["5", "4"]) and not says("It is 0.5.", "5", [])
    assert says("Es sind 12,5.", "12,5", [])


def test_words_are_as_they_were() -> None:
    assert values_in("Tala lives in Tal.", ["Tal", "tala"]) == {"tal", "tala"}
    assert says("彼はパン屋です。", "パン屋", ["料理人"], spaced=False)
