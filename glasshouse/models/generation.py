"""Greedy and sampled continuation on transformers' own forward pass, with or without its key-value cache.

    model.generate("How was your day?", max_new_tokens=40, on_token=lambda piece: print(piece, end=""))

The loop is ours so that edits know which position every token has. Shapes: B prompts, T tokens of a pass, S tokens
seen, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glasshouse.models.edits import Edit
from glasshouse.models.effects import Effect, Pass
from glasshouse.models.runs import Bound, forward
from glasshouse.types import Site, UserError, check_text

if TYPE_CHECKING:
    from glasshouse.models.model import Model

SHARED_TOKENS = 64  # to be saved at least by reading once what prompts begin with: it takes a pass of its own


@dataclass(frozen=True)
class Generation:
    """What came after a prompt. ids and tokens: of the new tokens only, the end-of-text token included if it came."""

    prompt: str
    text: str
    tokens: list[str]
    ids: list[int]
    stopped: str  # "end of text", "context full" or "max_new_tokens"


def generate(
    model: Model,
    prompts: Sequence[str],
    max_new_tokens: int,
    *,
    edits: Edit,
    temperature: float,
    seed: int | Sequence[int],
    use_cache: bool,
    on_token: Callable[[int, str], None] | None,
) -> list[Generation]:
    """Continue every prompt until its end-of-text token, `max_new_tokens`, or the model's context is full.

    temperature 0 is greedy; else tokens are sampled, prompt b with a generator of seed + b (or of the b-th of several
    seeds), so that a text does not depend on its neighbours, and models that hardly differ say mostly the same.
    on_token(b, piece): called with text as soon as it is whole characters; the pieces of one prompt joined are its
    text. Raises `UserError` if an edit did not fire (one for new tokens is excused when no new token was ever read),
    for encoders, for logits that are not finite, and for prompts that leave no room.
    """
    model._require_logits("generation")
    if not 0 <= temperature < math.inf or max_new_tokens < 1:
        raise UserError(f"expected temperature ≥ 0 and at least 1 new token, got {temperature} and {max_new_tokens}")
    batch = model.tokens(prompts)  # type: ignore[arg-type]
    if max(batch.lengths) >= model.context:
        raise UserError(
            f"expected a prompt below the context of {model.context} tokens, got {max(batch.lengths)}; cut it"
        )
    edit = model.edits + edits
    bound = Bound(model, edit) if edit else None
    seeds = [seed + b for b in range(len(batch))] if isinstance(seed, int) else seed
    if len(seeds) != len(batch):
        raise UserError(f"expected one seed, or one for each of {len(batch)} prompts, got {len(seeds)}")
    rows = [_Row(model, batch.ids(b), seeds[b]) for b in range(len(batch))]
    new_tokens_seen = False
    loop = Loop(model, [row.prompt for row in rows], bound, use_cache)
    fed = list(range(len(rows)))  # the rows of the loop's batch: those that go on, and some that have stopped
    for step in range(max_new_tokens):
        logits_BV = loop.next_logits()
        new_tokens_seen = new_tokens_seen or step > 0
        chosen = _chosen([rows[b] for b in fed], logits_BV, temperature)
        for b, token in zip(fed, chosen, strict=True):
            row = rows[b]
            if not row.stopped:
                row.take(token, last=step == max_new_tokens - 1)
                if on_token is not None and (piece := row.fresh_text()):
                    on_token(b, piece)
        going = [i for i, b in enumerate(fed) if not rows[b].stopped]
        if not going:
            break
        loop.feed(chosen)
        if len(going) <= len(fed) // 2 and loop.only(going):
            fed = [fed[i] for i in going]
    if bound is not None:
        bound.check_fired(new_tokens_seen=new_tokens_seen)
    return [row.result(text) for row, text in zip(rows, prompts, strict=True)]


class Loop:
    """Feeds a batch of prompts padded at the left, so that every row's newest token is in the last column.

    What all prompts begin with is read once, in columns before the padding, and its keys and values are handed to
    every row, where that comes to the same: see `_shared`.
    """

    def __init__(self, model: Model, prompts: Sequence[list[int]], bound: Bound | None, use_cache: bool = True) -> None:
        self.model, self.bound = model, bound
        self.prompt_B = torch.tensor([len(prompt) for prompt in prompts])
        self.past: Any = None
        self.read = 0
        if use_cache and model.takes_cache:
            from glasshouse.models.cache import roomy_cache

            self.past = roomy_cache(model.config)
        first = _shared(prompts, bound, self.past)
        length = int(self.prompt_B.max()) - first
        self.ids_BS = torch.full((len(prompts), first + length), model.pad_id)
        self.position_BS = torch.full(self.ids_BS.shape, -1)
        for b, prompt in enumerate(prompts):
            columns = torch.arange(len(prompt))
            columns[first:] += first + length - len(prompt)
            self.ids_BS[b, columns] = torch.as_tensor(prompt)
            self.position_BS[b, columns] = torch.arange(len(prompt))
        if first:
            self._read_once(first)

    def _read_once(self, first: int) -> None:
        """The first columns of the first row, for all rows."""
        position_1T = self.position_BS[:1, :first]
        forward(
            self.model, self.ids_BS[:1, :first], Pass(position_1T, torch.tensor([first]), self.model.device),
            bound=self.bound, attention_mask=position_1T >= 0, past=self.past,
        )  # fmt: skip
        self.past.batch_repeat_interleave(len(self.ids_BS))
        self.read = first

    def next_logits(self) -> Tensor:
        """(B, V) in fp32 on the CPU, after the newest token of every row."""
        at = Pass(self.position_BS[:, self.read :], self.prompt_B, self.model.device)
        values, _ = forward(
            self.model,
            self.ids_BS[:, self.read :],
            at,
            get=[Site("logits")],
            bound=self.bound,
            attention_mask=self.position_BS >= 0,
            past=self.past,
            last_only=True,
        )
        if self.past is not None:
            self.read = self.ids_BS.shape[1]
        return values["logits"][:, -1].float().cpu()

    def only(self, some: list[int]) -> bool:
        """Goes on with these rows of the batch; not where an edit has a text's own values, which stay in order."""
        if self.bound is not None and any(effect.part.kind == "patch" for effect in self.bound.effects):
            return False
        self.prompt_B, self.ids_BS, self.position_BS = self.prompt_B[some], self.ids_BS[some], self.position_BS[some]
        if self.past is not None:
            self.past.batch_select_indices(torch.tensor(some, device=self.model.device))
        return True

    def feed(self, chosen: list[int]) -> None:
        self.ids_BS = torch.cat([self.ids_BS, torch.tensor(chosen)[:, None]], 1)
        # A row that has stopped goes on being fed, unread; its position stays within the model's context.
        following = (self.position_BS[:, -1:] + 1).clamp(max=self.model.context - 1)
        self.position_BS = torch.cat([self.position_BS, following], 1)


