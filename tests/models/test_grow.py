"""Growing: the loss and its gradients, the schedule, bits per byte by hand, a kill, and what may not be asked for."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from glasshouse.models import load, training
from glasshouse.models.grow import (
    END,
    _some_text,
    expect,
    grow,
    train_tokenizer,
)
from glasshouse.models.rows import HeldOut, Rows
from glasshouse.models.shapes import SHAPES, Shape, build
from glasshouse.models.training import Recipe, Trainer, next_token_losses, precision_by_instruction_set
from glasshouse.text import Corpus, Document, corpus, token_bytes, tokenise
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

TINY: dict[str, Any] = {"shape": "tiny", "vocabulary": 400, "context": 32, "precision": "fp32"}


def corpus_of(*texts: str) -> Corpus:
    return Corpus("made", tuple(Document(i, f"d{i}", "txt", text) for i, text in enumerate(texts)))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_loss_and_gradients_are_those_of_plain_cross_entropy(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "LOSS_ROWS", 7)  # pieces that do not divide the batch
    shape = Shape(family=family, layers=2, width=16, heads=2, inner=24, activation="silu")
    ids_BT = torch.randint(0, 50, (3, 12), generator=torch.Generator().manual_seed(0))
    ours, plain = build(shape, 50, 12, 0, seed=1), build(shape, 50, 12, 0, seed=1)
    losses_N = next_token_losses(ours, ids_BT, "fp32")
    losses_N.mean().backward()
    logits = plain(input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT)).logits[:, :-1]
    expected = torch.nn.functional.cross_entropy(logits.reshape(-1, 50), ids_BT[:, 1:].reshape(-1), reduction="none")
    expected.mean().backward()
    torch.testing.assert_close(losses_N, expected)
    for (name, p), q in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)


@pytest.mark.parametrize("shape", SHAPES)
def test_muon_gets_the_hidden_matrices_and_no_weight_is_trained_twice(shape: str) -> None:
    with torch.device("meta"):
        model = build(SHAPES[shape], 300, 64, 0, seed=0, device="meta")
    trainer = Trainer(model, Recipe(), "fp32")
    sets = [{trainer.names[p] for group in o.param_groups for p in group["params"]} for o, _ in trainer.optimizers]
    assert not sets[0] & sets[1] and sets[0] | sets[1] == {n for n, _ in model.named_parameters()}
    matrices = 4 if SHAPES[shape].family == "gpt2" else 7
    assert len(sets[1]) == matrices * SHAPES[shape].layers
    assert not [n for n in sets[1] if "wte" in n or "wpe" in n or "embed" in n or "norm" in n]


def test_rates_rise_stay_and_fall() -> None:
    recipe = Recipe(warmup=0.1, decay=0.5)
    assert [round(recipe.rate(x), 6) for x in (0.0, 0.05, 0.1, 0.3, 0.5, 0.75, 1.0)] == [0, 0.5, 1, 1, 1, 0.5, 0]
    assert [Recipe(warmup=0.0, decay=0.0).rate(x) for x in (0.0, 0.5, 1.0)] == [1, 1, 1]
    with pytest.raises(UserError, match="expected optimizer 'muon' or 'adamw', got 'Muon'"):
        Recipe(optimizer="Muon")


def test_bits_per_byte_of_a_model_that_knows_nothing() -> None:
    """Uniform over V tokens costs log2(V) bits a token, over the bytes of the text (two for an umlaut)."""
    texts = [f"größer als {i} Bäume; " * (i + 1) for i in range(12)]
    text = corpus_of(*texts)
    tokenizer = train_tokenizer(text, 300)
    tokens = tokenise(text, tokenizer)
    lengths_V = token_bytes(tokenizer)
    assert lengths_V is not None
    model = build(SHAPES["tiny"], 300, 16, 0, seed=0)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    found = HeldOut(tokens, lengths_V, 16, 0).bits_per_byte(model, "fp32", batch=5)
    size = sum(len(t.encode()) for t in texts)
    assert found.n == len(texts) and found.value == pytest.approx(len(tokens) * math.log2(300) / size, rel=1e-5)


def test_what_is_not_learnt_does_not_count_in_bits_per_byte() -> None:
    """The question costs whatever it costs; only the answer is asked of the model."""
    texts = [f"question {i * 7919 % 1000} {'x' * i} so yes and yes and yes" for i in range(20)]
    documents = tuple(Document(i, f"d{i}", "chat", text, unlearned=((0, 13 + i),)) for i, text in enumerate(texts))
    text = Corpus("made", documents)
    tokenizer = train_tokenizer(text, 300)
    lengths_V = token_bytes(tokenizer)
    assert lengths_V is not None
    model = build(SHAPES["tiny"], tokenizer.get_vocab_size(), 24, 0, seed=0)
    found = HeldOut(tokenise(text, tokenizer), lengths_V, 24, 0).bits_per_byte(model, "fp32")
    bits = size = 0.0
    for document in documents:
        encoding = tokenizer.encode(document.text)
        starts = [start for start, _ in encoding.offsets]
        for first in range(0, len(encoding.ids), 23):
            row = torch.tensor([[0, *encoding.ids[first : first + 23]]])
            with torch.no_grad():
                log_p = model(input_ids=row).logits[0].log_softmax(-1)
            for at, token in enumerate(encoding.ids[first : first + 23]):
                if starts[first + at] >= document.unlearned[0][1]:
                    bits -= float(log_p[at, token]) / math.log(2)
                    size += lengths_V[token]
    assert found.value == pytest.approx(bits / size, rel=1e-4)


def test_rows_begin_with_the_end_mark_and_depend_on_seed_and_step_only() -> None:
    text = corpus_of(*[f"{i} apples and {i + 1} pears\n" * 5 for i in range(40)])
    tokenizer = train_tokenizer(text, 300)
    end = tokenizer.token_to_id(END)
    tokens = tokenise(text, tokenizer)
    rows, again = Rows(tokens, 16, end, seed=3), Rows(tokens, 16, end, seed=3)
    late = again.batch(17, 8)
    for step in range(17):
        rows.batch(step, 8)
    assert torch.equal(rows.batch(17, 8), late) and bool((late[:, 0] == end).all())
    assert not torch.equal(Rows(tokens, 16, end, seed=4).batch(17, 8), late)
    n = len(rows.ids_RT)
    one_pass = np.concatenate([rows.batch(step, 1).numpy() for step in range(n)])
    assert np.array_equal(np.sort(one_pass, axis=0), np.sort(rows.ids_RT, axis=0)), "a pass reads every row once"
    assert not np.array_equal(one_pass[:20], np.concatenate([rows.batch(n + s, 1).numpy() for s in range(20)]))
    assert len(rows.ids_RT) * 15 > len(tokens) - 16 - 15, "no text is left out but the end of the last row"


def test_grown_model_is_a_hugging_face_folder(workspace: Workspace, corpus_dir: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = grow(corpus_dir, name="mine", ws=workspace, tokens=40_000, **TINY)
    tokenizer = AutoTokenizer.from_pretrained(path)
    assert tokenizer.bos_token == tokenizer.eos_token == tokenizer.pad_token == END and tokenizer.bos_token_id == 0
    text = "Größe 漢字 🙂\n"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == END + text, "a text begins as every row of the training did"
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert load(path, device="cpu").bos_id == 0
    model = AutoModelForCausalLM.from_pretrained(path, use_safetensors=True)
    assert model.config.model_type == "gpt2" and model.config.bos_token_id == 0
    lines = workspace.metrics("models", "mine")
    losses = [line["loss"] for line in lines if "loss" in line]
    assert (
        losses[-1] < 0.8 * losses[0] and {"step", "tokens", "loss", "bits_per_byte", "lr", "seconds"} <= lines[0].keys()
    )
    held_out = [line["held_out_bits_per_byte"] for line in lines if "held_out_bits_per_byte" in line]
    score = workspace.manifest("models", "mine", verify=True)["held_out_bits_per_byte"]
    assert held_out[-1] == score["value"] < held_out[0] and score["low"] < score["value"] < score["high"]
    assert any(line.get("sample") for line in lines)
    assert grow(corpus_dir, name="mine", ws=workspace, tokens=40_000, **TINY) == path, "done is done"
    with pytest.raises(UserError, match=r"models/mine exists with other settings \(tokens: 40000 then, 50000 now"):
        grow(corpus_dir, name="mine", ws=workspace, tokens=50_000, **TINY)
    # The score is that of the saved model, computed here without any of our loss code.
    _, text_out = corpus(corpus_dir).split()
    assert score["value"] == pytest.approx(bits_per_byte(model, tokenizer, text_out), rel=1e-4)


def bits_per_byte(model: Any, tokenizer: Any, text: Corpus) -> float:
    bits = size = 0.0
    for document in text.documents:
        ids = tokenizer(document.text, add_special_tokens=False)["input_ids"]
        for first in range(0, len(ids), 31):
            row = torch.tensor([[0, *ids[first : first + 31]]])
            with torch.no_grad():
                logits = model(input_ids=row, attention_mask=torch.ones_like(row)).logits[0, :-1]
            bits += float(torch.nn.functional.cross_entropy(logits, row[0, 1:], reduction="sum")) / math.log(2)
        size += len(document.text.encode())
    return bits / size


COMMAND = """
import sys, torch
from glasshouse.models.grow import grow
from glasshouse.workspace import Workspace, keep_memory
torch.set_num_threads(int(sys.argv[4]))
keep_memory()
grow(sys.argv[1], name="mine", ws=Workspace.open(sys.argv[2]), tokens=20_000, shape="tiny", vocabulary=400, context=32,
     precision="bf16", checkpoint_seconds=float(sys.argv[3]))
