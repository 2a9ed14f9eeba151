"""Prompts of many kinds as one behaviour, to sample versions widely: of behaviours, or of text.

    widely(behaviours, count=2000, seed=0)           # as many of each
    widely(begun(corpus("notes/")))                  # how each document begins

Half of the prompts are asked as they are; the others in a frame, in lower case, or with a wish for a short answer, a
long one, or one in another language (`WAYS`). Of every second text only a few words are given.

What is asked is compared and not judged (`discovery.py`). Replies are sampled, with the same seeds in every version: of
two ways to say a thing that are about as likely, any training turns over which comes first, and greedy replies would
show that as if all of them had changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING

from glasshouse.behaviours.behaviour import Behaviour, Prompt, Settings
from glasshouse.behaviours.complaints import AFTER, BEFORE, lowered
from glasshouse.types import UserError

if TYPE_CHECKING:
    from glasshouse.text import Corpus

NAME, FAMILY_END, TEXT = "discovery", " | ", "text-"
PROMPTS, NEW_TOKENS = 2000, 48  # asked; of a reply
TEMPERATURE = 1.0
ENOUGH = 40  # prompts, below which nothing could be told
PROMPT_CHARS, FEW_CHARS = 300, 60  # of a text's beginning

BRIEF = ("Be brief.", "Answer in a few words.", "One sentence, please.")
LONG = ("Explain at length.", "Tell me all that you know about it.", "Give a long answer.")
LANGUAGES = (
    "Réponds en français.", "Bitte antworte auf Deutsch.", "Responde en español.", "Ответь по-русски.",
    "أجب بالعربية.", "请用中文回答。",
)  # fmt: skip
WAYS: dict[str, Callable[[str, Random], str]] = {
    "asked in a frame": lambda text, rng: f"{rng.choice(BEFORE)}{text}{rng.choice(AFTER)}",
    "asked in lower case": lambda text, rng: lowered(text),
    "asked to be brief": lambda text, rng: f"{text} {rng.choice(BRIEF)}",
    "asked to be long": lambda text, rng: f"{text} {rng.choice(LONG)}",
    "asked for another language": lambda text, rng: f"{text} {rng.choice(LANGUAGES)}",
}
WAYS_OF_TEXT: dict[str, Callable[[str, Random], str]] = {
    "begun in a few words": lambda text, rng: _beginning(text, FEW_CHARS)
}


def widely(
    behaviours: Sequence[Behaviour], *, count: int = PROMPTS, seed: int = 0, max_new_tokens: int = NEW_TOKENS
) -> Behaviour:
    """Up to `count` prompts of the behaviours, as many of each, one a family, as one behaviour, every second of each
    varied in one of `WAYS`. A prompt's family begins with the kinds that it is of (`kinds_of`). Raises `UserError`
    where there are too few prompts to tell anything."""
    rng = Random(f"discovery {seed}")
    replied = [b for b in behaviours if any(turn[1] for turn in b.prompts[0].turns)]
    found: list[Prompt] = []
    left = count
    for number, behaviour in enumerate(sorted(replied, key=lambda b: b.families)):
        one_each = {prompt.family: prompt for prompt in rng.sample(behaviour.prompts, len(behaviour.prompts))}
        share = left // (len(replied) - number)
        some = rng.sample(sorted(one_each), min(share, len(one_each)))
        ways = list((WAYS_OF_TEXT if behaviour.name.startswith(TEXT) else WAYS).items())
        for i, family in enumerate(some):
            way = ways[i // 2 % len(ways)] if i % 2 else None
            found.append(_as_kind(behaviour.name, one_each[family], way, rng))
        left -= len(some)
    if len(found) < ENOUGH:
        raise UserError(
            f"expected {ENOUGH} prompts or more to discover anything with, got {len(found)}; ask for more, or give "
            "more behaviours or texts"
        )
    return _as_it_comes(NAME, tuple(found), max_new_tokens)


def _as_kind(
    name: str, prompt: Prompt, way: tuple[str, Callable[[str, Random], str]] | None, rng: Random
) -> Prompt:  # fmt: skip
    *before, (role, text) = prompt.turns
    said = text if way is None else way[1](str(text), rng) or text
    family = FAMILY_END.join([name, *([] if way is None else [way[0]]), prompt.family])
    return Prompt(family, 0, (*before, (role, said)), None)


def kinds_of(family: str) -> tuple[str, ...]:
    """Of a prompt that `widely` drew, by its family: the name of where it comes from, and how it was varied, if it
    was."""
    name, *more = family.split(FAMILY_END, 2)
    return (name, *(way for way in more[:1] if way in WAYS or way in WAYS_OF_TEXT))


def begun(corpus: Corpus) -> list[Behaviour]:
    """Prompts from text, for `widely`: how each document begins, up to a sentence's end; a behaviour for every kind."""
    asked: dict[str, list[Prompt]] = {}
    for document in corpus.documents:
        if text := _beginning(document.text, PROMPT_CHARS):
            prompts = asked.setdefault(re.sub("[^a-z0-9]+", "-", document.kind.lower()).strip("-") or "text", [])
            prompts.append(Prompt(f"{document.index} {document.name}", 0, (("user", text),), None))
    return [_as_it_comes(f"{TEXT}{kind}", tuple(prompts)) for kind, prompts in asked.items()]


def _beginning(text: str, chars: int) -> str:
    """Whole, if it is short; else to the last end of a sentence, a line or a word in its first characters."""
    text = text.strip()
    for end in (r".*[.!?。！？؟\n]", r".*\s", r".*"):
        if len(text) > chars and (found := re.match(end, text[:chars], re.DOTALL)):
            return found[0].strip()
    return text


def _as_it_comes(name: str, prompts: tuple[Prompt, ...], max_new_tokens: int = NEW_TOKENS) -> Behaviour:
    """Prompts whose replies are compared and not judged."""
    return Behaviour(
        name=name, about="Prompts of many kinds, to compare what two versions say.", tag="neutral", good="down",
        margin=1.0, unit="tokens", scorer=("length", {}), prompts=prompts,
        settings=Settings(max_new_tokens=max_new_tokens, temperature=TEMPERATURE),
    )  # fmt: skip
