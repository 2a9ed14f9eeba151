"""A live stream: the same rows as a store holds, from any row on, and nothing on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from glasshouse.activations import Stream, harvest, stream
from glasshouse.text import Corpus, corpus
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

SETTINGS: dict[str, Any] = {"tokens": 4000, "context": 32, "batch_tokens": 256, "buffer_rows": 700}


@pytest.fixture(scope="module")
def text(corpus_dir: Path) -> Corpus:
    return corpus(corpus_dir)


@pytest.fixture(scope="module")
def live(tiny_model: Any, text: Corpus) -> Stream:
    return stream(tiny_model, text, ["resid.2", "z.1"], **SETTINGS)


def take(rows: Iterator[torch.Tensor], count: int) -> list[torch.Tensor]:
    return [next(rows) for _ in range(count)]


def test_any_batch_can_be_had_without_those_before_it(live: Stream) -> None:
    count = int(2.5 * live.rows) // 256
    whole = take(live.batches("resid.2", 256, seed=1), count)
    assert all(b.shape == (256, 32) and b.dtype == torch.bfloat16 for b in whole)
    for index in (1, count // 2, count - 1):
        assert torch.equal(next(live.batches("resid.2", 256, seed=1, start_row=index * 256)), whole[index])
    assert not torch.equal(next(live.batches("resid.2", 256, seed=2)), whole[0])


def test_an_epoch_holds_every_row_once(tiny_model: Any, text: Corpus, live: Stream, workspace: Workspace) -> None:
    """Of a model without outliers: the rows of the store, sorted, are the rows of every epoch."""
    found = harvest(tiny_model, text, ["resid.2"], name="acts", ws=workspace, **SETTINGS)
    assert found.manifest["read"]["left_out"] == 0
    for held_out in (False, True):
        epochs = torch.cat(list(live.batches("resid.2", 500, epochs=2, held_out=held_out))).float()
        stored = torch.cat(list(found.batches("resid.2", 500, epochs=1, held_out=held_out))).float()
        for epoch in epochs.split(len(stored)):
            order = lambda rows: rows[rows.double().sum(1).argsort()].mean(1)
            torch.testing.assert_close(order(epoch), order(stored), atol=0.01, rtol=0.01)
    assert (live.rows, live.held_out_rows) == (found.rows, found.held_out_rows)
    assert live.width("z.1") == 32
    torch.testing.assert_close(live.mean("resid.2"), found.mean("resid.2"), atol=0.1, rtol=0.1)
    assert live.typical_norm("resid.2") == pytest.approx(found.typical_norm("resid.2"), rel=0.05)


def test_nothing_is_written(tiny_model: Any, text: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    next(stream(tiny_model, text, "resid.1", **SETTINGS).batches("resid.1", 64))
    assert not list(tmp_path.iterdir())


def test_a_hash_is_of_model_text_and_settings(tiny_model: Any, text: Corpus, live: Stream) -> None:
    again = stream(tiny_model, text, ["resid.2", "z.1"], **SETTINGS)
    other_text = stream(tiny_model, Corpus(text.source, text.documents[1:]), ["resid.2", "z.1"], **SETTINGS)
    other_seed = stream(tiny_model, text, ["resid.2", "z.1"], **SETTINGS, seed=1)
    assert again.hash == live.hash and len({live.hash, other_text.hash, other_seed.hash}) == 3
    assert other_text.name == live.name


def test_a_site_that_is_not_streamed(live: Stream) -> None:
    with pytest.raises(UserError, match=r"expected one of resid\.2, z\.1"):
        next(live.batches("resid.1", 8))
