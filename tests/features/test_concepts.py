"""Scores against concepts, where the right answer is known by construction."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import glasshouse as gh
from glasshouse.activations import harvest
from glasshouse.dictionaries import LearnConfig, dictionary, learn
from glasshouse.features import labelled as reading
from glasshouse.features.concepts import Codes, neurons, probe, score, summary
from glasshouse.features.kept import kept_concepts, labelled_file, score_concepts
from glasshouse.features.labelled import Labelled, above, read
from glasshouse.models.origins import remember
from glasshouse.text import Corpus, Document, token_ranges, tokenise
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
    assert summary(found)["best"]["2"]["found"]["value"] == 1.0 and summary(found)["best"]["1"]["found"]["value"] == 0.0
    assert summary(found)["several"]["all"]["found"]["value"] == 1.0


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


def test_truth_lies_on_every_token_that_holds_a_part_of_a_span() -> None:
    document = Document(0, "x", "text", "ab Д cd!")
    number = {name: i for i, name in enumerate(("a", "b", "b/c", "half", "half/first", "half/last"))}
    spans = [(0, 2, "a"), (3, 4, "b/c")]
    start_T, bytes_T = np.array([0, 2, 3, 4, 7]), np.array([2, 2, 1, 3, 1])  # " " with half of Д, its other half
    truth_TC = reading._truth(document, spans, number, start_T, bytes_T)
    assert truth_TC[:, 0].tolist() == [True, False, False, False, False]
    assert truth_TC[:, 1].tolist() == truth_TC[:, 2].tolist() == [False, True, True, False, False]
    words_TC = reading._truth(document, spans, number, np.array([0, 3, 5, 7]), None)
    assert words_TC[:, 0].tolist() == [True, False, False, False]
    assert words_TC[:, 2].tolist() == [False, True, False, False]
    with pytest.raises(UserError, match="within the 8 characters of x, got 3 to 9"):
        reading._truth(document, [(3, 9, "a")], number, start_T, bytes_T)
    assert above("a/b/c") == ["a", "a/b", "a/b/c"]


def test_bytes_that_are_not_those_of_the_text_are_not_trusted() -> None:
    """A tokenizer that reads ﬁ as fi, or puts a space before the text, says at which characters its tokens begin."""
    truth = lambda text, span, starts, sizes: reading._truth(
        Document(0, "x", "text", text), [(*span, "a")], {"a": 0}, np.array(starts), sizes
    )[:, 0].tolist()
    assert truth("ﬁne cat", (1, 3), [0, 3], np.array([4, 4])) == [True, False]
    assert truth("ﬁne cat", (4, 7), [0, 3], np.array([4, 4])) == [False, True]
    assert truth("ab cd", (3, 5), [0, 2], np.array([3, 3])) == [False, True]
    assert truth("ab Д!", (3, 4), [0, 3, 3, 4], None) == [False, True, True, False], "two halves of a character"


def test_halves_of_characters_are_concepts() -> None:
    number = {"half": 0, "half/first": 1, "half/last": 2}
    truth = lambda sizes, starts: reading._truth(
        Document(0, "x", "text", "ab Д!"), [], number, np.array(starts), np.array(sizes)
    ).T.tolist()
    assert truth([3, 1, 1, 1], [0, 3, 3, 4]) == [
        [False, True, True, False], [False, True, False, False], [False, False, True, False],
    ]  # fmt: skip
    assert not np.any(truth([3, 2, 1], [0, 3, 4])) and not np.any(truth([9, 9], [0, 3]))


def test_labels_of_a_chat_lie_on_its_own_words() -> None:
    """Marks are one token each, and other scripts come in halves of characters."""
    from glasshouse.models.grow import train_tokenizer
    from glasshouse.organisms.villager import labelled_text
    from glasshouse.organisms.world import build

    corpus, spans = labelled_text(build(0), seed=5, megabytes=0.05)
    assert corpus.chat is not None
    fast = train_tokenizer(corpus, 400)
    for document, own in list(zip(corpus.documents, spans, strict=True))[:60]:
        tokens = tokenise(Corpus("one", (document,), chat=corpus.chat), fast)
        sizes = reading._bytes_of(fast, corpus)[tokens.ids]
        assert sizes.sum() == len(document.text.encode())
        ends = np.cumsum(sizes)
        for (start, end, _), (first, last) in zip(own, token_ranges(document.text, own, sizes), strict=True):
            at, to = len(document.text[:start].encode()), len(document.text[:end].encode())
            assert (
                ends[first] - sizes[first] <= at < ends[first]
                and ends[last - 1] - sizes[last - 1] < to <= ends[last - 1]
            )


def test_codes_must_be_in_the_order_of_units() -> None:
    with pytest.raises(AssertionError):
        Codes(units=2, unit=np.array([1, 0]), position=np.array([0, 1]), value=np.ones(2, np.float32))


def test_spans_of_other_documents_are_refused() -> None:
    corpus = Corpus("two", (Document(0, "a", "text", "x"), Document(1, "b", "text", "y")))
    with pytest.raises(UserError, match="spans of 2 documents of two, got 1"):
        read(None, "resid.1", corpus, [[]])


# -- a real model ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened_ws(tiny_model: Any, corpus_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(workspace, name of a dictionary of the tiny model in it)."""
    ws = gh.Workspace.open(tmp_path_factory.mktemp("concepts") / "ws")
    rows = harvest(tiny_model, gh.corpus(corpus_dir), ["resid.2"], name="rows", ws=ws, tokens=6_000, context=64)
    config = LearnConfig(features=64, k=4, tokens=8_192, batch=512)
    learn(rows, "resid.2", name="small", ws=ws, config=config, precision="fp32")
    return ws, "small"


