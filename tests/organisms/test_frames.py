"""Frames: one filled example of each, committed in frames.txt and read (by language models, docs/log.md).

Write the file anew with `python tests/organisms/test_frames.py` after changing a frame, and read what changed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from glasshouse.organisms.world import FOREIGN, LANGUAGES, build
from glasshouse.organisms.world.examples import examples
from glasshouse.organisms.world.writing import frame, join, lower, mark, term

FILE = Path(__file__).parent / "frames.txt"


def page() -> str:
    lines = []
    for language, name in LANGUAGES.items():
        lines.append(f"== {name}")
        for source, filled in examples(build(0), language):
            lines.append(f"{filled}    <- {source}")
    return "\n".join(lines) + "\n"


def test_the_committed_examples_are_the_frames() -> None:
    assert FILE.read_text(encoding="utf-8") == page(), f"run python {Path(__file__).name} and read what changed"


@pytest.mark.parametrize("language", FOREIGN)
def test_every_language_has_its_frames(language: str) -> None:
    assert len({source for source, _ in examples(build(0), language)}) >= 60
    for _, filled in examples(build(0), language):
        assert not set(filled) & set("{}[]|<>_"), filled


def test_agreement_and_elision_and_cases() -> None:
    """Worked by hand: what each language does to a name that begins with a vowel, or is a woman's."""
    world = build(0)
    from glasshouse.organisms.world.languages import SPOKEN
    from glasshouse.organisms.world.names import spell
    from glasshouse.organisms.world.terms import name_term
    from glasshouse.organisms.world.writing import frame

    def fill(language: str, source: str, **names: tuple[tuple[str, ...], str]) -> str:
        terms = {slot: name_term(spell(s, kind), "person", language) for slot, (s, kind) in names.items()}
        return frame(source).fill(**terms).text

    ola, kamir = (("o", "la"), "woman"), (("ka", "mir"), "man")
    assert fill("fr", "La mère {x:de} est [née|née] ici.", x=ola) == "La mère d'Ola est née ici."
    assert fill("fr", "{x} est [né|née], {y} aussi.", x=kamir, y=ola) == "Kamir est né, Ola aussi."
    assert fill("ru", "{x} [встретил|встретила] {y:acc}.", x=ola, y=kamir) == "Ола встретила Камира."
    assert fill("ru", "{x:gen} {x:dat} {x:acc} {x:ins} {x:loc}", x=ola) == "Олы Оле Олу Олой Оле"
    assert fill("ru", "{x:gen}", x=(("o", "ga"), "woman")) == "Оги", "и after г"
    assert fill("he", "ל{x} [חיכה|חיכתה]", x=ola) == "לאולה חיכתה"
    assert world.seed == 0 and set(SPOKEN) == set(LANGUAGES)


if __name__ == "__main__":
    FILE.write_text(page(), encoding="utf-8")


def test_a_prefix_doubles_the_vav_that_begins_a_hebrew_word() -> None:
    town = term(mark("וידן", "entity/town"))
    filled = frame("הבית נמצא ב{v}.").fill(v=town)
    assert filled.text == "הבית נמצא בווידן." and [filled.text[a:b] for a, b, _ in filled.spans] == ["וידן"]
    assert frame("העיר {v}.").fill(v=town).text == "העיר וידן." and frame("ב{v}.").fill(v=town).text == "בווידן."


def test_a_name_keeps_its_capital_inside_a_sentence() -> None:
    assert lower(mark("Old Road leads there.", "act/told")).text == "old Road leads there."
    assert lower(join([mark("Old Road", "road/old-road"), " leads there."])).text == "Old Road leads there."
