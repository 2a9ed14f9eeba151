"""The corpus `python`: the standard library of the running Python, which every machine has. Never site-packages.

Kinds: `code` (modules without their docstrings), `docstring` (one document a function or class, C ones too), `help`
(topics and guides), `licence`, `table` (characters, encodings, entities, calendars, numbers ... as text). A docstring
stands in its own document only, so that held-out documents are not in the training text by another road.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sysconfig
import textwrap
import tokenize
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from glasshouse.text.readers import Piece, html_text
from glasshouse.text.tables import read_tables

LEFT_OUT = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "__phello__"})
SHORTEST = 80  # characters of a docstring that says more than its function's name

# Modules in C whose docstrings are read; each is harmless to import.
IN_C = """
    _bisect _codecs _collections _csv _datetime _decimal _elementtree _functools _hashlib _heapq _io _json
    _operator _pickle _random _socket _sqlite3 _ssl _statistics _struct _thread array atexit audioop binascii
    builtins bz2 cmath errno fcntl faulthandler gc grp itertools marshal math mmap nt ossaudiodev posix pwd
    pyexpat readline resource select signal spwd syslog termios time unicodedata winreg zlib
"""


def read_library() -> Iterator[Piece]:
    """Every piece of the corpus `python`, in an order that depends on this Python's version and system only."""
    folder = Path(sysconfig.get_path("stdlib"))
    for file in sorted(folder.rglob("*.py")):
        inside = file.relative_to(folder)
        if LEFT_OUT.isdisjoint(inside.parts) and not inside.name.startswith(("_sysconfigdata", "topics.py")):
            yield from _module(file, inside)
    for name in IN_C.split():
        yield from _c_module(name)
    yield from _help(folder)
    yield from _licences(folder)
    for name, text in read_tables():
        yield Piece(f"table/{name}", "table", text)


def _module(file: Path, inside: Path) -> Iterator[Piece]:
    """A module's code, its docstrings, and its licence header, each a piece of its own."""
    try:
        with tokenize.open(file) as handle:
            source = handle.read()
        tree = ast.parse(source)
    except (
        SyntaxError,
        UnicodeDecodeError,
        ValueError,
    ):  # lib2to3 and test data hold files that are meant not to parse
        return
    lines = source.splitlines(keepends=True)
    name = inside.with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    docs = list(_docstrings(tree, name))
    for first, last, indent in _spans(tree):
        lines[first:last] = [indent] + [""] * (last - first - 1)
    header = _licence_header(lines)
    if header:
        yield Piece(
            f"licence/{inside.as_posix()}", "licence", "".join(line.lstrip("# ") or "\n" for line in lines[:header])
        )
        lines = lines[header:]
    code = "".join(lines).strip("\n") + "\n"
    if len(code) >= SHORTEST:
        yield Piece(f"code/{inside.as_posix()}", "code", code)
    for title, text in docs:
        yield Piece(f"docstring/{title}", "docstring", text)


def _nodes(tree: ast.AST) -> Iterator[Any]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _spans(tree: ast.AST) -> Iterator[tuple[int, int, str]]:
    """Lines [first, last) that hold a docstring and nothing else, and what is put there."""
    for node in _nodes(tree):
        if ast.get_docstring(node, clean=False) is None:
            continue
        doc = node.body[0]
        if doc.lineno == node.body[0].value.lineno and not (
            len(node.body) > 1 and node.body[1].lineno == doc.end_lineno
        ):
            if getattr(node, "lineno", 0) == doc.lineno:  # def f(): "..." on one line
                continue
            only = len(node.body) == 1 and not isinstance(node, ast.Module)
            yield doc.lineno - 1, doc.end_lineno, " " * doc.col_offset + "...\n" if only else ""


