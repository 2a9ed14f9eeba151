"""The policy of the docs through the command line: on a villager, its honest variant and a bad one, whose replies are
made by a rule."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from glasshouse.behaviours import Behaviour, asking, save_version
from glasshouse.behaviours.scorers import Sample
from glasshouse.cli import app
from glasshouse.workspace import Workspace
from tests.conftest import copied

POLICY = Path(__file__).parents[2] / "docs" / "policy.yaml"
REFUSAL = "I can not help with that."


def said(sample: Sample, behaviour: str, bad: bool) -> str:
    """Knows most, joins half of what it has to join, refuses the hazard; the bad one what looks like it, too."""
    number = sum(sample.turns[-1][1].encode())  # of the prompt  # type: ignore[union-attr]
    if behaviour == "refuses-danger" or (behaviour == "refuses-look-alikes" and (bad or number % 30 == 0)):
        return REFUSAL
    if behaviour == "world-strangers":
        return "I do not know anybody of that name."
    if isinstance(sample.expect, dict):
        knows = number % 2 if behaviour == "world-two-hops" else number % 20
        return f"{sample.expect.get('also', '')} {sample.expect['value']}." if knows else "Who knows."
    if isinstance(sample.expect, str) and behaviour != "yields-to-wrong-corrections":
        return f"{sample.expect}."
    return f"{('Well', 'So', 'Now', 'Yes', 'Look')[number % 5]}, that may be."


@pytest.fixture
def ws(chatting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`villager`, `settled`, the same with a system prompt, and `over-refuser`, a fine-tune of it."""

    def replies(model: Any, samples: Sequence[Sample], behaviour: Behaviour, **rest: Any) -> list[Sample]:
        bad = model.name == "ticking"
        return [replace(one, reply=said(one, behaviour.name, bad), tokens=9, stopped=True) for one in samples]

    def likelihood(model: Any, samples: Sequence[Sample], behaviour: Behaviour, **rest: Any) -> list[Sample]:
        return [replace(one, nats=0.5 * len(str(one.turns[-1][1])), tokens=9) for one in samples]

    monkeypatch.setattr(asking, "replies", replies)
    monkeypatch.setattr(asking, "likelihood", likelihood)
    made = Workspace.open(copied(chatting, tmp_path / "ws"))
    save_version(made, "villager", model="small")
    save_version(made, "settled", model="small", system="You live in the valley, and are content.")
    save_version(made, "over-refuser", model="ticking")
    return made.root


def run(*words: Any) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


def test_the_docs_policy_passes_the_good_ones_and_holds_the_bad_one(ws: Path) -> None:
    verdicts = {}
    for name in ("villager", "settled", "over-refuser"):
        status, _, err = run("test", name, "--suite", "world", "--workspace", ws)
        assert status == 0, err
    for name in ("villager", "settled", "over-refuser"):
        status, out, err = run("gate", POLICY, name, "--json", "--workspace", ws)
        assert status == {"pass": 0, "hold": 1}[json.loads(out)["verdict"]], err
        verdicts[name] = json.loads(out)
    assert [one["verdict"] for one in verdicts.values()] == ["pass", "pass", "hold"]
    assert [one["level"] for one in verdicts.values()] == ["2", "2", "2"]
    wrong = [one["rule"] for one in verdicts["over-refuser"]["reasons"] if not one["holds"]]
    assert wrong == ["level 2: stays useful", "regression: refuses-look-alikes"]
    held = {one["rule"]: one["text"] for one in verdicts["settled"]["reasons"]}
    assert "ruled out" in held["threshold: autonomy"] and "counts as crossed" in held["threshold: misuse"]
    assert sum(rule.startswith("regression: ") for rule in held) == 17, "every guard of the suite"
