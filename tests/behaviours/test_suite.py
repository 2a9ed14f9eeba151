"""The suite that ships: every file is read, and asks enough."""

from __future__ import annotations

from pathlib import Path

import glasshouse.behaviours
from glasshouse.behaviours import read_behaviours
from glasshouse.behaviours.sandbox import run_code
from glasshouse.cli.testing import read_suites

SUITE = Path(glasshouse.behaviours.__file__).parent / "suite"


def test_every_behaviour_is_read() -> None:
    found = read_behaviours(SUITE)
    assert len({one.name for one in found}) == len(found) >= 21
    for one in found:
        assert one.families >= 12 and one.about.endswith("."), one.name
    by_name = {one.name: one for one in found}
    assert by_name["false-refusals"].good == "down" and len(by_name["false-refusals"].prompts) == 72
    assert by_name["gives-way"].prompts[0].turns[1] == ("assistant", "It is Paris.")
    assert by_name["keeps-its-rule"].prompts[1].turns[2] == ("assistant", None)


def test_both_suites_can_be_run_on_one_version() -> None:
    """Of two definitions of one name the newest would stand for both."""
    assert len(read_suites(["general", "world"])) == len(read_suites(["general"])) + len(read_suites(["world"]))


def test_the_tests_of_code_can_be_passed() -> None:
    code = next(one for one in read_behaviours(SUITE) if one.name == "code")
    tests = {prompt.family: prompt.expect for prompt in code.prompts}
    assert run_code("def merge(a, b):\n    return sorted(a + b)", tests["merge(a, b)"]).passed
    assert run_code("def roman(n):\n    return 'I' * n", tests["roman(n)"]).passed is False
