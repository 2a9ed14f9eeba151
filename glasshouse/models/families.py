"""Where the sites of each family of models are: rows of data, checked against the model whenever one is loaded.

    SiteMap(name="mine", blocks="layers", places={"embed": Place("embed"), "resid": Place("layers.{n}", "in"), ...})

A `Place` is the input or output of one submodule. Rows describe modules of transformers 5 as they run: nothing is
folded or copied. To run one row against its model: `python -m pytest tests/models -k llama`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal


@dataclass(frozen=True)
class Place:
    """The input (`in`) or output (`out`) of the submodule at `path` (`{n}` is the block's number; "" the whole model).

    `item` picks from an output that is a tuple (a number) or a mapping with names (a string); a plain tensor is taken
    as it is. `shared` says that the same tensor also flows past the submodule, as the residual stream flows past the
    norm before the MLP: an edit there must be written into the tensor, or only the submodule would see it.
    """

    path: str
    side: Literal["in", "out"] = "out"
    item: int | str = 0
    shared: bool = False


@dataclass(frozen=True, kw_only=True)
class SiteMap:
    """The sites of one family, or of one module of your own.

    places: kind of site → place. `resid` is the stream entering block n; `resid_final` the stream entering the final
        norm (or leaving the last block). Kinds with a layer have `{n}` in their path. For `pattern` the place is the
        attention module itself.
    blocks: path of the list of blocks. n_heads, width, context: numbers, or None to read them from `module.config`.
    stream: "sum" if embedding + contributions of the blocks = the stream entering the final norm; "post_norm" if
        resid.N+1 = LN(resid_mid.N + mlp_out.N) with the norms at `attn_norm` and `mlp_norm`; None: not checked.
    lacks: kind of site → why this family has none.
    causal: whether a token sees only tokens before it. final_norm, unembedding: paths, for direct effects on logits.
    first_position: position id of the first token (RoBERTa counts from its padding id + 1).
    attention: implementation of attention asked of transformers, None for its own choice.
    adapt: a last word of the config on the row, such as NeoX's parallel or sequential blocks.
    """

    name: str
    places: Mapping[str, Place]
    blocks: str
    model_types: tuple[str, ...] = ()
    stream: Literal["sum", "post_norm"] | None = "sum"
    causal: bool = True
    n_heads: int | None = None
    width: int | None = None
    context: int | None = None
    final_norm: str | None = None
    unembedding: str | None = None
    attn_norm: str | None = None
    mlp_norm: str | None = None
    norm_offset: float = 0.0
    first_position: Callable[[Any], int] = lambda config: 0
    attention: str | None = None
    lacks: Mapping[str, str] = field(default_factory=dict)
    adapt: Callable[[SiteMap, Any], SiteMap] = lambda row, config: row


def _llama_like(name: str, types: tuple[str, ...], **changes: Any) -> SiteMap:
    block = "model.layers.{n}"
    row = SiteMap(
        name=name,
        model_types=types,
        blocks="model.layers",
        final_norm="model.norm",
        unembedding="lm_head",
        places={
            "embed": Place("model.embed_tokens"),
            "resid": Place(block, "in"),
            "resid_final": Place("model.norm", "in"),
            "resid_mid": Place(f"{block}.post_attention_layernorm", "in", shared=True),
            "attn_out": Place(f"{block}.self_attn"),
            "mlp_in": Place(f"{block}.post_attention_layernorm"),
            "mlp_act": Place(f"{block}.mlp.down_proj", "in"),
            "mlp_out": Place(f"{block}.mlp"),
            "z": Place(f"{block}.self_attn.o_proj", "in"),
            "pattern": Place(f"{block}.self_attn"),
            "logits": Place("", item="logits"),
        },
    )
    return replace(row, **changes)


def _gemma(name: str, types: tuple[str, ...], **changes: Any) -> SiteMap:
    """What a Gemma block adds to the stream is what leaves the norm *after* attention or MLP. Its norms scale by
    1 + weight, and the embedding is scaled inside the embedding module."""
    row = _llama_like(name, types, norm_offset=1.0, **changes)
    block = "model.layers.{n}"
    places = dict(row.places)
    places["attn_out"] = Place(f"{block}.post_attention_layernorm")
    places["resid_mid"] = Place(f"{block}.pre_feedforward_layernorm", "in", shared=True)
    places["mlp_in"] = Place(f"{block}.pre_feedforward_layernorm")
    places["mlp_out"] = Place(f"{block}.post_feedforward_layernorm")
    return replace(row, places=places)


def _under(row: SiteMap, old: str, new: str, **changes: Any) -> SiteMap:
    """The row with the path prefix `old` replaced by `new`."""

    def move(path: str | None) -> Any:
        return new + path[len(old) :] if path and path.startswith(old) else path

    return replace(
        row,
        places={kind: replace(place, path=move(place.path)) for kind, place in row.places.items()},
        blocks=move(row.blocks),
        final_norm=move(row.final_norm),
        unembedding=move(row.unembedding),
        **changes,
    )


def _neox_adapted(row: SiteMap, config: Any) -> SiteMap:
    if config.use_parallel_residual:
        return row
    middle = Place("gpt_neox.layers.{n}.post_attention_layernorm", "in", shared=True)
    return replace(row, places={**row.places, "resid_mid": middle}, lacks={})


_NO_LOGITS = "it is an encoder, which predicts no next token"

_GPT2 = SiteMap(
    name="GPT-2",
    model_types=("gpt2",),
    blocks="transformer.h",
    final_norm="transformer.ln_f",
    unembedding="lm_head",
    places={
        "embed": Place("transformer.drop"),  # token + position embeddings
        "resid": Place("transformer.h.{n}", "in"),
        "resid_final": Place("transformer.ln_f", "in"),
        "resid_mid": Place("transformer.h.{n}.ln_2", "in", shared=True),
        "attn_out": Place("transformer.h.{n}.attn"),
        "mlp_in": Place("transformer.h.{n}.ln_2"),
        "mlp_act": Place("transformer.h.{n}.mlp.c_proj", "in"),
        "mlp_out": Place("transformer.h.{n}.mlp"),
        "z": Place("transformer.h.{n}.attn.c_proj", "in"),
        "pattern": Place("transformer.h.{n}.attn"),
        "logits": Place("", item="logits"),
    },
)

_NEOX = SiteMap(
    name="GPT-NeoX",
    model_types=("gpt_neox",),
    blocks="gpt_neox.layers",
    final_norm="gpt_neox.final_layer_norm",
    unembedding="lm_head",
    places={
        "embed": Place("gpt_neox.emb_dropout"),
        "resid": Place("gpt_neox.layers.{n}", "in"),
        "resid_final": Place("gpt_neox.final_layer_norm", "in"),
        "attn_out": Place("gpt_neox.layers.{n}.attention"),
        "mlp_in": Place("gpt_neox.layers.{n}.post_attention_layernorm"),
        "mlp_act": Place("gpt_neox.layers.{n}.mlp.dense_4h_to_h", "in"),
        "mlp_out": Place("gpt_neox.layers.{n}.mlp"),
        "z": Place("gpt_neox.layers.{n}.attention.dense", "in"),
        "pattern": Place("gpt_neox.layers.{n}.attention"),
        "logits": Place("", item="logits"),
    },
    lacks={"resid_mid": "its attention and MLP run in parallel from the same stream, so there is no point between"},
    adapt=_neox_adapted,
)

_BERT = SiteMap(
    name="BERT",
    model_types=("bert",),
    blocks="encoder.layer",
    stream="post_norm",
    causal=False,
    attn_norm="encoder.layer.{n}.attention.output.LayerNorm",
    mlp_norm="encoder.layer.{n}.output.LayerNorm",
    places={
        "embed": Place("embeddings"),
        "resid": Place("encoder.layer.{n}", "in"),
        "resid_final": Place("encoder.layer.{n}"),  # of the last block
        "resid_mid": Place("encoder.layer.{n}.attention.output.LayerNorm"),
        "attn_out": Place("encoder.layer.{n}.attention.output.dense"),
        "mlp_in": Place("encoder.layer.{n}.intermediate", "in"),
        "mlp_act": Place("encoder.layer.{n}.output.dense", "in"),
        "mlp_out": Place("encoder.layer.{n}.output.dense"),
        "z": Place("encoder.layer.{n}.attention.output.dense", "in"),
        "pattern": Place("encoder.layer.{n}.attention.self"),
    },
    lacks={"logits": _NO_LOGITS},
)

_DISTILBERT = SiteMap(
    name="DistilBERT",
    model_types=("distilbert",),
    blocks="transformer.layer",
    stream="post_norm",
    causal=False,
    attn_norm="transformer.layer.{n}.sa_layer_norm",
    mlp_norm="transformer.layer.{n}.output_layer_norm",
    places={
        "embed": Place("embeddings"),
        "resid": Place("transformer.layer.{n}", "in"),
        "resid_final": Place("transformer.layer.{n}"),
        "resid_mid": Place("transformer.layer.{n}.sa_layer_norm"),
        "attn_out": Place("transformer.layer.{n}.attention"),
        "mlp_in": Place("transformer.layer.{n}.ffn", "in"),
        "mlp_act": Place("transformer.layer.{n}.ffn.lin2", "in"),
        "mlp_out": Place("transformer.layer.{n}.ffn"),
        "z": Place("transformer.layer.{n}.attention.out_lin", "in"),
        "pattern": Place("transformer.layer.{n}.attention"),
    },
    lacks={"logits": _NO_LOGITS},
)

# Gemma 2 caps attention scores, which only the eager implementation does.
FAMILIES: tuple[SiteMap, ...] = (
    _GPT2,
    _NEOX,
    _llama_like("Llama", ("llama",)),
    _llama_like("Mistral", ("mistral",)),
    _llama_like("Qwen2", ("qwen2",)),
    _llama_like("Qwen3", ("qwen3",)),
    _gemma("Gemma 2", ("gemma2",), attention="eager"),
    _gemma("Gemma 3", ("gemma3_text",)),
    _under(
        _gemma("Gemma 3", ()), "model.", "model.language_model.", model_types=("gemma3",)
    ),  # with a vision tower that text does not touch
    _BERT,
    replace(
        _BERT,
        name="RoBERTa",
        model_types=("roberta", "xlm-roberta"),
        first_position=lambda config: config.pad_token_id + 1,
    ),
    _DISTILBERT,
)


def family_of(model_type: str) -> SiteMap | None:
    """The row for a `model_type` of transformers, or None."""
    return next((row for row in FAMILIES if model_type in row.model_types), None)


def supported() -> str:
    """The families by name, for messages."""
    return ", ".join(dict.fromkeys(row.name for row in FAMILIES))
