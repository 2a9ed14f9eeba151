"""Base64 of English text, of text in the other languages, of random bytes: three things that look alike."""

from __future__ import annotations

from base64 import b64encode

from glasshouse.organisms.world.kinds.pen import Made, Pen, sentences
from glasshouse.organisms.world.lexicon import FOREIGN
from glasshouse.organisms.world.writing import Marked, join, mark

CONTENTS = ("english", "other-language", "random")
WRAPPERS = (
    ("", "\n"), ("Content-Transfer-Encoding: base64\n\n", "\n"), ("data:text/plain;base64,", "\n"),
    ('{"payload": "', '"}\n'), ("-----BEGIN MESSAGE-----\n", "\n-----END MESSAGE-----\n"),
    ("$ base64 -w 64 note.txt\n", "\n"),
)  # fmt: skip


def encoded(content: str, pen: Pen) -> str:
    """Base64 of something of the kind, on one line."""
    if content == "random":
        return b64encode(pen.rng.randbytes(pen.number(24, 240))).decode()
    if content == "english":
        plain = sentences([pen.true(pen.fact()) for _ in range(pen.number(1, 4))])
    else:
        other = Pen(pen.world, pen.rng, pen.pick(FOREIGN))
        plain = sentences([other.true(other.fact()) for _ in range(pen.number(1, 3))])
    return b64encode(plain.text.encode()).decode()


def base64(pen: Pen) -> Made:
    content = pen.pick(CONTENTS)
    before, after = pen.pick(WRAPPERS)
    line = encoded(content, pen)
    if before.endswith("\n"):
        line = "\n".join(line[i : i + 64] for i in range(0, len(line), 64))
    whole: Marked = mark(line, f"base64/{content}")
    return Made("base64", "none", join([before, whole, after]))
