"""What can be said of a position of the text in plain words: views, from which labels are made.

A *view* gives every position one value: its token, the class of its token, the token before it, the word it is part of,
how its line begins, the brackets or quotes it stands in, whether it was seen before, its kind of document, and so on.

Legend: P positions that were encoded, C contexts, T columns, D distinct documents, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.features.statistics import Text, earlier_alike, seeded_hash
from glasshouse.features.vocabulary import listed, quoted, token_class

Describe = Callable[[list[int]], str]
NESTING = frozenset("()[]{}\"'#\n")
BRACKETS = ("round brackets", "square brackets", "curly brackets")
QUOTES = ("double quotes", "single quotes", "a comment after #")
SEEN = ("seen before in the context", "new in the context")
BOTH = "and the token before, "
INDENT, DEEPEST = 4, 8  # spaces of a level; levels


@dataclass(frozen=True)
class View:
    """code_P: the value at each position, −1 for none. `cost` is taken off F1 when candidates are compared, so that
    of two that explain alike the plainer is chosen."""

    name: str
    code_P: NDArray[np.int32]
    size: int
    describe: Describe
    cost: float = 0.0
    several: bool = False


@dataclass
class Views:
    """All views of a text, and how often each value occurs on the side that makes labels and on the one that scores.
    Documents of the same text are one document here, so that copies stand on one side and count once."""

    views: list[View]
    index_CT: NDArray[np.int32]  # position number of (context, column), −1 where nothing was encoded
    doc_P: NDArray[np.int32]
    making_D: NDArray[np.bool_]
    making_P: NDArray[np.bool_]
    commonest: int  # the commonest token of the making side
    counts: list[NDArray[np.int64]] = field(default_factory=list)  # per view, on the making side
    _where: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=dict)

    @property
    def tokens_D(self) -> NDArray[np.int64]:
        """Positions of each document on the scoring side."""
        return np.bincount(self.doc_P[~self.making_P], minlength=len(self.making_D)).astype(np.int64)

    def occurrences(self, view: int, values: tuple[int, ...]) -> NDArray[np.int64]:
        """How often the view has one of these values in each document of the scoring side, (D,)."""
        if view not in self._where:
            at = np.flatnonzero(~self.making_P)
            code = self.views[view].code_P[at]
            order = np.argsort(code, kind="stable")
            edges = np.searchsorted(code[order], np.arange(self.views[view].size + 1)).astype(np.int64)
            self._where[view] = self.doc_P[at[order]].astype(np.int64), edges
        docs, edges = self._where[view]
        found = np.concatenate([docs[edges[value] : edges[value + 1]] for value in values])
        return np.bincount(found, minlength=len(self.making_D)).astype(np.int64)


# -- views -----------------------------------------------------------------------------------------------------------


def build_views(text: Text, texts: Sequence[str], contexts: int, seed: int) -> Views:
    """Views of the first `contexts` contexts. `texts`: the text of each token id."""
    kept_CT = text.kept_CT[:contexts]
    index_CT = np.full(kept_CT.shape, -1, np.int32)
    index_CT[kept_CT] = np.arange(int(kept_CT.sum()), dtype=np.int32)
    keys_D, number = np.unique(text.key_D, return_inverse=True)
    doc_P = np.broadcast_to(number[text.doc_C[:contexts], None], kept_CT.shape)[kept_CT].astype(np.int32)
    making_D = (seeded_hash(seed, keys_D, 1) & np.uint64(1)).astype(bool)
    making_P = making_D[doc_P]
    lexicon = _Lexicon(texts)
    views = list(_all_views(text, lexicon, contexts, kept_CT))
    counts = [np.bincount(v.code_P[making_P & (v.code_P >= 0)], minlength=v.size).astype(np.int64) for v in views]
    return Views(views, index_CT, doc_P, making_D, making_P, int(counts[0].argmax()), counts)


class _Lexicon:
    """What can be said of a token id from its text alone."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.bare_V, self.bare = _numbered([t.strip() or t for t in texts])
        self.folded_V, self.folded = _numbered([t.strip().lower() or t for t in texts])
        self.class_V, self.classes = _numbered([token_class(t) for t in texts])
        self.newline_V = np.array(["\n" in t for t in texts])
        self.blank_V = np.array([not t.strip() for t in texts])
        self.begins_word_V = np.array([not (t[:1].isalpha() or t[:1] == "‹") for t in texts])
        self.ends_word_V = np.array([not (t[-1:].isalpha() or t[-1:] == "›") for t in texts])
        self.nests_V = np.array([not NESTING.isdisjoint(t) for t in texts])
        # A newline's token holds the spaces that follow it, but for one that is part of the next.
        indents = [-(-len(t.rpartition("\n")[2]) // INDENT) if "\n" in t else 0 for t in texts]
        self.indent_V = np.minimum(np.array(indents, np.int64), DEEPEST)


def _numbered(names: list[str]) -> tuple[NDArray[np.int64], list[str]]:
    distinct = sorted(set(names))
    number = {name: i for i, name in enumerate(distinct)}
    return np.array([number[name] for name in names], np.int64), distinct


def _all_views(text: Text, lexicon: _Lexicon, contexts: int, kept_CT: NDArray[np.bool_]) -> Any:
    ids_CT = text.ids_CT[:contexts].astype(np.int64)
    V, classes = len(lexicon.texts), len(lexicon.classes)
    inside_CT = np.arange(ids_CT.shape[1]) < text.length_C[:contexts, None]
    inside_CT &= np.arange(ids_CT.shape[1]) >= int(text.bos)

    def near(step: int, of_V: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """The token `step` places on (or what `of_V` says of it), −1 outside the text."""
        moved = np.full(ids_CT.shape, -1, np.int64)
        here = ids_CT if of_V is None else of_V[ids_CT]
        here = np.where(inside_CT, here, -1)
        if step < 0:
            moved[:, -step:] = here[:, :step]
        elif step:
            moved[:, :-step] = here[:, step:]
        else:
            moved = here
        return moved[kept_CT]

    def named(names: Sequence[str], pattern: str) -> Describe:
        return lambda codes: pattern.format(listed([quoted(names[c]) for c in codes]))

    token, after_bare = near(0), near(1, lexicon.bare_V)
    class_of, class_before = lexicon.class_V[token], near(-1, lexicon.class_V)
    bare, before_bare = lexicon.bare_V[token], near(-1, lexicon.bare_V)
    kind = np.broadcast_to(text.kind_D[text.doc_C[:contexts], None], kept_CT.shape)[kept_CT]
    line_start = _line_starts(lexicon, ids_CT, inside_CT)[kept_CT]
    says = lambda names: lambda code: quoted(names[code])
    plain = lambda names: lambda code: names[code]
    bare_says, class_says, kind_says = says(lexicon.bare), plain(lexicon.classes), plain(text.kinds)
    yield View("token", token.astype(np.int32), V, named(lexicon.texts, "{}"), 0.01, several=True)
    yield View("bare", bare.astype(np.int32), len(lexicon.bare), named(lexicon.bare, "{}"), several=True)
    yield View(
        "folded", lexicon.folded_V[token].astype(np.int32), len(lexicon.folded),
        named(lexicon.folded, "{} in any case"), 0.008, several=True,
    )  # fmt: skip
    yield View("class", class_of.astype(np.int32), classes, lambda c: listed([lexicon.classes[i] for i in c]))
    yield View("before", before_bare.astype(np.int32), len(lexicon.bare),
               named(lexicon.bare, "after {}"), 0.01, several=True)  # fmt: skip
    yield View("next", after_bare.astype(np.int32), len(lexicon.bare),
               named(lexicon.bare, "before {}"), 0.02, several=True)  # fmt: skip
    yield View("class before", class_before.astype(np.int32), classes,
               lambda c: f"after {listed([lexicon.classes[i] for i in c])}", 0.01)  # fmt: skip
    yield View("kind", kind.astype(np.int32), len(text.kinds), lambda c: f"all of {text.kinds[c[0]]} documents", 0.01)
    yield _pair("token after", bare, before_bare, bare_says, bare_says, "{} after {}", 0.02)
    yield _pair("token after class", bare, class_before, bare_says, class_says, "{} after {}", 0.02)
    yield _pair("class after token", class_of, before_bare, class_says, bare_says,
                "{} after {}", 0.02)  # fmt: skip
    yield _pair("class after class", class_of, class_before, class_says, class_says, "{} after {}", 0.02)
    yield _pair("class in kind", class_of, kind, class_says, kind_says, "{} in {} documents", 0.02)
    yield _pair("token in kind", bare, kind, bare_says, kind_says, "{} in {} documents", 0.02)
    yield _pair("token before", bare, after_bare, bare_says, bare_says, "{} before {}", 0.03)
    two = near(-2, lexicon.bare_V)
    yield View("two before", two.astype(np.int32), len(lexicon.bare), named(lexicon.bare, "two tokens after {}"), 0.03)
    yield View("line", line_start.astype(np.int32), len(lexicon.bare),
               named(lexicon.bare, "in lines that begin with {}"), 0.02, several=True)  # fmt: skip
    yield _pair("class in line", class_of, line_start, class_says, bare_says, "{} in lines that begin with {}", 0.03)
    yield _words(lexicon, ids_CT, inside_CT, kept_CT)
    indent = _indents(lexicon, ids_CT, inside_CT)[kept_CT]
    yield View("indent", indent.astype(np.int32), DEEPEST + 1,
               lambda c: f"in lines indented by {listed([str(INDENT * i) for i in sorted(c)])} spaces", 0.02,
               several=True)  # fmt: skip
    yield _pair("after two", two, before_bare, bare_says, bare_says, "after {} {}", 0.03)
    yield from _nested(lexicon, ids_CT, inside_CT, kept_CT, class_of, bare)
    yield from _repeated(ids_CT, inside_CT, kept_CT, class_of, class_says)
    place = np.broadcast_to(np.arange(ids_CT.shape[1]) - int(text.bos), kept_CT.shape)[kept_CT]
    place_says = lambda codes: f"token {listed([str(i + 1) for i in sorted(codes)])} of the context"
    yield View("place", np.where(place < 8, place, -1).astype(np.int32), 8, place_says, 0.01, several=True)


def _pair(
    name: str,
    first: NDArray[Any],
    second: NDArray[Any],
    says_first: Callable[[int], str],
    says_second: Callable[[int], str],
    pattern: str,
    cost: float,
) -> View:
    """The view whose values are pairs of two views' values."""
    width = int(second.max(initial=0)) + 1
    keys, code_P = _compact(np.where((first < 0) | (second < 0), -1, first.astype(np.int64) * width + second))
    return View(
        name, code_P, len(keys),
        lambda c: pattern.format(says_first(int(keys[c[0]]) // width), says_second(int(keys[c[0]]) % width)), cost,
    )  # fmt: skip


def _compact(keys_P: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """(distinct keys ≥ 0, number of each position's key among them or −1)."""
    keys, code = np.unique(keys_P, return_inverse=True)
    skip = int(len(keys) > 0 and keys[0] < 0)
    return keys[skip:], (code - skip).astype(np.int32)


def _line_starts(lexicon: _Lexicon, ids_CT: NDArray[np.int64], inside_CT: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The first token of each position's line that is not blank, by its bare text; −1 where the context does not
    show it. A newline belongs to the line that it ends."""
    newline_CT = lexicon.newline_V[ids_CT] & inside_CT
    line_CT: NDArray[np.int64] = np.cumsum(newline_CT, axis=1) - newline_CT
    line = (line_CT + np.arange(len(ids_CT))[:, None] * (ids_CT.shape[1] + 1)).ravel()
    shown = np.flatnonzero((inside_CT & ~lexicon.blank_V[ids_CT]).ravel())
    first = shown[np.r_[True, np.diff(line[shown]) != 0]] if len(shown) else shown
    at = np.searchsorted(line[first], line)
    found = np.minimum(at, max(len(first) - 1, 0))
    known = (at < len(first)) & (line_CT.ravel() > 0)
    if len(first):
        known &= line[first[found]] == line
        known &= first[found] <= np.arange(len(line))
        values = lexicon.bare_V[ids_CT.ravel()[first[found]]]
    else:
        values = np.zeros(len(line), np.int64)
    return np.where(known, values, -1).reshape(ids_CT.shape)


def _words(
    lexicon: _Lexicon, ids_CT: NDArray[np.int64], inside_CT: NDArray[np.bool_], kept_CT: NDArray[np.bool_]
) -> View:
    """The word that a token is part of, where it has several tokens."""
    begins_CT = lexicon.begins_word_V[ids_CT] | ~inside_CT
    begins_CT[:, 1:] |= lexicon.ends_word_V[ids_CT[:, :-1]]
    begins_CT[:, 0] = True
    first = np.flatnonzero(begins_CT.ravel())
    lengths = np.diff(np.r_[first, begins_CT.size])
    ids = ids_CT.ravel()
    place = np.arange(len(ids)) - np.repeat(first, lengths)
    with np.errstate(over="ignore"):
        hashes = np.add.reduceat(seeded_hash(ids, place), first)
    hashes[lengths < 2] = 0
    keys, where, code = np.unique(hashes, return_index=True, return_inverse=True)
    skip = int(len(keys) > 0 and keys[0] == 0)
    code_P = np.repeat(code - skip, lengths).reshape(ids_CT.shape)[kept_CT].astype(np.int32)
    begins, sizes = first[where[skip:]], lengths[where[skip:]]

    def describe(codes: list[int]) -> str:
        words = ["".join(lexicon.texts[i] for i in ids[begins[c] : begins[c] + sizes[c]]).strip() for c in codes]
        return f"inside the word {listed([quoted(word) for word in words])}"

    return View("word", code_P, len(keys) - skip, describe, 0.01, several=True)


def _indents(lexicon: _Lexicon, ids_CT: NDArray[np.int64], inside_CT: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How far each position's line is indented, in levels; −1 where the context does not show it."""
    begins_CT = lexicon.newline_V[ids_CT] & inside_CT
    columns = np.broadcast_to(np.arange(ids_CT.shape[1]), ids_CT.shape)
    last_CT = np.maximum.accumulate(np.where(begins_CT, columns, -1), axis=1)
    # A newline belongs to the line that it ends.
    last_CT = np.concatenate([np.full((len(ids_CT), 1), -1), last_CT[:, :-1]], axis=1)
    newline_CT = np.take_along_axis(ids_CT, np.maximum(last_CT, 0), axis=1)
    return np.where(last_CT >= 0, lexicon.indent_V[newline_CT], -1)


def _nested(
    lexicon: _Lexicon,
    ids_CT: NDArray[np.int64],
    inside_CT: NDArray[np.bool_],
    kept_CT: NDArray[np.bool_],
    class_of: NDArray[np.int64],
    bare: NDArray[np.int64],
) -> Iterator[View]:
    """The innermost open bracket, the token before it, and the quotes or comment that a position stands in."""
    bracket, opener, quote = (values[kept_CT] for values in _nesting(lexicon, ids_CT, inside_CT))
    says = lambda names: lambda code: names[code]
    class_says, bare_says = says(lexicon.classes), lambda code: quoted(lexicon.bare[code])
    inside = lambda names: lambda c: f"inside {listed([names[i] for i in sorted(c)])}"
    yield View("bracket", bracket.astype(np.int32), len(BRACKETS), inside(BRACKETS), 0.01)
    yield View("quote", quote.astype(np.int32), len(QUOTES), inside(QUOTES), 0.01, several=True)
    yield _pair("opener", bracket, opener, says(BRACKETS), bare_says, "inside {} after {}", 0.02)
    yield _pair("class in bracket", class_of, bracket, class_says, says(BRACKETS), "{} inside {}", 0.02)
    yield _pair("class in quote", class_of, quote, class_says, says(QUOTES), "{} inside {}", 0.02)
    yield _pair("token in bracket", bare, bracket, bare_says, says(BRACKETS), "{} inside {}", 0.02)
    yield _pair("token in quote", bare, quote, bare_says, says(QUOTES), "{} inside {}", 0.02)


def _nesting(
    lexicon: _Lexicon, ids_CT: NDArray[np.int64], inside_CT: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(bracket, opener, quote) after each position's token, (C, T): the innermost open bracket as an index of BRACKETS,
    the bare token before it, and an index of QUOTES; −1 for none.

    Read from the start of the context: brackets in quotes count for nothing, quotes end with their line, and an
    apostrophe within a word is no quote.
    """
    C, T = ids_CT.shape
    found = np.full((3, C, T), -1, np.int64)
    events_CT = lexicon.nests_V[ids_CT] & inside_CT
    for c in np.flatnonzero(events_CT.any(1)).tolist():
        columns, states = _nesting_of(lexicon, ids_CT[c].tolist(), np.flatnonzero(events_CT[c]).tolist())
        lengths = np.diff(np.r_[columns, T])
        found[:, c, columns[0] :] = np.repeat(np.array(states, np.int64).T, lengths, axis=1)
    return found[0], found[1], found[2]


def _nesting_of(lexicon: _Lexicon, ids: list[int], events: list[int]) -> tuple[list[int], list[tuple[int, int, int]]]:
    """(columns at which the state changes, the state from there on) of one context."""
    stack: list[tuple[int, int]] = []
    quote, states = -1, []
    for column in events:
        text = lexicon.texts[ids[column]]
        for i, character in enumerate(text):
            if character == "\n":
                quote = -1
            elif quote >= 0:
                quote = -1 if character == "\"'"[quote : quote + 1] else quote
            elif character in "([{":
                before = text[:i].strip()
                opener = lexicon.bare_V[ids[column - 1]] if not before and column else -1
                stack.append(("([{".index(character), int(opener)))
            elif character in ")]}":
                if stack and stack[-1][0] == ")]}".index(character):
                    stack.pop()
            elif character == "#":
                quote = 2
            elif character == '"' or (character == "'" and not _after_letter(lexicon, ids, column, i)):
                quote = "\"'".index(character)
        states.append((*(stack[-1] if stack else (-1, -1)), quote))
    return events, states


def _after_letter(lexicon: _Lexicon, ids: list[int], column: int, i: int) -> bool:
    before = lexicon.texts[ids[column]][:i] or (lexicon.texts[ids[column - 1]] if column else "")
    return before[-1:].isalpha()


def _repeated(
    ids_CT: NDArray[np.int64],
    inside_CT: NDArray[np.bool_],
    kept_CT: NDArray[np.bool_],
    class_of: NDArray[np.int64],
    class_says: Callable[[int], str],
) -> Iterator[View]:
    """Whether the token, and whether it with the one before it, stood in the context already."""
    context_CT = np.broadcast_to(np.arange(len(ids_CT))[:, None], ids_CT.shape)
    before_CT = np.concatenate([np.full((len(ids_CT), 1), -1), ids_CT[:, :-1]], axis=1)
    where = np.flatnonzero(inside_CT)
    flat = [values.ravel()[where].astype(np.int64) for values in (context_CT, ids_CT, before_CT)]
    told = lambda thing: lambda codes: f"{thing} {SEEN[codes[0]]}"
    for name, thing, more, keys in (("seen", "tokens", "", flat[:2]), ("seen pair", "pairs of tokens", BOTH, flat)):
        new_CT = np.ones(ids_CT.size, np.int64)
        new_CT[where] = earlier_alike(*keys) == 0
        new = new_CT.reshape(ids_CT.shape)[kept_CT]
        yield View(name, new.astype(np.int32), 2, told(thing), 0.01)
        yield _pair(f"class {name}", class_of, new, class_says, SEEN.__getitem__, f"{{}}, {more}{{}}", 0.03)
