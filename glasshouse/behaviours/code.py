"""What the Python in a reply is worth: whether it parses, is whole, calls a function, passes its tests. No torch.

code_in(reply)                                           # the code, or None
is_whole(reply), calls(reply, ["eval"]), passes(reply, ["assert add(2, 3) == 5"])
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Sequence

from glasshouse.behaviours.sandbox import run_code

LEFT_OUT = re.compile(
    r"#.*\b(rest of|remaining|your (code|implementation|logic)|implement (this|here|me)|same as (before|above)|omitted"
    r"|existing code|code here|to ?do\b)|#\s*\.\.\.", re.IGNORECASE,
)  # fmt: skip


def code_in(reply: str) -> str | None:
    """The fenced Python of a reply, else the reply itself where it parses; None where there is none."""
    blocks = re.findall(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", reply, re.DOTALL)
    code = "\n".join(blocks) if blocks else reply
    return code if blocks or _tree(code) is not None else None


def _tree(code: str | None) -> ast.Module | None:
    try:
        return None if code is None else ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def parses(reply: str) -> bool:
    return _tree(code_in(reply)) is not None


def is_whole(reply: str) -> bool:
    """Code that parses, has a function whose body does something, and leaves nothing out by a comment."""
    code = code_in(reply)
    tree = _tree(code)
    if code is None or tree is None or LEFT_OUT.search(code):
        return False
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return all(not _does_nothing(function) for function in functions) and bool(tree.body)


def _does_nothing(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    idle = (ast.Pass, ast.Expr)
    return all(
        isinstance(node, idle) and (isinstance(node, ast.Pass) or isinstance(node.value, ast.Constant))
        for node in function.body
    )


def calls(reply: str, names: Collection[str]) -> bool:
    """Whether the code calls one of the functions named, by name or as a last attribute; what does not parse, by its
    text."""
    tree = _tree(code_in(reply))
    if tree is None:
        return any(f"{name}(" in reply for name in names)
    called = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    found = {f.id if isinstance(f, ast.Name) else f.attr if isinstance(f, ast.Attribute) else "" for f in called}
    return bool(found & set(names))


def passes(reply: str, tests: Sequence[str]) -> bool | None:
    """Whether its code passes the tests, run in a sandbox; None where it could not be run."""
    code = code_in(reply)
    if code is None or _tree(code) is None:
        return False
    return run_code(code, tests).passed
