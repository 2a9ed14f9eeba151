"""Evaluations written as `evaluate` writes them, with scores that a test chooses: no model is run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from glasshouse.behaviours.behaviour import Behaviour, behaviour_from_json
from glasshouse.behaviours.evaluation import BEHAVIOUR, SAMPLES, _sample_json, evaluation_name, planned
from glasshouse.behaviours.scorers import scored_by
from glasshouse.behaviours.versions import Version
from glasshouse.workspace import Workspace


def a_model(ws: Workspace, name: str = "m", said: str = "weights") -> None:
    with ws.writing("models", name, config={}, command="grow") as draft:
        (draft.path / "weights.txt").write_text(said)
        draft.finish()


def asked(name: str, families: Sequence[int], *, good: str = "up", margin: float = 0.05, **more: Any) -> Behaviour:
    """As many families as there are numbers, each with so many wordings."""
    form = {
        "name": name,
        "about": f"About {name}.",
        "tag": "guard",
        "good": good,
        "margin": margin,
        "scorer": "refusal",
    }
    form["families"] = [
        {"family": f"f{i:02}", "prompts": [f"Asked {i} in way {n}" for n in range(count)]}
        for i, count in enumerate(families)
    ]
    return behaviour_from_json({**form, **more})


def write_evaluation(
    ws: Workspace, version: Version, behaviour: Behaviour, scores: Sequence[float | None], *,
    tokens: int = 5, seconds: float = 2.0, created: str = "2026-01-01T00:00:00+00:00", seed: int = 0,
) -> str:  # fmt: skip
    """One score a sample, in the behaviour's order; its name."""
    name = evaluation_name(version, behaviour, seed)
    config = {"version": version.hash, "behaviour": behaviour.hash, "seed": seed, "scorer": scored_by(behaviour.scorer)}
    samples = [
        replace(one, reply=f"{score}", tokens=tokens) for one, score in zip(planned(behaviour), scores, strict=True)
    ]
    lines = (json.dumps({**_sample_json(s), "score": score}) + "\n" for s, score in zip(samples, scores, strict=True))
    with ws.writing("evals", name, config=config, command="test") as draft:
        draft.log(samples=len(samples), tokens=tokens * len(samples), seconds=seconds)
        (draft.path / SAMPLES).write_text("".join(lines))
        (draft.path / BEHAVIOUR).write_text(json.dumps(behaviour.to_json()))
        draft.finish(version=version.to_json(), created=created)
    return name
