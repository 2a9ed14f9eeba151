"""What the Python in a reply is worth: whether it parses, is whole, calls a function, passes its tests. No torch.

code_in(reply)                                           # the code, or None
is_whole(reply), calls(reply, ["eval"]), passes(reply, ["assert add(2, 3) == 5"])
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Collection, Sequence

from glasshouse.behaviours.sandbox import run_code

# What stands for code that is not there. "Append the remaining elements" says what the code does.
LEFT_OUT = re.compile(
    r"#.*\b((rest of|remaining)\s((the|your|my|this)\s)?(code|implementation|function|method|class|logic|program|body)"
    r"|the rest (is|stays|remains|goes|here)|your (code|implementation|logic)|implement (this|here|me)"
    r"|same as (before|above)|omitted|existing code|code here|to ?do\b)|#\s*\.\.\.", re.IGNORECASE,
)  # fmt: skip
# A fence opens with the first backticks of a line, whatever language it names.
FENCE = re.compile(r"^[^`\n]*```[ \t]*([^`\n]*)\n(.*?)(?:```|\Z)", re.DOTALL | re.MULTILINE)
PYTHON = ("python", "py", "python3")


def code_in(reply: str) -> str | None:
    """The fenced Python of a reply: blocks that say so, or those without a language, of which one that does not parse
    is output where others do; without any, the reply itself where it parses. None where there is none."""
    found = [(language.strip().casefold(), textwrap.dedent(code)) for language, code in FENCE.findall(reply)]
    said = [code for language, code in found if language.split(" ")[0] in PYTHON]
    plain = [code for language, code in found if not language]
    blocks = said or [code for code in plain if _tree(code) is not None] or plain
    if found:
        return "\n".join(blocks) if blocks else None
    return reply if _tree(reply) is not None else None


def _tree(code: str | None) -> ast.Module | None:
    try:
        return None if code is None else ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def parses(reply: str) -> bool:
    tree = _tree(code_in(reply))
    return tree is not None and bool(tree.body)


def is_whole(reply: str) -> bool:
    """Code that parses and does something, as does the body of every function in it, and leaves nothing out by a
    comment."""
    code = code_in(reply)
    tree = _tree(code)
    if code is None or tree is None or LEFT_OUT.search(code):
        return False
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    does = any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in tree.body)
    return does and all(not _does_nothing(function) for function in functions)


def _does_nothing(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return all(
        isinstance(node, ast.Pass)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Raise) and node.exc is not None and _names(node.exc, "NotImplementedError"))
        for node in function.body
    )


def _names(tree: ast.AST, name: str) -> bool:
    """By a walk, which no depth of a tree stops, as it would whatever calls itself."""
    return any(name in (getattr(node, "id", ""), getattr(node, "attr", "")) for node in ast.walk(tree))


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
