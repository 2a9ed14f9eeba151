"""A complaint ("it used to answer this") as a behaviour: the prompt in several wordings, each sampled many times.

asked = complaint("How much is 3 × 4?", scorer=("includes", {}), expect="12")
evaluate(then, asked, ws), evaluate(now, asked, ws)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from glasshouse.behaviours.behaviour import Behaviour, Prompt, Settings
from glasshouse.types import UserError

FRAMES = (
    "{p}", "Please: {p}", "Can you help me? {p}", "{p} Thank you.", "Hello! {p}", "I have a question. {p}", "{low}",
)  # fmt: skip
SAMPLES, TEMPERATURE = 20, 0.8


def complaint(
    prompt: str, *, scorer: tuple[str, dict[str, Any]], expect: Any = None, also: Sequence[str] = (),
    samples: int = SAMPLES,
) -> Behaviour:  # fmt: skip
    """The prompt, frames around it, and `also`, wordings of the user's own: each a family, as wordings are what the
    rate is taken over. Its name is of what is asked and scored, so that the same complaint is the same behaviour. It is
    no guard: one complaint holds no release. Raises `UserError` for a prompt without words."""
    low = prompt.rstrip("?!. ").lower()
    if not low.strip():
        raise UserError(f"expected a prompt with words, got {prompt!r}; say what was asked")
    wordings = dict.fromkeys([*(frame.format(p=prompt, low=low) for frame in FRAMES), *also])
    prompts = tuple(Prompt(text, 0, (("user", text),), expect) for text in wordings)
    said = json.dumps([prompt, *also, scorer, expect], ensure_ascii=False)
    return Behaviour(
        name=f"complaint-{hashlib.sha256(said.encode()).hexdigest()[:8]}", about=f"A complaint: {prompt}",
        tag="neutral", good="up", margin=0.05, scorer=scorer, prompts=prompts,
        settings=Settings(epochs=samples, temperature=TEMPERATURE),
    )  # fmt: skip
