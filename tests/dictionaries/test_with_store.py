"""From a real model through a real harvest to a dictionary whose report has the model's loss in it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from glasshouse.activations import harvest
from glasshouse.dictionaries import LearnConfig, learn
from glasshouse.text import corpus
from glasshouse.workspace import Workspace


def test_learn_from_a_store(tiny_model: Any, corpus_dir: Path, workspace: Workspace) -> None:
    store = harvest(tiny_model, corpus(corpus_dir), ["resid.1"], name="rows", ws=workspace, tokens=8192, context=64)
    config = LearnConfig(features=128, k=8, tokens=40_000, batch=256)
    found = learn(store, "resid.1", name="d", ws=workspace, config=config, model=tiny_model)
    numbers = found.report
    assert numbers["clustered_by"] == "document" and 1 < numbers["unexplained"]["n"] <= 20
    assert numbers["unexplained"]["value"] < 0.3
    assert numbers["loss_recovered"]["value"] > 0.7
    assert numbers["cross_entropy_ablated"]["value"] > numbers["cross_entropy_spliced"]["value"]
    assert found.model_name == tiny_model.name
    assert found.typical_norm == pytest.approx(store.typical_norm("resid.1"))
    manifest = workspace.manifest("dictionaries", "d", verify=True)
    assert [ref["name"] for ref in manifest["made_from"]] == ["rows"]
    assert manifest["config"]["source_hash"] == store.hash
    tiny_model.attach(found)
    try:
        codes = tiny_model.run("Ada walked to the garden", ["d/codes"])["d/codes"].values
    finally:
        tiny_model.detach("d")
    assert codes.shape[-1] == 128 and bool(torch.any(codes > 0))
