"""Adapters that PEFT has saved, merged: the logits of both apart, and a line for each thing that can be wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model

import glasshouse as gh
from glasshouse.models.model import Model


def _trained(model: Model, config: Any, folder: Path, base: Path) -> Any:
    """An adapter with weights of its own, saved; the two apart."""
    from transformers import AutoModelForCausalLM

    apart = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, p in apart.named_parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn_like(p)) if "prompt" in name else p.normal_(std=0.1)
    apart.peft_config["default"].base_model_name_or_path = str(base)
    apart.save_pretrained(folder)
    return apart.eval()


@pytest.fixture(scope="module")
def lora(tiny_model: Model, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("adapters") / "polite"
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True)
    return folder, _trained(tiny_model, config, folder, tiny_model_dir)


def test_merged_it_says_what_both_say_apart(lora: tuple[Path, Any], tiny_model: Model) -> None:
    folder, apart = lora
    model = gh.load(folder, device="cpu")
    ids = torch.randint(0, 100, (2, 12))
    with torch.no_grad():
        wanted, plain = apart(input_ids=ids).logits, tiny_model.module(input_ids=ids).logits
        ours = model.module(input_ids=ids).logits
    assert torch.allclose(ours, wanted, atol=1e-4) and not torch.allclose(ours, plain, atol=1e-2)
    assert type(model.module) is type(tiny_model.module) and model.name == "polite"
    assert model.version not in (tiny_model.version, "")
    assert model.run(["Once"], get=["z.0"])["z.0"].values.shape[-1] > 0


def test_what_does_not_fit_is_said(
    lora: tuple[Path, Any], tiny_model: Model, tiny_model_dir: Path, tmp_path: Path
) -> None:
    def broken(name: str, **changes: Any) -> Path:
        folder = Path(shutil.copytree(lora[0], tmp_path / name))
        said = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(said | changes))
        return folder

    for folder, message in (
        (broken("nowhere", base_model_name_or_path=None), "expected base_model_name_or_path"),
        (broken("gone", base_model_name_or_path="/no/such/model"), "expected a folder at /no/such/model"),
        (broken("rank", r=2), "an adapter that fits GPT2LMHeadModel"),
        (broken("elsewhere", target_modules=["q_proj"]), "an adapter that fits GPT2LMHeadModel"),
        (broken("fewer", target_modules=["c_fc"]), "of its weights do not"),
    ):
        with pytest.raises(gh.UserError, match=message):
            gh.load(folder, device="cpu")
    pickled = broken("pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    with pytest.raises(gh.UserError, match=r"adapter_model.safetensors in .*pickled, found none"):
        gh.load(pickled, device="cpu")
    (broken("cut") / "adapter_model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(gh.UserError, match="found a problem"):
        gh.load(tmp_path / "cut", device="cpu")
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    _trained(tiny_model, config, tmp_path / "prompts", tiny_model_dir)
    with pytest.raises(gh.UserError, match="that can be merged into weights, such as LoRA, got PROMPT_TUNING"):
        gh.load(tmp_path / "prompts", device="cpu")
