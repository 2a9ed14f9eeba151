"""A version held against the base of a policy's regressions: every guard that was run on the base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from glasshouse.evidence.recorded import Ledger, defined, last, problem_of, runs_of, seeds
from glasshouse.evidence.touching import touched_by
from glasshouse.workspace import Workspace

if TYPE_CHECKING:
    from glasshouse.behaviours import Version


def comparison_of(
    ws: Workspace, base: Version, new: Version, recorded: Ledger, pinned: Mapping[str, str]
) -> dict[str, Any]:  # fmt: skip
    """Of what was recorded of the base with the same on the new version; of several seeds that both have, the worst.
    Of guards, what cannot count is under "unsound", and what the new version lacks under "missing". A cell of whose
    families training has touched some has the same without these under "clean"."""
    from glasshouse.behaviours import compared, read_evaluation
    from glasshouse.behaviours.matrix import counterpart, newest

    runs = runs_of(ws, base, recorded)
    if not runs and not newest(ws, base):
        return compared(ws, base, new)  # which says that there are none
    pairs: dict[str, list[tuple[str, str]]] = {}
    unsound = {
        name: f"the definition {begins} was not run on {base.name}"
        for name, begins in pinned.items()
        if not defined(runs.get(name, []), recorded, begins)
    }
    for behaviour, names in ((name, some) for name, some in runs.items() if name not in unsound):
        which = defined(names, recorded, pinned[behaviour]) if behaviour in pinned else last(names, recorded)
        every = [(old, counterpart(old, new)) for old in seeds(which, recorded)]
        pairs[behaviour] = [(o, n) for o, n in every if n in recorded or ws.exists("evals", n)] or every[-1:]
    guards = {*pairs, *unsound}
    for behaviour, (old, fresh) in ((name, pair) for name, each in pairs.items() for pair in each):
        if problem := problem_of(ws, old, base, recorded):
            unsound[behaviour] = problem
            continue
        if (tag := read_evaluation(ws, old).behaviour.tag) != "guard":
            was = sum(name in recorded and recorded[name].tag == "guard" for name in runs[behaviour])
            if was:
                unsound[behaviour] = f"it was a guard in {was} of its runs on {base.name}, and is {tag} in the last"
                continue
            guards.discard(behaviour)
        if problem := problem_of(ws, fresh, new, recorded):
            unsound[behaviour] = problem
    sound = {name: each for name, each in pairs.items() if name not in unsound}
    found, worst = _worst(ws, base, new, sound)
    unsound |= found["unsound"]
    touches = {name: touched_by(ws, new, cell["sources"][1]) for name, cell in worst.items()}
    families = {name: touched.families for name, touched in touches.items() if touched.families}
    _, clean = _worst(ws, base, new, sound, families) if families else ({}, {})
    cells = []
    for behaviour, cell in worst.items():
        touched = touches[behaviour]
        if problem := cell["problem"] or touched.problem:
            unsound[behaviour] = problem
            continue
        asked = {recorded[name].behaviour for name in runs[behaviour] if name in recorded}
        more = {
            "definitions": len(asked), "definition": recorded[cell["sources"][0]].behaviour,
            "runs": len(sound[behaviour]), "unknown": touched.unknown, "judge": touched.judge,
            "touched": touched.instrument or (touched.prompts if behaviour not in clean else ""),
        }  # fmt: skip
        if touched.families and behaviour in clean:
            more["clean"] = {**clean[behaviour], "left_out": len(touched.families), "touched": touched.prompts}
        cells.append({**cell, **more})
    missing = [behaviour for behaviour in found["missing"] if behaviour in guards]
    unsound = {behaviour: problem for behaviour, problem in unsound.items() if behaviour in guards}
    return {**found, "cells": cells, "missing": missing, "unsound": unsound}


def _worst(
    ws: Workspace, base: Version, new: Version, pairs: Mapping[str, list[tuple[str, str]]],
    without: Mapping[str, frozenset[str]] | None = None,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:  # fmt: skip
    """The first pair of every behaviour compared (see `compared`), and by behaviour the worst cell of all its pairs."""
    from glasshouse.behaviours import compared

    found = compared(ws, base, new, pairs={name: each[0] for name, each in pairs.items()}, without=without)
    again = [
        compared(ws, base, new, pairs={name: pair}, without=without)
        for name, each in pairs.items()
        for pair in each[1:]
    ]
    worst: dict[str, dict[str, Any]] = {}
    for cell in (cell for one in (found, *again) for cell in one["cells"]):
        worst[cell["behaviour"]] = min(cell, worst.get(cell["behaviour"], cell), key=_sound_and_gained)
    unsound = {name: why for one in (found, *again) for name, why in one["unsound"].items()}
    return {**found, "unsound": unsound}, worst


def _sound_and_gained(cell: Mapping[str, Any]) -> tuple[bool, float]:
    """The least of several counts: one that is not sound, else the one that has fallen most."""
    change = float(cell["change"]["value"])
    return not cell["problem"], change if cell["good"] == "up" else -change
