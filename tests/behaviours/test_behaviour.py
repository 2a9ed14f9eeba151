"""Behaviours as files: what is read, and what a mistake says."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glasshouse.behaviours import Behaviour, read_behaviours
from glasshouse.behaviours.behaviour import behaviour_from_json
from glasshouse.types import UserError

CAPITALS = """\
name: capitals
about: Knows the capitals of countries.
tag: guard
good: up
margin: 0.05
settings: {epochs: 4, temperature: 0.8}
scorer: includes
families:
  - family: france
    expect: Paris
    prompts:
      - What is the capital of France?
      - turns:
          - system: Be brief.
          - user: Hello!
          - assistant:
          - user: What is the capital of France?
  - family: italy
    prompts:
      - {turns: [{user: "Italy's capital?"}], expect: [Rome, Roma]}
"""


def written(tmp_path: Path, text: str, name: str = "capitals.yaml") -> Path:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_is_a_behaviour(tmp_path: Path) -> None:
    (found,) = read_behaviours(written(tmp_path, CAPITALS))
    assert found.name == "capitals" and found.families == 2 and found.settings.epochs == 4
    first, second, third = found.prompts
    assert first.turns == (("user", "What is the capital of France?"),) and first.expect == "Paris"
    assert second.turns[2] == ("assistant", None) and second.expect == "Paris" and second.number == 1
    assert third.expect == ["Rome", "Roma"]


def test_it_goes_through_json_and_its_hash_is_of_what_counts(tmp_path: Path) -> None:
    (found,) = read_behaviours(written(tmp_path, CAPITALS))
    again = behaviour_from_json(json.loads(json.dumps(found.to_json())))
    assert again == found and again.hash == found.hash
    (other,) = read_behaviours(written(tmp_path, CAPITALS.replace("Be brief.", "Be kind.")))
    assert other.hash != found.hash


def test_a_python_file_may_make_one_and_a_folder_is_a_suite(tmp_path: Path) -> None:
    written(tmp_path, CAPITALS)
    written(
        tmp_path,
        "BEHAVIOUR = dict(name='sums', about='Adds.', tag='target', good='up', margin=0.1, scorer='includes',\n"
        "    families=[dict(family=f'{a}+{b}', expect=str(a + b), prompts=[f'What is {a} + {b}?'])\n"
        "              for a in range(3) for b in range(3)])\n",
        "sums.py",
    )
    capitals, sums = read_behaviours(tmp_path)
    assert isinstance(sums, Behaviour) and sums.families == 9 and capitals.name == "capitals"
    with pytest.raises(UserError, match=r"expected behaviours \(.yaml or .py\) in .*empty"):
        (tmp_path / "empty").mkdir()
        read_behaviours(tmp_path / "empty")
    with pytest.raises(UserError, match=r"expected BEHAVIOUR in .*none.py"):
        read_behaviours(written(tmp_path, "x = 3\n", "none.py"))
    for program, said in (
        ("x = 3\nBEHAVIOUR = 1 / 0\n", r"bad.py, line 2: ZeroDivisionError"),
        ("x = (\n", r"bad.py, line 1: SyntaxError"),
        ("x = 1\n\nBEHAVIOUR = {'name': 'a'}\n", r"bad.py, line 3: expected `about`"),
        ("import sys\nsys.exit(3)\n", r"bad.py, line 2: SystemExit: 3"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            read_behaviours(written(tmp_path, program, "bad.py"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("tag: guard", "tag: gard", r"capitals.yaml, line 3: expected `tag` among target, guard, neutral"),
        ("margin: 0.05", "margin: 0", r"line 5: expected a margin above 0"),
        ("margin: 0.05\n", "", r"line 1: expected `margin`, a number; got none"),
        ("scorer: includes", "scorer: include", r"line 7: expected one `scorer` among exact, .*got {'include'"),
        ("scorer: includes", "scorer: {includes: {near: 3}}", r"line 7: expected settings of `includes` \(none\)"),
        ("scorer: includes", "scorer: {regex: {}}", r"line 7: expected settings of `regex` .*\(pattern\), got none"),
        ("scorer: includes", "scorer: {regex: {pattern: '('}}", r"line 7: expected settings of `regex` \(pattern\)"),
        ("scorer: includes", "scorer: length", r"line 7: expected the unit 'tokens'"),
        ("expect: Paris", "expect: 7", r"line 10: expected a text with .* as `expect`"),
        ("expect: Paris", r'expect: "a \ud800"', r"line 10: expected plain data .* as `expect`"),
        ("family: italy", "family: france", r"line 18: expected each family once, got 'france' again"),
        ("- assistant:", "- assistent:", r"line 12: expected turns such as `user: text`.* in prompt 2 of 'france'"),
        ("{epochs: 4, temperature: 0.8}", "{epochs: 4}", r"line 6: expected 1 epoch at temperature 0"),
        ("{epochs: 4, temperature: 0.8}", "{epoch: 4}", r"line 6: expected no `epoch` in `settings`"),
        ("name: capitals", "name: Capitals!", r"line 1: expected a name of 1 to 64 characters"),
    ],
)
def test_a_mistake_says_the_line_and_what_was_expected(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in CAPITALS
    with pytest.raises(UserError, match=said):
        read_behaviours(written(tmp_path, CAPITALS.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("scorer", "expect"),
    [
        ("choice", {"choices": "yes no", "answer": "yes"}), ("says", {"value": "x", "also": 3}),
        ("says", {"value": "x", "others": ["y"], "named": 4}), ("says", {"value": "x", "spaced": "no"}),
    ],
)  # fmt: skip
def test_what_is_expected_has_the_scorers_form(tmp_path: Path, scorer: str, expect: dict[str, Any]) -> None:
    family = {"family": "f", "prompts": ["A?"], "expect": expect}
    form = {"name": "b", "about": "For tests.", "tag": "guard", "good": "up", "margin": 0.05, "scorer": scorer}
    with pytest.raises(UserError, match="as `expect`"):
        behaviour_from_json({**form, "families": [family]})


@pytest.mark.parametrize("margin", [math.nan, math.inf, 0.0])
def test_a_margin_is_a_number_that_ends(tmp_path: Path, margin: float) -> None:
    (found,) = read_behaviours(written(tmp_path, CAPITALS))
    with pytest.raises(UserError, match=f"expected a margin above 0, and finite, for capitals, got {margin}"):
        replace(found, margin=margin)


def test_what_is_expected_is_plain_data(tmp_path: Path) -> None:
    for expect in ("{'Rome'}", "b'Rome'"):
        program = (
            "BEHAVIOUR = dict(name='b', about='For tests.', tag='guard', good='up', margin=1, scorer='length',\n"
            f"    unit='tokens', families=[dict(family='a', expect={expect}, prompts=['Hello!'])])\n"
        )
        with pytest.raises(UserError, match=r"b.py, line 1: expected plain data .* as `expect` for b, got .*Rome"):
            read_behaviours(written(tmp_path, program, "b.py"))


def test_a_turn_is_left_to_the_model_only_where_a_reply_is_made() -> None:
    form: dict[str, Any] = {
        "name": "b", "about": "For tests.", "tag": "guard", "good": "up", "margin": 0.05, "scorer": "ends",
        "families": [{"family": "f", "prompts": [{"turns": [{"user": "A?"}, {"assistant": None}, {"user": "B?"}]}]}],
    }  # fmt: skip
    assert behaviour_from_json(form).prompts[0].turns[1] == ("assistant", None)
    form["families"][0]["expect"] = {"choices": ["a", "b"], "answer": "a"}
    with pytest.raises(UserError, match=r"expected the text of every turn for b, as `choice` has no reply made"):
        behaviour_from_json({**form, "scorer": "choice"})
