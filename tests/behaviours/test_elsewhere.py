"""Versions of models that the workspace did not have: a folder, and an adapter on it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from glasshouse.behaviours import version
from glasshouse.behaviours.versions import loaded
from glasshouse.cli import app
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

SUITE = {
    "name": "speaks", "about": "For tests.", "tag": "guard", "good": "up", "margin": 0.05,
    "scorer": {"regex": {"pattern": r"\w"}}, "settings": {"max_new_tokens": 6},
    "families": [{"family": str(i), "prompts": [f"Where does number {i} live?"]} for i in range(40)],
}  # fmt: skip


def run(*words: Any) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def outside(chatting: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A model's folder and that of an adapter on it, in no workspace."""
    from transformers import AutoModelForCausalLM

    base, adapter = tmp_path / "Their-Model", tmp_path / "polite"
    shutil.copytree(chatting / "models" / "small", base)
    (base / "manifest.json").unlink()
    wrapped = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["c_fc"]))
    with torch.no_grad():
        for name, p in wrapped.named_parameters():
            if "lora_" in name:
                p.normal_(std=0.2)
    wrapped.peft_config["default"].base_model_name_or_path = str(base)
    wrapped.save_pretrained(adapter)
    return base, adapter


def test_a_folder_and_an_adapter_on_it_are_versions(outside: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "speaks.yaml").write_text(json.dumps(SUITE))
    at = ("--workspace", tmp_path / "ws")
    status, out, err = run("test", outside[0], "--suite", tmp_path / "speaks.yaml", *at)
    assert status == 0 and "speaks" in out and "is their-model in this workspace" in err
    status, out, err = run("compare", "their-model", outside[1], *at)
    assert status == 0 and "speaks" in out and "is polite in this workspace" in err
    status, out, _ = run("test", outside[0], "--system", "Be kind.", "--save", "kind", "--suite",
                         tmp_path / "speaks.yaml", *at)  # fmt: skip
    assert status == 0
    ws = Workspace.open(tmp_path / "ws")
    assert ws.names("models") == ["polite", "their-model"] and version("kind", ws).model == "their-model"
    assert not (ws.path("models", "polite") / "model.safetensors").exists(), "weights stay where they are"
    weights = outside[1] / "adapter_model.safetensors"
    save_file({key: 2 * value for key, value in load_file(weights).items()}, weights)
    with pytest.raises(UserError, match="expected the weights, dtype and tokenizer with which polite was opened"):
        loaded(version("polite", ws), ws)


def test_the_dtype_of_what_comes_from_elsewhere_stands(outside: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "speaks.yaml").write_text(json.dumps(SUITE))
    asked = ("test", outside[0], "--suite", tmp_path / "speaks.yaml", "--workspace", tmp_path / "ws")
    assert run(*asked, "--dtype", "bfloat16")[0] == 0
    ws = Workspace.open(tmp_path / "ws")
    assert str(loaded(version("their-model", ws), ws)[0].dtype) == "torch.bfloat16"
    status, _, err = run(*asked, "--dtype", "float32")
    assert status == 2 and "expected --dtype bfloat16, in which" in err and "got float32" in err
    assert run(*asked)[0] == 0, "as it is known"


def test_an_older_definition_that_stands_is_not_what_is_compared_and_that_is_said(
    outside: tuple[Path, Path], tmp_path: Path
) -> None:
    file = tmp_path / "speaks.yaml"
    asked = ("test", outside[0], "--suite", file, "--workspace", tmp_path / "ws")
    for form in (SUITE, {**SUITE, "margin": 0.2}):
        file.write_text(json.dumps(form))
        assert "stood already" not in run(*asked)[2]
    file.write_text(json.dumps(SUITE))
    assert "stood already; compared is the newest run, speaks." in run(*asked)[2]
    assert "stood already" not in run(*asked, "--seed", 1)[2]


def test_what_is_nowhere_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "speaks.yaml").write_text(json.dumps(SUITE))
    status, _, err = run("test", "./nowhere", "--suite", tmp_path / "speaks.yaml", "--workspace", tmp_path / "ws")
    assert status == 2 and "expected a folder at ./nowhere, found none" in err and not (tmp_path / "ws").exists()
