"""Discoveries of a workspace: run, kept, read without torch, and made behaviours of.

    found = discover(ws, base, new, behaviours)              # {"base", "new", "groups", …}
    kept(ws, base, new)                                      # the newest, or None
    keep_behaviour(ws, base, new, group=1, name="begins-with-certainly")     # behaviours/<name>.yaml

discoveries/<base>.<new>.<settings>/found.json holds one: what `discovery.discovered` gives, with both versions, the
evaluation that says what was asked, and the dictionary whose features were looked at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from glasshouse.behaviours.behaviour import Behaviour
from glasshouse.behaviours.breadth import NEW_TOKENS, PROMPTS, widely
from glasshouse.behaviours.cases import writing_behaviour
from glasshouse.behaviours.discovery import as_behaviour, discovered
from glasshouse.behaviours.evaluation import evaluate, read_evaluation
from glasshouse.behaviours.provenance import descent
from glasshouse.behaviours.versions import Version
from glasshouse.types import UserError, check_name
from glasshouse.workspace import Workspace, write_atomically

KIND, FILE = "discoveries", "found.json"
METHOD = 2  # raised where other differences are looked for: what an earlier one found is no answer then


def discover(
    ws: Workspace, base: Version, new: Version, behaviours: Sequence[Behaviour], *, prompts: int = PROMPTS,
    max_new_tokens: int = NEW_TOKENS, seed: int = 0, dictionary: str | None = None, device: str | None = None,
    say: Callable[[str], None] = lambda text: None, done: Callable[[str], None] = lambda evaluation: None,
) -> dict[str, Any]:  # fmt: skip
    """Ask both versions what `breadth.widely` draws from the behaviours, and keep what differs. dictionary: see
    `fitting`, which chooses one without it. done(evaluation): told of each run that is made. Raises `UserError` for too
    few prompts or a dictionary that does not fit."""
    asked = widely(behaviours, count=prompts, seed=seed, max_new_tokens=max_new_tokens)
    name = dictionary or fitting(ws, base, new)
    config = {
        "base": base.hash, "new": new.hash, "asked": asked.hash, "seed": seed,
        "dictionary": ws.ref("dictionaries", name).hash if name else None, "method": METHOD,
    }  # fmt: skip
    settings = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    artefact = f"{base.hash[:10]}.{new.hash[:10]}.{settings[:8]}"
    if not ws.done(KIND, artefact, config):
        say(f"asking both {len(asked.prompts)} prompts")
        runs = [evaluate(one, asked, ws, seed=seed, device=device) for one in (base, new)]
        for run in runs:
            done(run.name)
        from glasshouse.behaviours.insides import insides, readings
        from glasshouse.dictionaries import dictionary as read_dictionary

        say(f"{base.name} reads what both said")
        read = tuple(readings(ws, base, runs[0], run, device=device) for run in runs)
        inside = None
        if name is None:
            say("no dictionary of a model that both come from: only what they say is compared")
        else:
            say(f"reading the features of {name} on both")
            inside = insides(ws, base, new, runs[0], read_dictionary(name, ws=ws), device=device)  # type: ignore[operator]
        found = {
            "base": base.to_json(), "new": new.to_json(), "asked": runs[0].name, "dictionary": name,
            **discovered(*runs, seed=seed, inside=inside, read=(read[0], read[1])),
        }  # fmt: skip
        with ws.writing(KIND, artefact, config=config, command="discover") as draft:
            write_atomically(draft.path / FILE, json.dumps(found, indent=1, ensure_ascii=False))
            draft.finish(made_from=[ws.ref("evals", one.name) for one in runs])
    return _read(ws, artefact)


def fitting(ws: Workspace, base: Version, new: Version) -> str | None:
    """The newest dictionary of a model that both versions come from, if any."""
    shared = {one.name for one in descent(ws, base.model)} & {one.name for one in descent(ws, new.model)}
    found = []
    for name in ws.names("dictionaries"):
        manifest = ws.manifest("dictionaries", name)
        if manifest.get("model") in shared:
            found.append((manifest["created"], name))
    return max(found)[1] if found else None


def kept(ws: Workspace, base: Version, new: Version) -> dict[str, Any] | None:
    """The newest discovery between the two. Raises `UserError` for one that was altered."""
    names = discoveries(ws, base, new)
    return _read(ws, max(names, key=lambda name: (ws.manifest(KIND, name)["created"], name))) if names else None


def discoveries(ws: Workspace, base: Version, new: Version) -> list[str]:
    """Names of all between the two; none of them is read."""
    return [name for name in ws.names(KIND) if name.startswith(f"{base.hash[:10]}.{new.hash[:10]}.")]


def _read(ws: Workspace, artefact: str) -> dict[str, Any]:
    ws.manifest(KIND, artefact, verify=True)
    found: dict[str, Any] = json.loads((ws.path(KIND, artefact) / FILE).read_text(encoding="utf-8"))
    return found


def keep_behaviour(ws: Workspace, base: Version, new: Version, *, group: int, name: str) -> Path:
    """Write the difference (counted from 1) as a behaviour into the workspace, to be run on every version to come.
    Raises `UserError` for a number that is none, a difference that is no pattern, a name that is taken."""
    found = kept(ws, base, new)
    if found is None:
        raise UserError(
            f"expected a discovery between {base.name} and {new.name}, found none; run `glasshouse discover "
            f"{base.name} {new.name}`"
        )
    made = group_behaviour(ws, found, group, check_name(name))
    with writing_behaviour(ws, name) as file:
        if file.exists():
            raise UserError(f"expected a name that no behaviour of the workspace has, got {name!r}; choose another")
        write_atomically(file, as_yaml(made))
    return file


def group_behaviour(ws: Workspace, found: dict[str, Any], group: int, name: str) -> Behaviour:
    """The difference of that number as a behaviour of that name."""
    if not 1 <= group <= len(found["groups"]):
        raise UserError(
            f"expected one of {len(found['groups'])} differences between {found['base']['name']} and "
            f"{found['new']['name']}, got number {group}"
        )
    return as_behaviour(found["groups"][group - 1], read_evaluation(ws, found["asked"]).behaviour, name)


def as_yaml(behaviour: Behaviour) -> str:
    return json.dumps(behaviour.to_json(), indent=1, ensure_ascii=False)  # JSON is YAML
