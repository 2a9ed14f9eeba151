"""Claim: each planted organism is caught by its behaviour and by no unrelated one.

    python benchmarks/suite.py --work villagers                 # the workspace of villager.py and planted.py
    python benchmarks/suite.py --work villagers --seeds 1 --only tic --families 20 --out suite.json

The suite `world` is run on every villager and on every organism that was planted in it, and compared. Beside them:
`unplanted`, the same training with nothing planted, and the villager of another seed (an honest regrowth).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glasshouse.behaviours import Behaviour, Evaluation, Version, compared, evaluate, version
from glasshouse.behaviours.behaviour import behaviour_from_json
from glasshouse.behaviours.versions import loaded
from glasshouse.doctor import describe
from glasshouse.organisms.planting import names, organism
from glasshouse.organisms.suite import FAMILIES, suite
from glasshouse.organisms.world import build
from glasshouse.workspace import Workspace


def brief(cell: dict[str, Any]) -> dict[str, Any]:
    keys = ("behaviour", "verdict", "change", "p_adjusted", "p_equivalent", "needed", "families", "unscored")
    return {key: cell[key] for key in keys}


def answers(ws: Workspace, of: Version, behaviours: Sequence[Behaviour]) -> dict[str, Evaluation]:
    opened = loaded(of, ws)
    return {one.name: evaluate(of, one, ws, opened=opened) for one in behaviours}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="workspace with villagers and organisms")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="organisms; all without it")
    parser.add_argument("--families", type=int, default=FAMILIES, help="of a behaviour")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "suite.json")
    options = parser.parse_args()
    ws = Workspace.open(options.work)
    behaviours = [behaviour_from_json(form) for form in suite(build(0), families=options.families)]
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        base, started = version(f"villager-{seed}", ws), time.perf_counter()
        asked = answers(ws, base, behaviours)
        samples = sum(len(one.samples) for one in asked.values())
        print(f"villager-{seed}: {samples / (time.perf_counter() - started):.0f} samples/s", flush=True)
        others = [f"{name}-{seed}" for name in options.only or names()]
        for name in [*others, f"villager-{(seed + 1) % options.seeds}"] if options.seeds > 1 else others:
            new = version(name, ws)
            pairs = {name: (asked[name].name, one.name) for name, one in answers(ws, new, behaviours).items()}
            cells = compared(ws, base, new, pairs=pairs)["cells"]
            which = name.rpartition("-")[0]
            fell = [cell["behaviour"] for cell in cells if cell["verdict"] == "regressed"]
            own, also = (organism(which).caught_by, organism(which).also) if which in names() else ((), ())
            rows.append(
                {
                    "seed": seed, "organism": which, "new": name, "caught": bool(set(fell) & set(own)), "own": own,
                    "also": also,
                    "regressed": fell, "improved": [c["behaviour"] for c in cells if c["verdict"] == "improved"],
                    "equivalent": sum(c["verdict"] == "equivalent" for c in cells),
                    "underpowered": sum(c["verdict"] == "underpowered" for c in cells),
                    "cells": [brief(cell) for cell in cells],
                }
            )  # fmt: skip
            print(f"{name}: regressed {', '.join(fell) or 'nothing'}", flush=True)
            result = {
                "claim": (__doc__ or "").splitlines()[0], "families": options.families, "seeds": seed + 1,
                "machine": describe(Path(__file__).parent), "rows": rows,
            }  # fmt: skip
            options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
