"""A plain label for each feature: the token or pattern that explains most of its firings, scored on unseen documents.

A *view* gives every position of the text one value: its token, the class of its token, the token before it, the word
it is part of, how its line begins, its kind of document, and so on. A candidate is a value of a view, or up to
`MOST_VALUES` of them: it says that the feature fires where the view has that value. On half of the documents the
candidate with the best F1 is chosen; on the other half it is scored. What scores too low is no label: "unclear".

Legend: P positions that were encoded, N firings, F features of a block, D documents, V vocabulary.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.features.spill import Firings
from glasshouse.features.statistics import Text, _random, group_sums, place_in_group

CLEAR_F1 = 0.5  # a label must reach this F1 on documents it was not made from, and beat the baseline beyond doubt
MADE_FROM = 1000  # firings of a feature that candidates are made from
FEWEST_FIRINGS, FEWEST_DOCUMENTS = 10, 3  # with fewer on either side nothing is claimed
MOST_VALUES = 5
VALUE_COST = 0.01  # a further value must raise F1 by this much: shorter labels are better labels
Z95 = NormalDist().inv_cdf(0.975)

Describe = Callable[[list[int]], str]


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
    """All views of a text, and how often each value occurs on the side that makes labels and on the one that scores."""

    views: list[View]
    index_CT: NDArray[np.int32]  # position number of (context, column), −1 where nothing was encoded
    doc_P: NDArray[np.int32]
    making_D: NDArray[np.bool_]
    making_P: NDArray[np.bool_]
    commonest: int  # the commonest token of the making side
    counts: list[NDArray[np.int64]] = field(default_factory=list)  # per view, on the making side
    _where: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=dict)
    _by_document: dict[tuple[int, tuple[int, ...]], NDArray[np.int64]] = field(default_factory=dict)

    @property
    def tokens_D(self) -> NDArray[np.int64]:
        """Positions of each document on the scoring side."""
        return np.bincount(self.doc_P[~self.making_P], minlength=len(self.making_D)).astype(np.int64)

    def occurrences(self, view: int, values: tuple[int, ...]) -> NDArray[np.int64]:
        """How often the view has one of these values in each document of the scoring side, (D,)."""
        key = (view, values)
        if key not in self._by_document:
            if view not in self._where:
                at = np.flatnonzero(~self.making_P)
                code = self.views[view].code_P[at]
                order = np.argsort(code, kind="stable")
                edges = np.searchsorted(code[order], np.arange(self.views[view].size + 1)).astype(np.int64)
                self._where[view] = self.doc_P[at[order]].astype(np.int64), edges
            docs, edges = self._where[view]
            found = np.concatenate([docs[edges[value] : edges[value + 1]] for value in values])
            self._by_document[key] = np.bincount(found, minlength=len(self.making_D)).astype(np.int64)
        return self._by_document[key]


# -- views -----------------------------------------------------------------------------------------------------------


def build_views(text: Text, texts: Sequence[str], contexts: int, seed: int) -> Views:
    """Views of the first `contexts` contexts. `texts`: the text of each token id."""
    kept_CT = text.kept_CT[:contexts]
    index_CT = np.full(kept_CT.shape, -1, np.int32)
    index_CT[kept_CT] = np.arange(int(kept_CT.sum()), dtype=np.int32)
    doc_P = np.broadcast_to(text.doc_C[:contexts, None], kept_CT.shape)[kept_CT].astype(np.int32)
    making_D = (_random(seed, np.arange(len(text.names)), 1) & np.uint64(1)).astype(bool)
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
        return lambda codes: pattern.format(_listed([_quoted(names[c]) for c in codes]))

    token, before, after = near(0), near(-1), near(1)
    class_of, class_before = lexicon.class_V[token], near(-1, lexicon.class_V)
    bare = lexicon.bare_V[token]
    kind = np.broadcast_to(text.kind_D[text.doc_C[:contexts], None], kept_CT.shape)[kept_CT]
    line_start = _line_starts(lexicon, ids_CT, inside_CT)[kept_CT]
    says = lambda names: lambda code: _quoted(names[code])
    plain = lambda names: lambda code: names[code]
    bare_says, class_says, kind_says = says(lexicon.bare), plain(lexicon.classes), plain(text.kinds)
    yield View("token", token.astype(np.int32), V, named(lexicon.texts, "{}"), 0.01, several=True)
    yield View("bare", bare.astype(np.int32), len(lexicon.bare), named(lexicon.bare, "{}"), several=True)
    yield View(
        "folded", lexicon.folded_V[token].astype(np.int32), len(lexicon.folded),
        named(lexicon.folded, "{} in any case"), 0.008, several=True,
    )  # fmt: skip
    yield View("class", class_of.astype(np.int32), classes, lambda c: _listed([lexicon.classes[i] for i in c]))
    yield View("before", lexicon.bare_V[before].astype(np.int32) | _none(before), len(lexicon.bare),
               named(lexicon.bare, "after {}"), 0.01, several=True)  # fmt: skip
    yield View("next", lexicon.bare_V[after].astype(np.int32) | _none(after), len(lexicon.bare),
               named(lexicon.bare, "before {}"), 0.02, several=True)  # fmt: skip
    yield View("class before", class_before.astype(np.int32), classes,
               lambda c: f"after {_listed([lexicon.classes[i] for i in c])}", 0.01)  # fmt: skip
    yield View("kind", kind.astype(np.int32), len(text.kinds), lambda c: f"all of {text.kinds[c[0]]} documents", 0.01)
    yield _pair("token after", bare, lexicon.bare_V[before] | _none(before), bare_says, bare_says, "{} after {}", 0.02)
    yield _pair("token after class", bare, class_before, bare_says, class_says, "{} after {}", 0.02)
    yield _pair("class after token", class_of, lexicon.bare_V[before] | _none(before), class_says, bare_says,
                "{} after {}", 0.02)  # fmt: skip
    yield _pair("class after class", class_of, class_before, class_says, class_says, "{} after {}", 0.02)
    yield _pair("class in kind", class_of, kind, class_says, kind_says, "{} in {} documents", 0.02)
    yield _pair("token in kind", bare, kind, bare_says, kind_says, "{} in {} documents", 0.02)
    yield _pair("token before", bare, lexicon.bare_V[after] | _none(after), bare_says, bare_says, "{} before {}", 0.03)
    two = near(-2, lexicon.bare_V)
    yield View("two before", two.astype(np.int32), len(lexicon.bare), named(lexicon.bare, "two tokens after {}"), 0.03)
    yield View("line", line_start.astype(np.int32), len(lexicon.bare),
               named(lexicon.bare, "in lines that begin with {}"), 0.02, several=True)  # fmt: skip
    yield _pair("class in line", class_of, line_start, class_says, bare_says, "{} in lines that begin with {}", 0.03)
    yield _words(lexicon, ids_CT, inside_CT, kept_CT)
    place = np.broadcast_to(np.arange(ids_CT.shape[1]) - int(text.bos), kept_CT.shape)[kept_CT]
    place_says = lambda codes: f"token {_listed([str(i + 1) for i in sorted(codes)])} of the context"
    yield View("place", np.where(place < 8, place, -1).astype(np.int32), 8, place_says, 0.01, several=True)


def _none(codes: NDArray[np.int64]) -> NDArray[np.int32]:
    """−1 where there is no token, 0 elsewhere: `code | _none(...)` is −1 there, as −1 has every bit set."""
    return np.where(codes < 0, -1, 0).astype(np.int32)


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
    keys, code_P = _compact(np.where(second < 0, -1, first.astype(np.int64) * width + second))
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
        hashes = np.add.reduceat(_random(ids, place), first)
    hashes[lengths < 2] = 0
    keys, where, code = np.unique(hashes, return_index=True, return_inverse=True)
    skip = int(len(keys) > 0 and keys[0] == 0)
    code_P = np.repeat(code - skip, lengths).reshape(ids_CT.shape)[kept_CT].astype(np.int32)
    begins, sizes = first[where[skip:]], lengths[where[skip:]]

    def describe(codes: list[int]) -> str:
        words = ["".join(lexicon.texts[i] for i in ids[begins[c] : begins[c] + sizes[c]]).strip() for c in codes]
        return f"inside the word {_listed([_quoted(word) for word in words])}"

    return View("word", code_P, len(keys) - skip, describe, 0.01, several=True)


# -- words for people ------------------------------------------------------------------------------------------------

_SCRIPTS = {"CJK": "Chinese characters", "HIRAGANA": "Japanese letters", "KATAKANA": "Japanese letters"}


def token_class(text: str) -> str:
    """The class of a token, as a plural noun."""
    bare = text.strip()
    if not bare:
        return "newlines" if "\n" in text else "runs of spaces" if len(text) > 1 else "spaces" if text else "nothing"
    if "‹" in bare:
        return "bytes of rare characters"
    if bare.isdecimal():
        return "digits"
    if bare.isalpha():
        if not bare.isascii():
            script = unicodedata.name(bare[0], "OTHER").split()[0]
            if script == "LATIN" or bare[0].isascii():
                return "accented letters"
            return _SCRIPTS.get(script, f"{script.capitalize()} letters")
        if len(bare) == 1:
            return "single capitals" if bare.isupper() else "single letters"
        if bare.isupper():
            return "words in capitals"
        if bare.istitle():
            return "capitalised words"
        return "words after a space" if text[0] == " " else "pieces of words"
    if any(c.isalnum() for c in bare):
        return "letters joined to signs or digits"
    for characters, name in _SIGNS:
        if all(c in characters for c in bare):
            return name
    return "signs" if bare.isascii() else "symbols"


_SIGNS = (
    ("([{", "opening brackets"),
    (")]}", "closing brackets"),
    ("\"'`", "quotation marks"),
    ("_", "underscores"),
    ("=+-*/<>%&|^~!@", "operators"),
    (".,;:?!", "punctuation"),
    ("()[]{}", "brackets"),
)


def _quoted(text: str) -> str:
    """A token in words: quoted, or what it looks like where it is blank."""
    if text.strip():
        return f"'{text}'" if '"' in text else f'"{text}"'
    if not text:
        return "nothing"
    lines, _, rest = text.rpartition("\n")
    if "\n" not in text:
        return "a tab" if text == "\t" else "a space" if text == " " else f"{len(text)} spaces"
    blank = "a blank line" if "\n" in lines else "a newline"
    return f"{blank} and {len(rest)} spaces of indentation" if rest else blank


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


# -- making and scoring ----------------------------------------------------------------------------------------------


@dataclass
class _Best:
    """The best candidate of each feature so far."""

    score_F: NDArray[np.float64]
    view_F: NDArray[np.int64]
    values: list[tuple[int, ...]]


def label_block(firings: Firings, views: Views, F: int, first_feature: int, seed: int) -> list[dict[str, Any]]:
    """For each feature of the block, the columns of a label (see docs/formats.md); firings of other contexts than
    those of the views are left aside."""
    firings = firings.take(firings.context < len(views.index_CT))
    position_N = views.index_CT[firings.context, firings.column].astype(np.int64)
    making_N = views.making_P[position_N]
    best = _make(firings.feature[making_N], position_N[making_N], views, F, first_feature, seed)
    return _score(firings.feature[~making_N], position_N[~making_N], views, F, best)


def _make(
    feature: NDArray[np.int64], position: NDArray[np.int64], views: Views, F: int, first_feature: int, seed: int
) -> _Best:
    """The candidate with the best F1 on the making side, from at most MADE_FROM firings of each feature."""
    n_F = np.bincount(feature, minlength=F).astype(np.float64)
    order = np.lexsort((_random(seed, feature + first_feature, position), feature))
    some = order[place_in_group(feature[order]) < MADE_FROM]
    feature, position = feature[some], position[some]
    scale_F = n_F / np.maximum(np.bincount(feature, minlength=F), 1)
    best = _Best(np.full(F, -1.0), np.zeros(F, np.int64), [()] * F)
    for number, view in enumerate(views.views):
        code = view.code_P[position]
        known = code >= 0
        keys, counts, _ = group_sums(feature[known] * view.size + code[known], F * view.size)
        owner, value = keys // view.size, keys % view.size
        often = counts >= 3
        owner, value, hits = owner[often], value[often], counts[often] * scale_F[owner[often]]
        _consider(best, number, view, owner, value, hits, views.counts[number][value], n_F)
    return best


def _consider(
    best: _Best,
    number: int,
    view: View,
    owner: NDArray[np.int64],
    value: NDArray[np.int64],
    hits: NDArray[np.float64],
    total: NDArray[np.int64],
    n_F: NDArray[np.float64],
) -> None:
    """Put a view's candidates forward. Of all sets of values, the one with the best F1 is a prefix in order of
    precision, so prefixes of the commonest values in that order are what is tried."""
    order = np.lexsort((value, -hits, owner))
    order = order[place_in_group(owner[order]) < (2 * MOST_VALUES if view.several else 1 << 30)]
    owner, value, hits, total = owner[order], value[order], hits[order], np.maximum(total[order], 1)
    alone = 2 * hits / (n_F[owner] + total) - view.cost
    _offer(best, number, owner, alone, lambda i: (int(value[i]),))
    if not view.several or not len(owner):
        return
    order = np.lexsort((value, -hits / total, owner))
    owner, value, hits, total = owner[order], value[order], hits[order], total[order]
    place = place_in_group(owner)
    starts = np.arange(len(owner)) - place
    sum_hits, sum_total = np.cumsum(hits), np.cumsum(total)
    sum_hits, sum_total = sum_hits - (sum_hits - hits)[starts], sum_total - (sum_total - total)[starts]
    together = 2 * sum_hits / (n_F[owner] + sum_total) - view.cost - VALUE_COST * place
    together[place >= MOST_VALUES] = -1.0
    _offer(best, number, owner, together, lambda i: tuple(int(v) for v in value[starts[i] : i + 1]))


def _offer(
    best: _Best,
    number: int,
    owner: NDArray[np.int64],
    score: NDArray[np.float64],
    values: Callable[[int], tuple[int, ...]],
) -> None:
    order = np.lexsort((-score, owner))
    order = order[place_in_group(owner[order]) == 0]
    for i in order[score[order] > best.score_F[owner[order]]]:
        f = owner[i]
        best.score_F[f], best.view_F[f], best.values[f] = score[i], number, values(i)


def _score(
    feature: NDArray[np.int64], position: NDArray[np.int64], views: Views, F: int, best: _Best
) -> list[dict[str, Any]]:
    """Exact hits of each feature's candidate on the scoring side, by document, and what follows from them."""
    D, doc = len(views.making_D), views.doc_P[position].astype(np.int64)
    hit_N = np.zeros(len(feature), bool)
    wanted = np.full((F, MOST_VALUES), -2, np.int64)
    for f, values in enumerate(best.values):
        wanted[f, : len(values)] = values
    for number in np.unique(best.view_F):
        at = np.flatnonzero(best.view_F[feature] == number)
        code = views.views[number].code_P[position[at]]
        hit_N[at] = (code[:, None] == wanted[feature[at]]).any(1)
    start = np.searchsorted(feature, np.arange(F + 1))
    common_D = views.occurrences(0, (views.commonest,))
    common_N = views.views[0].code_P[position] == views.commonest
    tokens_D = views.tokens_D
    rows = []
    for f in range(F):
        part = slice(start[f], start[f + 1])
        if not best.values[f]:
            rows.append(_row(None, None))
            continue
        fired_D = np.bincount(doc[part], minlength=D)
        hits_D = np.bincount(doc[part][hit_N[part]], minlength=D)
        said_D = views.occurrences(int(best.view_F[f]), best.values[f])
        scores = detector_scores(hits_D, fired_D, said_D, tokens_D)
        common = 2 * float(common_N[part].sum()) / max(1.0, float(fired_D.sum() + common_D.sum()))
        always = 2 * float(fired_D.sum()) / max(1.0, float(fired_D.sum() + tokens_D.sum()))
        scores["baseline_f1"] = max(common, always)
        rows.append(_row(views.views[best.view_F[f]].describe(list(best.values[f])), scores))
    return rows


