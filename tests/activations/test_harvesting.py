"""Harvests of a tiny model: the rows are the model's own, shuffled, and the same after a kill."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from glasshouse.activations import Store, expect, harvest, harvesting, pooling, store
from glasshouse.activations.pooling import Later, fill_pool
from glasshouse.activations.reading import Reading, batches, pools, split_reading
from glasshouse.models import Batch
from glasshouse.text import Corpus, corpus
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

SITES = ["resid.1", "resid.2", "z.1"]
SETTINGS: dict[str, Any] = {"tokens": 6000, "context": 32, "batch_tokens": 256, "buffer_rows": 1000}


@pytest.fixture(scope="module")
def text(corpus_dir: Path) -> Corpus:
    return corpus(corpus_dir)


@pytest.fixture(scope="module")
def harvested(tiny_model: Any, text: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Store:
    ws = Workspace.open(tmp_path_factory.mktemp("harvest") / "ws")
    return harvest(tiny_model, text, SITES, name="acts", ws=ws, **SETTINGS)


def everything(found: Store, held_out: bool = False) -> range:
    return range(found.held_out_rows if held_out else found.rows)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("held_out", [False, True])
def test_rows_are_what_the_model_computes(tiny_model: Any, harvested: Store, site: str, held_out: bool) -> None:
    indices = list(everything(harvested, held_out))[::37]
    window_N, position_N = harvested.origin(indices, held_out=held_out)
    ids_WT, mask_WT = harvested.windows(held_out)
    values = tiny_model.run(Batch(ids_WT[window_N.long()], mask_WT[window_N.long()]), get=[site], stop=True)[
        site
    ].values
    expected = values.flatten(2)[torch.arange(len(indices)), position_N.long()].to(torch.bfloat16)
    rows = harvested.rows_of(site, indices, held_out=held_out)
    assert rows.shape == (len(indices), 32)
    torch.testing.assert_close(rows.float(), expected.float(), atol=0.02, rtol=0.01)


def test_every_position_is_a_row_or_counted(harvested: Store) -> None:
    read, reading, held = harvested.manifest["read"], harvested.reading(False), harvested.reading(True)
    assert reading.tokens >= SETTINGS["tokens"] and reading.tokens < SETTINGS["tokens"] + SETTINGS["context"]
    assert read["tokens"] == reading.tokens + held.tokens
    assert harvested.rows + harvested.held_out_rows + read["left_out"] + read["bos"] == read["tokens"]
    window_N, position_N = harvested.origin(everything(harvested))
    pairs = set(zip(window_N.tolist(), position_N.tolist(), strict=True))
    assert len(pairs) == harvested.rows, "no position twice"
    assert all(p < reading.length_W[w] for w, p in pairs)


def test_shards_mix_documents(harvested: Store) -> None:
    """Neighbouring rows come from different documents about as often as chance says, and a shard holds many."""
    window_N, _ = harvested.origin(everything(harvested))
    doc_N = harvested.reading().doc_W[window_N.numpy()][:900]
    chance = 1 - sum((np.bincount(doc_N) / len(doc_N)) ** 2)
    assert abs(float(np.mean(doc_N[1:] != doc_N[:-1])) - chance) < 0.03
    assert len(set(doc_N)) > 0.6 * min(57, len(pools(harvested.reading(), 1000, skip_bos=True)[0]))


def test_later_epochs_mix_documents_too(harvested: Store) -> None:
    """A shard's rows were placed by a seed; an epoch that permutes them by the same one puts them back in order."""
    window_N, _ = harvested.origin(everything(harvested))
    rows_ND = torch.cat(list(harvested.batches("resid.2", 500, epochs=3)))
    where = {tuple(row): i for i, row in enumerate(rows_ND[: harvested.rows].tolist())}
    for epoch_ND in rows_ND.split(harvested.rows):
        told_N = window_N[[where[tuple(row)] for row in epoch_ND.tolist()]]
        assert float((told_N[1:] == told_N[:-1]).float().mean()) < 0.2


def test_held_out_rows_are_of_held_out_documents(harvested: Store, text: Corpus) -> None:
    for held_out, side in zip((False, True), text.split(0.05), strict=True):
        reading = harvested.reading(held_out)
        for window in range(0, len(reading), 5):
            ids = reading.ids_WT[window, : reading.length_W[window]].tolist()
            document = side.documents[reading.doc_W[window]].text
            start = int(reading.char_W[window])
            assert document[start:].startswith(decoded(ids))


