"""What an edit does to a text: the completion with it beside the one without; for an encoder, how far the embedding
moves.

Legend: B texts, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glasshouse.models import Batch, Edit, Generation, Model
from glasshouse.models.generation import chat_ids
from glasshouse.steering.amounts import Strength, strengths
from glasshouse.types import Estimate


@dataclass(frozen=True, kw_only=True)
class Completions:
    """One prompt completed by the model as it is and as edited, with the same seed."""

    prompt: str
    chat: bool  # whether the prompt was a user's turn
    plain: Generation
    steered: Generation
    edit: Edit
    strengths: list[Strength]


def completions(
    model: Model,
    prompt: str,
    edit: Edit,
    *,
    max_new_tokens: int = 40,
    temperature: float = 0.0,
    seed: int = 0,
    chat: bool = False,
    on_token: Callable[[str, str], None] | None = None,
) -> Completions:
    """Both completions; greedy at temperature 0, else sampled, both with `seed`. `on_token(side, piece)` as they come.
    chat: the prompt is a user's turn, to be answered (see `asked`).

    Raises `UserError` for an encoder, which completes nothing (see `embedding_change`), and an edit that did not fire.
    """
    made: dict[str, Generation] = {}
    given = asked(model, prompt) if chat else prompt
    for side, edits in (("plain", Edit()), ("steered", edit)):
        say = None if on_token is None else _teller(on_token, side)
        made[side] = model.generate(
            given, max_new_tokens, edits=edits, temperature=temperature, seed=seed, on_token=say
        )
    return Completions(
        prompt=prompt, chat=given is not prompt, plain=made["plain"], steered=made["steered"], edit=edit,
        strengths=strengths(model, edit),
    )  # fmt: skip


def asked(model: Model, prompt: str) -> Any:
    """The prompt as a user's turn in the template of the model, as token ids; a model without one gets it as it is."""
    ids = chat_ids(model, [{"role": "user", "content": prompt}])
    return prompt if ids is None else ids


def _teller(on_token: Callable[[str, str], None], side: str) -> Callable[[str], None]:
    return lambda piece: on_token(side, piece)


@torch.no_grad()
def embeddings(model: Model, batch: Batch, edits: Edit | None = None) -> Tensor:
    """An encoder's embedding of each text: the mean over tokens of what leaves the last block, float32 (B, D)."""
    site = f"resid.{model.n_layers}"
    values_BTD = model.run(batch, [site], edits=edits)[site].values.float()
    mask_BT1 = batch.mask_BT[..., None].to(values_BTD)
    return (values_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)


def embedding_moves(model: Model, texts: Sequence[str], edit: Edit) -> tuple[Tensor, Tensor]:
    """How far an edit moves each text's embedding (B,): the cosine to the plain one, and the length of the change as
    a share of the plain one's norm."""
    batch = model.tokens(list(texts))
    plain_BD, steered_BD = embeddings(model, batch), embeddings(model, batch, edit)
    moved_B = (steered_BD - plain_BD).norm(dim=-1) / plain_BD.norm(dim=-1).clamp(min=1e-9)
    return torch.cosine_similarity(plain_BD, steered_BD, dim=-1), moved_B


def embedding_change(model: Model, texts: Sequence[str], edit: Edit) -> Estimate:
    """Mean over texts of the cosine between the embedding as it is and as edited: 1 is no change."""
    cosine_B = embedding_moves(model, texts, edit)[0]
    return Estimate.mean(cosine_B.tolist(), [1.0] * len(cosine_B), unit="cosine")
