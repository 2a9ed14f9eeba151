"""The examples of docs/models.md run, one after another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sae import Sae

import glasshouse as gh
from glasshouse.models import FAMILIES
from glasshouse.types import LAYERED_SITES, PLAIN_SITES

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")


def test_the_examples_run(tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"folder": tiny_model_dir, "dictionary": Sae("d", "resid.1", 32)}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) > 5
    for block in blocks:
        exec(compile(block, "docs/models.md", "exec"), names)
    said = "ablate('z.1', head=3, how='zero') + add('d/3', times_norm=0.8, positions='new')"
    assert str(gh.load_edit("edit.json")) == said and said in PAGE


def test_every_site_and_family_is_on_the_page() -> None:
    for kind in (*(f"{k}.N" for k in LAYERED_SITES), *PLAIN_SITES):
        assert f"`{kind}`" in PAGE, kind
    for family in FAMILIES:
        assert family.name in PAGE, family.name
