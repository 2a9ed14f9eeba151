"""The demo's budget by what the processor has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from glasshouse.dictionaries import write_folder
from glasshouse.features import opening
from glasshouse.features.opening import Budget, demo
from glasshouse.models import load, training
from glasshouse.text import Corpus, Document
from glasshouse.types import UserError
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
    opening.remember(model, tiny_model_dir, workspace)
    for source in ("tiny", tiny_model_dir):
        again = load(source, device="cpu", workspace=workspace)
        assert again.dtype == torch.bfloat16
        opening.remember(again, source, workspace)
    with pytest.raises(UserError, match="dtype"):
        opening.check_known(load("tiny", device="cpu", dtype="float32", workspace=workspace), workspace)


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