def decoded(ids: list[int]) -> str:
    return TOKENIZER["it"].decode(ids).rstrip("�")


TOKENIZER: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def _tokenizer(tiny_model: Any) -> None:
    TOKENIZER["it"] = tiny_model.tokenizer


def test_statistics(harvested: Store) -> None:
    rows_ND = torch.cat(list(harvested.batches("resid.2", 512, epochs=1))).float()
    torch.testing.assert_close(harvested.mean("resid.2"), rows_ND.mean(0), atol=1e-4, rtol=1e-4)
    assert harvested.typical_norm("resid.2") == pytest.approx(float(rows_ND.norm(dim=1).median()), rel=1e-5)


def test_rows_fetched_beside_the_next_pool_are_the_same(
    tiny_model: Any, text: Corpus, harvested: Store, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, in threads, but for its streams."""

    @contextlib.contextmanager
    def beside(device: torch.device) -> Iterator[Later]:
        with ThreadPoolExecutor(1) as pool:
            yield pool.submit

    for room in (pooling, harvesting):
        monkeypatch.setattr(room, "later_for", beside)
    found = harvest(tiny_model, text, SITES, name="acts", ws=workspace, **SETTINGS)
    assert len(list(harvested.folder.glob("shard-*"))) > 3
    ours, theirs = ({k: v for k, v in s.manifest["files"].items() if k != "metrics.jsonl"} for s in (found, harvested))
    assert ours == theirs


def test_finished_already_is_opened(tiny_model: Any, text: Corpus, harvested: Store) -> None:
    ws = Workspace.open(harvested.folder.parent.parent)
    before = (harvested.folder / "manifest.json").stat().st_mtime_ns
    again = harvest(tiny_model, text, SITES, name="acts", ws=ws, **SETTINGS)
    assert again.manifest == harvested.manifest
    assert (harvested.folder / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="other settings"):
        harvest(tiny_model, text, SITES, name="acts", ws=ws, **SETTINGS | {"tokens": 7000})


def loud_module(model: Any, token: int, factor: float) -> None:
    with torch.no_grad():
        model.module.transformer.wte.weight[token] *= factor


def test_outliers_are_left_out_at_every_site_and_counted(
    tiny_model_dir: Path, text: Corpus, workspace: Workspace
) -> None:
    """A planted token whose embedding is a thousand times as large: gone from all sites, counted where it was over."""
    import glasshouse

    model = glasshouse.load(tiny_model_dir, device="cpu")
    token = int(
        np.bincount(split_reading(text, model, tokens=6000, context=32, seed=0)[0].ids_WT.ravel()).argsort()[-30]
    )
    loud_module(model, token, 1000)
    found = harvest(model, text, ["embed", "mlp_in.1"], name="loud", ws=workspace, **SETTINGS)
    planted = sum(
        int((r.ids_WT == token)[r.tensors()[1].numpy()].sum()) for r in (found.reading(), found.reading(True))
    )
    assert planted > 20
    sites = found.manifest["sites"]
    assert sites["embed"]["outliers"] == planted and sites["mlp_in.1"]["outliers"] == 0
    assert found.manifest["read"]["left_out"] == planted
    window_N, position_N = found.origin(range(found.rows))
    assert token not in set(found.reading().ids_WT[window_N.numpy(), position_N.numpy()].tolist())
    kept = harvest(model, text, ["embed"], name="kept", ws=workspace, outlier=1e9, **SETTINGS)
    assert kept.manifest["read"]["left_out"] == 0


def test_values_that_are_no_numbers_are_refused(tiny_model_dir: Path, text: Corpus, workspace: Workspace) -> None:
    import glasshouse

    model = glasshouse.load(tiny_model_dir, device="cpu")
    loud_module(model, 0, 1)
    with torch.no_grad():
        model.module.transformer.wpe.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="finite"):
        harvest(model, text, ["resid.1"], name="nan", ws=workspace, **SETTINGS)


@pytest.mark.parametrize(
    ("sites", "changed", "said"),
    [
        (["resid.9"], {}, "resid.9"),
        (["pattern.1"], {}, "one row of activations"),
        ([], {}, "at least one site"),
        (["resid.1"], {"context": 129}, "from 2 to 128"),
        (["resid.1"], {"tokens": 0}, "tokens of at least 1"),
        (["resid.1"], {"outlier": 0.5}, "outlier bound"),
        (["resid.1"], {"tokens": 10**15}, ""),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    tiny_model: Any, text: Corpus, workspace: Workspace, sites: list[str], changed: dict[str, Any], said: str
) -> None:
    if not said:  # more tokens than the corpus has: all of it is read once
        found = harvest(tiny_model, text, sites, name="all", ws=workspace, **SETTINGS | changed)
        assert found.manifest["asked_tokens"] == 10**15 and found.rows < 10**5
        return
    with pytest.raises(UserError, match=said) as caught:
        harvest(tiny_model, text, sites, name="bad", ws=workspace, **SETTINGS | changed)
    assert "\n" not in str(caught.value)
    assert not workspace.path("activations", "bad").exists() and not workspace.partial("activations", "bad").exists()


def test_a_disk_too_small_is_found_before_starting(
    tiny_model: Any, text: Corpus, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(workspace.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(UserError, match="free disk"):
        harvest(tiny_model, text, SITES, name="full", ws=workspace, **SETTINGS)
    assert not workspace.partial("activations", "full").exists()


def test_a_corpus_of_one_short_document(tiny_model: Any, tmp_path: Path, workspace: Workspace) -> None:
    (tmp_path / "one.txt").write_text("A short text.")
    with pytest.raises(UserError):
        harvest(tiny_model, corpus(tmp_path / "one.txt"), SITES, name="one", ws=workspace, **SETTINGS)
    assert not workspace.partial("activations", "one").exists()


def test_what_to_expect(tiny_model: Any, harvested: Store) -> None:
    said = expect(tiny_model, SITES, tokens_per_second=100.0, **SETTINGS)
    assert said.seconds == pytest.approx(63, rel=0.01)
    used = sum(f["bytes"] for f in harvested.manifest["files"].values())
    assert used < said.disk < used + (2 << 20)
    assert expect(tiny_model, SITES, **SETTINGS).seconds > 0
    few, many = (expect(tiny_model, SITES, tokens_per_second=100.0, **SETTINGS | {"tokens": n}) for n in (10**6, 10**7))
    assert many.memory - few.memory == pytest.approx(4 * 9e6 * 1.05), "the text, as int32"


def test_the_page_describes_the_files(harvested: Store) -> None:
    """Every file, tensor and manifest field of a real harvest is one that docs/activations.md names."""
    page = (Path(__file__).parents[2] / "docs" / "activations.md").read_text(encoding="utf-8")
    example = json.loads(page.partition("```json\n")[2].partition("```")[0])
    manifest = harvested.manifest
    common = [
        "format",
        "kind",
        "name",
        "command",
        "created",
        "config",
        "choices",
        "made_from",
        "libraries",
        "files",
        "hash",
    ]
    assert example.keys() == manifest.keys() - {*common}
    assert example["sites"]["resid.3"].keys() == manifest["sites"]["resid.1"].keys()
    assert example["read"].keys() == manifest["read"].keys()
    assert example["shards"][0].keys() == manifest["shards"][0].keys()
    for path in harvested.folder.glob("*.safetensors"):
        table = next(
            line for line in page.splitlines() if line.startswith(f"| `{re.sub('[0-9]{5}', '00000', path.name)}`")
        )
        table = table.replace("`held.…`", table.replace("train.", "held.")).replace("the same,", SHARD_TENSORS)
        with safe_open(path, "np") as handle:
            for key in handle.keys():  # noqa: SIM118  (not a dict)
                named = re.sub("|".join(map(re.escape, SITES)), "SITE", key)
                assert f"`{named}`" in table, (path.name, key)


SHARD_TENSORS = "`SITE` `window` `position` `sum.SITE`"


# -- the plan --------------------------------------------------------------------------------------------------------


def lengths(*length: int) -> Reading:
    n = len(length)
    zeros = np.zeros((n, max(length)), np.int32)
    return Reading(zeros, np.array(length, np.int32), np.zeros(n, np.int32), np.zeros(n, np.int64), True)


def test_pools_and_batches_by_hand() -> None:
    reading = lengths(5, 9, 3, 9, 4, 2)  # with BOS left out: 4, 8, 2, 8, 3, 1 rows
    assert [p.tolist() for p in pools(reading, 12, skip_bos=True)] == [[0, 1], [2, 3], [4, 5]]
    assert [p.tolist() for p in pools(reading, 4, skip_bos=True)] == [[0], [1], [2], [3], [4, 5]]
    assert [b.tolist() for b in batches(reading, np.arange(6), 18)] == [[3, 1], [0, 4, 2], [5]]


def test_a_pool_by_itself_is_the_pool_in_its_place(tiny_model: Any, text: Corpus) -> None:
    reading, _ = split_reading(text, tiny_model, tokens=3000, context=32, seed=0)
    third = pools(reading, 500, skip_bos=True)[2]
    settings: dict[str, Any] = {"thresholds": {"resid.1": 3.0}, "batch_tokens": 256, "skip_bos": True, "seed": [0, 2]}
    plain, filled = (
        fill_pool(tiny_model, reading, third, {"resid.1": 32}, refill=refill, **settings).result()
        for refill in (False, True)
    )
    assert plain.left_out > 10 and len(plain.window_N) + plain.left_out == len(filled.window_N)
    assert len(filled.window_N) == reading.rows(True)[third].sum()
    norms = filled.rows["resid.1"][filled.order_N].float().norm(dim=1)
    assert float(norms.max()) < 3.02
    pairs = lambda pool: set(zip(pool.window_N.tolist(), pool.position_N.tolist(), strict=True))
    assert pairs(plain) == pairs(filled) and len(pairs(plain)) == len(plain.window_N)


# -- killed ----------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys, torch
import glasshouse
from glasshouse.activations import harvest
from glasshouse.text import corpus
from glasshouse.workspace import Workspace

torch.set_num_threads(1)
model = glasshouse.load(sys.argv[1], device="cpu")
harvest(model, corpus(sys.argv[2]), ["resid.1", "resid.2", "z.1"], name="acts", ws=Workspace.open(sys.argv[3]),
        tokens=6000, context=32, batch_tokens=64, buffer_rows=300)
"""


def start(model_dir: Path, corpus_dir: Path, ws: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(model_dir), str(corpus_dir), str(ws)], env=os.environ, stderr=subprocess.PIPE
    )


