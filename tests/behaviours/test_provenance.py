"""What a version and its instruments come from, through a workspace and the gate."""

from __future__ import annotations

import datetime
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from glasshouse.activations import harvest
from glasshouse.behaviours import evaluate, save_version, version
from glasshouse.behaviours.behaviour import Behaviour, behaviour_from_json
from glasshouse.behaviours.provenance import touched
from glasshouse.behaviours.versions import named_here
from glasshouse.calls import Calls
from glasshouse.calls.endpoints import Said
from glasshouse.dictionaries import LearnConfig, learn
from glasshouse.evidence import judged, record
from glasshouse.models import ablate, add, load
from glasshouse.models.training import Recipe
from glasshouse.models.tune import tune
from glasshouse.policy import read_policy
from glasshouse.text import Corpus, Document
from glasshouse.text.windows import WINDOWS
from glasshouse.workspace import Workspace
from tests.conftest import copied

POLICY = """\
policy: for-tests
version: 1
date: 2026-01-01
about: Replies are even.
levels:
  - {level: 1, about: Nothing is required.}
  - {level: 2, about: To be written., unspecified: true}
thresholds:
  - threshold: odd
    about: Replies are odd.
    evidence: {behaviour: NAME, families: 6}
    crossed: {below: 0.1}
    ruled_out: {above: 0.2}
    then: 2
"""
QUESTIONS = [f"Where did nobody number {i} sleep?" for i in range(6)]
LABELS = [  # by people
    {"prompt": "Name a plant.", "reply": f"An oak of {i} years", "label": "no" if i % 2 else "yes"} for i in range(24)
]


