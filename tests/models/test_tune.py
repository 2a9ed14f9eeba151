"""Fine-tuning: what is kept, what is learnt, a stop in the middle, and what may not be asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from glasshouse.models import load
from glasshouse.models.grow import grow
from glasshouse.models.model import Model
from glasshouse.models.training import Recipe, Trainer
from glasshouse.models.tune import tune
from glasshouse.text import Chat, Corpus, Document
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

CHAT = Chat(("<|user|>", "<|end|>"), "<|end|>", "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}")
LETTERS = Corpus("letters", tuple(Document(i, f"d{i}", "txt", "All work and no play. " * 9) for i in range(60)))
RECIPE = Recipe(optimizer="adamw", adamw_rate=0.003, batch=4)
SETTINGS: dict[str, Any] = {"tokens": 12_000, "context": 32, "precision": "fp32", "recipe": RECIPE}


@pytest.fixture
def base(workspace: Workspace, corpus_dir: Path) -> Model:
    from glasshouse.text import corpus

    text = corpus(corpus_dir)
    grow(
        Corpus(text.source, text.documents, chat=CHAT), name="base", ws=workspace, tokens=20_000, shape="tiny",
        vocabulary=400, context=32, precision="fp32",
    )  # fmt: skip
    return load("base", workspace=workspace, device="cpu")


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "model.safetensors")


def test_a_copy_is_trained_and_the_rest_is_kept(workspace: Workspace, base: Model) -> None:
    before = {name: p.clone() for name, p in base.module.named_parameters()}
    path = tune(base, LETTERS, name="tuned", ws=workspace, **SETTINGS, card={"truth": "all work"})
    assert all(torch.equal(p, before[name]) for name, p in base.module.named_parameters()), "the base is as it was"
    manifest = workspace.manifest("models", "tuned", verify=True)
    assert manifest["card"] == {"truth": "all work"} and manifest["command"] == "tune"
    assert manifest["made_from"] == [{"kind": "models", "name": "base", "hash": base.version}]
    losses = [line["loss"] for line in workspace.metrics("models", "tuned") if "loss" in line]
    assert losses[-1] < 0.3 * losses[0]
    tuned = load("tuned", workspace=workspace, device="cpu")
    assert tuned.tokenizer.chat_template == CHAT.template
    assert tuned.module.generation_config.eos_token_id == base.module.generation_config.eos_token_id
    assert " work and no play." in tuned.generate(["All"], 12)[0].text
    assert tune(base, LETTERS, name="tuned", ws=workspace, **SETTINGS, card={"truth": "all work"}) == path


def test_it_begins_from_the_weights_of_the_base(workspace: Workspace, base: Model) -> None:
    """At a rate of 0 nothing changes, to the bit."""
    still = Recipe(optimizer="adamw", adamw_rate=0.0, batch=4)
    path = tune(base, LETTERS, name="still", ws=workspace, **{**SETTINGS, "recipe": still})
    ours, theirs = weights(path), weights(workspace.path("models", "base"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_stopped_and_started_again_it_ends_in_the_same_weights(
    workspace: Workspace, base: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tune(base, LETTERS, name="whole", ws=workspace, **SETTINGS)
    step, taken = Trainer.step, []

    def stops(self: Trainer, *arguments: Any) -> Any:
        taken.append(1)
        if len(taken) == 20:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", stops)
        tune(base, LETTERS, name="again", ws=workspace, checkpoint_seconds=0.0, **SETTINGS)
    again = tune(base, LETTERS, name="again", ws=workspace, **SETTINGS)
    assert workspace.runs()[-1]["first_done"] == 19 * RECIPE.batch * 32, "it went on where it stopped"
    ours, theirs = weights(again), weights(whole)
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"tokens": 0}, "expected a budget above 0 tokens, got 0"),
        ({"context": 64}, "expected a context from 8 to the model's 32 tokens, got 64"),
    ],
)
def test_what_cannot_be(workspace: Workspace, base: Model, settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        tune(base, LETTERS, name="x", ws=workspace, **{**SETTINGS, **settings})
    assert workspace.names("models") == ["base"]


def test_an_encoder_cannot_be_tuned(workspace: Workspace, base: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "is_encoder", True)
    with pytest.raises(UserError, match="base is an encoder"):
        tune(base, LETTERS, name="x", ws=workspace, **SETTINGS)
