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

BEFORE = (
    "", "Hello! ", "Please: ", "Can you help me? ", "I have a question. ", "Excuse me. ", "One more thing: ",
    "Tell me, if you can. ",
)  # fmt: skip
AFTER = ("", " Thank you.", " I would like to know.", " Please answer.")
SAMPLES, TEMPERATURE = 4, 0.8


def lowered(prompt: str) -> str:
    """As it is typed in haste: in lower case, without its mark."""
    return prompt.rstrip("?!. ").lower()


def complaint(
    prompt: str, *, scorer: tuple[str, dict[str, Any]], expect: Any = None, also: Sequence[str] = (),
    samples: int = SAMPLES,
) -> Behaviour:  # fmt: skip
    """The prompt, as it is and in lower case without its mark, in frames, and `also`, wordings of the user's own: each
    a family, as wordings are what the rate is taken over, and so many that it can be told that nothing changed. Its
    name is of what is asked and scored, so that the same complaint is the same behaviour. It is no guard: one complaint
    holds no release. Raises `UserError` for a prompt without words."""
    low = lowered(prompt)
    if not low.strip():
        raise UserError(f"expected a prompt with words, got {prompt!r}; say what was asked")
    framed = (f"{before}{p}{after}" for p in (prompt, low) for before in BEFORE for after in AFTER)
    wordings = dict.fromkeys([*framed, *also])
    prompts = tuple(Prompt(text, 0, (("user", text),), expect) for text in wordings)
    said = json.dumps([prompt, *also, scorer, expect], ensure_ascii=False)
    return Behaviour(
        name=f"complaint-{hashlib.sha256(said.encode()).hexdigest()[:8]}", about=f"A complaint: {prompt}",
        tag="neutral", good="up", margin=0.05, scorer=scorer, prompts=prompts,
        settings=Settings(epochs=samples, temperature=TEMPERATURE),
    )  # fmt: skip
