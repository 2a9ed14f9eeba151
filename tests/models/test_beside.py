"""Two passes beside each other: each item once and in order, the same weights, hooks apart, edits in force, threads
given back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import glasshouse as gh
from glasshouse.models import Model
from glasshouse.models.beside import replica, side_by_side
from glasshouse.models.runs import Run

TEXTS = [f"The bridge of stone {number} is old." for number in range(24)]


@pytest.fixture(params=[1, 2, 4])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def read(model: Model, text: str) -> tuple[Run, int]:
    return model.run(text, ["resid.2", "z.1"], stop=True), threading.get_ident()


def test_every_item_once_in_order_and_as_alone(tiny_model: Any, threads: int) -> None:
    with side_by_side(tiny_model) as apply:
        found = list(apply(read, TEXTS))
    assert torch.get_num_threads() == threads
    assert len({who for _, who in found}) <= 2 and (threads > 1 or {who for _, who in found} == {threading.get_ident()})
    for text, (run, _) in zip(TEXTS, found, strict=True):
        alone, _ = read(tiny_model, text)
        for site in ("resid.2", "z.1"):
            torch.testing.assert_close(run[site].values, alone[site].values)


def test_edits_are_in_force_and_gone_afterwards(tiny_model: Any, threads: int) -> None:
    plain, _ = read(tiny_model, TEXTS[0])
    with tiny_model.edit(gh.ablate("z.0", head=0)):
        alone, _ = read(tiny_model, TEXTS[0])
        with side_by_side(tiny_model) as apply:
            edited = [run for run, _ in apply(read, TEXTS[:1] * 8)]
    assert not torch.allclose(plain["resid.2"].values, alone["resid.2"].values)
    for run in edited:
        torch.testing.assert_close(run["resid.2"].values, alone["resid.2"].values)
    with side_by_side(tiny_model) as apply:
        for run, _ in apply(read, TEXTS[:1] * 8):
            torch.testing.assert_close(run["resid.2"].values, plain["resid.2"].values)


def test_an_edit_with_a_vector_is_in_force(tiny_model: Any, threads: int) -> None:
    vector_D = torch.randn(32, generator=torch.Generator().manual_seed(0))
    with tiny_model.edit(gh.add("resid.1", vector_D)):
        alone, _ = read(tiny_model, TEXTS[0])
        with side_by_side(tiny_model) as apply:
            for run, _ in apply(read, TEXTS[:1] * 8):
                torch.testing.assert_close(run["resid.2"].values, alone["resid.2"].values)


def test_a_single_item_has_all_threads(tiny_model: Any, threads: int) -> None:
    with side_by_side(tiny_model) as apply:
        assert list(apply(lambda model, _: (model, torch.get_num_threads()), [0])) == [(tiny_model, threads)]


def test_an_error_comes_through_and_threads_are_given_back(tiny_model: Any, threads: int) -> None:
    def fails(model: Model, item: int) -> int:
        if item == 3:
            raise ValueError("item 3")
        return item

    with pytest.raises(ValueError, match="item 3"), side_by_side(tiny_model) as apply:
        list(apply(fails, range(8)))
    assert torch.get_num_threads() == threads


def test_a_replica_shares_weights(tiny_model: Any) -> None:
    other = replica(tiny_model)
    assert other is not None and other.module is not tiny_model.module
    for mine, its in zip(tiny_model.module.parameters(), other.module.parameters(), strict=True):
        assert mine is its


def test_a_module_that_cannot_be_copied_is_run_alone(
    tiny_model: Any, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_model.module, "guard", threading.Lock(), raising=False)
    assert replica(tiny_model) is None
    with side_by_side(tiny_model) as apply:
        assert {who for _, who in apply(read, TEXTS[:4])} == {threading.get_ident()}
