"""Windows: one document each, BOS in the first column where there is one, every column traced to its character."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest

from glasshouse.text import Corpus, Document, Tokens, windows
from glasshouse.types import UserError


def tokens_of(*lengths: int) -> Tokens:
    documents = tuple(Document(i, f"d{i}", "txt", "x" * (10 * n)) for i, n in enumerate(lengths))
    n = sum(lengths)
    start = np.concatenate([np.arange(length) * 10 for length in lengths]).astype(np.uint32)
    return Tokens(
        Corpus("made", documents),
        np.arange(100, 100 + n, dtype=np.uint32),
        np.cumsum([0, *lengths]).astype(np.int64),
        start,
    )


def test_by_hand() -> None:
    found = windows(tokens_of(5, 0, 2, 3), context=4, bos_id=1, pad_id=0, min_length=2)
    assert found.ids_WT.tolist() == [[1, 100, 101, 102], [1, 103, 104, 0], [1, 105, 106, 0], [1, 107, 108, 109]]
    assert found.length_W.tolist() == [4, 3, 3, 4] and found.doc_W.tolist() == [0, 0, 2, 3]
    assert found.first_W.tolist() == [0, 3, 5, 7] and found.bos and found.ids_WT.dtype == np.int32
    assert [found.char(1, column) for column in range(3)] == [0, 30, 40]
    assert found.mask_WT.tolist()[1] == [True, True, True, False]


def test_without_bos() -> None:
    found = windows(tokens_of(5, 1), context=4, bos_id=None, pad_id=0, min_length=1)
    assert found.ids_WT.tolist() == [[100, 101, 102, 103], [104, 0, 0, 0], [105, 0, 0, 0]]
    assert found.length_W.tolist() == [4, 1, 1] and found.char(0, 2) == 20 and not found.bos


def test_what_is_taught_is_marked() -> None:
    """A token counts where it begins: 100 and 103 do in what is only read. BOS and the padding are nobody's text."""
    tokens = tokens_of(5, 2)
    first, second = tokens.corpus.documents
    corpus = replace(tokens.corpus, documents=(replace(first, unlearned=((0, 5), (25, 31))), second))
    found = windows(replace(tokens, corpus=corpus), context=4, bos_id=1, pad_id=0, min_length=1)
    assert found.learnt(np.array([1, 0, 2])).tolist() == [
        [False, False, True, False], [False, False, True, True], [False, True, True, False]
    ]  # fmt: skip


def test_short_pieces_are_left_out() -> None:
    found = windows(tokens_of(20, 3), context=9, bos_id=1, pad_id=0)
    assert found.doc_W.tolist() == [0, 0] and found.length_W.tolist() == [9, 9]


def test_too_little_text() -> None:
    with pytest.raises(UserError, match="expected text longer than a context of 64 tokens, made is one document of 20"):
        windows(tokens_of(20), context=64, bos_id=1, pad_id=0)
    with pytest.raises(UserError, match="expected documents of 8 tokens or more in made, found none"):
        windows(tokens_of(3, 4), context=64, bos_id=1, pad_id=0)


def test_one_short_document_held_out_of_several_is_no_mistake() -> None:
    for of, refused in ((20, False), (1, True)):
        tokens = tokens_of(20)
        side = replace(tokens, corpus=replace(tokens.corpus, split_from=of))
        with pytest.raises(UserError, match="is one document") if refused else contextlib.nullcontext():
            assert len(windows(side, context=64, bos_id=1, pad_id=0)) == 1
    whole = Corpus("made", tuple(Document(i, f"d{i}", "txt", f"note {i}") for i in range(20)))
    assert [side.split_from for side in whole.split()] == [20, 20]