def kill_when(process: subprocess.Popen[bytes], partial: Path, shards: int) -> bool:
    """SIGKILL as soon as that many shards are there; whether it was still running."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if len(list(partial.glob("shard-*.safetensors"))) >= shards:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.002)
    return False


def test_killed_and_run_again_ends_in_the_same_files(tiny_model_dir: Path, corpus_dir: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    process = start(tiny_model_dir, corpus_dir, whole)
    assert process.wait() == 0, process.stderr.read()  # type: ignore[union-attr]
    partial = cut / "activations" / ".acts.partial"
    for shards in (1, 5):
        process = start(tiny_model_dir, corpus_dir, cut)
        assert kill_when(process, partial, shards), "it had finished before it could be killed"
        with pytest.raises(UserError, match="expected activations/acts"):
            store(Workspace.open(cut), "acts")
    left = {p.name: p.stat().st_mtime_ns for p in partial.glob("shard-*.safetensors")}
    process = start(tiny_model_dir, corpus_dir, cut)
    assert process.wait() == 0, process.stderr.read()  # type: ignore[union-attr]
    one, two = store(Workspace.open(whole), "acts"), store(Workspace.open(cut), "acts")
    assert one.manifest["hash"] == two.manifest["hash"]
    files = {p.name for p in one.folder.iterdir()}
    assert files == {p.name for p in two.folder.iterdir()} and len(files) > 20
    for name in files - {"manifest.json", "metrics.jsonl"}:
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes(), name
    for name, written in left.items():
        assert (two.folder / name).stat().st_mtime_ns == written, f"{name} was made again"


@pytest.mark.gpu
def test_a_gpu_harvests_the_same_rows(
    tiny_model_dir: Path, harvested: Store, text: Corpus, workspace: Workspace
) -> None:
    import glasshouse

    model = glasshouse.load(tiny_model_dir, device="cuda")
    found = harvest(model, text, SITES, name="acts", ws=workspace, **SETTINGS)
    assert found.rows == harvested.rows
    everything = range(found.rows)
    for ours, theirs in zip(found.origin(everything), harvested.origin(everything), strict=True):
        assert torch.equal(ours, theirs)
    for site in SITES:
        ours_ND, theirs_ND = (s.rows_of(site, everything).float() for s in (found, harvested))
        torch.testing.assert_close(ours_ND, theirs_ND, atol=0.05, rtol=0.02)
