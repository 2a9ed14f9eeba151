"""Grow a small language model from text: tokenizer, training, held-out bits per byte, samples, exact resume.

    glasshouse grow python --minutes 5
    path = grow("notes/", name="mine", ws=ws, tokens=2_000_000)     # a folder in Hugging Face format

How it is trained stands in `training.py`. A run that is killed and started again ends, on a CPU, in the same weights
bit for bit: all that varies from machine to machine is chosen before the first step and stored, and step s reads rows
that depend on the seed and s only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from glasshouse.models.load import default_device
from glasshouse.models.loop import Training
from glasshouse.models.shapes import SHAPES, Shape, build
from glasshouse.models.training import LOSS_ROWS, Recipe, precision_by_instruction_set
from glasshouse.text import Chat, Corpus, corpus
from glasshouse.types import UserError
from glasshouse.workspace import Draft, Expectation, Workspace, write_atomically

END = "<|endoftext|>"
ASKING = 0.02  # seconds that a GPU's kernels of a step take to ask for; a small model's take no longer to run
MOST_BUDGET = 10**15  # tokens, or minutes
TOKENIZER_BYTES = 64 << 20  # of text that the tokenizer is trained on at most; more changes few merges


def grow(
    corpus_source: str | Path | Corpus,
    *,
    name: str,
    ws: Workspace,
    tokens: int | None = None,
    minutes: float | None = None,
    shape: str | Shape = "default",
    recipe: Recipe | None = None,
    vocabulary: int = 4096,
    context: int = 256,
    seed: int = 0,
    precision: str | None = None,
    weights: Mapping[str, float] | None = None,
    text_column: str = "text",
    device: str | None = None,
    checkpoint_seconds: float = 30.0,
) -> Path:
    """Grow a model from a corpus into `models/<name>` of the workspace and return that folder.

    corpus_source: as `glasshouse.text.corpus`; 5% of it is held out by `Corpus.split()`. A corpus with a `chat` has its
    marks as special tokens and its template saved with the tokenizer, so that `transformers` alone can chat. Give
    `tokens` (the budget that the rates decay to) or `minutes` (turned into tokens once, by a rate measured here).
    precision: "fp32", "bf16", "auto-isa" (by instruction set, nothing measured) or None: the faster of the two,
    measured. weights: documents of each kind so many times (`Corpus.weighted`). Run again after a kill, the same call
    goes on from the last checkpoint; of a finished model it returns the folder at once, without reading a path.

    Raises `UserError` for settings that cannot be, a corpus with less text than a context, a full disk, or a model of
    that name grown with other settings or from a `Corpus` of other text.
    """
    chosen = _shape(shape)
    recipe = recipe or Recipe()
    _check(tokens, minutes, vocabulary, context, precision)
    source = corpus_source.source if isinstance(corpus_source, Corpus) else str(corpus_source)
    config = {
        "corpus": source, "text_column": text_column, "weights": dict(weights or {}), "tokens": tokens,
        "minutes": minutes, "shape": asdict(chosen), "recipe": asdict(recipe), "vocabulary": vocabulary,
        "context": context, "seed": seed, "precision": precision,
    }  # fmt: skip
    if isinstance(corpus_source, Corpus) and corpus_source.chat is not None:
        config["chat"] = asdict(corpus_source.chat)
    if ws.done("models", name, config):
        if isinstance(corpus_source, Corpus):
            _check_text(ws, name, corpus_source.weighted(weights) if weights else corpus_source)
        return ws.path("models", name)
    ws.require_disk(expect(shape=chosen, tokens=tokens or 1, vocabulary=vocabulary, context=context).disk)
    text = corpus_source if isinstance(corpus_source, Corpus) else corpus(corpus_source, text_column=text_column)
    text = text.weighted(weights) if weights else text
    with ws.writing("models", name, config=config, command="grow") as draft, draft.threads():
        run = Training(draft, text, recipe, context, seed, device or default_device())
        tokenizer = _kept_tokenizer(draft, run.train_text, vocabulary)
        size, end = tokenizer.get_vocab_size(), tokenizer.token_to_id(END)
        run.prepare(tokenizer, end, lambda: build(chosen, size, context, end, seed, run.device),
                    tokens=tokens, minutes=minutes, precision=precision)  # fmt: skip
        run.train(checkpoint_seconds)
        return run.finish(_as_saved(tokenizer, text.chat, context))


def _check_text(ws: Workspace, name: str, text: Corpus) -> None:
    """Raises `UserError` if the finished model was grown from other text."""
    if ws.manifest("models", name)["choices"].get("corpus_hash", text.hash) != text.hash:
        raise UserError(
            f"models/{name} exists, grown from other text than {text.source} holds now; give another name, or delete "
            f"{ws.path('models', name)}"
        )


def _kept_tokenizer(draft: Draft, text: Corpus, vocabulary: int) -> Any:
    from tokenizers import Tokenizer

    file = draft.path / "tokenizer.json"
    if not file.is_file():
        write_atomically(file, train_tokenizer(text, vocabulary).to_str())
    return Tokenizer.from_file(str(file))


def _as_saved(tokenizer: Any, chat: Chat | None, context: int) -> Any:
    """The tokenizer as `transformers` saves and loads it. Before a text it puts the end mark, with which every row of
    the training began."""
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    marked = Tokenizer.from_str(tokenizer.to_str())
    marked.post_processor = TemplateProcessing(
        single=f"{END} $A", pair=f"{END} $A {END} $B", special_tokens=[(END, marked.token_to_id(END))]
    )
    saved = PreTrainedTokenizerFast(
        tokenizer_object=marked, bos_token=END, eos_token=END, pad_token=END, model_max_length=context
    )
    if chat is not None:
        saved.chat_template = chat.template
    return saved


def expect(
    *,
    shape: str | Shape = "default",
    tokens: int | None = None,
    minutes: float | None = None,
    vocabulary: int = 4096,
    context: int = 256,
    flops: float | None = None,
    device: str | None = None,
) -> Expectation:
    """Time, memory and disk that growing will take, before it starts. `flops` (a second) is measured if not given.
    Raises `UserError` for a budget, vocabulary or context that `grow` refuses."""
    if tokens is not None or minutes is not None:
        _check(tokens, minutes, vocabulary, context, None)
    size, device = _shape(shape), device or default_device()
    n_params, rows = size.parameters(vocabulary), Recipe().batch * context
    if minutes is not None:
        seconds = 60 * minutes
    else:  # shares of the fp32 peak that were measured on two cores, in bf16 and in fp32
        share = 0.8 if precision_by_instruction_set(device) == "bf16" else 0.45
        seconds = 6.0 * n_params * tokens / (share * (flops or _matmul_flops(device))) if tokens else 0.0
        seconds += (tokens or 0) / rows * (ASKING if device.startswith("cuda") else 0.0)
    activations = rows * size.layers * (14 * size.width + 4 * size.inner) * 4 + LOSS_ROWS * vocabulary * 12
    return Expectation(
        seconds=seconds + 20, memory=int(700e6 + 24 * n_params + 1.5 * activations), disk=int(4 * n_params * 8 + 5e6)
    )


def _shape(shape: str | Shape) -> Shape:
    if isinstance(shape, Shape):
        return shape
    if shape not in SHAPES:
        raise UserError(f"expected a shape among {', '.join(SHAPES)}, got {shape!r}")
    return SHAPES[shape]


def _check(tokens: int | None, minutes: float | None, vocabulary: int, context: int, precision: str | None) -> None:
    if (tokens is None) == (minutes is None):
        raise UserError(
            "expected either tokens or minutes as the budget, got " + ("none" if tokens is None else "both")
        )
    if not 0 < (tokens or minutes or 0) <= MOST_BUDGET:
        raise UserError(f"expected a budget above 0 and below 1e15, got {tokens if minutes is None else minutes}")
    if not 257 <= vocabulary <= 1 << 17:
        raise UserError(
            f"expected a vocabulary from 257 (every byte and the end of a text) to 131072, got {vocabulary}"
        )
    if not 8 <= context <= 1 << 16:
        raise UserError(f"expected a context from 8 to 65536 tokens, got {context}")
    if precision not in (None, "fp32", "bf16", "auto-isa"):
        raise UserError(f"expected precision fp32, bf16 or auto-isa, got {precision!r}")


def train_tokenizer(text: Corpus, vocabulary: int) -> Any:
    """A byte-level BPE tokenizer (Sennrich et al. 2016; bytes as GPT-2) of `vocabulary` tokens, the end mark first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END, *(text.chat.marks if text.chat else ())],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(_some_text(text, TOKENIZER_BYTES), trainer)
    return tokenizer


def _some_text(text: Corpus, limit: int) -> Iterator[str]:
    """All documents, or if they are too many a fair sample of them, by hash."""
    documents: Sequence[Any] = text.documents
    if text.bytes > limit:
        documents = sorted(documents, key=lambda document: document.digest)
    for document in documents:
        limit -= len(document.text.encode())
        yield document.text
        if limit <= 0:
            return


def _matmul_flops(device: str) -> float:
    """Multiply-adds ×2 a second of this device in fp32, from a fifth of a second."""
    a = torch.randn(512, 512, device=device)
    float(torch.mm(a, a)[0, 0])
    started, n = time.perf_counter(), 0
    while time.perf_counter() - started < 0.2:
        float(torch.mm(a, a)[0, 0])  # waits for a GPU to finish
        n += 1
    return n * 2 * 512**3 / (time.perf_counter() - started)
