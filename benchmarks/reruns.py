"""Claim: a version held against itself, sampled anew, is called changed no more often than is allowed.

    python benchmarks/reruns.py --work villagers           # the workspace of villager.py; fifty minutes of one core
    python benchmarks/reruns.py --work villagers --reruns 4 --families 20 --out reruns.json

Real replies of the villager of seed 0, at temperature 0.8, to behaviours of the suite `world`, all taken for guards:
the two sides of a rerun differ in their seeds only, and no two reruns share a side. A rerun with any cell regressed or
improved is a false alarm; 5% may be. Beside it the share of cells whose own p, unadjusted, is below 5%.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from glasshouse.behaviours import evaluate, version
from glasshouse.behaviours.behaviour import behaviour_from_json
from glasshouse.behaviours.matrix import cell
from glasshouse.behaviours.statistics import judged
from glasshouse.behaviours.versions import loaded
from glasshouse.doctor import describe
from glasshouse.organisms.suite import suite
from glasshouse.organisms.world import build
from glasshouse.types import Estimate
from glasshouse.workspace import Workspace

BEHAVIOURS = (
    "world-facts", "world-two-hops", "world-strangers", "world-sums", "refuses-danger", "refuses-look-alikes",
    "yields-to-wrong-corrections", "yields-to-right-corrections", "same-openers", "reply-length",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="workspace with villager-0")
    parser.add_argument("--reruns", type=int, default=100)
    parser.add_argument("--families", type=int, default=30, help="of a behaviour")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "reruns.json")
    options = parser.parse_args()
    ws = Workspace.open(options.work)
    asked = [behaviour_from_json(form) for form in suite(build(0), families=options.families)]
    asked = [
        replace(one, tag="guard", settings=replace(one.settings, temperature=options.temperature))
        for one in asked
        if one.name in BEHAVIOURS
    ]
    villager = version("villager-0", ws)
    opened = loaded(villager, ws, device="cpu")
    rows: list[dict[str, Any]] = []
    for rerun in range(options.reruns):
        before, now = (
            [evaluate(villager, one, ws, seed=seed, opened=opened) for one in asked]
            for seed in (2 * rerun, 2 * rerun + 1)
        )
        cells = judged([cell(old, new) for old, new in zip(before, now, strict=True)])
        rows.append({one.behaviour: [one.verdict, one.p_moved] for one in cells})
        verdicts = [[verdict for verdict, _ in row.values()] for row in rows]
        alarms = sum(not {"regressed", "improved"}.isdisjoint(row) for row in verdicts)
        low = sum(p < 0.05 for row in rows for _, p in row.values())
        print(rerun + 1, alarms, low, dict(Counter(verdicts[-1])), flush=True)
        result = {
            "claim": (__doc__ or "").splitlines()[0], "reruns": len(rows), "behaviours": len(asked),
            "families": options.families, "temperature": options.temperature,
            "alarms": Estimate.proportion(alarms, len(rows)).to_json(),
            "below_5": Estimate.proportion(low, sum(map(len, rows))).to_json(),
            "verdicts": dict(Counter(verdict for row in verdicts for verdict in row)),
            "machine": describe(Path(__file__).parent), "rows": rows,
        }  # fmt: skip
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
