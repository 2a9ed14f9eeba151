"""The store by itself: shards of made-up rows, written by its own writer and read back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from glasshouse.activations.pooling import Pool
from glasshouse.activations.reading import Reading, save_readings
from glasshouse.activations.storage import Store, keep_shard, shard_name, store, summary, write_shard
from glasshouse.text.windows import WINDOWS
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

SITES = {"resid.1": 4, "z.0": 6}
SHARD_ROWS = (50, 30, 41)


def made_reading(windows: int) -> Reading:
    rng = np.random.default_rng(5)
    return Reading(
        rng.integers(0, 99, (windows, 12)).astype(np.int32),
        rng.integers(4, 12, windows).astype(np.int32),
        np.arange(windows, dtype=np.int32),
        np.arange(windows, dtype=np.int64) * 7,
        True,
        None if windows < 9 else rng.random((windows, 12)) < 0.5,
    )


def made_pool(rows: int, seed: int) -> Pool:
    generator = torch.Generator().manual_seed(seed)
    values = {s: torch.randn(rows, w, generator=generator).to(torch.bfloat16) + 1 for s, w in SITES.items()}
    return Pool(
        rows=values,
        order_N=torch.randperm(rows, generator=generator),
        window_N=torch.arange(rows, dtype=torch.int32) + 100 * seed,
        position_N=torch.arange(rows, dtype=torch.int32) % 11 + 1,
        sums={s: v.double().sum(0) for s, v in values.items()},
        outliers={"resid.1": 2, "z.0": 1},
        left_out=3,
        bos=5,
        tokens=rows + 8,
    )


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "ws")


@pytest.fixture
def made(ws: Workspace) -> Store:
    return write(ws)


def write(ws: Workspace, name: str = "acts") -> Store:
    config = {"model": "tiny", "model_version": "0"}
    with ws.writing("activations", name, config=config, command="harvest") as draft:
        save_readings(draft.path / WINDOWS, made_reading(9), made_reading(3))
        for index, rows in enumerate(SHARD_ROWS):
            write_shard(draft.path, shard_name(index, False), made_pool(rows, index))
            keep_shard(draft.path, shard_name(index, False))
        write_shard(draft.path, shard_name(0, True), made_pool(20, 9))
        keep_shard(draft.path, shard_name(0, True))
        draft.finish(**summary(draft.path, SITES, dict.fromkeys(SITES, 10.0)))
    return store(ws, name)


def all_rows(site: str) -> torch.Tensor:
    return torch.cat([ordered(made_pool(rows, index), site) for index, rows in enumerate(SHARD_ROWS)])


def ordered(pool: Pool, site: str) -> torch.Tensor:
    return pool.rows[site][pool.order_N]


def test_counts_and_statistics(made: Store) -> None:
    assert made.sites == ("resid.1", "z.0")
    assert made.rows == sum(SHARD_ROWS) and made.held_out_rows == 20
    assert made.width("z.0") == 6 and made.width("blocks.1.hook_resid_pre") == 4
    rows_ND = all_rows("resid.1").float()
    assert torch.allclose(made.mean("resid.1"), rows_ND.mean(0), atol=1e-6)
    assert made.typical_norm("resid.1") == pytest.approx(float(rows_ND.norm(dim=1).median()))
    assert made.outlier_threshold("resid.1") == 10.0 and made.hash == made.manifest["hash"]
    assert made.manifest["sites"]["resid.1"]["outliers"] == 8  # two a shard, the held-out one too
    assert made.manifest["read"] == {"tokens": sum(SHARD_ROWS) + 20 + 4 * 8, "bos": 20, "left_out": 12}


def test_one_epoch_is_the_rows_as_they_lie(made: Store) -> None:
    got = list(made.batches("resid.1", 16, epochs=1))
    assert [len(b) for b in got] == [16] * 7 + [121 - 112]
    assert got[0].dtype == torch.bfloat16
    assert torch.equal(torch.cat(got), all_rows("resid.1"))


def test_held_out_rows_come_once(made: Store) -> None:
    assert torch.equal(torch.cat(list(made.batches("z.0", 7, held_out=True))), ordered(made_pool(20, 9), "z.0"))


def take(batches: object, count: int) -> list[torch.Tensor]:
    return [next(batches) for _ in range(count)]  # type: ignore[call-overload]


@pytest.mark.parametrize("batch_rows", [1, 16, 50, 121, 200])
def test_any_batch_can_be_had_without_those_before_it(made: Store, batch_rows: int) -> None:
    count = 500 // batch_rows + 2
    whole = take(made.batches("resid.1", batch_rows, seed=3), count)
    for index in {0, 1, count // 2, count - 1}:
        first = next(made.batches("resid.1", batch_rows, seed=3, start_row=index * batch_rows))
        assert torch.equal(first, whole[index])


def test_later_epochs_hold_the_same_rows_in_another_order(made: Store) -> None:
    sequence = torch.cat(list(made.batches("resid.1", 121, epochs=3, seed=1))).float()
    first, second, third = sequence.split(121)
    assert torch.equal(first, all_rows("resid.1").float())
    assert not torch.equal(first, second) and not torch.equal(second, third)
    for epoch in (second, third):
        assert torch.equal(epoch.sort(dim=0).values, first.sort(dim=0).values)
    first_shard = {tuple(row) for row in made_pool(SHARD_ROWS[0], 0).rows["resid.1"].float().tolist()}
    orders = [[row for row in epoch.tolist() if tuple(row) in first_shard] for epoch in (first, second, third)]
    assert orders[0] != orders[1] != orders[2] != orders[0], "within a shard too"
    other = torch.cat(list(made.batches("resid.1", 121, epochs=2, seed=2))).float()
    assert not torch.equal(other[121:], second), "another seed, another order"


def test_all_sites_share_the_order(made: Store) -> None:
    """Row i of each site is the same token, in every epoch: pairs are what a transcoder learns from."""
    a = torch.cat(list(made.batches("resid.1", 33, epochs=2, seed=4)))
    b = torch.cat(list(made.batches("z.0", 33, epochs=2, seed=4)))
    ours = {tuple(x.tolist()): tuple(y.tolist()) for x, y in zip(all_rows("resid.1"), all_rows("z.0"), strict=True)}
    assert all(ours[tuple(x.tolist())] == tuple(y.tolist()) for x, y in zip(a, b, strict=True))


def test_rows_by_number(made: Store) -> None:
    indices = [120, 0, 49, 50, 79, 80, 3, 3]
    assert torch.equal(made.rows_of("z.0", indices), all_rows("z.0")[indices])
    window_N, position_N = made.origin(indices)
    assert window_N[0] == 200 + 40 and position_N[0] == 40 % 11 + 1
    with pytest.raises(IndexError, match="121"):
        made.rows_of("z.0", [121])


def test_windows_are_kept(made: Store) -> None:
    ids_WT, mask_WT = made.windows(held_out=False)
    assert torch.equal(ids_WT, torch.from_numpy(made_reading(9).ids_WT).long())
    assert mask_WT.sum(1).tolist() == made_reading(9).length_W.tolist()
    assert (made.reading(False).learnt_WT == made_reading(9).learnt_WT).all() and made.reading(True).learnt_WT is None
    assert made.reading(True).bos and len(made.reading(True)) == 3


def test_reading_does_not_write(made: Store) -> None:
    batch = next(made.batches("resid.1", 8))
    batch.zero_()
    assert torch.equal(next(made.batches("resid.1", 8)), all_rows("resid.1")[:8])


def test_a_site_that_was_not_harvested(made: Store) -> None:
    with pytest.raises(UserError, match=r"expected one of resid\.1, z\.0.*got resid\.2"):
        next(made.batches("resid.2", 8))


def truncate(folder: Path) -> None:
    os.truncate(folder / "shard-00001.safetensors", 100)


def remove(folder: Path) -> None:
    (folder / "held-00000.safetensors").unlink()


def edit(folder: Path) -> None:
    file = folder / "manifest.json"
    file.write_text(file.read_text().replace('"typical_norm": ', '"typical_norm": 1'))


def reach_out(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][0]["file"] = "../../../secret"
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("harm", [truncate, remove, edit, reach_out])
def test_a_harmed_store_is_one_clear_line(ws: Workspace, made: Store, harm: Callable[[Path], None]) -> None:
    harm(made.folder)
    with pytest.raises(UserError) as caught:
        store(ws, "acts")
    assert "\n" not in str(caught.value)


def test_a_shard_of_another_shape_is_refused(ws: Workspace, made: Store) -> None:
    """Of the right size, so that only its header tells."""
    other = made.folder / "shard-00000.safetensors"
    content = other.read_bytes().replace(b'"shape":[50,4]', b'"shape":[4,50]')
    other.write_bytes(content)
    with pytest.raises(UserError, match=r"expected resid\.1 of shape"):
        next(store(ws, "acts").batches("resid.1", 8))
    with pytest.raises(UserError, match="does not match the hash"):
        Store(made.folder, verify=True)


def test_what_is_not_there(ws: Workspace, made: Store) -> None:
    with pytest.raises(UserError, match="found acts"):
        store(ws, "other")


def test_the_same_pool_is_the_same_file(ws: Workspace, made: Store) -> None:
    again = write(ws, "again")
    files = {k: v for k, v in made.manifest["files"].items() if k != "metrics.jsonl"}
    assert files == {k: v for k, v in again.manifest["files"].items() if k != "metrics.jsonl"}


def test_a_store_is_read_without_a_model() -> None:
    code = "import sys, glasshouse.activations.storage; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
