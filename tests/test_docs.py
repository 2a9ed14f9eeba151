"""Docs that cannot lie: pages that are generated, examples that are read, commands and links that exist."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from glasshouse.cli import app
from glasshouse.workspace import Workspace, read_manifest
from glasshouse.workspace.artefacts import _SCHEMA
from glasshouse.workspace.files import hash_json

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
GROUP: Any = typer.main.get_command(app)


def fences(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


def test_the_page_of_commands_is_generated() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == generate.page(), "run `make docs`"


# -- commands and links ------------------------------------------------------------------------------------------------


def commands_in(page: Path) -> list[list[str]]:
    """Every line of a shell fence that starts with glasshouse or make, in words, comments left out."""
    lines = [
        line
        for language in ("bash", "sh", "console", "")
        for block in fences(page, language)
        for line in block.splitlines()
    ]
    found = [
        shlex.split(line.removeprefix("$ ").split(" #")[0])
        for line in lines
        if re.match(r"(\$ )?(glasshouse|make) \S", line)
    ]
    return [words for words in found if words]


def wrong_with(words: list[str]) -> str:
    """What is wrong with a command line of a page, or nothing."""
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
        return "" if words[1] in targets else f"no target {words[1]}"
    if words[1].startswith("-"):
        return "" if words[1] == "--help" else f"no option {words[1]}"
    if words[1] not in GROUP.commands:
        return f"no command {words[1]}"
    command = GROUP.commands[words[1]]
    if hasattr(command, "commands"):
        if len(words) < 3 or words[2] not in command.commands:
            return f"no command {' '.join(words[1:3])}"
        command = command.commands[words[2]]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    unknown = [word for word in words[2:] if word.startswith("--") and word.split("=")[0] not in options]
    return f"no option {unknown[0]} of {words[1]}" if unknown else ""


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "cli.md"], ids=lambda p: p.name)
def test_commands_in_the_docs_exist(page: Path) -> None:
    wrong = {" ".join(words): what for words in commands_in(page) if (what := wrong_with(words))}
    assert not wrong


def test_the_checks_can_fail() -> None:
    assert (
        wrong_with(["glasshouse", "fly"])
        and wrong_with(["make", "tea"])
        and wrong_with(["glasshouse", "demo", "--fast"])
        and wrong_with(["glasshouse", "ledger", "burn"])
    )
    assert not wrong_with(["glasshouse", "chat", "m", "--set", "d/1=8x"])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_every_room_has_its_page() -> None:
    rooms = (
        "text",
        "models",
        "activations",
        "dictionaries",
        "features",
        "steering",
        "behaviours",
        "policy",
        "organisms",
        "web",
        "workspace",
        "cli",
        "formats",
        "log",
    )
    assert not [room for room in rooms if not (ROOT / "docs" / f"{room}.md").is_file()]


def test_the_readme_names_what_a_stranger_needs() -> None:
    commands = [" ".join(words) for words in commands_in(ROOT / "README.md")]
    assert "make demo" in commands and "make test" in commands
    assert any(c.startswith("glasshouse open") and "--dictionary" in c for c in commands)
    assert any(c.startswith("glasshouse open") and "--corpus" in c for c in commands)


def test_nothing_of_a_machine_is_written_down() -> None:
    for page in [*PAGES, ROOT / "Makefile", ROOT / "requirements.lock", ROOT / ".ci" / "run"]:
        lines = page.read_text(encoding="utf-8").splitlines()
        assert not [line for line in lines if re.search(r"/root/|/work/|/opt/", line)], page.name


# -- formats -----------------------------------------------------------------------------------------------------------

FORMATS = ROOT / "docs" / "formats.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_json_on_the_pages_parses(page: Path) -> None:
    for block in fences(page, "json"):
        try:
            json.loads(block)
        except json.JSONDecodeError:
            assert all(isinstance(json.loads(line), dict) for line in block.splitlines() if line.strip()), block


def test_the_manifest_on_the_page_is_read(tmp_path: Path) -> None:
    text = next(block for block in fences(FORMATS, "json") if '"made_from"' in block)
    (tmp_path / "manifest.json").write_text(text)
    (tmp_path / "note.txt").write_text("hello")
    manifest = read_manifest(tmp_path, verify=True)
    content = {key: manifest[key] for key in ("kind", "config", "made_from", "files")}
    assert hash_json(content) == manifest["hash"], "as the page says that it is made"


def test_a_written_manifest_has_the_keys_of_the_page(tmp_path: Path) -> None:
    ws = Workspace.open(tmp_path / "ws")
    with ws.writing("evals", "a", config={}, command="x") as draft:
        draft.finish()
    text = next(block for block in fences(FORMATS, "json") if '"made_from"' in block)
    written = json.loads((ws.path("evals", "a") / "manifest.json").read_text())
    assert set(written) == set(json.loads(text)) - {"site", "model"}
    assert set(written["libraries"]) == set(json.loads(text)["libraries"])


def test_the_marker_on_the_page_is_read(tmp_path: Path) -> None:
    (marker,) = fences(FORMATS, "toml")
    assert set(tomllib.loads(marker)) == {"format", "made_by"}
    (tmp_path / "glasshouse.toml").write_text(marker)
    assert Workspace.open(tmp_path, create=False).names("models") == []


def test_columns_of_the_log_are_on_the_page() -> None:
    section = FORMATS.read_text().partition("### index.sqlite")[2].partition("\n## ")[0]
    tables = re.findall(r"EXISTS (\w+) \((.*?)\);", _SCHEMA, re.S)
    assert [name for name, _ in tables] == ["runs", "pairs", "ratings", "chats", "thumbs"]
    for name, body in tables:
        columns = re.findall(r"\b([a-z_]+) (?:INTEGER|TEXT|REAL)", body)
        row = section if name == "runs" else re.search(rf"^\| `{name}` \|.*$", section, re.M)[0]  # type: ignore[index]
        assert len(columns) > 5 and not [column for column in columns if f"`{column}`" not in row], name
