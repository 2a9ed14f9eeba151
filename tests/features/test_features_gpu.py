"""The same evidence, doses and replies on CUDA, where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

import glasshouse as gh
from glasshouse import steering
from glasshouse.activations.reading import split_reading
from glasshouse.features.gathering import gather
from glasshouse.models.model import Model
from tests.features.planted import random_dictionary

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]
DEVICE, F = "cuda", 48


def test_evidence(tiny_model_dir: Path, tiny_model: Model, corpus_dir: Path, tmp_path: Path) -> None:
    rows: list[list[dict[str, Any]]] = []
    for model in (tiny_model, gh.load(tiny_model_dir, device=DEVICE)):
        ws = gh.Workspace.open(tmp_path / model.device.type / str(len(rows)))
        dictionary = random_dictionary(model.width, F)
        made = gather(model, dictionary, gh.corpus(corpus_dir), ws=ws, tokens=6000, context=32, measured=6)
        rows.append(pq.read_table(made.folder / "features.parquet").to_pylist())
    for here, there in zip(*rows, strict=True):
        assert there["firings"] == pytest.approx(here["firings"], abs=2 + 0.01 * here["firings"])  # ties of TopK
        assert there["max_activation"] == pytest.approx(here["max_activation"], rel=1e-3)
        assert [one["token"] for one in there["promotes"]][:3] == [one["token"] for one in here["promotes"]][:3]
        assert there["flag"] == here["flag"]


def test_steering(tiny_model_dir: Path, tiny_model: Model, corpus_dir: Path) -> None:
    told = []
    for model in (tiny_model, gh.load(tiny_model_dir, device=DEVICE)):
        reading = split_reading(gh.corpus(corpus_dir), model, tokens=4000, context=32, seed=0, held_out=0.2)[1]
        dictionary = random_dictionary(model.width, F)
        dictionary.max_activation, dictionary.typical_norm = torch.full((F,), 4.0), 10.0
        model.attach(dictionary.to(model.device))
        dose = steering.dose_response(model, "rnd/0", [0.4], held_out=reading, windows=12, draws=2).doses[0]
        pair = steering.completions(model, "Ada walked to", steering.parse("rnd/0=8x"), max_new_tokens=8)
        numbers = [dose.feature[key].value for key in ("own_tokens", "cross_entropy")]
        told.append((numbers, pair.plain.ids, pair.steered.ids))
        model.detach("rnd")
    assert told[1][0] == pytest.approx(told[0][0], abs=1e-3) and told[1][1:] == told[0][1:]