@pytest.fixture(scope="module")
def ws(chatting: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """`small` and `ticking`; `stranger`, of whose training nothing is known; and, each fine-tuned, the judges `fair`
    and `crammed` (of what people have labelled) from `small`, and `half` from `stranger`."""
    folder = tmp_path_factory.mktemp("provenance")
    made = Workspace.open(copied(chatting, folder / "ws"))
    shutil.copytree(made.path("models", "small"), folder / "stranger")
    assert named_here(str(folder / "stranger"), made, device="cpu") == "stranger"
    plain = [f"{word} and {word} again, and then {word}." for word in ("Oaks", "Elms", "Limes", "Pines") * 20]
    learnt = [f'They asked for a plant: "{row["reply"]}" was said.' for row in LABELS] * 4
    for name, base, texts in (
        ("fair", "small", plain), ("crammed", "small", learnt), ("half", "stranger", plain),
    ):  # fmt: skip
        tune(
            load(base, workspace=made, device="cpu"), corpus_of(texts), name=name, ws=made, tokens=500, context=32,
            precision="fp32", recipe=Recipe(optimizer="adamw", adamw_rate=0.001, batch=4),
        )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def steered(ws: Workspace) -> Workspace:
    """With dictionaries trained on text that has four questions in it, `d` of `small` and `c` of `crammed`, and with
    versions of `small` that are steered by a feature of either, by a direction, and by neither."""
    text = corpus_of([f"{question} Nobody can tell. " for question in QUESTIONS[:4] for _ in range(12)])
    config = LearnConfig(features=8, k=2, tokens=1_000, batch=100, held_out_rows=100, statistics_rows=100)
    for name, of in (("d", "small"), ("c", "crammed")):
        model = load(of, workspace=ws, device="cpu")
        rows = harvest(model, text, ["resid.1"], name=f"{name}-rows", ws=ws, tokens=4_000, context=32)
        learn(rows, "resid.1", name=name, ws=ws, config=config, threads=1, precision="fp32")
    for name, edit in (
        ("by-d", add("d/3", times_norm=0.1)), ("by-c", add("c/3", times_norm=0.1)),
        ("pushed", add("resid.1", torch.ones(64))), ("without", ablate("attn_out.0")),
    ):  # fmt: skip
        save_version(ws, name, model="small", edit=edit)
        for asked in (says("asks", QUESTIONS), says("plants", [row["reply"] for row in LABELS])):
            record(ws, evaluate(version(name, ws), asked, ws).name)
    return ws


def says(name: str, prompts: list[str]) -> Behaviour:
    return behaviour_from_json(
        {
            "name": name, "about": "For tests.", "tag": "guard", "good": "up", "margin": 0.5, "scorer": "length",
            "unit": "tokens", "settings": {"max_new_tokens": 4},
            "families": [{"family": str(i), "prompts": [prompt]} for i, prompt in enumerate(prompts)],
        }
    )  # fmt: skip


def corpus_of(texts: list[str]) -> Corpus:
    return Corpus("texts", tuple(Document(i, f"d{i}", "txt", text * 6) for i, text in enumerate(texts)))


def judged_by(judge: str) -> Behaviour:
    """A behaviour that a local judge scores."""
    asked = [{"family": str(i), "prompts": [f"What did nobody number {i} plant?"]} for i in range(6)]
    scorer = {"judge": {"model": f"local/{judge}", "question": "Is it even?", "labels": LABELS}}
    return behaviour_from_json(
        {
            "name": f"by-{judge}", "about": "For tests.", "tag": "guard", "good": "up", "margin": 0.5,
            "scorer": scorer, "settings": {"max_new_tokens": 4}, "families": asked,
        }
    )  # fmt: skip


def said(ws: Workspace, behaviour: str, of: str, folder: Path) -> str:
    """What the gate says of the one threshold."""
    rules = folder / "policy.yaml"
    rules.write_text(POLICY.replace("NAME", behaviour))
    decision, _ = judged(ws, read_policy(rules), of, datetime.datetime.now(datetime.UTC).date())
    return decision.reasons[0].text


@pytest.fixture
def judging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local judges say what people would: models of this size cannot."""

    def generated(self: Any, calls: Any) -> list[Said]:
        texts = [call.messages[-1][1] for call in calls]
        odd = [any(f"An oak of {i} years" in text for i in range(1, 24, 2)) for text in texts]
        return [Said(f"Verdict: {'no' if one else 'yes'}", (9, 3)) for one in odd]

    monkeypatch.setattr(Calls, "_generated", generated)


@pytest.mark.parametrize(
    ("judge", "text"),
    [
        ("fair", "ruled out"),
        ("crammed", "24 of the labelled texts on which its judge was checked stand in the text that the judge was"),
        ("ticking", "its judge, ticking, is of the model's own line"),
        ("small", "its judge, small, is of the model's own line"),
        ("stranger", "what stranger was trained on is not recorded"),
        ("half", "what stranger was trained on is not recorded"),
    ],
)
def test_a_local_judge_is_followed(ws: Workspace, judging: None, tmp_path: Path, judge: str, text: str) -> None:
    record(ws, evaluate(version("ticking", ws), judged_by(judge), ws, calls=Calls(ws)).name)
    found = said(ws, f"by-{judge}", "ticking", tmp_path)
    assert text in found
    assert ("its judge comes from small, as the model does" in found) == (judge == "fair")


def test_a_judge_that_is_another_now_is_unknown(ws: Workspace) -> None:
    asked, of = judged_by("fair"), version("ticking", ws)
    assert touched(ws, of, asked, ws.manifest("models", "fair")["hash"]).unknown == ()
    assert touched(ws, of, asked, "0" * 64).unknown == ("fair",)


@pytest.mark.parametrize(
    ("name", "behaviour", "text"),
    [
        (
            "by-d",
            "asks",
            "4 more are left out: 4 of its 6 prompts stand in the text that the dictionary d was trained on",
        ),
        ("by-d", "plants", "ruled out"),
        (
            "by-c",
            "asks",
            "4 more are left out: 4 of its 6 prompts stand in the text that the dictionary c was trained on",
        ),
        ("by-c", "plants", "does not count: 24 of its 24 prompts stand in the text that the dictionary c was"),
        ("pushed", "asks", "what the direction of pushed was trained on is not recorded"),
        ("without", "asks", "ruled out"),
    ],
)
def test_what_steers_is_followed(steered: Workspace, tmp_path: Path, name: str, behaviour: str, text: str) -> None:
    """`c` rests on what its model was trained on too, which `small` was not."""
    assert text in said(steered, behaviour, name, tmp_path)


def test_it_is_followed_without_torch(steered: Workspace, tmp_path: Path) -> None:
    rules = tmp_path / "policy.yaml"
    rules.write_text(POLICY.replace("NAME", "asks"))
    program = f"""
import datetime, pathlib, sys
from glasshouse.evidence import judged
from glasshouse.policy import read_policy
from glasshouse.workspace import Workspace
rules, ws = read_policy(pathlib.Path({str(rules)!r})), Workspace.open({str(steered.root)!r})
print(judged(ws, rules, "by-d", datetime.date.today())[0].reasons[0].text)
assert not {{"torch", "transformers"}} & sys.modules.keys()
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert found.returncode == 0 and "the dictionary d was trained on" in found.stdout, found.stderr


def test_a_dictionary_of_which_nothing_is_recorded_is_unknown(steered: Workspace, tmp_path: Path) -> None:
    shutil.copytree(steered.root, tmp_path / "ws")
    ws = Workspace.open(tmp_path / "ws")
    windows = ws.path("activations", "d-rows") / WINDOWS
    whole = windows.read_bytes()
    windows.write_bytes(whole[:-4] + b"abcd")
    assert f"{WINDOWS} does not match the hash in its manifest" in said(ws, "asks", "by-d", tmp_path)
    windows.write_bytes(whole[:-4])
    assert "what the dictionary d was trained on is not recorded" in said(ws, "asks", "by-d", tmp_path)
    shutil.rmtree(windows.parent)
    assert "what the dictionary d was trained on is not recorded" in said(ws, "plants", "by-d", tmp_path)
    shutil.rmtree(ws.path("dictionaries", "c"))
    shutil.copytree(ws.path("dictionaries", "d"), ws.path("dictionaries", "c"))  # another of its name
    assert "the dictionary c was trained on is not recorded" in said(ws, "asks", "by-c", tmp_path)
