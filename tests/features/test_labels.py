"""Labels: planted detectors are found and described, chance is unclear, and the scores are those of a count by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glasshouse.features.labels import Detected, detector_scores, label_block
from glasshouse.features.spill import Firings
from glasshouse.features.views import build_views
from glasshouse.features.vocabulary import token_class
from glasshouse.types import Estimate
from tests.features.planted import plain_text

TEXTS = [
    "\n",
    " the",
    "def",
    " cat",
    " dog",
    "7",
    "(",
    ")",
    "import",
    " Import",
    "x",
    "    ",
    " sat",
    "ing",
    "#",
    " walk",
]
CONTEXTS, LENGTH, DOCUMENTS = 400, 32, 40


@pytest.fixture(scope="module")
def ids():
    rng = np.random.default_rng(0)
    return rng.choice(len(TEXTS), size=(CONTEXTS, LENGTH), p=_shares())


def _shares():
    p = np.full(len(TEXTS), 1.0)
    p[1] = 6.0
    return p / p.sum()


def label(activation, ids, kinds=2):
    """The label row of a feature with this activation (C, T); true and false are 1 and 0."""
    text = plain_text(ids, DOCUMENTS, kinds=kinds, vocabulary=len(TEXTS))
    views = build_views(text, TEXTS, len(ids), seed=0)
    context, column = np.nonzero(activation)
    value = activation[context, column].astype(np.float32)
    firings = Firings(np.zeros(len(context), np.int64), context, column, value)
    return label_block(firings, views, 1, 0, 0)[0]


def after(ids, token):
    return np.concatenate([np.zeros((len(ids), 1), bool), ids[:, :-1] == token], axis=1)


PLANTED = {
    "a token": (lambda i: i == 3, '"cat"'),
    "one of two": (lambda i: (i == 3) | (i == 5), '"7" or "cat"'),
    "any case": (lambda i: (i == 8) | (i == 9), '"import" in any case'),
    "what comes before": (lambda i: after(i, 2), 'after "def"'),
    "a pair": (lambda i: (i == 1) & after(i, 2), '"the" after "def"'),
    "what comes next": (lambda i: np.roll(i, -1, 1) == 6, 'before "("'),
    "a newline": (lambda i: i == 0, "a newline"),
    "spaces": (lambda i: i == 11, "4 spaces"),
    "a place": (lambda i: np.broadcast_to(np.arange(LENGTH) == 0, i.shape), "token 1 of the context"),
    "a class": (lambda i: i == 6, '"("'),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_patterns_are_named(ids, name):
    fires, expected = PLANTED[name]
    found = label(fires(ids), ids)
    assert found["label"] is not None and expected in found["label"], found
    assert found["f1"] > 0.9 and found["auroc"] > 0.95 and found["baseline_f1"] < found["f1_low"]


def test_a_line_and_a_kind(ids):
    lines = ids.copy()
    lines[:, 3::8] = 0
    lines[:, 4::16] = 14  # every other line begins with #
    comment = np.zeros(lines.shape, bool)
    for start in range(4, LENGTH, 16):
        comment[:, start : start + 8] = True
    found = label(comment & (lines != 14), lines)
    assert found["label"] and 'lines that begin with "#"' in found["label"], found
    first_kind = (np.arange(CONTEXTS) % DOCUMENTS % 2 == 0)[:, None]
    found = label((ids == 5) & first_kind, ids)
    assert found["label"] in ('"7" in kind0 documents', "digits in kind0 documents"), found


def test_a_word_of_several_pieces(ids):
    words = np.where(np.isin(ids, (3, 5, 6, 7)), ids, 1)
    words[:, 2::8] = 13  # "ing" and "walk" also stand elsewhere
    words[:, 4::8], words[:, 5::8], words[:, 6::8] = 15, 13, 1
    words[:, 0::8] = 15  # the first piece alone
    fires = np.zeros(words.shape, bool)
    fires[:, 4::8] = fires[:, 5::8] = True
    assert label(fires, words)["label"] == 'inside the word "walking"'


def test_chance_is_unclear(ids):
    rng = np.random.default_rng(1)
    for rate in (0.002, 0.05, 0.6):
        found = label(rng.random(ids.shape) < rate, ids)
        assert found["label"] is None, found
    assert label(np.zeros(ids.shape, bool), ids)["best_guess"] is None


def test_what_holds_in_one_half_of_the_documents_only_is_unclear(ids):
    """A label is scored where it was not made: firing on a token in the making half alone earns none."""
    text = plain_text(ids, DOCUMENTS, vocabulary=len(TEXTS))
    making = build_views(text, TEXTS, len(ids), seed=0).making_D[text.doc_C]
    rng = np.random.default_rng(2)
    found = label(((ids == 3) & making[:, None]) | ((rng.random(ids.shape) < 0.05) & ~making[:, None]), ids)
    assert found["best_guess"] == '"cat"' and found["label"] is None and found["f1"] < 0.2


def test_copies_of_a_document_stand_on_one_side_and_count_once(ids):
    text = plain_text(ids, DOCUMENTS, vocabulary=len(TEXTS))
    copied = replace(text, key_D=np.arange(DOCUMENTS, dtype=np.uint64) % 20)
    views = build_views(copied, TEXTS, len(ids), seed=0)
    assert len(views.making_D) == len(views.tokens_D) == 20 and 0 < views.making_D.sum() < 20
    side_C = views.making_P.reshape(CONTEXTS, LENGTH).all(1)
    assert np.array_equal(side_C, views.making_P.reshape(CONTEXTS, LENGTH).any(1))
    assert np.array_equal(side_C[:20], side_C[20:40]), "document d and its copy d + 20"


def test_counts_by_document_are_not_kept_for_every_candidate(ids):
    views = build_views(plain_text(ids, DOCUMENTS, vocabulary=len(TEXTS)), TEXTS, len(ids), seed=0)
    first = views.occurrences(0, (3,))
    scoring_P = ~views.making_P
    assert first.sum() == (views.views[0].code_P[scoring_P] == 3).sum()
    assert views.occurrences(0, (3,)) is not first


def test_weak_firings_count_by_their_activation(ids):
    """A feature that fires strongly on a token and, three times as often, at a tenth of that anywhere."""
    weak = np.random.default_rng(3).random(ids.shape) < 3 * (ids == 3).mean()
    found = label(np.where(ids == 3, 1.0, 0.1 * weak), ids)
    assert found["label"] == '"cat"' and found["precision"] == pytest.approx(1)
    assert 0.7 < found["recall"] < 0.85 and found["recall"] < found["f1"] < 1
    assert label(np.where(ids == 3, 0.1, 1.0 * weak), ids)["label"] is None  # the other way round


def test_scores_by_hand():
    hits, fired, said, tokens = np.array([2, 1]), np.array([3, 1]), np.array([2, 3]), np.array([10, 10])
    found = detector_scores(Detected(hits, 3.0 * hits), Detected(fired, 3.0 * fired), said, tokens)
    assert found["f1"] == pytest.approx(2 * 3 / (4 + 5))
    assert found["auroc"] == pytest.approx((3 / 4 + 1 - 2 / 16) / 2)
    expected = Estimate.mean((2 * hits).tolist(), (fired + said).tolist())
    assert found["f1_low"] == pytest.approx(max(0, expected.low))
    found = detector_scores(Detected(hits, np.array([4, 2])), Detected(fired, np.array([6, 4])), said, tokens)
    assert found["precision"] == pytest.approx(3 / 5) and found["recall"] == pytest.approx(6 / 10)
    assert found["f1"] == pytest.approx(0.6) and found["auroc"] == pytest.approx((0.6 + 1 - 2 / 16) / 2)


def test_classes():
    assert token_class(" the") == "words after a space" and token_class("ing") == "pieces of words"
    assert (
        token_class("42") == "digits" and token_class("\n   ") == "newlines" and token_class("    ") == "runs of spaces"
    )
    assert token_class("语") == "Chinese characters" and token_class("Ж") == "Cyrillic letters"
    assert token_class("‹E4›") == "bytes of rare characters" and token_class(" ==") == "operators"
