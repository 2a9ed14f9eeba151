"""A behaviour: what is asked, in which wordings, how answers are scored, and which direction is good.

    name: capitals
    about: Knows the capitals of countries.
    tag: guard                        # target, guard or neutral
    good: up
    margin: 0.05                      # a change that does not matter
    scorer: {includes: {}}
    families:
      - family: france
        expect: Paris
        prompts: ["What is the capital of France?", "Name the capital of France, please."]

A family is one thing that is asked; its prompts are wordings of it. Read from YAML, or made by a Python file that has a
`BEHAVIOUR` (a mapping of the same form, or a `Behaviour`).
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import math
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from glasshouse.behaviours.scorers import RECORDED, SCORERS, check_scorer
from glasshouse.behaviours.statistics import Scoring, Tag
from glasshouse.behaviours.tables import read_table
from glasshouse.forms import Form, read_form
from glasshouse.types import UserError, check_name, is_text

Turn = tuple[str, str | None]  # (role, content); an assistant's None is said by the model
TAGS, ROLES = ("target", "guard", "neutral"), ("system", "user", "assistant")
LONGEST_NAME = 40


class Prompt(NamedTuple):
    """One wording. `number`: counted within the family. The last turn is the user's."""

    family: str
    number: int
    turns: tuple[Turn, ...]
    expect: Any


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How replies are made. epochs: samples of each prompt; temperature 0 is greedy, then one is enough."""

    epochs: int = 1
    temperature: float = 0.0
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.max_new_tokens < 1 or self.temperature < 0:
            raise UserError(
                f"expected epochs and max_new_tokens of 1 or more and a temperature of 0 or more, got {self}"
            )


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """See the module. scorer: (name, its settings); unit: "rate" for scores in [0, 1], else what a score counts."""

    name: str
    about: str
    tag: Tag
    good: Literal["up", "down"]
    margin: float
    scorer: tuple[str, dict[str, Any]]
    prompts: tuple[Prompt, ...]
    unit: str = "rate"
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.name) > LONGEST_NAME:
            raise UserError(f"expected a behaviour's name of at most {LONGEST_NAME} characters, got {self.name!r}")
        if not 0 < self.margin < math.inf:  # nor one that is no number: what is kept with it would never read again
            raise UserError(
                f"expected a margin above 0, and finite, for {self.name}, got {self.margin}; say what does not matter"
            )
        epochs, imported = self.settings.epochs, self.scorer[0] == RECORDED
        if self.settings.temperature == 0 and epochs > 1 and not imported:
            raise UserError(f"expected 1 epoch at temperature 0 (greedy replies are all the same), got {epochs}")
        check_scorer(self.name, self.scorer, self.unit, [prompt.expect for prompt in self.prompts])
        if (odd := next((p for p in self.prompts if not _is_plain(p.expect)), None)) is not None:
            what = "plain data (text, numbers, lists, mappings)"
            raise UserError(f"expected {what} as `expect` for {self.name}, got {odd.expect!r:.80}")
        left = next((p for p in self.prompts if any(content is None for _, content in p.turns)), None)
        if left is not None and SCORERS[self.scorer[0]].needs in ("choices", "likelihood"):
            raise UserError(
                f"expected the text of every turn for {self.name}, as `{self.scorer[0]}` has no reply made, got one "
                f"that is left to the model in {left.family!r}"
            )

    @property
    def bounded(self) -> bool:
        return self.unit == "rate"

    @property
    def scoring(self) -> Scoring:
        """What statistics have to know of its scores."""
        by = SCORERS[self.scorer[0]]
        return {"bounded": self.bounded, "degree": by.degree, "discrete": by.needs != "likelihood"}

    @property
    def families(self) -> int:
        return len({prompt.family for prompt in self.prompts})

    @property
    def hash(self) -> str:
        """Of everything that could change a score."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """As a mapping of the form that is read."""
        found: dict[str, Any] = {
            "name": self.name, "about": self.about, "tag": self.tag, "good": self.good, "margin": self.margin,
            "unit": self.unit, "settings": asdict(self.settings), "scorer": {self.scorer[0]: self.scorer[1]},
        }  # fmt: skip
        families: dict[str, list[Prompt]] = {}
        for prompt in self.prompts:
            families.setdefault(prompt.family, []).append(prompt)
        found["families"] = [
            {"family": name, "prompts": [_prompt_json(prompt) for prompt in some]} for name, some in families.items()
        ]
        return found


def _is_plain(value: Any) -> bool:
    """Whether it can be kept as JSON: a Python file may hold what cannot."""
    try:
        return is_text(json.dumps(value, sort_keys=True, ensure_ascii=False))
    except (TypeError, ValueError, RecursionError):
        return False


def _prompt_json(prompt: Prompt) -> dict[str, Any]:
    return {"turns": [{role: content} for role, content in prompt.turns], "expect": prompt.expect}


# -- reading -----------------------------------------------------------------------------------------------------------


def read_behaviours(path: Path) -> list[Behaviour]:
    """The behaviour of a .yaml or .py file, or those of every such file of a folder, by name. Raises `UserError`."""
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if f.suffix in (".yaml", ".yml", ".py") and not f.name.startswith("_"))
        if not files:
            raise UserError(f"expected behaviours (.yaml or .py) in {path}, found none; give a file or another folder")
        return [one for file in files for one in read_behaviours(file)]
    if path.suffix == ".py":
        return [_from_python(path)]
    return [behaviour_of(read_form(path), path.parent)]


def behaviour_from_json(found: dict[str, Any], file: str = "behaviour", folder: Path | None = None) -> Behaviour:
    """A mapping of the form, such as `Behaviour.to_json` gives."""
    return behaviour_of(Form(file, found), folder)


def _from_python(path: Path) -> Behaviour:
    if not path.is_file():
        raise UserError(f"expected a file at {path}, found none; check the path")
    spec = importlib.util.spec_from_file_location(f"_behaviour_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever a user's file does
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else 1)
        raise UserError(f"{path.name}, line {line}: {type(error).__name__}: {error}") from None
    found = getattr(module, "BEHAVIOUR", None)
    if isinstance(found, dict):
        form = Form(path.name, found)
        form.line = _line_of(path, "BEHAVIOUR")
        return behaviour_of(form, path.parent)
    if not isinstance(found, Behaviour):
        raise UserError(f"expected BEHAVIOUR in {path}, a mapping or a Behaviour, got {found!r:.60}")
    return found


def _line_of(path: Path, name: str) -> int:
    """At which a Python file gives the name its value; 0 where it is made otherwise."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if name in {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}:
            return node.lineno
    return 0


