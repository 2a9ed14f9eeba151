"""Grow a small language model from text: tokenizer, training, held-out bits per byte, samples, exact resume.

    glasshouse grow python --minutes 5
    path = grow("notes/", name="mine", ws=ws, tokens=2_000_000)     # a folder in Hugging Face format

How it is trained stands in `training.py`. A run that is killed and started again ends, on a CPU, in the same weights
bit for bit: all that varies from machine to machine is chosen before the first step and stored, and step s reads rows
that depend on the seed and s only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glasshouse.models.load import no_bar
from glasshouse.models.shapes import SHAPES, Shape, build
from glasshouse.models.training import LOSS_ROWS, HeldOut, Recipe, Rows, Trainer
from glasshouse.text import Chat, Corpus, corpus, token_bytes, tokenise
from glasshouse.text.touched import LINES, write_lines
from glasshouse.types import ArtifactRef, UserError
from glasshouse.workspace import Draft, Expectation, Workspace, write_atomically

END = "<|endoftext|>"
TOKENIZER_BYTES = 64 << 20  # of text that the tokenizer is trained on at most; more changes few merges
MEASURED_SECONDS = 4.0  # of training, per precision
PLAIN_CONTEXT = 128  # tokens up to which attention without fused kernels is faster on a CPU (docs/log.md)


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
    goes on from the last checkpoint; of a finished model it returns the folder at once.

    Raises `UserError` for settings that cannot be, a corpus with less text than a context, a full disk, or a model of
    that name grown with other settings.
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
        return ws.path("models", name)
    ws.require_disk(expect(shape=chosen, tokens=tokens or 1, vocabulary=vocabulary, context=context).disk)
    text = corpus_source if isinstance(corpus_source, Corpus) else corpus(corpus_source, text_column=text_column)
    text = text.weighted(weights) if weights else text
    with ws.writing("models", name, config=config, command="grow") as draft, draft.threads():
        run = Training(draft, text, recipe, context, seed, device or _device())
        tokenizer = _kept_tokenizer(draft, run.train_text, vocabulary)
        size, end = tokenizer.get_vocab_size(), tokenizer.token_to_id(END)
        run.prepare(tokenizer, end, lambda: build(chosen, size, context, end, seed, run.device),
                    tokens=tokens, minutes=minutes, precision=precision)  # fmt: skip
        run.train(checkpoint_seconds)
        return run.finish(_as_saved(tokenizer, text.chat, context))


def _kept_tokenizer(draft: Draft, text: Corpus, vocabulary: int) -> Any:
    from tokenizers import Tokenizer

    file = draft.path / "tokenizer.json"
    if not file.is_file():
        write_atomically(file, train_tokenizer(text, vocabulary).to_str())
    return Tokenizer.from_file(str(file))


def _as_saved(tokenizer: Any, chat: Chat | None, context: int) -> Any:
    """The tokenizer as `transformers` saves and loads it."""
    from transformers import PreTrainedTokenizerFast

    saved = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END, model_max_length=context
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
    batch: int | None = None,
    flops: float | None = None,
) -> Expectation:
    """Time, memory and disk that growing will take, before it starts. `flops` (a second) is measured if not given."""
    size = _shape(shape)
    n_params = size.parameters(vocabulary)
    if minutes is not None:
        seconds = 60 * minutes
    else:  # shares of the fp32 peak that were measured on two cores, in bf16 and in fp32
        share = 0.8 if precision_by_instruction_set() == "bf16" else 0.45
        seconds = 6.0 * n_params * tokens / (share * (flops or _matmul_flops())) if tokens else 0.0
    rows = (batch or Recipe().batch) * context
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
    if (tokens or minutes or 0) <= 0:
        raise UserError(f"expected a budget above 0, got {tokens if minutes is None else minutes}")
    if not 257 <= vocabulary <= 1 << 17:
        raise UserError(
            f"expected a vocabulary from 257 (every byte and the end of a text) to 131072, got {vocabulary}"
        )
    if not 8 <= context <= 1 << 16:
        raise UserError(f"expected a context from 8 to 65536 tokens, got {context}")
    if precision not in (None, "fp32", "bf16", "auto-isa"):
        raise UserError(f"expected precision fp32, bf16 or auto-isa, got {precision!r}")


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def precision_by_instruction_set(device: str = "cpu") -> str:
    """ "bf16" where the device multiplies it in hardware (AMX or AVX-512 BF16; CUDA from Ampere on), else "fp32"."""
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    has: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # since torch 2.10
    return "bf16" if has.get("avx512_bf16") or has.get("amx_bf16") or has.get("bf16") else "fp32"


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
        limit -= len(document.text)
        yield document.text
        if limit <= 0:
            return


class Training:
    """One run of `grow` or `tune`: what is chosen first, then the loop, then the model in its place."""

    def __init__(self, draft: Draft, text: Corpus, recipe: Recipe, context: int, seed: int, device: str) -> None:
        self.draft, self.recipe, self.context, self.seed, self.device = draft, recipe, context, seed, device
        if draft.choose("corpus_hash", lambda: text.hash) != text.hash:
            raise UserError(
                f"models/{draft.name} was begun on other text than {text.source} holds now; restore it, give another "
                f"--name, or delete {draft.path}"
            )
        self.chat = text.chat
        self.train_text, self.held_text = text.split()

    def prepare(
        self,
        tokenizer: Any,
        end: int,
        model: Callable[[], nn.Module],
        *,
        tokens: int | None,
        minutes: float | None,
        precision: str | None,
    ) -> None:
        """Everything that is chosen or made before the first step. `end`: the token between documents; `model` makes
        the weights to begin with, each time anew."""
        self.tokenizer, self.end, self._model = tokenizer, end, model
        self.vocabulary = tokenizer.get_vocab_size()
        lengths_V = token_bytes(tokenizer)
        assert lengths_V is not None, "a byte-level tokenizer"
        self.lengths_V = lengths_V
        self.precision = self._precision(precision)
        self.budget = tokens if tokens is not None else self._tokens_in(minutes or 0.0)
        per_step = self.recipe.batch * self.context
        self.steps = max(1, round(self.budget / per_step))
        self.rows = Rows(
            tokenise(self.train_text, self.tokenizer, max_tokens=max(self.budget, 4 * self.context)),
            self.context, self.end, self.seed,
        )  # fmt: skip
        self.held_out = HeldOut(
            tokenise(self.held_text, self.tokenizer, max_tokens=200_000), self.lengths_V, self.context, self.end
        )
        self.trainer = Trainer(self._begin(), self.recipe, self.precision)

    def _begin(self) -> nn.Module:
        model: Any = self._model()
        if self.device == "cpu" and self.context <= PLAIN_CONTEXT and hasattr(model, "set_attn_implementation"):
            model.set_attn_implementation("eager")
        return model.to(self.device).train()

    def _precision(self, asked: str | None) -> str:
        if asked == "auto-isa":
            return str(self.draft.choose("precision", lambda: precision_by_instruction_set(self.device)))
        if asked is not None:
            return str(self.draft.choose("precision", lambda: asked))
        rates = self.draft.choose("rates", lambda: {p: self._rate(p) for p in ("fp32", "bf16")})
        return str(self.draft.choose("precision", lambda: max(rates, key=rates.__getitem__)))

    def _tokens_in(self, minutes: float) -> int:
        rates = self.draft.choose("rates", lambda: {self.precision: self._rate(self.precision)})
        return int(self.draft.choose("tokens", lambda: max(1, round(0.95 * rates[self.precision] * minutes * 60))))

    def _rate(self, precision: str) -> float:
        """Tokens a second of training on rows of noise, of which as much is learnt as of the text, with a model that is
        thrown away."""
        trainer = Trainer(self._begin(), self.recipe, precision)
        rng = np.random.default_rng(0)
        noise = rng.integers(0, self.vocabulary, (self.recipe.batch, self.context))
        ids_BT = torch.from_numpy(noise).to(self.device)
        share = _learnt_share(self.train_text)
        learn_BT = None if share == 1 else torch.from_numpy(rng.random(noise.shape) < share).to(self.device)
        trainer.step(ids_BT, 0.5, learn_BT).item()  # the first step allocates
        started, steps = time.perf_counter(), 0
        while time.perf_counter() - started < MEASURED_SECONDS:
            trainer.step(ids_BT, 0.5, learn_BT).item()
            steps += 1
        return steps * ids_BT.numel() / (time.perf_counter() - started)

    def train(self, checkpoint_seconds: float) -> None:
        """From the last checkpoint, or the start, to the budget."""
        per_step = self.recipe.batch * self.context
        step, seconds = 0, 0.0
        found = self.draft.load_checkpoint(self.device)
        if found is not None:
            step, tensors, state = found
            self.trainer.load(tensors)
            seconds = state["seconds"]
        log_every, look_every = max(1, self.steps // 200), max(1, self.steps // 10)
        total = self.steps * per_step
        with self.draft.ws.running(
            self.draft.command, "models", self.draft.name, total=total, unit="tokens", done=step * per_step
        ) as bar:
            saved = begun = time.perf_counter()
            before = seconds
            while step < self.steps:
                ids_BT = self.rows.batch(step, self.recipe.batch)
                learn_BT = self.rows.learn(step, self.recipe.batch)
                learn_BT = None if learn_BT is None else learn_BT.to(self.device)
                loss = self.trainer.step(ids_BT.to(self.device), (step + 0.5) / self.steps, learn_BT).item()
                step += 1
                if not math.isfinite(loss):
                    raise UserError(
                        f"the loss became {loss} at step {step}; grow with --precision fp32 or a lower rate"
                    )
                seconds = before + time.perf_counter() - begun
                if step % log_every == 0 or step == self.steps:
                    self._log(step, loss, ids_BT, learn_BT, seconds)
                if step % look_every == 0 and step < self.steps:
                    self._look(step)
                bar.advance(step * per_step, f"loss {loss:.2f}")
                if time.perf_counter() - saved >= checkpoint_seconds:
                    self.draft.save_checkpoint(step, self.trainer.tensors(), {"seconds": seconds})
                    saved = time.perf_counter()

    def _log(self, step: int, loss: float, ids_BT: Tensor, learn_BT: Tensor | None, seconds: float) -> None:
        targets = ids_BT[:, 1:].numpy() if learn_BT is None else ids_BT[:, 1:][learn_BT[:, 1:].cpu()].numpy()
        bits = loss * targets.size / math.log(2) / max(1, int(self.lengths_V[targets].sum()))
        rate = self.trainer.optimizers[-1][0].param_groups[0]["lr"]
        self.draft.log(
            step=step, tokens=step * self.recipe.batch * self.context, loss=loss, bits_per_byte=bits, lr=rate,
            seconds=round(seconds, 3),
        )  # fmt: skip

    def _look(self, step: int) -> None:
        """Held-out bits per byte on a part of the text, and a sample."""
        model = self.trainer.model.eval()
        self.draft.log(
            step=step, held_out_bits_per_byte=self.held_out.bits_per_byte(model, self.precision, limit=96).value
        )
        self.draft.log(step=step, sample=self._sample(step))
        model.train()

    def _sample(self, step: int, length: int = 80) -> str:
        """Text drawn at temperature 0.8 from the 50 likeliest tokens, of a chat an answer to a held-out question; the
        same for the same weights, seed and step."""
        model: Any = self.trainer.model
        asked = self.tokenizer.encode(self._question(step)).ids[: self.context // 2]
        prompt = torch.tensor([[self.end, *asked]], device=self.device)
        room = self.context - prompt.shape[1]
        ends = self._ends() if asked else [self.end]
        with torch.random.fork_rng(devices=[] if self.device == "cpu" else None):
            torch.manual_seed(self.seed * 1_000_003 + step)
            ids = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=min(length, room), eos_token_id=ends,
                do_sample=True, temperature=0.8, top_k=50, pad_token_id=self.end,
            )  # fmt: skip
        return str(self.tokenizer.decode(ids[0, 1:].tolist()))

    def _question(self, step: int) -> str:
        """What stands before the first answer of a held-out chat, another one at each step; nothing of other text."""
        chats = [d for d in self.held_text.documents if self.chat and d.unlearned and d.unlearned[0][0] == 0]
        if not chats:
            return ""
        document = chats[step % len(chats)]
        return document.text[: document.unlearned[0][1]]

    def _ends(self) -> list[int]:
        """The tokens that end a turn of a chat."""
        assert self.chat is not None
        return [self.tokenizer.token_to_id(self.chat.end), self.end]

    def finish(self, tokenizer: Any, *, made_from: Iterable[ArtifactRef] = (), **fields: Any) -> Path:
        """Score the model as users get it, in fp32, and save it with its tokenizer in Hugging Face format."""
        model: Any = self.trainer.model.eval()
        score = self.held_out.bits_per_byte(model, "fp32")
        self.draft.log(step=self.steps, held_out_bits_per_byte=score.value)
        self.draft.log(step=self.steps, sample=self._sample(self.steps))
        if self.chat is not None:  # a turn's end stops transformers' `generate`, and ours
            model.generation_config.eos_token_id = self._ends()
            model.generation_config.pad_token_id = self.end
        model.config.pad_token_id = self.end  # not before: transformers warns of every batch that holds it unmasked
        with no_bar():
            model.save_pretrained(self.draft.path)
        tokenizer.save_pretrained(self.draft.path)
        write_lines(self.draft.path / LINES, self.train_text)
        self.draft.finish(
            made_from=made_from,
            held_out_bits_per_byte=score.to_json(),
            documents=len(self.train_text.documents),
            **fields,
        )
        return self.draft.path


def _learnt_share(text: Corpus) -> float:
    """Of the characters of a corpus."""
    read_only = sum(end - start for document in text.documents for start, end in document.unlearned)
    return 1 - read_only / max(sum(len(document.text) for document in text.documents), 1)


def _matmul_flops() -> float:
    """Multiply-adds ×2 a second of this machine in fp32, from a fifth of a second."""
    a = torch.randn(512, 512)
    torch.mm(a, a)
    started, n = time.perf_counter(), 0
    while time.perf_counter() - started < 0.2:
        torch.mm(a, a)
        n += 1
    return n * 2 * 512**3 / (time.perf_counter() - started)
