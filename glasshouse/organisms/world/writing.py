"""Text with its truth beside it: fragments that carry labelled character spans, frames that are filled with terms.

    frame("{x} lives in <<role/value|{v}>>.").fill(x=person, v=town)      # Marked("Tala lives in Veden.", spans)

A frame is a sentence with slots. `{x}` and `{x:gen}` put in a term (in one of its forms), `[he|she]` chooses by the
gender of the term `x` and `[v:un|une]` by that of `v`, `<<concept|…>>` labels what it holds.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

Span = tuple[int, int, str]
GENDERS = "mfnp"  # masculine, feminine, neuter, plural: the order of the choices in `[a|b|c|d]`
SENTENCE_ENDS = (".", "?", "!", "؟", "。", "？", "！", "…")


class Marked(NamedTuple):
    """A text and labels on its characters: (start, end, concept)."""

    text: str
    spans: tuple[Span, ...] = ()


Part = str | Marked


def mark(part: Part, *concepts: str) -> Marked:
    """The part with its whole length labelled."""
    text, spans = (part, ()) if isinstance(part, str) else part
    return Marked(text, (*((0, len(text), concept) for concept in concepts), *spans))


def join(parts: Iterable[Part], between: str = "") -> Marked:
    writer = Writer()
    for i, part in enumerate(parts):
        writer.add(between, part) if i and between else writer.add(part)
    return writer.done()


def shifted(spans: Iterable[Span], by: int) -> Iterator[Span]:
    return ((start + by, end + by, concept) for start, end, concept in spans)


def capital(part: Marked) -> Marked:
    """With its first letter upper case; the characters keep their places."""
    return Marked(part.text[:1].upper() + part.text[1:], part.spans) if part.text[:1].islower() else part


def lower(part: Marked) -> Marked:
    """With its first letter lower case, for a sentence inside another, unless a name begins it."""
    begins_with_name = any(start == 0 and concept.startswith(("entity/", "road/")) for start, _, concept in part.spans)
    begins_with_name = begins_with_name and not part.text.startswith("The ")
    return part if begins_with_name else Marked(part.text[:1].lower() + part.text[1:], part.spans)


def escaped(part: Part, table: Mapping[str, str]) -> Marked:
    """Every character that the table has replaced by what it has there; the spans follow."""
    text, spans = (part, ()) if isinstance(part, str) else part
    if not any(character in text for character in table):
        return Marked(text, tuple(spans))
    pieces = [table.get(character, character) for character in text]
    place = [0]
    for piece in pieces:
        place.append(place[-1] + len(piece))
    return Marked("".join(pieces), tuple((place[start], place[end], concept) for start, end, concept in spans))


def nesting(text: str, opening: str, closing: str) -> list[Span]:
    """Every bracket with what it holds, by depth; outside of all is nothing, and what is deeper than 4 counts as 4."""
    found, stack = list[Span](), list[int]()
    for i, character in enumerate(text):
        if character in opening:
            stack.append(i)
        elif character in closing and stack:
            found.append((stack.pop(), i + 1, f"nesting/{min(4, len(stack) + 1)}"))
    return found


class Writer:
    """Writes a text from its beginning to its end, and labels stretches of it."""

    __slots__ = ("at", "parts", "spans")

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.spans: list[Span] = []
        self.at = 0

    def add(self, *parts: Part) -> Writer:
        for part in parts:
            if isinstance(part, str):
                self.parts.append(part)
                self.at += len(part)
            else:
                at = self.at
                self.parts.append(part.text)
                self.spans += [(start + at, end + at, concept) for start, end, concept in part.spans]
                self.at += len(part.text)
        return self

    @contextmanager
    def marked(self, *concepts: str) -> Iterator[Writer]:
        """What is written inside is labelled with the concepts."""
        start = self.at
        yield self
        self.spans += [(start, self.at, concept) for concept in concepts]

    def done(self, *concepts: str) -> Marked:
        return Marked("".join(self.parts), (*((0, self.at, concept) for concept in concepts), *self.spans))


# -- frames ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Term:
    """What a slot takes: the forms of a name or word in one language, by name of form ("" is the plain one).

    A form `ins.f` is used for `{v:ins}` where the subject `x` of the frame is feminine.
    """

    forms: Mapping[str, Marked]
    gender: str = "m"

    @property
    def plain(self) -> Marked:
        return self.forms[""]


def term(text: Part, gender: str = "m", **forms: Part) -> Term:
    marked = {name: mark(form) for name, form in forms.items()}
    return Term({"": mark(text), **marked}, gender)


_TOKENS = re.compile(r"\{(\w+)(?::(\w+))?\}|\[(?:(\w+):)?([^\[\]|]*(?:\|[^\[\]|]*)+)\]|<<([\w/+-]+)\||(>>)")


class Frame:
    """A sentence with slots, read once and filled many times."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sentence = source.rstrip(">").endswith(SENTENCE_ENDS)
        self.steps: list[tuple[str, str, object]] = []
        at = 0
        for match in _TOKENS.finditer(source):
            if match.start() > at:
                self.steps.append(("text", source[at : match.start()], None))
            slot, form, whose, choices, concept, _ = match.groups()
            if slot:
                self.steps.append(("slot", slot, form or ""))
            elif choices is not None:
                self.steps.append(("choice", whose or "x", tuple(choices.split("|"))))
            elif concept:
                self.steps.append(("open", concept, None))
            else:
                self.steps.append(("close", "", None))
            at = match.end()
        if at < len(source):
            self.steps.append(("text", source[at:], None))

    @property
    def slots(self) -> set[str]:
        return {name for step, name, _ in self.steps if step in ("slot", "choice")}

    def fill(self, **terms: Term | Part) -> Marked:
        """The sentence; its first letter upper case if the frame ends as a sentence does."""
        writer, opened = Writer(), list[tuple[int, str]]()
        subject = terms.get("x")
        gender = subject.gender if isinstance(subject, Term) else ""
        for step, name, more in self.steps:
            if step == "text":
                writer.add(name)
            elif step == "slot":
                found = _form(terms[name], str(more), gender, self.source)
                if _doubles(writer.parts[-1] if writer.parts else "", found if isinstance(found, str) else found.text):
                    writer.add("ו")
                writer.add(found)
            elif step == "choice":
                whose = terms[name]
                assert isinstance(whose, Term) and isinstance(more, tuple), self.source
                writer.add(more[min(GENDERS.index(whose.gender), len(more) - 1)])
            elif step == "open":
                opened.append((writer.at, name))
            else:
                start, concept = opened.pop()
                writer.spans.append((start, writer.at, concept))
        assert not opened, self.source
        done = writer.done()
        return capital(done) if self.sentence else done


def _doubles(before: str, text: str) -> bool:
    """Whether a prefix of one letter doubles the vav that begins a Hebrew word: וידן, but בווידן."""
    return text.startswith("ו") and not text.startswith("וו") and re.search(r"(?<![א-ת])[בהכלמש]$", before) is not None


def _form(given: Term | Part, form: str, gender: str, source: str) -> Part:
    if not isinstance(given, Term):
        assert not form, f"a plain text has no form {form!r}: {source}"
        return given
    own = given.forms.get(f"{form}.{gender}")
    found = own if own is not None else given.forms.get(form)
    assert found is not None, f"no form {form!r} of {given.plain.text!r} for {source!r}"
    return found


@functools.cache
def frame(source: str) -> Frame:
    return Frame(source)