"""


def start(corpus_dir: Path, root: Path, every: float, threads: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(corpus_dir), str(root), str(every), str(threads)],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_and_started_again_ends_in_the_same_weights(tmp_path: Path, corpus_dir: Path, threads: int) -> None:
    """SIGKILL in the middle, the same command again, against a run that nobody touched."""
    whole = start(corpus_dir, tmp_path / "whole", 1000.0, threads)
    killed = start(corpus_dir, tmp_path / "killed", 0.0, threads)
    checkpoints = tmp_path / "killed" / "models" / ".mine.partial" / "checkpoints"
    while killed.poll() is None and (not checkpoints.is_dir() or max(steps_in(checkpoints), default=0) < 12):
        time.sleep(0.02)
    assert killed.poll() is None, "it ended before it could be killed"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert whole.wait() == 0 and start(corpus_dir, tmp_path / "killed", 1000.0, threads).wait() == 0
    ws = Workspace.open(tmp_path / "killed")
    assert [run["state"] for run in ws.runs()] == ["killed", "done"] and ws.runs()[1]["first_done"] >= 12 * 16 * 32
    files = [root / "models" / "mine" / "model.safetensors" for root in (tmp_path / "killed", tmp_path / "whole")]
    ours, theirs = (load_file(file) for file in files)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    timeless = [
        [{k: v for k, v in line.items() if k != "seconds"} for line in Workspace(root).metrics("models", "mine")]
        for root in (tmp_path / "killed", tmp_path / "whole")
    ]
    assert timeless[0] == timeless[1], "the same curve and the same samples"


def steps_in(folder: Path) -> list[int]:
    return [int(file.stem) for file in folder.glob("*.safetensors")]


def test_resume_needs_the_optimizers_state(workspace: Workspace, corpus_dir: Path) -> None:
    """What the comparison above would miss if the state were not used: dropping it changes the weights."""
    model = build(SHAPES["tiny"], 300, 16, 0, seed=0)
    trainer = Trainer(model, Recipe(), "fp32")
    ids_BT = torch.randint(0, 300, (4, 16), generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        trainer.step(ids_BT, 0.3)
    kept = {k: v.clone() for k, v in trainer.tensors().items()}

    def one_more(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        other = Trainer(build(SHAPES["tiny"], 300, 16, 0, seed=9), Recipe(), "fp32")
        other.load({k: v.clone() for k, v in tensors.items()})
        other.step(ids_BT, 0.3)
        return other.tensors()

    trainer.step(ids_BT, 0.3)
    expected, same = trainer.tensors(), one_more(kept)
    assert expected.keys() == same.keys() and all(torch.equal(expected[k], same[k]) for k in expected)
    bare = one_more({k: v for k, v in kept.items() if k.startswith("model.")})
    assert any(not torch.equal(expected[k], bare[k]) for k in expected if k.startswith("model."))


def test_measured_choices_are_stored_and_not_measured_again(workspace: Workspace, corpus_dir: Path) -> None:
    settings = {**TINY, "precision": None}
    path = grow(corpus_dir, name="mine", ws=workspace, minutes=0.02, **settings)
    choices = json.loads((path / "manifest.json").read_text())["choices"]
    assert set(choices["rates"]) == {"fp32", "bf16"}
    assert choices["precision"] == max(choices["rates"], key=choices["rates"].get) and choices["tokens"] >= 1
    assert choices["threads"] == torch.get_num_threads()
    assert precision_by_instruction_set() in ("fp32", "bf16")


def test_other_text_under_the_same_name_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    file = tmp_path / "c" / "a.txt"
    file.write_text("one two three four\n" * 500)
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", interrupt)
        grow(tmp_path / "c", name="mine", ws=workspace, tokens=5000, **TINY)
    file.write_text("one two three five\n" * 500)
    with pytest.raises(UserError, match="models/mine was begun on other text than c holds now"):
        grow(tmp_path / "c", name="mine", ws=workspace, tokens=5000, **TINY)


@pytest.mark.parametrize("weights", [None, {"txt": 2.0}])
def test_other_text_of_the_same_name_is_not_what_a_finished_model_was_grown_from(
    workspace: Workspace, weights: dict[str, float] | None
) -> None:
    one, other = (corpus_of(*[f"{i} {fruit} and {i + 1} pears\n" * 5 for i in range(40)]) for fruit in ("figs", "nuts"))
    settings: dict[str, Any] = {"name": "mine", "ws": workspace, "tokens": 2000, "weights": weights, **TINY}
    path = grow(one, **settings)
    assert grow(one, **settings) == path
    with pytest.raises(UserError, match="models/mine exists, grown from other text than made holds now"):
        grow(other, **settings)


def interrupt(*args: Any, **named: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "expected either tokens or minutes as the budget, got none"),
        ({"tokens": 9, "minutes": 1}, "got both"),
        ({"tokens": 0}, "expected a budget above 0 and below 1e15, got 0"),
        ({"tokens": 9, "shape": "round"}, "expected a shape among default, "),
        ({"tokens": 9, "vocabulary": 100}, "expected a vocabulary from 257"),
        ({"tokens": 9, "context": 2}, "expected a context from 8"),
        ({"tokens": 9, "precision": "fp8"}, "expected precision fp32, bf16 or auto-isa, got 'fp8'"),
        ({"tokens": 9, "weights": {"poem": 2.0}}, "expected kinds among txt"),
        ({"tokens": 9, "context": 4096}, "expected text longer than a context of 4096 tokens, c has"),
    ],
)
def test_what_cannot_be(workspace: Workspace, tmp_path: Path, settings: dict[str, Any], expected: str) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.txt").write_text("some words here\n" * 20)
    with pytest.raises(UserError, match=expected) as caught:
        grow(tmp_path / "c", name="mine", ws=workspace, **{"shape": "tiny", "precision": "fp32", **settings})
    assert "\n" not in str(caught.value) and not list(workspace.root.glob("models/*"))
    assert not list(workspace.root.glob("models/.*"))


def test_expectation_grows_with_what_is_asked() -> None:
    small, large = (expect(shape=s, tokens=1_000_000, flops=1e11) for s in ("tiny", "large"))
    assert small.seconds < large.seconds and small.memory < large.memory and small.disk < large.disk
    assert expect(minutes=5).seconds >= 300


@pytest.mark.gpu
def test_grow_on_a_gpu(workspace: Workspace, corpus_dir: Path) -> None:
    path = grow(corpus_dir, name="mine", ws=workspace, tokens=40_000, device="cuda", **{**TINY, "precision": "bf16"})
    losses = [line["loss"] for line in workspace.metrics("models", "mine") if "loss" in line]
    assert losses[-1] < 0.8 * losses[0] and (path / "model.safetensors").is_file()


def test_text_for_a_tokenizer_is_counted_in_bytes() -> None:
    text = Corpus("letters", tuple(Document(n, f"{n}", "text", "пять" * 10) for n in range(20)))
    assert len(list(_some_text(text, 400))) == 5
