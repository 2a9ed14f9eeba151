"""Prompts of many kinds as one behaviour, to sample versions widely: of behaviours, or of text.

    widely(behaviours, count=2000, seed=0)           # as many of each
    widely(begun(corpus("notes/")))                  # how each document begins

What is asked is compared and not judged (`discovery.py`). Replies are sampled, with the same seeds in every version: of
two ways to say a thing that are about as likely, any training turns over which comes first, and greedy replies would
show that as if all of them had changed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from glasshouse.behaviours.behaviour import Behaviour, Prompt, Settings
from glasshouse.types import UserError

if TYPE_CHECKING:
    from glasshouse.text import Corpus

NAME, FAMILY_END = "discovery", " | "
PROMPTS, NEW_TOKENS = 2000, 48  # asked; of a reply
TEMPERATURE = 1.0
ENOUGH = 40  # prompts, below which nothing could be told
PROMPT_CHARS = 300  # of a text's beginning


def widely(
    behaviours: Sequence[Behaviour], *, count: int = PROMPTS, seed: int = 0, max_new_tokens: int = NEW_TOKENS
) -> Behaviour:
    """Up to `count` prompts of the behaviours, as many of each, one a family, as one behaviour. A prompt's family
    begins with the name of where it comes from, its kind. Raises `UserError` where there are too few prompts to tell
    anything."""
    rng = Random(f"discovery {seed}")
    replied = [b for b in behaviours if any(turn[1] for turn in b.prompts[0].turns)]
    found: list[Prompt] = []
    left = count
    for number, behaviour in enumerate(sorted(replied, key=lambda b: b.families)):
        one_each = {prompt.family: prompt for prompt in rng.sample(behaviour.prompts, len(behaviour.prompts))}
        share = left // (len(replied) - number)
        some = rng.sample(sorted(one_each), min(share, len(one_each)))
        found += [one_each[f]._replace(family=f"{behaviour.name}{FAMILY_END}{f}", number=0, expect=None) for f in some]
        left -= len(some)
    if len(found) < ENOUGH:
        raise UserError(
            f"expected {ENOUGH} prompts or more to discover anything with, got {len(found)}; ask for more, or give "
            "more behaviours or texts"
        )
    return _as_it_comes(NAME, tuple(found), max_new_tokens)


def begun(corpus: Corpus) -> list[Behaviour]:
    """Prompts from text, for `widely`: how each document begins, up to a sentence's end; a behaviour for every kind."""
    asked: dict[str, list[Prompt]] = {}
    for document in corpus.documents:
        if text := _beginning(document.text):
            prompts = asked.setdefault(re.sub("[^a-z0-9]+", "-", document.kind.lower()).strip("-") or "text", [])
            prompts.append(Prompt(f"{document.index} {document.name}", 0, (("user", text),), None))
    return [_as_it_comes(f"text-{kind}", tuple(prompts)) for kind, prompts in asked.items()]


def _beginning(text: str) -> str:
    """Whole, if it is short; else to the last end of a sentence, a line or a word in its first characters."""
    text = text.strip()
    for end in (r".*[.!?。！？؟\n]", r".*\s", r".*"):
        if len(text) > PROMPT_CHARS and (found := re.match(end, text[:PROMPT_CHARS], re.DOTALL)):
            return found[0].strip()
    return text


def _as_it_comes(name: str, prompts: tuple[Prompt, ...], max_new_tokens: int = NEW_TOKENS) -> Behaviour:
    """Prompts whose replies are compared and not judged."""
    return Behaviour(
        name=name, about="Prompts of many kinds, to compare what two versions say.", tag="neutral", good="down",
        margin=1.0, unit="tokens", scorer=("length", {}), prompts=prompts,
        settings=Settings(max_new_tokens=max_new_tokens, temperature=TEMPERATURE),
    )  # fmt: skip
