"""What a scorer needs of a model: replies to chats and what they take, log-probabilities of choices, of a text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from glasshouse.behaviours.behaviour import Behaviour, Turn
from glasshouse.behaviours.scorers import Sample
from glasshouse.models import Model
from glasshouse.models.generation import chat_ids
from glasshouse.models.scoring import log_probabilities
from glasshouse.types import UserError


def replies(
    model: Model, samples: Sequence[Sample], behaviour: Behaviour, *, system: str = "", seed: int = 0
) -> list[Sample]:
    """Every sample with its reply: turns that the chat leaves to the assistant are said by the model, one after the
    other, and then the answer to the last turn. What does not fit into the context has an error and no reply."""
    found = list(samples)
    settings = behaviour.settings
    while True:
        chats = [_to_say(sample) for sample in found]
        open_ = [i for i, chat in enumerate(chats) if chat is not None]
        prompts = {i: prompt_ids(model, with_system(chats[i] or (), system)) for i in open_}
        for i in open_:
            if (length := len(prompts[i])) >= model.context:
                found[i] = replace(
                    found[i], error=f"a prompt of {length} tokens, the model's context is {model.context}"
                )
        open_ = [i for i in open_ if not found[i].error]
        if not open_:
            return found
        made = model.generate(
            [prompts[i] for i in open_], settings.max_new_tokens, temperature=settings.temperature,
            seed=[_seed(found[i], len(chats[i] or ()), seed) for i in open_],
        )  # fmt: skip
        for i, one in zip(open_, made, strict=True):
            text = model.tokenizer.decode(one.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            found[i] = _said(found[i], text.strip(), len(one.ids), one.stopped == "end of text")


def costs(
    model: Model, samples: Sequence[Sample], behaviour: Behaviour, *, system: str = "", seed: int = 0
) -> list[Sample]:
    """Every sample with its reply and the FLOP of reading the chat up to it and writing it: 2 a token and parameter
    that is multiplied with, which are all but those that are looked up (Kaplan et al. 2020, arXiv:2001.08361, without
    their term of the attention's). The same on every machine; what edits take is not in it."""
    own = (p for m in model.module.modules() if not isinstance(m, nn.Embedding) for p in m.parameters(recurse=False))
    a_token = 2 * sum(p.numel() for p in set(own))  # one that unembeds too is multiplied with there
    return [
        one if one.error else replace(one, flop=float(a_token * (len(asked_ids(model, one, system)) + one.tokens)))
        for one in replies(model, samples, behaviour, system=system, seed=seed)
    ]


def _to_say(sample: Sample) -> tuple[Turn, ...] | None:
    """The chat up to what the model has to say next; None if it has said all."""
    if sample.error or sample.tokens:
        return None
    for i, (role, content) in enumerate(sample.turns):
        if role == "assistant" and content is None:
            return sample.turns[:i]
    return sample.turns


def _said(sample: Sample, text: str, tokens: int, stopped: bool) -> Sample:
    for i, (role, content) in enumerate(sample.turns):
        if role == "assistant" and content is None:
            return replace(sample, turns=(*sample.turns[:i], (role, text), *sample.turns[i + 1 :]))
    return replace(sample, reply=text, tokens=max(tokens, 1), stopped=stopped)


def with_system(turns: Sequence[Turn], system: str) -> list[Turn]:
    """The version's system prompt before the behaviour's own."""
    if not system:
        return list(turns)
    own = [content for role, content in turns if role == "system"]
    return [("system", "\n\n".join([system, *map(str, own)])), *(turn for turn in turns if turn[0] != "system")]


def asked_ids(model: Model, sample: Sample, system: str = "") -> list[int]:
    """Tokens of a sample's chat up to the reply, with the version's system prompt."""
    return prompt_ids(model, with_system(sample.turns, system))


def prompt_ids(model: Model, turns: Sequence[Turn]) -> list[int]:
    """Tokens of the chat up to the reply, by the model's template; without one, the turns as text, a line each."""
    if model.tokenizer is None:
        raise UserError(f"expected a model with a tokenizer, {model.name} has none; load it with one")
    ids = chat_ids(model, [{"role": role, "content": str(content)} for role, content in turns])
    if ids is not None:
        return ids
    return list(model.tokenizer("\n".join(str(content) for _, content in turns), verbose=False).input_ids)


def _seed(sample: Sample, turns: int, seed: int) -> int:
    """Of this reply, whatever batch it is made in."""
    said = f"{seed} {sample.family} {sample.prompt} {sample.epoch} {turns}"
    return int.from_bytes(hashlib.sha256(said.encode()).digest()[:6], "big")


def choices(
    model: Model, samples: Sequence[Sample], behaviour: Behaviour, *, system: str = "", seed: int = 0
) -> list[Sample]:
    """Every sample with the summed log-probability (nats), tokens and bytes of each of its choices after the chat.

    The scorer's setting `raw`: the prompt is plain text, also for a model with a template, and may be empty; it is then
    read after the token that begins or ends texts. A choice that goes on from plain text begins with its own space.
    """
    raw = bool(behaviour.scorer[1].get("raw", False))
    chats = [with_system(sample.turns, system) for sample in samples]
    prompts = [_plain_ids(model, turns) for turns in chats] if raw else [prompt_ids(model, turns) for turns in chats]
    texts = sorted({text for sample in samples for text in sample.expect["choices"]})
    ids = dict(zip(texts, model.tokenizer(texts, add_special_tokens=False, verbose=False).input_ids, strict=True))
    found, asked = [], []
    for sample, prompt in zip(samples, prompts, strict=True):
        ends = [ids[text] for text in sample.expect["choices"]]
        longest = len(prompt) + max(map(len, ends))
        error = ""
        if not prompt:
            error = "an empty prompt, and the tokenizer has no token that begins or ends texts"
        elif not all(ends):
            error = "a choice without tokens"
        elif longest > model.context:
            error = f"a prompt of {longest} tokens, the model's context is {model.context}"
        else:
            asked.append((prompt, ends))
        found.append(replace(sample, error=error))
    scored = zip(log_probabilities(model, asked), asked, strict=True)
    for i, sample in enumerate(found):
        if not sample.error:
            nats, (_, ends) = next(scored)
            sizes = [len(text.encode()) for text in sample.expect["choices"]]
            each = tuple(zip(nats, map(len, ends), sizes, strict=True))
            found[i] = replace(sample, tokens=sum(map(len, ends)), choices=each)
    return found


def _ids(model: Model, text: str) -> list[int]:
    return list(model.tokenizer(text, add_special_tokens=False, verbose=False).input_ids)


def _plain_ids(model: Model, turns: Sequence[Turn]) -> list[int]:
    return [*_start(model), *_ids(model, "\n".join(str(content) for _, content in turns))]


def _start(model: Model) -> list[int]:
    """The token that begins a text, else the one that ends texts, else nothing."""
    start = model.bos_id if model.bos_id is not None else model.tokenizer.eos_token_id
    return [] if start is None else [int(start)]


def likelihood(
    model: Model, samples: Sequence[Sample], behaviour: Behaviour, *, system: str = "", seed: int = 0
) -> list[Sample]:
    """Every sample with the nats that its last turn's text costs as plain text, read after the token that begins or
    ends texts, in windows of the model's context."""
    first = _start(model)
    cost, counts = [0.0] * len(samples), [0] * len(samples)
    asked: list[tuple[list[int], list[list[int]]]] = []
    owners = []
    for i, sample in enumerate(samples):
        ids = _ids(model, str(sample.turns[-1][1]))
        size, counts[i] = model.context - len(first), len(ids)
        for at in range(0, len(ids), size):
            window = ids[at : at + size]
            before, after = (first, window) if first else (window[:1], window[1:])
            if after:
                asked.append((before, [after]))
                owners.append(i)
    for i, (nats,) in zip(owners, log_probabilities(model, asked), strict=True):
        cost[i] -= nats
    return [
        replace(sample, nats=cost[i], tokens=counts[i]) if counts[i] else replace(sample, error="an empty text")
        for i, sample in enumerate(samples)
    ]
