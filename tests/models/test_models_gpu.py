"""The same numbers on CUDA, where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sae import Sae

import glasshouse as gh
from glasshouse.models.model import Model

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]
TEXTS = ["Ada walked to the harbour", "Ben"]


def test_runs_edits_and_generation(tiny_model_dir: Path, tiny_model: Model) -> None:
    model = gh.load(tiny_model_dir)
    assert model.device.type == "cuda"
    model.attach(Sae("d", "resid.1", 32).to("cuda"))
    tiny_model.attach(Sae("d", "resid.1", 32))
    sites = ["resid.*", "z.1", "pattern.2", "d/codes", "d/error", "logits"]
    edit = gh.set("d/3", 4.0) + gh.ablate("z.1", head=2) + gh.add("resid_mid.0", torch.ones(32), positions=1)
    edit += gh.patch("resid.2", tiny_model.run(TEXTS[::-1], "resid.2"), positions=-1)
    edit += gh.weight("transformer.h.2.mlp.c_proj.weight", delta=torch.full((128, 32), 0.01))
    for e in (None, edit):
        here, there = tiny_model.run(TEXTS, sites, edits=e), model.run(TEXTS, sites, edits=e)
        for site in here:
            for b in range(2):
                torch.testing.assert_close(there[site].text(b).cpu(), here[site].text(b), atol=1e-3, rtol=1e-3)
    assert torch.isfinite(model.loss(TEXTS, edits=edit).nats_BT).all()
    cached = model.generate(TEXTS, 10, edits=edit)
    assert [g.ids for g in cached] == [g.ids for g in model.generate(TEXTS, 10, edits=edit, use_cache=False)]
    half = gh.load(tiny_model_dir, dtype="bfloat16")
    assert half.run(TEXTS, "resid.1")["resid.1"].rows().dtype == torch.bfloat16
    tiny_model.detach("d")
