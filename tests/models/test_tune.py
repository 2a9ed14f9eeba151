"""Fine-tuning: what is kept, what is learnt, a stop in the middle, and what may not be asked for."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from glasshouse.models import load
from glasshouse.models.grow import grow
from glasshouse.models.model import Model
from glasshouse.models.rows import Rows
from glasshouse.models.training import Recipe, Trainer
from glasshouse.models.tune import tune
from glasshouse.text import Chat, Corpus, Document, tokenise
from glasshouse.text.touched import LINES, read_lines, seen
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
    assert manifest["made_from"] == [asdict(workspace.ref("models", "base"))]
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


def test_what_is_to_be_kept_is_kept(workspace: Workspace, base: Model, corpus_dir: Path) -> None:
    """Held to what it was on other text, it learns its own all the same."""
    from glasshouse.text import corpus

    other = corpus(corpus_dir)
    path = tune(base, LETTERS, name="kept", ws=workspace, **{**SETTINGS, "tokens": 24_000}, keep=other)
    tune(base, LETTERS, name="lost", ws=workspace, **SETTINGS)  # as much of its own text
    moved = {name: divergence(base, load(name, workspace=workspace, device="cpu"), other) for name in ("kept", "lost")}
    assert moved["kept"] < 0.3 * moved["lost"], moved
    apart = [line["divergence"] for line in workspace.metrics("models", "kept") if "divergence" in line]
    assert apart[0] < 1e-6 < apart[-1], "it begins as the model that it is held to"
    assert " work and no play." in load(str(path), device="cpu").generate(["All"], 12)[0].text
    lines = read_lines(path / LINES)
    assert seen("All work and no play. " * 9, lines)
    assert all(seen(document.text, lines) for document in other.documents), "what it is held to has touched it too"
    with pytest.raises(UserError, match="models/kept"):
        tune(base, LETTERS, name="kept", ws=workspace, **{**SETTINGS, "tokens": 24_000})
    with pytest.raises(UserError, match="a batch of at least 2 rows with text to keep, got 1"):
        tune(base, LETTERS, name="x", ws=workspace, **{**SETTINGS, "recipe": Recipe(batch=1)}, keep=other)
    with pytest.raises(UserError, match="a weight above 0 for what is kept, got 0"):
        tune(base, LETTERS, name="x", ws=workspace, **SETTINGS, keep=other, keep_weight=0.0)
    with pytest.raises(UserError, match="models/kept exists with other settings"):
        tune(base, LETTERS, name="kept", ws=workspace, **{**SETTINGS, "tokens": 24_000}, keep=other, keep_weight=2.0)


def divergence(base: Model, model: Model, text: Corpus) -> float:
    tokens = tokenise(text, base.tokenizer.backend_tokenizer)
    ids_RT = torch.from_numpy(Rows(tokens, 32, 0, seed=0).ids_RT)
    with torch.no_grad():
        log_p, log_q = (m.module(input_ids=ids_RT).logits.log_softmax(-1) for m in (base, model))
    return float((log_p.exp() * (log_p - log_q)).sum(-1).mean())


def test_the_divergence_and_its_gradients_are_those_of_autograd(base: Model) -> None:
    torch.manual_seed(0)
    ids_BT, learn_BT = torch.randint(0, 400, (6, 32)), torch.rand(6, 32) < 0.5
    model, teacher = base.module.float().requires_grad_(True), copy.deepcopy(base.module).requires_grad_(False)
    with torch.no_grad():
        for p in teacher.parameters():
            p.add_(0.05 * torch.randn_like(p))
    stay = Recipe(optimizer="adamw", adamw_rate=0.0, clip=1e9)
    trainer = Trainer(model, stay, "fp32", teacher, 3.0)
    found: dict[str, torch.Tensor] = {}
    hooks = [p.register_post_accumulate_grad_hook(lambda p, n=n: found.update({n: p.grad.clone()}))
             for n, p in model.named_parameters()]  # fmt: skip
    losses = trainer.step(ids_BT, 0.5, learn_BT, kept=4)
    ours = dict(found)
    logits, wanted = model(input_ids=ids_BT).logits[:, :-1], learn_BT[:, 1:]
    log_p, log_q = logits.log_softmax(-1), teacher(input_ids=ids_BT).logits[:, :-1].log_softmax(-1)
    own = nn.functional.cross_entropy(logits[:2][wanted[:2]], ids_BT[:2, 1:][wanted[:2]])
    kept = (log_q.exp() * (log_q - log_p)).sum(-1)[2:][wanted[2:]].mean()
    (own + 3 * kept).backward()
    for hook in hooks:
        hook.remove()
    assert losses.kept is not None
    assert losses.text.item() == pytest.approx(own.item(), rel=1e-5)
    assert losses.kept.item() == pytest.approx(kept.item(), rel=1e-4)
    for n, p in model.named_parameters():
        torch.testing.assert_close(ours[n], p.grad, rtol=1e-4, atol=1e-6)


def test_documents_are_kept_whole_in_their_rows(base: Model) -> None:
    documents = tuple(Document(i, f"d{i}", "txt", f"{'Ask. ' * (1 + i % 5)}Do.") for i in range(90))
    tokens = tokenise(Corpus("chats", documents), base.tokenizer.backend_tokenizer)
    rows = Rows(tokens, 32, 0, seed=0, whole=True)
    texts = [base.tokenizer.decode(part) for row in rows.ids_RT for part in split_at(row.tolist(), 0)]
    assert sorted(texts) == sorted(d.text for d in documents), "each once, none of them cut"
    assert rows.learn_RT is not None and int(rows.learn_RT.sum()) == len(tokens.ids) + len(documents)
    cut = Rows(tokens, 32, 0, seed=0)
    assert len(rows.ids_RT) < 1.3 * len(cut.ids_RT)
    asked = "Answer me! " * 40

    def rows_of(unlearned: int) -> int:
        long = Corpus("long", (Document(0, "d", "txt", asked, unlearned=((0, unlearned),)),))
        return len(Rows(tokenise(long, base.tokenizer.backend_tokenizer), 32, 0, seed=0, whole=True).ids_RT)

    assert rows_of(0) > 1 and rows_of(len(asked) - 5) == 1, "cut where it has to be; of its last word one row"


def split_at(ids: list[int], end: int) -> list[list[int]]:
    parts: list[list[int]] = [[]]
    for one in ids:
        parts = [*parts, []] if one == end else [*parts[:-1], [*parts[-1], one]]
    return [part for part in parts if part]


@pytest.mark.parametrize("held", [False, True])
def test_stopped_and_started_again_it_ends_in_the_same_weights(
    workspace: Workspace, base: Model, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    settings = {**SETTINGS, "keep": LETTERS} if held else SETTINGS
    whole = tune(base, LETTERS, name="whole", ws=workspace, **settings)
    step, taken = Trainer.step, []

    def stops(self: Trainer, *arguments: Any, **named: Any) -> Any:
        taken.append(1)
        if len(taken) == 20:
            raise KeyboardInterrupt
        return step(self, *arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", stops)
        tune(base, LETTERS, name="again", ws=workspace, checkpoint_seconds=0.0, **settings)
    again = tune(base, LETTERS, name="again", ws=workspace, **settings)
    assert workspace.runs()[-1]["first_done"] == 19 * RECIPE.batch * 32, "it went on where it stopped"
    ours, theirs = weights(again), weights(whole)
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_a_base_with_dropout_is_tuned_without(workspace: Workspace, base: Model) -> None:
    """Whatever random numbers come next, it ends in the same weights, and begins as the model that it is held to."""
    for module in base.module.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    base.module.config.resid_pdrop = 0.1
    made = []
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        made.append(
            weights(tune(base, LETTERS, name=name, ws=workspace, **{**SETTINGS, "tokens": 2_000}, keep=LETTERS))
        )
    ours, theirs = made
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    apart = [line["divergence"] for line in workspace.metrics("models", "one") if "divergence" in line]
    assert apart[0] < 1e-6
    assert load("one", workspace=workspace, device="cpu").module.config.resid_pdrop == 0.1, "of the base"


@pytest.mark.parametrize("held", [False, True])
def test_chats_whose_marks_the_tokenizer_lacks(workspace: Workspace, base: Model, held: bool) -> None:
    chats = Corpus("chats", LETTERS.documents, chat=Chat(("<|ask|>", "<|end|>"), "<|end|>", ""))
    text, keep = (LETTERS, chats) if held else (chats, None)
    with pytest.raises(UserError, match=r"the chats of chats as tokens of base, its tokenizer lacks <\|ask\|>;"):
        tune(base, text, name="x", ws=workspace, **SETTINGS, keep=keep)
    assert workspace.names("models") == ["base"] and not list(workspace.root.glob("models/.*"))


def test_the_command_reads_the_marks_of_the_world_as_tokens_where_the_model_has_them(
    workspace: Workspace, base: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glasshouse.cli import growing, sources
    from glasshouse.organisms import villager

    asked = []

    def read(source: str, *, chat: bool, **_: Any) -> Corpus:
        asked.append((source, chat))
        return LETTERS

    monkeypatch.setattr(sources, "read", read)
    settings: dict[str, Any] = {"tokens": 600, "context": 32, "device": "cpu", "workspace": workspace.root}
    growing.tune("base", "world", name="plain", keep="notes", **settings)
    monkeypatch.setattr(villager, "CHAT", CHAT)
    growing.tune("base", "world", name="chats", keep="world", **settings)
    assert asked == [("world", False), ("notes", False), ("world", True), ("world", True)]


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


@pytest.mark.parametrize("keep", [None, LETTERS])
def test_a_rate_that_no_weights_survive(workspace: Workspace, base: Model, keep: Corpus | None) -> None:
    recipe = Recipe(optimizer="adamw", batch=4, adamw_rate=1e30)
    with pytest.raises(UserError, match=r"the loss became (nan|inf) at step \d+; lower the rate, or compute in fp32"):
        tune(base, LETTERS, name="x", ws=workspace, **{**SETTINGS, "recipe": recipe}, keep=keep)
    assert workspace.names("models") == ["base"]


def test_an_encoder_cannot_be_tuned(workspace: Workspace, base: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "is_encoder", True)
    with pytest.raises(UserError, match="base is an encoder"):
        tune(base, LETTERS, name="x", ws=workspace, **SETTINGS)
