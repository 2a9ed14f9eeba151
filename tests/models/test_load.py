"""Loading: by workspace name, folder and module; and the one line for each thing that can be wrong."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import glasshouse as gh
from glasshouse.models import Batch
from glasshouse.models.checks import _short_batch
from glasshouse.models.model import Model
from glasshouse.workspace import Workspace


def _copy(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


def test_a_bare_name_is_looked_up_in_the_workspace_first(
    workspace: Workspace, tiny_model_dir: Path, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    _copy(tiny_model_dir, workspace.root / "models" / "small")
    model = gh.load("small", workspace=workspace, device="cpu")
    assert model.name == "small" and model.version == tiny_model.version
    monkeypatch.chdir(workspace.root)
    assert gh.load("small", device="cpu").name == "small"


def test_a_device_that_is_not_here_is_said(tiny_model_dir: Path) -> None:
    for device in (
        "cuda:99",
        "cuda:²",
        "cuda:" + "1" * 5000,
        "gpu",
        *([] if torch.backends.mps.is_available() else ["mps"]),
    ):
        with pytest.raises(gh.UserError, match="expected device"):
            gh.load(tiny_model_dir, device=device)


def test_a_module_is_taken_as_it_is(tiny_model: Model) -> None:
    model = gh.load(tiny_model.module, tokenizer=tiny_model.tokenizer, name="again")
    assert model.module is tiny_model.module and model.version == tiny_model.version


def test_the_version_follows_the_weights_and_the_tokenizer(tiny_model_dir: Path, tiny_model: Model) -> None:
    other = gh.load(tiny_model_dir, device="cpu")
    assert other.version == tiny_model.version
    other.tokenizer.chat_template = "{{ messages }}"
    assert other.version != tiny_model.version
    other = gh.load(tiny_model_dir, device="cpu")
    with torch.no_grad():
        other.module.transformer.h[0].mlp.c_fc.bias[0] += 1e-6
    assert other.version != tiny_model.version


def _edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def _only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _drop_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors.pop("transformer.h.1.mlp.c_fc.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def _own_code(folder: Path) -> None:
    (folder / "modeling_own.py").write_text("raise SystemExit('this must never run')\n")
    _edit_config(folder, model_type="own", auto_map={"AutoConfig": "modeling_own.Own", "AutoModelForCausalLM": "m.O"})


def _no_tokenizer(folder: Path) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: _edit_config(f, model_type="bloom"), "families GPT-2.*SiteMap"),
        (lambda f: _edit_config(f, model_type="unheard-of"), "families GPT-2.*SiteMap"),
        (_own_code, "never run"),
        (_only_pickle, "pytorch_model.bin, pickles"),
        (_drop_weight, r"1 are missing \(transformer.h.1.mlp.c_fc.weight\)"),
        (_cut, "found a problem"),
        (_no_tokenizer, "pass tokenizer="),
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "config.json"),
        (lambda f: (f / "model.safetensors").unlink(), "found none"),
        (lambda f: _edit_config(f, n_embd=64), "found a problem"),
        (lambda f: _edit_config(f, n_layer=1), r"others besides \(transformer\.h\.1\."),
        (lambda f: _edit_config(f, n_layer=0), r"others besides \(transformer\.h\.0\."),
        (lambda f: _edit_config(f, n_embd="x"), r"config\.json.*'n_embd' expected int"),
        (lambda f: _edit_config(f, n_positions="64"), r"config\.json.*'n_positions' expected int"),
        (lambda f: _edit_config(f, n_head=5), r"config\.json.*divisible by num_heads"),
        (lambda f: _edit_config(f, n_head=0), r"config\.json.*by zero"),
        (lambda f: _edit_config(f, activation_function="zzz"), r"config\.json.*no entry 'zzz'"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), r"config\.json.*recursion"),
        (lambda f: _edit_config(f, dtype="zzz"), r"config\.json.*'zzz'"),
        (lambda f: _edit_config(f, quantization_config={"quant_method": "gptq", "bits": 4}), "not quantised.*optimum"),
    ],
)
def test_a_folder_that_does_not_load_gets_one_line(
    tiny_model_dir: Path, tmp_path: Path, spoil: Callable[[Path], Any], says: str
) -> None:
    folder = _copy(tiny_model_dir, tmp_path / "model")
    spoil(folder)
    with pytest.raises(gh.UserError, match=says) as error:
        gh.load(folder, device="cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["GPT2Model", "BertForMaskedLM"])
def test_blocks_beyond_the_configs_are_refused_however_they_were_saved(
    kind: str, tiny_model: Model, tmp_path: Path
) -> None:
    """Saved without a head or with another, their weights have other names, and some are rightly of no use."""
    import transformers

    sizes = {"num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 4, "max_position_embeddings": 64}
    maker = getattr(transformers, kind)
    more = {"intermediate_size": 48} if maker.config_class is transformers.BertConfig else {}
    config = maker.config_class(vocab_size=len(tiny_model.tokenizer), **sizes, **more)
    maker(config).save_pretrained(tmp_path)
    tiny_model.tokenizer.save_pretrained(tmp_path)
    assert gh.load(tmp_path, device="cpu").n_layers == 3
    _edit_config(tmp_path, **{"n_layer" if kind == "GPT2Model" else "num_hidden_layers": 2})
    with pytest.raises(gh.UserError, match=r"others besides \(.*\.2\."):
        gh.load(tmp_path, device="cpu")


def test_a_tokenizer_with_more_tokens_than_the_embedding_is_refused(tiny_model: Model) -> None:
    config = {**tiny_model.config.to_dict(), "vocab_size": tiny_model.tokenizer.vocab_size - 1}
    small = type(tiny_model.module)(type(tiny_model.config)(**config))
    with pytest.raises(gh.UserError, match="expected a tokenizer of at most"):
        gh.load(small, tokenizer=tiny_model.tokenizer)


def test_tokens_added_beyond_the_embedding_are_refused_where_they_occur(tiny_model_dir: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = _copy(tiny_model_dir, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<more-{n}>" for n in range(9)])
    tokenizer.save_pretrained(folder)
    model = gh.load(folder, device="cpu")
    assert model.run("some text", "resid.0")
    with pytest.raises(gh.UserError, match="expected token ids from 0 to"):
        model.run("some <more-8> text", "resid.0")


@pytest.mark.parametrize("wrong", [-1, 100_000])
def test_ids_beyond_the_embedding_get_one_line(wrong: int, tiny_model: Model) -> None:
    for ask in (tiny_model.run, tiny_model.loss, tiny_model.generate):
        with pytest.raises(gh.UserError, match=f"expected token ids from 0 to .*, got {wrong};"):
            ask([5, wrong])
    with pytest.raises(gh.UserError, match=f"expected token ids from 0 to .*, got {wrong};"):
        tiny_model.run(Batch(torch.tensor([[5, wrong]]), torch.ones(1, 2)))


@pytest.mark.parametrize("name", ["no-such-model", "nobody/no-such-model", "./no/such/folder", "spaces are wrong", ""])
def test_names_that_are_nowhere_get_one_line(name: str, workspace: Workspace) -> None:
    """Tests run with HF_HUB_OFFLINE=1 (see conftest), so nothing asks the network."""
    with pytest.raises(gh.UserError) as error:
        gh.load(name, workspace=workspace)
    assert "\n" not in str(error.value)


def test_wrong_options_get_one_line(tiny_model_dir: Path) -> None:
    with pytest.raises(gh.UserError, match="expected dtype"):
        gh.load(tiny_model_dir, dtype="float8")
    with pytest.raises(gh.UserError, match="expected device"):
        gh.load(tiny_model_dir, device="abacus")


def test_a_hub_that_cannot_be_reached_is_asked_once() -> None:
    """A port where nothing listens, in a process of its own, since the hub's address is read at import."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    script = "import glasshouse as gh\ntry:\n    gh.load('nobody/none')\nexcept gh.UserError as e:\n    print(e)"
    environment = {"HF_ENDPOINT": address, "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert "the hub cannot be reached" in done.stdout, done.stderr
    assert "Retry" not in done.stderr and done.stdout.count("\n") == 1


def test_the_tokens_of_the_check_differ_whatever_the_vocabulary() -> None:
    for vocabulary in (7, 10, 30, 2310, 50_280):
        model = SimpleNamespace(config=SimpleNamespace(vocab_size=vocabulary), tokenizer=None, context=64)
        assert len(set(_short_batch(model).ids(0))) == 7  # type: ignore[arg-type]
