"""One small model of each family, built from its config at random, saved in the hub's format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

VOCABULARY = 300

_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_GROUPED = {**_SIZES, "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
_GEMMA = {**_GROUPED, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 6}


def _gpt2() -> Any:
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=1
    )


def _neox(**more: Any) -> Any:
    from transformers import GPTNeoXConfig

    return GPTNeoXConfig(**{**_SIZES, "bos_token_id": 0, "eos_token_id": 1, **more})


def _of(name: str, sizes: dict[str, Any], **more: Any) -> Any:
    import transformers

    return getattr(transformers, name)(**{**sizes, **more})


def _gemma3_with_vision() -> Any:
    from transformers import Gemma3Config

    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": 16, "patch_size": 8,
    }  # fmt: skip
    text = _of("Gemma3TextConfig", _GEMMA, layer_types=["sliding_attention", "sliding_attention", "full_attention"])
    return Gemma3Config(
        text_config=text.to_dict(), vision_config=vision, mm_tokens_per_image=4, image_token_index=290,
        boi_token_index=291, eoi_token_index=292,
    )  # fmt: skip


def _distilbert() -> Any:
    from transformers import DistilBertConfig

    return DistilBertConfig(
        vocab_size=VOCABULARY, dim=32, hidden_dim=48, n_layers=3, n_heads=4, max_position_embeddings=64
    )


CONFIGS: dict[str, Callable[[], Any]] = {
    "gpt2": _gpt2,
    "neox": _neox,
    "neox_sequential": lambda: _neox(use_parallel_residual=False),
    "llama": lambda: _of("LlamaConfig", _GROUPED),
    "mistral": lambda: _of("MistralConfig", _GROUPED, sliding_window=6),
    "qwen2": lambda: _of("Qwen2Config", _GROUPED),
    "qwen3": lambda: _of("Qwen3Config", _GROUPED, head_dim=16),
    "gemma2": lambda: _of("Gemma2Config", _GEMMA),
    "gemma3": lambda: _of(
        "Gemma3TextConfig", _GEMMA, layer_types=["sliding_attention", "sliding_attention", "full_attention"]
    ),
    "gemma3_vision": _gemma3_with_vision,
    "bert": lambda: _of("BertConfig", _SIZES),
    "roberta": lambda: _of("RobertaConfig", _SIZES, pad_token_id=1, max_position_embeddings=66),
    "distilbert": _distilbert,
}
ENCODERS = ("bert", "roberta", "distilbert")
DECODERS = tuple(name for name in CONFIGS if name not in ENCODERS)


def build(name: str, folder: Path, tokenizer: Any, seed: int = 0) -> Path:
    """Save a random model of the family, with its tokenizer, in `folder`. Weights are larger than transformers' own
    start, so that attention is not flat and norms matter."""
    from transformers import AutoModel, AutoModelForCausalLM

    torch.manual_seed(seed)
    config = CONFIGS[name]()
    model = (AutoModel if name in ENCODERS else AutoModelForCausalLM).from_config(config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.mul_(4)
            elif "norm" in key.lower() or "ln_" in key:
                parameter.add_(0.2 * torch.randn_like(parameter))
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
