"""Labels that the words of an English text tell by themselves, wherever they stand: the bridge and the river by their
short names, pronouns."""

from __future__ import annotations

import re

from glasshouse.organisms.world.writing import Marked, Span

WORDS = {
    "entity/bridge": re.compile(r"\b[Tt]he bridge\b"),
    "entity/river": re.compile(r"\b[Tt]he river\b"),
    "pronoun/masculine": re.compile(r"\b(?:he|him|his|himself)\b", re.I),
    "pronoun/feminine": re.compile(r"\b(?:she|her|hers|herself)\b", re.I),
    "pronoun/first-person": re.compile(r"\b(?:I|[Mm]e|[Mm]y|[Mm]ine|[Mm]yself|[Ww]e|[Uu]s|[Oo]urs?|[Oo]urselves)\b"),
}
_ELSEWHERE = re.compile(r"language/(?!english)|code/(?!comment|docstring)|base64|markup/turn")


def mentions(part: Marked) -> Marked:
    """The English text with what its words tell labelled, where it was not yet; not what is in another language, or
    code."""
    text, spans = part
    elsewhere = [span for span in spans if _ELSEWHERE.match(span[2])]
    found: list[Span] = []
    for concept, pattern in WORDS.items():
        known = [*elsewhere, *(span for span in spans if span[2] == concept)]
        for match in pattern.finditer(text):
            start, end = match.span()
            if not any(a < end and start < b for a, b, _ in known):
                group = [(start, end, "pronoun")] if concept.startswith("pronoun/") else []
                found += [*group, (start, end, concept)]
    return Marked(text, (*spans, *found))


def in_language(part: Marked, concept: str) -> Marked:
    """The text labelled with its language, but for the stretches that are labelled with another."""
    text, spans = part
    bounds = [0]
    for start, end, other in sorted(spans):
        if other.startswith("language/") and other != concept and start >= bounds[-1]:
            bounds += [start, end]
    bounds.append(len(text))
    own = [(a, b, concept) for a, b in zip(bounds[::2], bounds[1::2], strict=True) if a < b]
    return Marked(text, (*own, *spans))
