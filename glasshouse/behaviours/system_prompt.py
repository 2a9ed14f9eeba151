"""Which sentences of a system prompt do any work: each is left out in turn, and every behaviour run without it.

found = sentences(ws, version("brief", ws))
found[0]["sentence"], found[0]["verdict"]                # "works", "dead" or "cannot tell"
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from glasshouse.behaviours.evaluation import evaluate, read_evaluation
from glasshouse.behaviours.matrix import cell, cell_json, newest
from glasshouse.behaviours.scorers import RECORDED
from glasshouse.behaviours.statistics import judged
from glasshouse.behaviours.versions import Version, loaded
from glasshouse.calls import Calls
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

# Up to a mark that ends it (not "Dr." or "e.g."), which in Chinese and Japanese no space follows, or the line's end.
SENTENCE = re.compile(
    r"\S.*?(?:(?<!\b[DMS][rst])(?<!\bMrs)(?<!\be\.g)(?<!\bi\.e)[.!?؟](?=\s|$)|[。！？]|(?=\n)|$)", re.DOTALL
)


def sentences(
    ws: Workspace,
    version: Version,
    *,
    device: str | None = None,
    calls: Calls | None = None,
    done: Callable[[str], None] = lambda evaluation: None,
) -> list[dict[str, Any]]:
    """Every sentence of the version's system prompt, with what moves where it is left out.

    Run are the behaviours that were run on the version, but for those whose judge does not count. A sentence *works* if
    one of them is not the same without it, by p-values adjusted over all sentences and behaviours (see
    `statistics.judged`); it is *dead* if all are equivalent; else one cannot tell. "moved" and "undecided" hold the
    cells. calls: how a judge is asked. done(evaluation): told of each that is made. Raises `UserError` for a version
    without a system prompt, or on which nothing was run.
    """
    spans = [match.span() for match in SENTENCE.finditer(version.system)]
    every = {name: read_evaluation(ws, found) for name, found in newest(ws, version).items()}
    known = {
        name: found for name, found in every.items() if not found.problem and found.behaviour.scorer[0] != RECORDED
    }
    if not spans or not known:
        raise UserError(
            f"expected a version with a system prompt, and behaviours that were run on it, got {version.name} with "
            f"{len(spans)} sentences and {len(known)} behaviours"
        )
    opened = loaded(version, ws, device=device)
    rows, cells = [], []
    for number, (start, end) in enumerate(spans):
        rest = f"{version.system[:start]}{version.system[end:].lstrip()}".strip()
        shorter = replace(version, system=rest)
        for old in known.values():
            seed = ws.manifest("evals", old.name)["config"]["seed"]
            new = evaluate(shorter, old.behaviour, ws, seed=seed, opened=opened, calls=calls)
            done(new.name)
            rows.append((number, old.behaviour))
            cells.append(cell(old, new))
    found: list[dict[str, Any]] = [
        {"sentence": version.system[start:end], "moved": [], "undecided": []} for start, end in spans
    ]
    for (number, behaviour), one in zip(rows, judged(cells), strict=True):
        if one.verdict != "equivalent":
            kind = "undecided" if one.verdict == "underpowered" else "moved"
            found[number][kind].append(cell_json(one, behaviour))
    for row in found:
        row["verdict"] = "works" if row["moved"] else "cannot tell" if row["undecided"] else "dead"
    return found