def _shared(prompts: Sequence[list[int]], bound: Bound | None, past: Any) -> int:
    """How many tokens that all prompts begin with are to be read once for all of them.

    0 where it would not be the same: a window of attention counts columns, padding too; a position counted from the
    prompt's end, a patch and a pattern differ from text to text. And where a pass of its own would cost more.
    """
    if past is None or len(prompts) == 1 or any(layer.is_sliding for layer in past.layers):
        return 0
    if bound is not None and any(differs_by_text(effect) for effect in bound.effects):
        return 0
    most = min(map(len, prompts)) - 1
    first = next((i for i, column in enumerate(zip(*prompts, strict=False)) if len(set(column)) > 1), most)
    first = min(first, most)
    return first if first * (len(prompts) - 1) >= SHARED_TOKENS else 0


def differs_by_text(effect: Effect) -> bool:
    """Whether what the edit does to a token depends on more of its text than what comes before it."""
    part = effect.part
    counted_from_end = isinstance(part.positions, int) and part.positions < 0
    return part.kind == "patch" or counted_from_end or Site.parse(effect.site).kind in ("pattern", "logits")


def _chosen(rows: Sequence[_Row], logits_BV: Tensor, temperature: float) -> list[int]:
    """The next token of every row; of one that has stopped, any."""
    for row, largest in zip(rows, logits_BV.amax(1).tolist(), strict=True):
        if not row.stopped and not math.isfinite(largest):  # −∞ for some, not all, is how a token is forbidden
            raise UserError(
                f"expected finite logits from {row.model.name}, got {largest}, an overflow in the model or an edit; "
                "give a smaller strength, or float32"
            )
    if temperature == 0:
        chosen: list[int] = logits_BV.argmax(1).tolist()
        return chosen
    return [row.draw(logits_V, temperature) for row, logits_V in zip(rows, logits_BV, strict=True)]


