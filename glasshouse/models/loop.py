"""The loop of `grow` and `tune`: what is chosen first, the steps, checkpoints and looks, the model in its place."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glasshouse.models.load import no_bar
from glasshouse.models.rows import HeldOut, Rows
from glasshouse.models.training import Losses, Recipe, Trainer, precision_by_instruction_set
from glasshouse.text import Corpus, token_bytes, tokenise
from glasshouse.text.touched import LINES, write_lines
from glasshouse.types import ArtifactRef, UserError
from glasshouse.workspace import Draft

MEASURED_SECONDS = 4.0  # of training, per precision
PLAIN_CONTEXT = 128  # tokens up to which attention without fused kernels is faster on a CPU (docs/log.md)


class Training:
    """One run of `grow` or `tune`: what is chosen first, then the loop, then the model in its place."""

    def __init__(
        self, draft: Draft, text: Corpus, recipe: Recipe, context: int, seed: int, device: str,
        *, whole: bool = False, keep: Corpus | None = None, keep_weight: float = 1.0,
    ) -> None:  # fmt: skip
        """whole: documents are not cut at the ends of rows. keep: text for the other half of every batch, on which the
        model stays as it began; keep_weight: of that loss (`Trainer.step`)."""
        self.draft, self.recipe, self.context, self.seed, self.device = draft, recipe, context, seed, device
        self.whole, self.keep, self.keep_weight = whole, keep, keep_weight
        if draft.choose("corpus_hash", lambda: text.hash) != text.hash:
            raise UserError(
                f"models/{draft.name} was begun on other text than {text.source} holds now; restore it, give another "
                f"name, or delete {draft.path}"
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
        self.rows = self._rows(self.train_text)
        self.kept_rows = self._rows(self.keep) if self.keep is not None else None
        self.held_out = HeldOut(
            tokenise(self.held_text, self.tokenizer, max_tokens=100_000), self.lengths_V, self.context, self.end
        )
        teacher = self._begin().requires_grad_(False) if self.keep is not None else None
        self.trainer = Trainer(self._begin(), self.recipe, self.precision, teacher, self.keep_weight)

    def _rows(self, text: Corpus) -> Rows:
        tokens = tokenise(text, self.tokenizer, max_tokens=max(self.budget, 4 * self.context))
        return Rows(tokens, self.context, self.end, self.seed, whole=self.whole)

    def _begin(self) -> nn.Module:
        """The model to begin with, without dropout: its masks would be drawn anew by a run that goes on, and a copy
        that is held to a teacher would differ from it before the first step."""
        model: Any = self._model()
        if self.device == "cpu" and self.context <= PLAIN_CONTEXT and hasattr(model, "set_attn_implementation"):
            model.set_attn_implementation("eager")
        return model.to(self.device).eval()

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
        trainer.step(ids_BT, 0.5, learn_BT).text.item()  # the first step allocates
        started, steps = time.perf_counter(), 0
        while time.perf_counter() - started < MEASURED_SECONDS:
            trainer.step(ids_BT, 0.5, learn_BT).text.item()
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
                ids_BT, learn_BT, kept = self._batch(step)
                losses = self.trainer.step(ids_BT, (step + 0.5) / self.steps, learn_BT, kept=kept)
                loss = losses.text.item()
                step += 1
                _require_finite(loss if losses.kept is None else loss + losses.kept.item(), step)
                seconds = before + time.perf_counter() - begun
                if step % log_every == 0 or step == self.steps:
                    own = len(ids_BT) - kept
                    self._log(step, losses, ids_BT[:own], None if learn_BT is None else learn_BT[:own], seconds)
                if step % look_every == 0 and step < self.steps:
                    self._look(step)
                bar.advance(step * per_step, f"loss {loss:.2f}")
                if time.perf_counter() - saved >= checkpoint_seconds:
                    self.draft.save_checkpoint(step, self.trainer.tensors(), {"seconds": seconds})
                    saved = time.perf_counter()

    def _batch(self, step: int) -> tuple[Tensor, Tensor | None, int]:
        """Its rows, which tokens are learnt (all without it), and how many rows, the last, are kept."""
        batch = self.recipe.batch
        kept = 0 if self.kept_rows is None else batch // 2
        ids_BT, learn_BT = self.rows.batch(step, batch - kept), self.rows.learn(step, batch - kept)
        if self.kept_rows is not None:
            others_BT = self.kept_rows.learn(step, kept)
            assert learn_BT is not None and others_BT is not None, "whole documents"
            ids_BT = torch.cat([ids_BT, self.kept_rows.batch(step, kept)])
            learn_BT = torch.cat([learn_BT, others_BT])
        return ids_BT.to(self.device), None if learn_BT is None else learn_BT.to(self.device), kept

    def _log(self, step: int, losses: Losses, ids_BT: Tensor, learn_BT: Tensor | None, seconds: float) -> None:
        targets = (ids_BT[:, 1:] if learn_BT is None else ids_BT[:, 1:][learn_BT[:, 1:]]).cpu().numpy()
        loss = losses.text.item()
        bits = loss * targets.size / math.log(2) / max(1, int(self.lengths_V[targets].sum()))
        rate = self.trainer.optimizers[-1][0].param_groups[0]["lr"]
        apart = {} if losses.kept is None else {"divergence": losses.kept.item()}
        self.draft.log(
            step=step, tokens=step * self.recipe.batch * self.context, loss=loss, bits_per_byte=bits, **apart, lr=rate,
            seconds=round(seconds, 3),
        )  # fmt: skip

    def _look(self, step: int) -> None:
        """Held-out bits per byte on a part of the text, and a sample."""
        score = self.held_out.bits_per_byte(self.trainer.model, self.precision, limit=96).value
        _require_finite(score, step)
        self.draft.log(step=step, held_out_bits_per_byte=score)
        self.draft.log(step=step, sample=self._sample(step))

    def _sample(self, step: int, length: int = 80) -> str:
        """Text drawn at temperature 0.8 from the 50 likeliest tokens, of a chat an answer to a held-out question; the
        same for the same weights, seed and step."""
        model: Any = self.trainer.model
        asked = self.tokenizer.encode(self._question(step), add_special_tokens=False).ids[: self.context // 2]
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
        model: Any = self.trainer.model
        score = self.held_out.bits_per_byte(model, "fp32")
        _require_finite(score.value, self.steps)
        self.draft.log(step=self.steps, held_out_bits_per_byte=score.value)
        self.draft.log(step=self.steps, sample=self._sample(self.steps))
        if self.chat is not None:  # a turn's end stops transformers' `generate`, and ours
            model.generation_config.eos_token_id = self._ends()
            model.generation_config.pad_token_id = self.end
        model.config.pad_token_id = self.end  # not before: transformers warns of every batch that holds it unmasked
        with no_bar():
            model.save_pretrained(self.draft.path)
        tokenizer.save_pretrained(self.draft.path)
        write_lines(self.draft.path / LINES, self.train_text, *([self.keep] if self.keep is not None else []))
        self.draft.finish(
            made_from=made_from,
            held_out_bits_per_byte=score.to_json(),
            documents=len(self.train_text.documents),
            parameters=model.num_parameters(),  # so that compute is known where the weights are left behind
            **fields,
        )
        return self.draft.path


def _require_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise UserError(f"the loss became {loss} at step {step}; lower the rate, or compute in fp32")


def _learnt_share(text: Corpus) -> float:
    """Of the characters of a corpus."""
    read_only = sum(end - start for document in text.documents for start, end in document.unlearned)
    return 1 - read_only / max(sum(len(document.text) for document in text.documents), 1)
