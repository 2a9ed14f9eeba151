"""The held-out report: by hand, and through a real model with the dictionary spliced in."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import glasshouse as gh
from glasshouse.activations import Reading, stream
from glasshouse.dictionaries import Dictionary, Threshold, held_out_report, report
from glasshouse.dictionaries.reports import spliced_report
from glasshouse.models import Batch
from glasshouse.types import Site, UserError


def diagonal(width: int, threshold: float, site: str = "resid.1") -> Dictionary:
    """x and -x as features, so that with threshold 0 everything is explained."""
    eye = torch.eye(width)
    return Dictionary(
        name="d", site=Site.parse(site), model_name="tiny",
        W_enc=torch.cat([eye, -eye], dim=1), b_enc=torch.zeros(2 * width),
        W_dec=torch.cat([eye, -eye]), b_dec=torch.zeros(width),
        activation=Threshold(kind="jumprelu", threshold_F=torch.full((2 * width,), threshold)),
    )  # fmt: skip


def test_by_hand() -> None:
    x_ND = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    numbers = report(diagonal(2, 2.0), x_ND)  # the two rows of length 1 fall below the threshold
    assert numbers["unexplained"]["value"] == pytest.approx(2 / 20)
    assert numbers["l0"]["value"] == pytest.approx(0.5)
    assert numbers["error_norm"]["value"] == pytest.approx(0.5)
    assert numbers["dead"] == 0.5 and numbers["dense"] == 0.5
    assert numbers["clustered_by"] == "row" and numbers["unexplained"]["n"] == 4


def test_intervals_count_documents_not_rows() -> None:
    x_ND = torch.randn(400, 2, generator=torch.Generator().manual_seed(0)).repeat_interleave(10, dim=0)
    by_row = report(diagonal(2, 0.5), x_ND)["l0"]
    numbers = report(diagonal(2, 0.5), x_ND, documents_N=torch.arange(4000) // 10)
    by_document = numbers["l0"]
    assert numbers["clustered_by"] == "document" and by_document["n"] == 400
    assert by_document["high"] - by_document["low"] > 2.5 * (by_row["high"] - by_row["low"])


def test_no_rows_is_an_error() -> None:
    with pytest.raises(UserError, match="held-out rows"):
        report(diagonal(2, 0.5), torch.zeros(0, 2))


def windows(model: Any, corpus_dir: Path) -> Reading:
    files = sorted((corpus_dir / "stories").iterdir())[:10]
    rows = [model.tokenizer(file.read_text()).input_ids[:48] for file in files]
    ids_WT = np.zeros((len(rows), 48), np.int32)
    for i, row in enumerate(rows):
        ids_WT[i, : len(row)] = row
    number_W = np.arange(len(rows), dtype=np.int32)
    return Reading(ids_WT, np.array([len(row) for row in rows]), number_W // 2, 0 * number_W, bos=False)


def test_a_perfect_dictionary_recovers_all_of_the_loss_and_an_empty_one_little(
    tiny_model: Any, corpus_dir: Path
) -> None:
    held_out, width = windows(tiny_model, corpus_dir), tiny_model.width
    batch = tiny_model.tokens([ids[mask].tolist() for ids, mask in zip(*held_out.tensors(), strict=True)])
    mean_D = tiny_model.run(batch, ["resid.1"])["resid.1"].mean()
    perfect = spliced_report(diagonal(width, 0.0), tiny_model, held_out, mean_D)
    assert perfect["loss_recovered"]["value"] == pytest.approx(1.0, abs=1e-3)
    assert perfect["cross_entropy_added"]["value"] == pytest.approx(0.0, abs=1e-3)
    plain = tiny_model.loss(batch)
    assert perfect["cross_entropy"]["value"] == pytest.approx(float(plain.nats_BT.sum()) / plain.n, rel=1e-4)
    assert perfect["cross_entropy_ablated"]["value"] > perfect["cross_entropy"]["value"]
    empty = spliced_report(diagonal(width, 1e9), tiny_model, held_out, mean_D)
    assert empty["loss_recovered"]["value"] < 0.5
    assert not tiny_model.attached


def test_the_bos_token_is_left_as_it_is(tiny_model: Any, corpus_dir: Path) -> None:
    held_out, nothing = windows(tiny_model, corpus_dir), diagonal(tiny_model.width, 1e9)
    mean_D = torch.zeros(tiny_model.width)
    without = spliced_report(nothing, tiny_model, held_out, mean_D)["cross_entropy_spliced"]["value"]
    held_out = replace(held_out, bos=True)
    assert spliced_report(nothing, tiny_model, held_out, mean_D)["cross_entropy_spliced"]["value"] < without


def test_what_the_text_does_not_teach_is_not_scored(tiny_model: Any, corpus_dir: Path) -> None:
    held_out, mean_D = windows(tiny_model, corpus_dir), torch.zeros(tiny_model.width)
    learnt_WT = np.zeros(held_out.ids_WT.shape, np.bool_)
    learnt_WT[:8, 20:26] = True  # the last two windows teach nothing
    perfect = diagonal(tiny_model.width, 0.0)
    found = spliced_report(perfect, tiny_model, replace(held_out, learnt_WT=learnt_WT), mean_D)
    ids_WT, mask_WT = held_out.tensors()
    nats_WT = tiny_model.loss(Batch(ids_WT, mask_WT)).nats_BT[:8, 19:25]  # of the tokens at 20 to 25
    assert bool(mask_WT[:8, :26].all()) and found["scored_tokens"] == 48 and found["windows"] == 10
    assert found["cross_entropy"]["value"] == pytest.approx(float(nats_WT.mean()), rel=1e-4)
    assert found["cross_entropy"]["n"] == 4, "documents of which something is scored"
    nothing = spliced_report(perfect, tiny_model, replace(held_out, learnt_WT=learnt_WT & False), mean_D)
    assert nothing["cross_entropy"] is None and "teaches" in nothing["not_defined"]


@pytest.fixture(scope="module")
def model_with_a_sink(tiny_model_dir: Path) -> Any:
    """A first position of some hundred times the norm of the others."""
    model = gh.load(tiny_model_dir, device="cpu")
    with torch.no_grad():
        model.module.transformer.wpe.weight[0] *= 500
    return model


def test_an_outlier_is_left_as_it_is(model_with_a_sink: Any, corpus_dir: Path) -> None:
    model, held_out = model_with_a_sink, windows(model_with_a_sink, corpus_dir)
    nothing, mean_D = diagonal(model.width, 1e9), torch.zeros(model.width)
    batch = model.tokens([ids[mask].tolist() for ids, mask in zip(*held_out.tensors(), strict=True)])
    norm_BT = model.run(batch, ["resid.1"])["resid.1"].values.norm(dim=-1)
    typical = float(norm_BT[:, 1:][batch.mask_BT[:, 1:]].median())
    assert float(norm_BT[:, 0].min()) > 12 * typical and float(norm_BT[:, 1:].max()) < 8 * typical, "or of nothing"
    unknown = spliced_report(nothing, model, held_out, mean_D)
    kept = spliced_report(nothing, model, held_out, mean_D, bound=10 * typical)
    known = spliced_report(nothing.with_statistics(torch.ones(2 * model.width), typical), model, held_out, mean_D)
    assert unknown["outliers_kept"] == 0 and kept["outliers_kept"] == len(held_out.ids_WT) and known == kept
    held_out = replace(held_out, bos=True)  # the same positions, for another reason
    as_bos = spliced_report(nothing, model, held_out, mean_D, bound=10 * typical)
    assert as_bos["outliers_kept"] == 0
    for key in ("cross_entropy_spliced", "cross_entropy_ablated"):
        assert kept[key] == as_bos[key] != unknown[key]


def test_outliers_are_those_of_the_harvest(model_with_a_sink: Any, corpus_dir: Path) -> None:
    live = stream(model_with_a_sink, gh.corpus(corpus_dir), ["resid.1"], tokens=2000, context=32)
    numbers = held_out_report(
        diagonal(model_with_a_sink.width, 0.0), live, model=model_with_a_sink, rows=256, windows=3
    )
    assert numbers["outliers_kept"] == numbers["windows"] == 3


def test_where_the_mean_costs_nothing_no_share_is_recovered(tiny_model: Any) -> None:
    ids_WT = np.random.default_rng(0).integers(1, 512, (4, 24)).astype(np.int32)  # no text that it could read
    noise = Reading(ids_WT, np.full(4, 24), np.array([0, 0, 1, 1]), np.zeros(4, np.int64), bos=False)
    mean_D = tiny_model.run(tiny_model.tokens(["Ada walked to the harbour"]), ["resid.1"])["resid.1"].mean()
    found = spliced_report(diagonal(tiny_model.width, 0.0), tiny_model, noise, mean_D)
    assert found["cross_entropy_ablated"]["value"] < found["cross_entropy"]["value"], "or this test is of nothing"
    assert found["loss_recovered"] is None and "no worse" in found["not_defined"]


def test_a_model_without_a_next_token_says_not_defined() -> None:
    class Encoder:
        is_encoder = True

    numbers = spliced_report(diagonal(2, 0.0), Encoder(), None, torch.zeros(2))
    assert numbers["loss_recovered"] is None and "no next token" in numbers["not_defined"]