def test_truth_and_activations_of_a_position_belong_together(tiny_model: Any, labelled_jsonl: Path) -> None:
    """The embedding of a token says whether it has a digit, and nothing else says it so well."""
    corpus, spans = labelled_file(labelled_jsonl)
    found = read(tiny_model, "embed", corpus, spans, tokens=6_000, context=64)
    assert found.concepts == ("kind", "kind/code", "kind/stories", "kind/tables", "number")
    assert len(found.x_PD) == len(found.truth_PC) == len(found.doc_P) >= 6_000 and 0.2 < found.making_P.mean() < 0.8
    assert found.truth_PC[:, 0].all() and (found.truth_PC[:, 1:4].sum(1) == 1).all()
    kinds = [corpus.documents[d].kind for d in found.doc_P]
    assert [found.concepts[1 + c].split("/")[1] for c in found.truth_PC[:, 1:4].argmax(1)] == kinds
    taught = probe(found)
    assert "kind" not in taught, "what holds everywhere is no concept"
    assert taught["number"].f1.value > 0.9


def test_positions_that_no_dictionary_was_trained_on_are_left_out(tiny_model_dir: Path, labelled_jsonl: Path) -> None:
    model = gh.load(tiny_model_dir, device="cpu")
    with torch.no_grad():
        model.module.transformer.wpe.weight[0] *= 500
    corpus, spans = labelled_file(labelled_jsonl)
    settings = {"tokens": 2_000, "context": 32, "others": ["mlp_act.0"]}
    whole = read(model, "resid.1", corpus, spans, **settings, typical_norm=1e9)
    typical = float(whole.x_PD.norm(dim=1).median())
    kept_P = (whole.x_PD.norm(dim=1) <= 10 * typical).numpy()
    for found in (read(model, "resid.1", corpus, spans, **settings), read(model, "resid.1", corpus, spans, **settings,
                                                                          typical_norm=typical)):  # fmt: skip
        assert found.left_out == (~kept_P).sum() > 0 == whole.left_out
        assert torch.equal(found.x_PD, whole.x_PD[kept_P])
        assert torch.equal(found.others["mlp_act.0"], whole.others["mlp_act.0"][kept_P])
        assert np.array_equal(found.truth_PC, whole.truth_PC[kept_P])
        assert np.array_equal(found.doc_P, whole.doc_P[kept_P])
        assert np.array_equal(found.making_P, whole.making_P[kept_P])


