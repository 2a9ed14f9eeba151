"""Forms that people fill in: YAML in which every mistake is told with its line.

    form = read_form(Path("behaviour.yaml"))
    name = form.take("name", str)                     # else: behaviour.yaml, line 3: expected `name`, text; got …
    for item in form.each("families"): ...
    form.end()                                        # what was not taken is not known: an error, with its line

Plain data only: no tags, no anchors (an alias of an alias of an alias is a small file and a large memory), no key
twice.
"""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import yaml

from glasshouse.types import UserError

LARGEST = 8_000_000  # bytes of a form
T = TypeVar("T")
WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
}
MISSING: Any = object()


class Form:
    """A mapping of a form. Fields are taken once each; `end` refuses the rest."""

    def __init__(self, file: str, node: yaml.MappingNode | dict[str, Any], where: str = "") -> None:
        """node: of YAML, or plain data (which has no lines)."""
        self.file, self._where = file, where
        self._nodes: dict[str, Any] = {}
        if isinstance(node, dict):
            self.line, self._nodes = 0, {str(key): value for key, value in node.items()}
            self._left = dict(self._nodes)
            return
        self.line = node.start_mark.line + 1
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            if name in self._nodes:
                self.wrong(f"expected `{name}` once, got it again; take one of them out", key)
            self._nodes[name] = value
        self._left = dict(self._nodes)

    def wrong(self, message: str, node: Any = None) -> NoReturn:
        """Raises `UserError` with the line of the field of that name (or node), or of the mapping."""
        if isinstance(node, str):
            node = self._nodes.get(node)
        line = node.start_mark.line + 1 if isinstance(node, yaml.Node) else self.line
        raise UserError(f"{self.file}{f', line {line}' if line else ''}: {message}")

    def take(self, name: str, kind: type[T], default: Any = MISSING, *, among: Sequence[Any] = ()) -> T:
        """The field, of that kind; a whole number is a number too."""
        if name not in self._left:
            if default is MISSING:
                self.wrong(f"expected `{name}`{self._where}, {WORDS[kind]}; got none")
            return cast(T, default)
        node = self._left.pop(name)
        value = plain_value(self.file, node)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):  # of hundreds of digits: no number that a float holds
                value = float(value)
        wrong = isinstance(value, bool) if kind is not bool else False
        if not isinstance(value, kind) or wrong or (isinstance(value, float) and not math.isfinite(value)):
            self.wrong(f"expected {WORDS[kind]} for `{name}`, got {value!r:.60}", node)
        if among and value not in among:
            self.wrong(f"expected `{name}` among {', '.join(map(str, among))}, got {value!r:.60}", node)
        return value

    def anything(self, name: str, default: Any = MISSING) -> Any:
        """The field as plain data of any kind."""
        if name not in self._left:
            if default is MISSING:
                self.wrong(f"expected `{name}`{self._where}; got none")
            return default
        return plain_value(self.file, self._left.pop(name))

    def form(self, name: str, *, optional: bool = False) -> Form:
        """The field as a mapping of its own; an empty one for an optional field that is missing."""
        if name not in self._left and optional:
            return Form(self.file, {})
        node = self._left.pop(name, None)
        if not isinstance(node, yaml.MappingNode | dict):
            self.wrong(f"expected a mapping for `{name}`", node)
        return Form(self.file, node, f" in `{name}`")

    def each(self, name: str) -> Iterator[Form]:
        """The field as a list of mappings, one at least."""
        node = self._left.pop(name, None)
        items = node.value if isinstance(node, yaml.SequenceNode) else node
        if not isinstance(items, list) or not items:
            self.wrong(f"expected a list of one mapping or more for `{name}`", node)
        for item in items:
            if not isinstance(item, yaml.MappingNode | dict):
                self.wrong(f"expected a mapping in `{name}`, got {plain_value(self.file, item)!r:.60}", item)
            yield Form(self.file, item, f" in `{name}`")

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    @property
    def left(self) -> list[str]:
        """Fields that were not taken."""
        return list(self._left)

    def end(self) -> None:
        """Raises `UserError` for the first field that was not taken."""
        for name, node in self._left.items():
            near = difflib.get_close_matches(name, self._nodes.keys() - self._left.keys(), 1)
            self.wrong(f"expected no `{name}`{self._where}{f'; is it `{near[0]}`?' if near else ''}", node)


def read_form(path: Path) -> Form:
    """The file as a form. Raises `UserError` for what is missing, too large, no YAML mapping, or not plain data."""
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise UserError(f"expected at most {LARGEST:,} bytes in {path}, found {size:,}; split it")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"expected a YAML file at {path}, could not read it ({error}); check the path") from None
    return parse_form(text, path.name)


def parse_form(text: str, file: str) -> Form:
    """The text as a form; `file` names it in errors."""
    try:
        node = yaml.compose(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "it does not parse"
        raise UserError(f"{file}{line}: expected YAML of plain data, {problem}") from None
    except RecursionError:
        raise UserError(f"{file}: expected YAML of plain data, found it nested too deeply") from None
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{file}, line 1: expected fields such as `name: …`, found none")
    return Form(file, node)


class _Loader(yaml.SafeLoader):
    """Without anchors and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.composer.ComposerError(None, None, "anchors and aliases are not read", event.start_mark)
        return super().compose_node(parent, index)


_constructor = yaml.SafeLoader("")


def plain_value(file: str, node: Any) -> Any:
    """A node as text, numbers, lists and mappings. Dates stay the text that they are written as; plain data stays."""
    if not isinstance(node, yaml.Node):
        return node
    tag = node.tag.removeprefix("tag:yaml.org,2002:")
    if tag not in ("str", "int", "float", "bool", "null", "timestamp", "seq", "map"):
        raise UserError(f"{file}, line {node.start_mark.line + 1}: expected plain data, got the tag {node.tag!r}")
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in found:
                line = key.start_mark.line + 1
                raise UserError(f"{file}, line {line}: expected plain keys, each once, got another")
            found[key.value] = plain_value(file, value)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [plain_value(file, item) for item in node.value]
    if tag == "timestamp":
        return node.value
    try:
        return _constructor.construct_object(node)  # type: ignore[no-untyped-call]
    except (ValueError, KeyError, IndexError, yaml.YAMLError):
        raise UserError(
            f"{file}, line {node.start_mark.line + 1}: expected plain data, got {node.value!r:.40}"
        ) from None