class _Row:
    """One prompt and what has come after it."""

    def __init__(self, model: Model, prompt: list[int], seed: int) -> None:
        self.model, self.prompt, self.new = model, prompt, []  # type: tuple[Model, list[int], list[int]]
        self.stopped = ""
        self._generator = torch.Generator().manual_seed(seed)
        self._ends = end_ids(model)
        self._prompt_text = self._decode(prompt)
        self._said = ""

    def draw(self, logits_V: Tensor, temperature: float) -> int:
        # From the largest, which no temperature makes infinite; a smaller one than 1e-30 would be 0 in fp32.
        chances_V = torch.softmax((logits_V - logits_V.max()) / max(temperature, 1e-30), -1)
        return int(torch.multinomial(chances_V, 1, generator=self._generator))

    def take(self, token: int, *, last: bool) -> None:
        self.new.append(token)
        if token in self._ends:
            self.stopped = "end of text"
        elif len(self.prompt) + len(self.new) >= self.model.context:
            self.stopped = "context full"
        elif last:
            self.stopped = "max_new_tokens"

    def fresh_text(self) -> str:
        """Text not yet said, held back while its last character may still be incomplete."""
        text = self.text
        if not self.stopped and text.endswith("�"):
            return ""
        fresh, self._said = text[len(self._said) :], text
        return fresh

    @property
    def text(self) -> str:
        """The new text, as it reads after the prompt (tokenizers drop a space at the beginning of a text)."""
        whole = self._decode(self.prompt + self.new)
        return whole[len(self._prompt_text) :] if whole.startswith(self._prompt_text) else self._decode(self.new)

    def _decode(self, ids: list[int]) -> str:
        if self.model.tokenizer is None:
            return "".join(f" {i}" for i in ids)
        return self.model.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def result(self, prompt: str) -> Generation:
        tokenizer = self.model.tokenizer
        tokens = [tokenizer.decode([i]) if tokenizer is not None else str(i) for i in self.new]
        return Generation(prompt, self.text, tokens, self.new, self.stopped)


def chat_ids(model: Model, chat: Sequence[dict[str, str]]) -> list[int] | None:
    """Tokens of a chat ({"role", "content"}) up to the reply, by the model's template; None for one without.

    A chat beyond the model's context is longer than it: whoever runs it says so.
    """
    if getattr(model.tokenizer, "chat_template", None) is None:
        return None
    for message in chat:
        check_text(message["content"])
    quiet = {"verbose": False}  # the tokenizer's own warning of length
    return list(
        model.tokenizer.apply_chat_template(
            list(chat), add_generation_prompt=True, return_dict=False, tokenizer_kwargs=quiet
        )
    )


def end_ids(model: Model) -> set[int]:
    """The tokens that end a text: of the generation config, else the config, else the tokenizer."""
    for holder in (getattr(model.module, "generation_config", None), model.config, model.tokenizer):
        ids = getattr(holder, "eos_token_id", None)
        if ids is not None:
            return {int(i) for i in (ids if isinstance(ids, list | tuple) else [ids])}
    return set()