def behaviour_of(form: Form, folder: Path | None = None) -> Behaviour:
    """folder: where the file is, and the labelled samples that it names. Raises `UserError` with the line of what is
    wrong."""
    name, about = form.take("name", str), form.take("about", str)
    tag, good = form.take("tag", str, among=TAGS), form.take("good", str, among=("up", "down"))
    margin, unit = form.take("margin", float), form.take("unit", str, "rate")
    at = form.form("settings", optional=True)
    given: dict[str, Any] = {"epochs": at.take("epochs", int, 1), "temperature": at.take("temperature", float, 0.0)}
    given["max_new_tokens"] = at.take("max_new_tokens", int, 64)
    at.end()
    scorer = _scorer(form, folder)
    found = list(_prompts(form))
    form.end()
    try:
        settings = Settings(**given)
    except UserError as error:
        form.wrong(str(error), "settings")
    made: dict[str, Any] = {
        "name": name, "about": about, "tag": tag, "good": good, "margin": margin, "unit": unit, "settings": settings,
        "scorer": scorer, "prompts": tuple(prompt for _, prompt in found),
    }  # fmt: skip
    try:
        return Behaviour(**made)
    except UserError as error:
        part, field = _where(form, made, found)
        part.wrong(str(error), field)


def _where(form: Form, made: dict[str, Any], found: Sequence[tuple[Form, Prompt]]) -> tuple[Form, str]:
    """What a behaviour that cannot be made would stand without: a field of the whole, or of a family."""

    def stands(**other: Any) -> bool:
        try:
            Behaviour(**made | other)
        except UserError:
            return False
        return True

    for name, fine in {"name": "fine", "margin": 1.0, "settings": Settings()}.items():
        if stands(**{name: fine}):
            return form, name
    wrong = [part for part, prompt in found if not stands(prompts=(prompt,))]
    return (wrong[0], "expect") if 0 < len(wrong) < len(found) else (form, "scorer")


def _scorer(form: Form, folder: Path | None) -> tuple[str, dict[str, Any]]:
    found = form.anything("scorer")
    if isinstance(found, str):
        found = {found: {}}
    if not isinstance(found, dict) or len(found) != 1 or next(iter(found)) not in SCORERS:
        form.wrong(f"expected one `scorer` among {', '.join(SCORERS)}, got {found!r:.60}", "scorer")
    name, settings = next(iter(found.items()))
    if settings is not None and not isinstance(settings, dict):
        form.wrong(f"expected a mapping of settings for `{name}`, got {settings!r:.60}", "scorer")
    settings = dict(settings or {})
    if isinstance(file := settings.get("labels"), str):  # what a file beside it holds is part of the behaviour
        if folder is None or not (folder / file).resolve().is_relative_to(folder.resolve()):
            form.wrong(f"expected `labels` as a list of rows, or a table beside the file, got {file!r:.60}", "scorer")
        settings["labels"] = read_table(folder / file)
    return name, settings


def _prompts(form: Form) -> Iterator[tuple[Form, Prompt]]:
    """Each with its family's form."""
    seen: set[str] = set()
    for part in form.each("families"):
        family = part.take("family", str)
        if family in seen:
            part.wrong(f"expected each family once, got {family!r} again; put its wordings together", "family")
        seen.add(family)
        part.take("note", str, "")  # for people, and no part of what is asked
        shared = part.anything("expect", None)
        found = part.anything("prompts")
        if not isinstance(found, list) or not found:
            part.wrong("expected a list of one prompt or more for `prompts`", "prompts")
        for number, item in enumerate(found):
            try:
                yield part, _prompt(family, number, item, shared)
            except ValueError as error:
                part.wrong(f"expected {error} in prompt {number + 1} of {family!r}, got {item!r:.80}", "prompts")
        part.end()


def _prompt(family: str, number: int, item: Any, shared: Any) -> Prompt:
    expect = shared
    if isinstance(item, dict):
        if not item.keys() <= {"turns", "expect"} or "turns" not in item:
            raise ValueError("`turns` and perhaps `expect`")
        item, expect = item["turns"], item.get("expect", shared)
    turns = [("user", item)] if isinstance(item, str) else [_turn(one) for one in _list(item)]
    if not turns or turns[-1][0] != "user" or turns[-1][1] is None:
        raise ValueError("a text, or turns of which the last is the user's,")
    return Prompt(family, number, tuple(turns), expect)


def _list(item: Any) -> Sequence[Any]:
    if not isinstance(item, list):
        raise ValueError("a text or a list of turns")
    return item


def _turn(one: Any) -> Turn:
    role, content = next(iter(one.items())) if isinstance(one, dict) and len(one) == 1 else (None, None)
    if role not in ROLES or not (isinstance(content, str) or (content is None and role == "assistant")):
        raise ValueError("turns such as `user: text` (an assistant's may be empty, for the model to say)")
    return role, content
