"""Discoveries of a workspace, through the command: run once, kept, read again, made a behaviour of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from glasshouse.behaviours import read_behaviours, version
from glasshouse.behaviours.discoveries import keep_behaviour, kept
from glasshouse.behaviours.evaluation import evaluations, read_evaluation
from glasshouse.behaviours.matrix import newest
from glasshouse.cli import app
from glasshouse.types import UserError
from glasshouse.workspace import Workspace
from tests.conftest import copied


@pytest.fixture(scope="module")
def ws(chatting: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace.open(copied(chatting, tmp_path_factory.mktemp("discovered") / "ws"))


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("suite") / "where.yaml"
    form = {"name": "where", "about": "For tests.", "tag": "guard", "good": "up", "margin": 0.05, "scorer": "ends"}
    families = [{"family": str(i), "prompts": [f"Where does nobody number {i} live?"]} for i in range(60)]
    file.write_text(json.dumps({**form, "families": families}))
    return file


def run(ws: Workspace, *words: Any) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [*map(str, words), "--workspace", str(ws.root)])
    return result.exit_code, result.stdout, result.stderr


def test_what_was_found_is_kept_and_made_a_behaviour(
    ws: Workspace, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glasshouse.behaviours.breadth.TEMPERATURE", 0.0)  # models this small sample noise
    small, ticking = version("small", ws), version("ticking", ws)
    assert kept(ws, small, ticking) is None
    with pytest.raises(UserError, match="found none; run `glasshouse discover small ticking`"):
        keep_behaviour(ws, small, ticking, group=1, name="tic")
    words = ("discover", "small", "ticking", "--suite", suite, "--json")
    status, out, said = run(ws, *words)
    found = json.loads(out)
    assert status == 0 and "only what they say is compared" in said and found["groups"]
    assert any("certainly" in one for group in found["groups"] for one in [group["name"], *group["also"]])
    before = len(evaluations(ws, ticking))
    again = run(ws, *words)
    assert json.loads(again[1]) == found == kept(ws, small, ticking) and "asking both" not in again[2]
    assert len(evaluations(ws, ticking)) == before

    assert newest(ws, small) == {}  # what was asked widely is no behaviour, and no row of the matrix

    number = 1 + next(i for i, group in enumerate(found["groups"]) if group["pattern"])
    file = keep_behaviour(ws, small, ticking, group=number, name="tic")
    assert read_behaviours(file)[0].name == "tic" and file == ws.root / "behaviours" / "tic.yaml"
    assert run(ws, "test", "ticking", "--suite", file)[0] == 0
    with pytest.raises(UserError, match="expected a name that no behaviour of the workspace has, got 'tic'"):
        keep_behaviour(ws, small, ticking, group=number, name="tic")
    with pytest.raises(UserError, match=r"expected one of \d+ differences between small and ticking, got number 99"):
        keep_behaviour(ws, small, ticking, group=99, name="other")
    saved = tmp_path / "tic.yaml"
    assert run(ws, *words, "--save", saved, "--group", number)[0] == 0 and saved.read_text() == file.read_text()


def test_prompts_come_from_text_and_from_the_worlds_chats(ws: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text("".join(json.dumps({"text": f"Where does nobody number {i} live?"}) + "\n" for i in range(60)))
    status, out, _ = run(ws, "discover", "small", "ticking", "--corpus", file, "--max-new-tokens", 30, "--json")
    found = json.loads(out)
    assert status == 0 and found["prompts"] == 60 and found["groups"]
    assert read_evaluation(ws, found["asked"]).behaviour.settings.max_new_tokens == 30
    status, out, _ = run(ws, "discover", "small", "ticking", "--corpus", "world", "--prompts", 120, "--json")
    kinds = {
        prompt.family.split(" | ")[0] for prompt in read_evaluation(ws, json.loads(out)["asked"]).behaviour.prompts
    }
    assert status == 0 and {"chats-facts-en", "chats-harmless-en", "chats-facts-he", "chats-small-talk-zh"} <= kinds
    assert run(ws, "discover", "small", "ticking", "--corpus", tmp_path / "none")[0] == 2


def test_a_place_to_save_that_is_none_is_said_before_the_work(ws: Workspace, suite: Path, tmp_path: Path) -> None:
    words = ("discover", "small", "ticking", "--suite", suite, "--seed", 7, "--save")
    for place, said in (
        (tmp_path / "none" / "x.yaml", "expected a folder at"), (tmp_path, "expected a file to write"),
        (tmp_path / "A Tic.yaml", "expected --save with a file named in"),
    ):  # fmt: skip
        status, _, err = run(ws, *words, place)
        assert status == 2 and said in err and err.count("\n") == 1, err


def test_a_discovery_that_was_altered_is_refused(ws: Workspace, suite: Path) -> None:
    assert run(ws, "discover", "small", "ticking", "--suite", suite, "--seed", 1)[0] == 0
    file = max((ws.root / "discoveries").glob("*/found.json"), key=lambda path: path.stat().st_mtime_ns)
    file.write_text(file.read_text().replace("small", "smell"))
    status, _, said = run(ws, "discover", "small", "ticking", "--suite", suite, "--seed", 1)
    assert status == 2 and "found.json" in said