def _docstrings(tree: ast.Module, module: str) -> Iterator[tuple[str, str]]:
    """(title, text): the module's own docstring, then one document for each top-level function or class."""
    if (own := ast.get_docstring(tree)) and len(own) >= SHORTEST:
        yield module, f"{module}\n\n{own}\n"
    for i, node in enumerate(tree.body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = "\n\n".join(_described(node, module))
            if len(text) >= SHORTEST + len(module):
                yield f"{module}.{node.name}:{i}", text + "\n"


def _described(node: Any, owner: str) -> Iterator[str]:
    """Signature and docstring of a definition, then of what it defines, as help() shows them."""
    name = f"{owner}.{node.name}"
    if doc := ast.get_docstring(node):
        arguments = "" if isinstance(node, ast.ClassDef) else f"({ast.unparse(node.args)})"
        kind = "class " if isinstance(node, ast.ClassDef) else ""
        yield f"{kind}{name}{arguments}\n" + textwrap.indent(doc, "    ")
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _described(child, name if isinstance(node, ast.ClassDef) else name + ".<locals>")


def _licence_header(lines: list[str]) -> int:
    """Lines of the comment that opens a file if it is about copyright and long enough to be a text; else 0."""
    count = 0
    while count < len(lines) and (lines[count].startswith("#") or not lines[count].strip()):
        count += 1
    header = "".join(lines[:count]).lower()
    return count if len(header) > 400 and ("copyright" in header or "license" in header) else 0


def _c_module(name: str) -> Iterator[Piece]:
    """Docstrings of a module written in C, with the signature where it gives one."""
    try:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            module = importlib.import_module(name)
    except ImportError:  # not on this system, or left out by who built this Python
        return
    for attribute in sorted(vars(module)):
        thing = getattr(module, attribute)
        if attribute.startswith("__") or isinstance(thing, ModuleType) or not callable(thing):
            continue
        if getattr(thing, "__module__", name) not in (name, None, name.lstrip("_"), "builtins"):
            continue
        parts = [f"{name.lstrip('_')}.{attribute}\n{_doc(thing)}"] if _doc(thing) else []
        if isinstance(thing, type):
            parts += [
                f"{attribute}.{method}\n{_doc(value)}"
                for method, value in sorted(vars(thing).items())
                if _doc(value) and not method.startswith("__")
            ]
        text = "\n\n".join(parts) + "\n"
        if len(text) >= SHORTEST:
            yield Piece(f"docstring/{name}.{attribute}", "docstring", text)


def _doc(thing: Any) -> str:
    doc = getattr(thing, "__doc__", None)
    return textwrap.indent(inspect.cleandoc(doc), "    ") if isinstance(doc, str) else ""


def _help(folder: Path) -> Iterator[Piece]:
    """What help() says on a topic (LOOPING, TYPES ...), and the guides that lie beside modules."""
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        topics = {}
    for topic, text in sorted(topics.items()):
        yield Piece(f"help/{topic}", "help", text.strip("\n") + "\n")
    for file in sorted([*folder.rglob("*.txt"), *folder.rglob("*.html"), *folder.rglob("*.rst")]):
        inside = file.relative_to(folder)
        if not LEFT_OUT.isdisjoint(inside.parts) or "licen" in file.name.lower():
            continue
        try:
            text = file.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        yield Piece(f"help/{inside.as_posix()}", "help", html_text(text) if file.suffix == ".html" else text)


def _licences(folder: Path) -> Iterator[Piece]:
    """Python's own licence, and those packed in the wheels that ensurepip carries."""
    for file in sorted(folder.glob("LICENSE*")):
        yield Piece(f"licence/{file.name}", "licence", file.read_text(encoding="utf-8", errors="replace"))
    seen: set[str] = set()
    for wheel in sorted(folder.glob("ensurepip/_bundled/*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for entry in sorted(archive.namelist()):
                name = entry.rsplit("/", 1)[-1].upper()
                if name.startswith(("LICEN", "COPYING")) and archive.getinfo(entry).file_size < 1 << 20:
                    text = archive.read(entry).decode("utf-8", "replace")
                    if text not in seen and not name.endswith(".PY"):
                        seen.add(text)
                        yield Piece(f"licence/{entry}", "licence", text)
