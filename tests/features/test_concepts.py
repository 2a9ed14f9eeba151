"""Scores against concepts, where the right answer is known by construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glasshouse.features import concepts
from glasshouse.features.concepts import Codes, Labelled, above, neurons, probe, score, summary
from glasshouse.text import Corpus, Document
from glasshouse.types import UserError


def labelled(truth_PC: np.ndarray, names: tuple[str, ...], per_document: int = 10, x_PD: torch.Tensor | None = None):
    doc_P = np.arange(len(truth_PC)) // per_document
    return Labelled(
        concepts=names, x_PD=torch.zeros(len(truth_PC), 2) if x_PD is None else x_PD, truth_PC=truth_PC, doc_P=doc_P,
        making_P=doc_P % 2 == 0, others={},
    )  # fmt: skip


def truths(seed: int = 0) -> np.ndarray:
    """(P, 3): a thing, and its two kinds, which never hold together."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, 4000, p=[0.8, 0.1, 0.1])
    return np.stack([kind > 0, kind == 1, kind == 2], 1)


NAMES = ("thing", "thing/one", "thing/two")


def test_a_concept_with_a_unit_of_its_own_is_found_by_it() -> None:
    truth_PC = truths()
    x_PU = torch.from_numpy(np.random.default_rng(1).random((4000, 5)).astype(np.float32))
    x_PU[:, 3] = torch.from_numpy(truth_PC[:, 1].astype(np.float32)) * 2
    found = score(labelled(truth_PC, NAMES), neurons(x_PU))
    assert found["thing/one"].best.units == (3,)
    assert found["thing/one"].best.f1.value == 1.0 and not found["thing/one"].split
    assert found["thing/two"].best.f1.value < 0.4


def test_a_threshold_is_chosen_where_weak_firings_mean_nothing() -> None:
    truth_PC = truths()
    noise = np.random.default_rng(2).random(4000).astype(np.float32)
    x_PU = torch.from_numpy(np.where(truth_PC[:, 1], 5 + noise, noise))[:, None]
    best = score(labelled(truth_PC, NAMES), neurons(x_PU))["thing/one"].best
    assert best.thresholds[0] >= 0.5 and best.recall.value > 0.98 and best.f1.value > 0.85


def test_a_concept_over_two_units_is_split() -> None:
    truth_PC = truths()
    found = score(labelled(truth_PC, NAMES), neurons(torch.from_numpy(truth_PC[:, 1:].astype(np.float32))))
    assert found["thing"].split and set(found["thing"].several.units) == {0, 1}
    assert found["thing"].several.f1.value == 1.0 and found["thing"].best.recall.value < 0.6
    assert summary(found)["2"]["found"]["value"] == 1.0 and summary(found)["1"]["found"]["value"] == 0.0
    assert summary(found, "several")["all"]["found"]["value"] == 1.0


def test_a_child_with_a_unit_of_its_own_absorbs_its_parent() -> None:
    rng = np.random.default_rng(3)
    kind = rng.choice(4, 6000, p=[0.6, 0.25, 0.1, 0.05])
    truth_PC = np.stack([kind > 0, kind == 1, kind == 3], 1)
    units = np.stack([(kind == 1) | (kind == 2), kind == 3], 1).astype(np.float32)
    found = score(labelled(truth_PC, NAMES), neurons(torch.from_numpy(units)))
    assert found["thing"].best.units == (0,) and found["thing"].absorbed_by == ("thing/two",)


def test_chance_is_not_found_on_unseen_documents() -> None:
    rng = np.random.default_rng(4)
    x_PU = torch.from_numpy(rng.random((4000, 300)).astype(np.float32) - 0.7)
    found = score(labelled(truths(5), NAMES), neurons(x_PU))
    assert all(one.several.f1.value < 0.4 for one in found.values())


def test_rare_concepts_are_left_out() -> None:
    truth_PC = truths()
    truth_PC[:, 2] = False
    truth_PC[:30, 2] = True  # on three documents
    found = score(labelled(truth_PC, NAMES), neurons(torch.ones(4000, 1)))
    assert "thing/two" not in found and "thing/one" in found


def test_a_probe_finds_what_no_unit_has() -> None:
    rng = np.random.default_rng(6)
    x_PD = torch.from_numpy(rng.standard_normal((4000, 4)).astype(np.float32))
    truth_PC = (x_PD[:, :2].sum(1) > 1.2).numpy()[:, None]
    given = labelled(truth_PC, ("sum",), x_PD=x_PD)
    assert probe(given)["sum"].f1.value > 0.95
    assert score(given, neurons(x_PD))["sum"].best.f1.value < 0.8


def test_intervals_are_wider_when_documents_stand_together() -> None:
    truth_PC = np.repeat(np.random.default_rng(7).random((400, 1)) < 0.2, 10, 0)
    x = truth_PC ^ np.repeat(np.random.default_rng(8).random((400, 1)) < 0.1, 10, 0)
    units = neurons(torch.from_numpy(x.astype(np.float32)))
    together = score(labelled(truth_PC, ("a",)), units)["a"].best.f1
    apart = score(labelled(truth_PC, ("a",), per_document=2), units)["a"].best.f1
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_truth_lies_on_every_token_that_holds_a_character() -> None:
    start_T = np.array([0, 2, 5, 5, 6])  # the third and fourth token share a character
    truth_TC = concepts._truth(start_T, 8, [(3, 5, "a"), (5, 6, "b/c")], {"a": 0, "b": 1, "b/c": 2}, "x")
    assert truth_TC[:, 0].tolist() == [False, True, False, False, False]
    assert truth_TC[:, 1].tolist() == truth_TC[:, 2].tolist() == [False, False, True, True, False]
    with pytest.raises(UserError, match="within the 8 characters of x, got 3 to 9"):
        concepts._truth(start_T, 8, [(3, 9, "a")], {"a": 0}, "x")
    assert above("a/b/c") == ["a", "a/b", "a/b/c"]


def test_codes_must_be_in_the_order_of_units() -> None:
    with pytest.raises(AssertionError):
        Codes(units=2, unit=np.array([1, 0]), position=np.array([0, 1]), value=np.ones(2, np.float32))


def test_spans_of_other_documents_are_refused() -> None:
    corpus = Corpus("two", (Document(0, "a", "text", "x"), Document(1, "b", "text", "y")))
    with pytest.raises(UserError, match="spans of 2 documents of two, got 1"):
        concepts.read(None, "resid.1", corpus, [[]])