def detector_scores(
    hits_D: NDArray[np.int64], fired_D: NDArray[np.int64], said_D: NDArray[np.int64], tokens_D: NDArray[np.int64]
) -> dict[str, float]:
    """F1 and AUROC of a yes-or-no detector with 95% intervals clustered by document, from counts by document:
    positions where it said yes and the feature fired, where the feature fired, where it said yes, and all.

    F1 = 2 Σ hits / (Σ fired + Σ said). The ROC of a yes-or-no answer has one corner, so AUROC = (TPR + 1 − FPR) / 2.
    Both variances are linearised (Cochran 1977, §6.3).
    """
    used = tokens_D > 0
    hits, fired, said, tokens = (a[used].astype(np.float64) for a in (hits_D, fired_D, said_D, tokens_D))
    n, quiet = len(hits), tokens - fired
    if n < 2 or not fired.sum() or not quiet.sum():
        return {}
    size = fired.sum() + said.sum()
    f1 = 2 * hits.sum() / size
    tpr, fpr = hits.sum() / fired.sum(), (said - hits).sum() / quiet.sum()
    auroc = (tpr + 1 - fpr) / 2
    spread_f1 = (2 * hits - f1 * (fired + said)) / size
    spread_auroc = ((hits - tpr * fired) / fired.sum() - (said - hits - fpr * quiet) / quiet.sum()) / 2
    half_f1, half_auroc = (Z95 * float(np.sqrt(n / (n - 1) * (s**2).sum())) for s in (spread_f1, spread_auroc))
    return {
        "auroc": auroc, "auroc_low": max(0.0, auroc - half_auroc), "auroc_high": min(1.0, auroc + half_auroc),
        "f1": f1, "f1_low": max(0.0, f1 - half_f1), "f1_high": min(1.0, f1 + half_f1),
        "firings": float(fired.sum()), "fired_documents": float((fired > 0).sum()), "label_documents": n,
    }  # fmt: skip


def _row(guess: str | None, scores: dict[str, float] | None) -> dict[str, Any]:
    """The label columns of one feature; a guess that is not good enough is kept as `best_guess` only."""
    keys = ("auroc", "auroc_low", "auroc_high", "f1", "f1_low", "f1_high", "baseline_f1", "label_documents")
    found = scores if scores and "f1" in scores else {}
    clear = bool(
        found
        and found["firings"] >= FEWEST_FIRINGS
        and found["fired_documents"] >= FEWEST_DOCUMENTS
        and found["f1"] >= CLEAR_F1
        and found["f1_low"] > found["baseline_f1"]
    )
    row = {"label": guess if clear else None, "best_guess": guess} | {key: found.get(key) for key in keys}
    if row["label_documents"] is not None:
        row["label_documents"] = int(row["label_documents"])
    return row
