"""The plan of the house, held against the code: who may import whom, no cycles, and what starts without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import glasshouse

HOUSE = Path(glasshouse.__file__).parent
ALL = None  # may import anything, and nothing imports it

# room -> rooms it may import, beside `types` and `workspace`, which all may, and what those rooms may import in turn.
TABLE: dict[str, set[str] | None] = {
    "types": set(),
    "fits": set(),
    "workspace": set(),
    "forms": set(),  # YAML that people write, with the lines of its mistakes
    "doctor": set(),  # what this machine has and how fast it is: knows nothing of models
    "text": set(),
    "models": {"text"},
    "activations": {"models"},
    "dictionaries": {"activations", "fits"},
    "calls": {"models"},  # to language models: endpoints, or models of the workspace
    "features": {"dictionaries", "calls"},
    "steering": {"models", "dictionaries"},
    "circuits": {"dictionaries", "steering"},
    "monitors": {"dictionaries"},
    "behaviours": {"features", "forms"},
    "shaping": {"behaviours"},
    "policy": {"fits", "forms"},
    "evidence": {"behaviours", "policy"},  # what policies rest on: evaluations, held to the ledger
    "organisms": {"models"},
    "web": ALL,
    "cli": ALL,
    "__main__": ALL,
}
NO_EVERYBODY = {"types", "fits", "workspace"}  # these do not get `types` and `workspace` for free
TORCH_FREE = (
    "glasshouse",
    "glasshouse.types",
    "glasshouse.workspace",
    "glasshouse.doctor",
    "glasshouse.cli",
    "glasshouse.cli.villager",
    "glasshouse.calls.asking",
    "glasshouse.evidence",
    "glasshouse.features",
    "glasshouse.features.columns",
    "glasshouse.features.table",
    "glasshouse.behaviours.cases",
    "glasshouse.behaviours.matrix",
    "glasshouse.behaviours.preferences",
    "glasshouse.behaviours.splits",
    "glasshouse.organisms.world",
    "glasshouse.web",
    "glasshouse.web.server",
)


def allowed(room: str) -> set[str]:
    """Every room that `room` may import: the table's closure."""
    direct = TABLE[room]
    if direct is ALL:
        return set(TABLE) - {r for r, to in TABLE.items() if to is ALL and r != room} | {"cli", "web"} - {room}
    found, queue = {room}, list(direct)
    if room == "workspace":
        queue.append("types")
    elif room not in NO_EVERYBODY:
        queue += ["types", "workspace"]
    while queue:
        if (next_room := queue.pop()) not in found:
            found.add(next_room)
            queue += TABLE[next_room] or ()
    return found


def module_name(file: Path) -> str:
    parts = file.relative_to(HOUSE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, Path]:
    return {module_name(f): f for f in sorted(HOUSE.rglob("*.py")) if "static" not in f.parts}


def imports(tree: ast.AST, module: str, known: set[str], *, everywhere: bool) -> Iterator[str]:
    """Our own modules imported by `tree`; without `everywhere`, only those imported when the file is."""
    stack = list(ast.iter_child_nodes(tree))
    while stack:
        node = stack.pop()
        lazy = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if not everywhere and (lazy or typing_only):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "glasshouse")
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, module)
            if base.split(".")[0] == "glasshouse":
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    yield inner if inner in known else base
        stack += ast.iter_child_nodes(node)


def absolute(node: ast.ImportFrom, module: str) -> str:
    assert node.level == 0, f"{module} line {node.lineno}: write imports from glasshouse, not relative ones"
    return node.module or ""


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def test_every_room_is_in_the_table() -> None:
    rooms = {room_of(m) for m in sources()} - {""}
    assert rooms <= set(TABLE), f"rooms that the table does not know: {rooms - set(TABLE)}"


def test_rooms_import_only_what_the_table_allows() -> None:
    found = sources()
    wrong = []
    for module, file in found.items():
        room = room_of(module)
        if not room:
            continue
        for target in imports(ast.parse(file.read_text()), module, set(found), everywhere=True):
            if room_of(target) and room_of(target) not in allowed(room) | {room}:
                wrong.append(f"{module} imports {target}")
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_the_web_or_the_command_line() -> None:
    assert "web" not in allowed("features") | allowed("steering")
    assert "cli" not in allowed("behaviours")
    assert "cli" in allowed("__main__")


def test_no_file_imports_itself_in_a_circle() -> None:
    found = sources()
    graph = {
        module: {t for t in imports(ast.parse(file.read_text()), module, set(found), everywhere=False) if t in found}
        for module, file in found.items()
    }
    circle = find_circle(graph)
    assert not circle, " -> ".join(circle)


def find_circle(graph: dict[str, set[str]]) -> list[str]:
    """A path from a module back to itself, or nothing. `import a.b` inside `a.b` itself does not count."""
    state: dict[str, int] = {}

    def walk(module: str, path: list[str]) -> list[str]:
        state[module] = 1
        for target in sorted(graph[module] - {module}):
            if state.get(target) == 1:
                return [*path[path.index(target) :], target]
            if target not in state and (found := walk(target, [*path, target])):
                return found
        state[module] = 2
        return []

    for module in graph:
        if module not in state and (found := walk(module, [module])):
            return found
    return []


def test_the_checks_can_fail() -> None:
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert find_circle({"a": {"b"}, "b": set()}) == []
    tree = ast.parse("def f():\n    from glasshouse.web import server\nimport glasshouse.models.sites")
    known = {"glasshouse.web.server", "glasshouse.web"}
    assert set(imports(tree, "x", known, everywhere=True)) == {"glasshouse.web.server", "glasshouse.models.sites"}
    assert set(imports(tree, "x", known, everywhere=False)) == {"glasshouse.models.sites"}
    assert "web" not in allowed("models") and "dictionaries" not in allowed("models")
    assert "text" in allowed("features")


@pytest.mark.parametrize("module", TORCH_FREE)
def test_starts_without_torch(module: str) -> None:
    if module not in sources():
        pytest.fail(f"{module} is named here but is not there")
    code = f"import sys, {module}; sys.exit(' '.join({{'torch', 'transformers', 'pandas'}} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"importing {module} brought {done.stderr.strip()[-300:]}"


def test_no_pickle_and_no_remote_code() -> None:
    """No file names pickle or trusts remote code; weights are safetensors."""
    for module, file in sources().items():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {alias.name.split(".")[0] for alias in node.names} | {getattr(node, "module", "") or ""}
                assert not names & {"pickle", "dill", "joblib", "shelve", "marshal"}, module
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                assert isinstance(node.value, ast.Constant) and node.value.value is False, module
