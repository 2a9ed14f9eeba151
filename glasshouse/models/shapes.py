"""Shapes of small models: what is grown, as rows of data, and how each family of `transformers` is built from one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from glasshouse.types import UserError


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is grown. `family` is gpt2 or llama; `inner` is the width inside a block's MLP."""

    family: str = "gpt2"
    layers: int = 4
    width: int = 192
    heads: int = 3
    inner: int = 768
    activation: str = "gelu_pytorch_tanh"  # gelu_new is the same function in seven slow steps

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise UserError(f"expected a family among {', '.join(FAMILIES)}, got {self.family!r}")
        if min(self.layers, self.width, self.heads, self.inner) < 1 or self.width % self.heads:
            raise UserError(f"expected a width that {self.heads} heads divide, and positive sizes, got {self}")

    def parameters(self, vocabulary: int) -> int:
        """Parameters that multiply activations: blocks and the (tied) unembedding."""
        mlp = (3 if self.family == "llama" else 2) * self.width * self.inner
        return self.layers * (4 * self.width**2 + mlp) + vocabulary * self.width


def _gpt2(shape: Shape, vocabulary: int, context: int, end: int) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary, n_positions=context, n_embd=shape.width, n_layer=shape.layers, n_head=shape.heads,
            n_inner=shape.inner, activation_function=shape.activation, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            bos_token_id=end, eos_token_id=end, tie_word_embeddings=True,
        )
    )  # fmt: skip


def _llama(shape: Shape, vocabulary: int, context: int, end: int) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary, max_position_embeddings=context, hidden_size=shape.width,
            intermediate_size=shape.inner, num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads, hidden_act=shape.activation,
            bos_token_id=end, eos_token_id=end, tie_word_embeddings=True,
        )
    )  # fmt: skip


FAMILIES = {"gpt2": _gpt2, "llama": _llama}
SHAPES = {
    "default": Shape(),
    "small": Shape(width=128, heads=2, inner=512),
    "tiny": Shape(layers=3, width=32, heads=4, inner=128),
    "llama": Shape(family="llama", inner=512, activation="silu"),
    "villager": Shape(layers=4, width=256, heads=4, inner=1024),
    "large": Shape(layers=8, width=512, heads=8, inner=2048),
}


def build(shape: Shape, vocabulary: int, context: int, end: int, seed: int, device: str = "cpu") -> nn.Module:
    """A new model with weights of the seed, whatever was drawn before and on whatever device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FAMILIES[shape.family](shape, vocabulary, context, end)
    return model.to(device).train()
