"""Forms: what is taken, and that every mistake is told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from glasshouse.forms import parse_form, read_form
from glasshouse.types import UserError

GOOD = """\
name: steadiness
margin: 1
settings:
  epochs: 3
families:
  - family: one
    since: 2026-01-02
  - family: two
"""


def test_fields_are_taken_with_their_kinds() -> None:
    form = parse_form(GOOD, "b.yaml")
    assert form.take("name", str) == "steadiness"
    assert form.take("margin", float) == 1.0 and form.take("tag", str, "guard") == "guard"
    settings = form.form("settings")
    assert settings.take("epochs", int) == 3
    settings.end()
    first, second = form.each("families")
    assert (
        first.take("family", str) == "one" and first.anything("since") == "2026-01-02"
    )  # a date stays what is written
    assert second.line == 8
    form.end()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"b.yaml, line 1: expected fields"),
        ("- a\n", r"b.yaml, line 1: expected fields"),
        ("name: x\nname: y\n", r"b.yaml, line 2: expected `name` once"),
        ("name: [1\n", r"b.yaml, line 2: expected YAML of plain data"),
        ("name: &n x\nother: *n\n", r"b.yaml, line 1: .*anchors and aliases are not read"),
        ("a: &a [x]\nb: &b [*a,*a]\nc: [*b,*b]\n", r"anchors and aliases are not read"),
        ("other: x\n", r"b.yaml, line 1: expected `name`, text; got none"),
        ("about: x\nname: 3\n", r"b.yaml, line 2: expected text for `name`, got 3"),
        ("name: !!python/object/apply:os.system [ls]\n", r"b.yaml, line 1: expected plain data, got the tag"),
        ("name: x\nmargn: 3\n", r"b.yaml, line 2: expected no `margn`; is it `margin`\?"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        form = parse_form(text + ("margin: 2\n" if "margn" in text else ""), "b.yaml")
        form.take("name", str)
        form.take("margin", float, 1.0)
        form.end()


def test_true_is_no_number_and_a_choice_is_held() -> None:
    form = parse_form("epochs: true\ntag: gaurd\nlist: 3\n", "b.yaml")
    with pytest.raises(UserError, match="line 1: expected a whole number for `epochs`, got True"):
        form.take("epochs", int)
    with pytest.raises(UserError, match="line 2: expected `tag` among target, guard"):
        form.take("tag", str, among=("target", "guard"))
    with pytest.raises(UserError, match="line 3: expected a list of one mapping or more for `list`"):
        list(form.each("list"))


def test_a_number_beyond_every_float_is_none() -> None:
    with pytest.raises(UserError, match=r"b.yaml, line 1: expected a number for `margin`, got 1000"):
        parse_form(f"margin: 1{'0' * 400}\n", "b.yaml").take("margin", float)


def test_a_bomb_is_refused_before_it_opens(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    file = tmp_path / "bomb.yaml"
    file.write_text("\n".join(lines))
    with pytest.raises(UserError, match="anchors and aliases are not read"):
        read_form(file)
    file.write_text("a: " + "[" * 100_000)
    with pytest.raises(UserError, match=r"bomb\.yaml"):
        read_form(file)
    file.write_text("#" * 8_000_001)
    with pytest.raises(UserError, match="expected at most 8,000,000 bytes"):
        read_form(file)
    with pytest.raises(UserError, match=r"expected a YAML file at .*none\.yaml"):
        read_form(tmp_path / "none.yaml")
