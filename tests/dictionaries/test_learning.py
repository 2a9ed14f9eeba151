"""`learn` on planted directions: it finds them, stores what edits need, and survives being killed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from planted_rows import Planted

from glasshouse.dictionaries import LearnConfig, dictionary, expect, learn
from glasshouse.dictionaries.learning import calibrated_threshold
from glasshouse.types import UserError
from glasshouse.workspace import Workspace, hash_file

SMALL = {"features": 128, "k": 4, "tokens": 65_536, "batch": 256, "held_out_rows": 2048, "statistics_rows": 8192}

CHILD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from planted_rows import Planted
from glasshouse.dictionaries import LearnConfig, learn
from glasshouse.workspace import Workspace

class Slow(Planted):
    def batches(self, *args, **kwargs):
        for batch in super().batches(*args, **kwargs):
            time.sleep(0.004 if not kwargs.get("held_out") else 0)
            yield batch

config = LearnConfig(features=128, k=4, tokens=98_304, batch=256, held_out_rows=512, statistics_rows=512,
                     checkpoint_seconds=0.1, activation=sys.argv[3])
learn(Slow(), "resid.1", name="killed", ws=Workspace.open(sys.argv[2]), config=config, threads=int(sys.argv[4]),
      precision="bf16")
"""


@pytest.mark.parametrize("activation", ["batchtopk", "topk"])
def test_planted_directions_are_found(activation: str, workspace: Workspace) -> None:
    source = Planted()
    found = learn(source, "resid.1", name="p", ws=workspace, config=LearnConfig(activation=activation, **SMALL))  # type: ignore[arg-type]
    nearest = (found.W_dec @ source.directions_FD.T).amax(0)
    assert float((nearest > 0.9).float().mean()) > 0.9, nearest
    assert found.report["unexplained"]["value"] < 0.2
    assert found.report["l0"]["value"] == pytest.approx(4, abs=0.05)
    assert found.max_activation is not None and float(found.max_activation.max()) > 5
    rows = next(source.batches("resid.1", 512))
    assert found.typical_norm == pytest.approx(float(rows.norm(dim=1).median()), rel=0.05)
    again = dictionary("p", ws=workspace)
    assert torch.equal(again.encode(rows), found.encode(rows))
    assert torch.equal(again.max_activation, found.max_activation) and again.typical_norm == found.typical_norm
    lines = workspace.metrics("dictionaries", "p")
    assert {"step", "tokens", "loss", "unexplained", "l0", "dead", "lr", "seconds"} <= set(lines[0])
    assert sum("held_out_unexplained" in line for line in lines) >= 10


def test_a_finished_dictionary_is_not_learnt_again(workspace: Workspace) -> None:
    config = LearnConfig(**{**SMALL, "tokens": 2560})  # type: ignore[arg-type]
    learn(Planted(), "resid.1", name="p", ws=workspace, config=config)
    before = workspace.manifest("dictionaries", "p")["hash"]
    learn(Planted(), "resid.1", name="p", ws=workspace, config=config)
    assert workspace.manifest("dictionaries", "p", verify=True)["hash"] == before
    with pytest.raises(UserError, match="other settings"):
        learn(Planted(), "resid.1", name="p", ws=workspace, config=LearnConfig(**{**SMALL, "k": 5}))  # type: ignore[arg-type]


def test_other_rows_of_a_source_of_the_same_name_are_refused(workspace: Workspace) -> None:
    config = LearnConfig(**{**SMALL, "tokens": 2560})  # type: ignore[arg-type]
    source, other = Planted(), Planted(seed=1)
    source.hash, other.hash = "one", "two"
    learn(source, "resid.1", name="p", ws=workspace, config=config)
    learn(source, "resid.1", name="p", ws=workspace, config=config)
    with pytest.raises(UserError, match="source_hash: 'one' then, 'two' now"):
        learn(other, "resid.1", name="p", ws=workspace, config=config)


def test_where_all_features_may_be_active_the_threshold_is_0(workspace: Workspace) -> None:
    config = LearnConfig(**{**SMALL, "features": 1, "k": 1, "tokens": 2560})  # type: ignore[arg-type]
    found = learn(Planted(), "resid.1", name="p", ws=workspace, config=config)
    assert found.activation.threshold_F is not None and found.activation.threshold_F.tolist() == [0.0]
    all_on = replace(
        found, W_enc=torch.eye(4), b_enc=torch.ones(4), W_dec=torch.eye(4), b_dec=torch.zeros(4), max_activation=None
    )
    assert (
        calibrated_threshold(all_on, torch.rand(64, 4), k=4)
        == 0.0
        < calibrated_threshold(all_on, torch.rand(64, 4), k=3)
    )


def _child(root: Path, activation: str, threads: int) -> subprocess.Popen[bytes]:
    here, house = Path(__file__).parent, Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": str(house), "OMP_NUM_THREADS": str(threads)}
    words = [sys.executable, "-c", CHILD, str(here), str(root), activation, str(threads)]
    return subprocess.Popen(words, env=env, stderr=subprocess.PIPE)


@pytest.mark.parametrize(("activation", "threads"), [("batchtopk", 1), ("batchtopk", 2)])
def test_killed_twice_it_ends_in_the_same_weights_bit_for_bit(activation: str, threads: int, tmp_path: Path) -> None:
    whole = _child(tmp_path / "whole", activation, threads)
    if threads > 1:  # two such programs on two cores spin for each other
        assert whole.wait(timeout=600) == 0
    kills, root = 0, tmp_path / "killed"
    deadline = time.monotonic() + 600  # a guard against hanging, not a measure
    while True:
        child = _child(root, activation, threads)
        seen = set((root / "dictionaries/.killed.partial/checkpoints").glob("0*.safetensors"))
        while child.poll() is None and kills < 2:
            fresh = set((root / "dictionaries/.killed.partial/checkpoints").glob("0*.safetensors")) - seen
            if len(fresh) >= 1:
                os.kill(child.pid, signal.SIGKILL)
                kills += 1
                break
            assert time.monotonic() < deadline
            time.sleep(0.02)
        _, errors = child.communicate(timeout=600)
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL, errors.decode()
    assert whole.wait(timeout=600) == 0
    assert kills == 2
    for name in ("sae_weights.safetensors", "statistics.safetensors", "report.json"):
        pair = [tmp_path / where / "dictionaries/killed" / name for where in ("whole", "killed")]
        assert hash_file(pair[0]) == hash_file(pair[1]), name
    choices = [Workspace.open(tmp_path / w).manifest("dictionaries", "killed")["choices"] for w in ("whole", "killed")]
    assert choices[0] == choices[1] == {"threads": threads, "precision": "bf16"}
    numbers = [Workspace.open(tmp_path / where).metrics("dictionaries", "killed") for where in ("whole", "killed")]
    assert [line["step"] for line in numbers[0]] == [line["step"] for line in numbers[1]]


def test_what_a_run_will_take_is_said_before() -> None:
    few = expect(LearnConfig(features=1024, tokens=100_000), 64)
    many = expect(LearnConfig(features=16_384, tokens=10_000_000), 256)
    assert many.seconds > 100 * few.seconds and many.disk > few.disk > 0 and many.memory > few.memory


@pytest.mark.gpu
def test_learn_on_cuda(workspace: Workspace) -> None:
    found = learn(Planted(), "resid.1", name="p", ws=workspace, config=LearnConfig(**SMALL), device="cuda")  # type: ignore[arg-type]
    assert found.report["unexplained"]["value"] < 0.2