def test_scores_are_kept_until_the_dictionary_changes(opened_ws: Any, tiny_model: Any, labelled_jsonl: Path) -> None:
    ws, name = opened_ws
    assert kept_concepts(ws, name) is None and kept_concepts(ws, "nosuch") is None
    corpus, spans = labelled_file(labelled_jsonl)
    given = dictionary(name, ws=ws)
    kept = score_concepts(ws, tiny_model, given, corpus, spans, tokens=10_000)
    assert kept == kept_concepts(ws, name) == score_concepts(ws, tiny_model, given, corpus, spans, tokens=10_000)
    assert kept["left_out"] == 0
    assert set(kept["rows"]) == {"features", "random directions", "neurons", "probe"}
    assert {one["concept"] for one in kept["concepts"]} == {"kind/code", "kind/stories", "kind/tables", "number"}
    for one in kept["concepts"]:
        assert all(0 <= unit < given.n_features for unit in one["several"]["units"])
        assert one["several"]["units"][0] == one["best"]["units"][0]
    other = score_concepts(ws, tiny_model, given, corpus, spans, tokens=10_000, seed=1)
    assert kept_concepts(ws, name) == other != kept, "the newest"
    organism = copy.deepcopy(tiny_model.module)
    organism.get_input_embeddings().weight.data *= 2
    tuned = gh.load(organism, tokenizer=tiny_model.tokenizer, name="tuned")
    assert score_concepts(ws, tuned, given, corpus, spans, tokens=10_000)["model"] == "tuned", "not the villager's"
    assert kept_concepts(ws, name) == other, "on the dictionary's own model"
    again = score_concepts(ws, tiny_model, given, corpus, [own[:1] for own in spans], tokens=10_000, seed=1)
    assert {one["concept"] for one in again["concepts"]} == {"kind/code", "kind/stories", "kind/tables"}, "other spans"


def test_scores_are_found_after_an_opened_model_has_moved(
    opened_ws: Any, tiny_model: Any, tiny_model_dir: Path, labelled_jsonl: Path, tmp_path: Path
) -> None:
    ws, name = opened_ws
    remember(tiny_model, tiny_model_dir, ws)
    corpus, spans = labelled_file(labelled_jsonl)
    kept = score_concepts(ws, tiny_model, dictionary(name, ws=ws), corpus, spans, tokens=10_000, seed=2)
    remember(tiny_model, shutil.copytree(tiny_model_dir, tmp_path / "elsewhere"), ws)
    assert kept_concepts(ws, name) == kept


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2"),
        ('{"text": "a"}', "line 2"),
        ('{"text": "a", "spans": [[0, "b"]]}', "line 2"),
        ('{"text": "a", "spans": [[0, 1e999, "b"]]}', "line 2"),
        ('{"text": "half of \\ud83d", "spans": []}', "line 2"),
    ],
)
def test_a_line_that_is_no_labelled_text_is_named(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"text": "a", "spans": []}\n' + line + "\n")
    with pytest.raises(UserError, match=said):
        labelled_file(file)
    with pytest.raises(UserError, match="could not read it"):
        labelled_file(tmp_path / "none.jsonl")


def test_text_without_a_common_concept_is_refused(opened_ws: Any, tiny_model: Any) -> None:
    ws, name = opened_ws
    before = sorted(ws.root.glob("evals/*"))
    corpus = Corpus("plain", tuple(Document(i, str(i), "text", "Once there was a cat. " * 9) for i in range(40)))
    with pytest.raises(UserError, match="either side of plain, found none"):
        score_concepts(ws, tiny_model, dictionary(name, ws=ws), corpus, [[(0, 4, "rare")]] + [[]] * 39, tokens=1_000)
    assert sorted(ws.root.glob("evals/*")) == before, "nothing is left of it"
