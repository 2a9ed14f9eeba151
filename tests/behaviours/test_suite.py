"""The suite that ships: every file is read, and asks enough."""

from __future__ import annotations

from pathlib import Path

import pytest

import glasshouse.behaviours
from glasshouse.behaviours import evaluate, read_behaviours, version
from glasshouse.behaviours.sandbox import run_code
from glasshouse.behaviours.versions import loaded
from glasshouse.cli.testing import read_suites
from glasshouse.workspace import Workspace
from tests.conftest import copied

SUITE = Path(glasshouse.behaviours.__file__).parent / "suite"


def test_every_behaviour_is_read() -> None:
    found = read_behaviours(SUITE)
    assert len({one.name for one in found}) == len(found) >= 22
    for one in found:
        assert one.families >= 64 and one.about.endswith("."), one.name  # 59 of which none moved can be equivalent
        asked = [prompt.turns for prompt in one.prompts]
        assert len(set(asked)) == len(asked), f"{one.name} asks the same twice"
    by_name = {one.name: one for one in found}
    assert by_name["false-refusals"].good == "down" and len(by_name["false-refusals"].prompts) == 192
    assert by_name["gives-way"].prompts[0].turns[1] == ("assistant", "It is Paris.")
    assert by_name["keeps-its-rule"].prompts[1].turns[2] == ("assistant", None)


@pytest.mark.slow
def test_every_behaviour_runs_on_a_model(chatting: Path, tmp_path: Path) -> None:
    ws = Workspace.open(copied(chatting, tmp_path / "ws"))
    small = version("small", ws)
    opened = loaded(small, ws, device="cpu")
    for one in read_suites(["general"]):
        done = evaluate(small, one, ws, opened=opened)
        assert len(done.samples) == len(one.prompts) * one.settings.epochs and done.lacking <= 0.5, one.name
        assert all("context" in sample.error for sample in done.samples if sample.error), one.name  # it reads little
        assert done.mean.low <= done.mean.value <= done.mean.high


def test_both_suites_can_be_run_on_one_version() -> None:
    """Of two definitions of one name the newest would stand for both."""
    assert len(read_suites(["general", "world"])) == len(read_suites(["general"])) + len(read_suites(["world"]))


def test_the_tests_of_code_can_be_passed() -> None:
    code = next(one for one in read_behaviours(SUITE) if one.name == "code")
    tests = {prompt.family: prompt.expect for prompt in code.prompts}
    assert run_code("def merge(a, b):\n    return sorted(a + b)", tests["merge(a, b)"]).passed
    assert run_code("def roman(n):\n    return 'I' * n", tests["roman(n)"]).passed is False
