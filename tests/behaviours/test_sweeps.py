"""`glasshouse test` of a sweep: a version a step, run like any other, and gone on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from glasshouse.behaviours import plane, read_evaluation, version
from glasshouse.cli import app
from glasshouse.dictionaries.dictionary import Dictionary, Threshold
from glasshouse.dictionaries.folders import write_folder
from glasshouse.types import Site
from glasshouse.workspace import Workspace
from tests.behaviours.written import asked
from tests.conftest import copied


@pytest.fixture(scope="module")
def ws(chatting: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The small chat model with a dictionary of random directions before block 1, named `d`."""
    made = Workspace.open(copied(chatting, tmp_path_factory.mktemp("sweeps") / "ws"))
    rows_FD = torch.nn.functional.normalize(torch.randn(4, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    found = Dictionary(
        name="d", site=Site.parse("resid.1"), model_name="small", W_enc=rows_FD.T.contiguous(), b_enc=torch.zeros(4),
        W_dec=rows_FD, b_dec=torch.zeros(64), activation=Threshold(kind="relu"), max_activation=torch.ones(4),
        typical_norm=8.0,
    )  # fmt: skip
    with made.writing("dictionaries", "d", config={}, command="learn") as draft:
        write_folder(found, draft.path)
        draft.finish()
    suite = made.root / "suite"
    suite.mkdir()
    length = {"unit": "tokens", "scorer": "length", "settings": {"max_new_tokens": 8}}
    for name, more in (("refused", {}), ("said", length)):
        (suite / f"{name}.yaml").write_text(json.dumps(asked(name, [1] * 6, **more).to_json()))
    return made


def run(ws: Workspace, *words: Any) -> tuple[int, str, str]:
    at = ("--suite", ws.root / "suite", "--workspace", ws.root)
    result = CliRunner().invoke(app, ["test", *(str(word) for word in (*words, *at))])
    return result.exit_code, result.stdout, result.stderr


def test_a_strength_is_swept(ws: Workspace) -> None:
    words = ("small", "--edit", "d/2=0:4:3", "--save", "loud", "--json")
    status, out, err = run(ws, *words)
    assert status == 0, err
    found = json.loads(out)
    cards = [one["version"] for one in found["versions"]]
    assert found["sweep"] == "loud" and [card["name"] for card in cards] == ["loud-0", "loud-2", "loud-4"]
    assert [card["step"]["at"] for card in cards] == [0, 2, 4]
    assert {card["step"]["what"] for card in cards} == {"d/2, × the typical norm"}
    assert cards[0]["hash"] == version("small", ws).hash, "nothing added is the model itself"
    runs = [read_evaluation(ws, one["behaviours"][1]["evaluation"]) for one in found["versions"]]
    assert len({tuple(sample.reply for sample in run.samples) for run in runs}) > 1, "an edit does something"
    (sweep,) = plane(ws, "said", "refused", of="loud")["sweeps"]
    assert sweep["at"] == [0, 2, 4] and len(sweep["points"]) == 3
    shutil.rmtree(ws.path("evals", runs[2].name))  # as if it had been killed before the last
    before = {name: (ws.path("evals", name) / "manifest.json").stat().st_mtime_ns for name in ws.names("evals")}
    status, again, _ = run(ws, *words)
    assert status == 0 and json.loads(again) == found, "the same results"
    after = {name: (ws.path("evals", name) / "manifest.json").stat().st_mtime_ns for name in ws.names("evals")}
    assert {name: after[name] for name in before} == before and set(after) - set(before) == {runs[2].name}


def test_a_clamp_is_swept_beside_another_edit(ws: Workspace) -> None:
    words = ("small", "--edit", "d/2=0:4x:2", "--edit", "d/1=0.5", "--system", "Be kind.", "--save", "held")
    status, out, err = run(ws, *words, "--only", "refused")
    assert status == 0, err
    assert [line for line in out.splitlines() if line.endswith(":")] == ["held-0x:", "held-4x:"]
    one = version("held-0x", ws)
    assert one.system == "Be kind." and one.step is not None and one.step.what == "d/2, × its largest activation"
    parts = json.loads((ws.path("versions", "held-0x") / "edit.json").read_text())["parts"]
    assert [(part["site"], part["kind"], part["options"]) for part in parts] == [
        ("d/2", "set", {"times_max": 0.0}), ("d/1", "add", {"times_norm": 0.5}),
    ]  # fmt: skip


def test_system_prompts_of_a_file_are_swept(ws: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("Be brief.\n\n  Be kind.\n")
    status, out, err = run(ws, "small", "--system-file", file, "--save", "told", "--only", "refused", "--json")
    assert status == 0, err
    cards = [one["version"] for one in json.loads(out)["versions"]]
    assert [(card["name"], card["system"], card["step"]["at"]) for card in cards] == [
        ("told-1", "Be brief.", 1), ("told-2", "Be kind.", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--edit", "d/2=0:4", "--save", "s"), "expected a sweep START:STOP:STEPS of 2 to 64 steps"),
        (("--edit", "d/2=0:4:1", "--save", "s"), "resid6/1234=0:8x:5, got 'd/2=0:4:1'"),
        (("--edit", "d/2=4:4:3", "--save", "s"), "got 'd/2=4:4:3'"),
        (("--edit", "d/2=0:inf:3", "--save", "s"), "got 'd/2=0:inf:3'"),
        (("--edit", "d/2=a:4:3", "--save", "s"), "got 'd/2=a:4:3'"),
        (("--edit", "d/2=0:4:3"), "expected --save NAME with --system, --system-file or --edit"),
        (("--edit", "d/2=0:4:3", "--edit", "d/1=0:4:3", "--save", "s"), "expected one sweep at a time"),
        (("--edit", "d/2=0:4:3", "--sentences", "--save", "s"), "for --sentences, a sweep is several"),
        (("--system-file", "nowhere.txt", "--save", "s"), "expected a text file of system prompts at nowhere.txt"),
        (("--system-file", "nowhere.txt", "--system", "Be.", "--save", "s"), "got --system-file with --system"),
    ],
)
def test_mistakes(ws: Workspace, words: tuple[str, ...], said: str) -> None:
    status, _, err = run(ws, "small", *words)
    assert status == 2 and said in err and err.count("\n") == 1, err


def test_one_prompt_is_no_sweep(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("Be brief.\n")
    status, _, err = run(ws, "small", "--system-file", tmp_path / "one.txt", "--save", "s")
    assert status == 2 and "expected 2 to 64 system prompts in" in err
