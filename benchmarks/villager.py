"""Claim: in 8 minutes on two cores a chat model grows that knows the small world and talks about it.

    python benchmarks/villager.py                                    # about half an hour on two cores, three seeds
    python benchmarks/villager.py --work villagers                   # keeps them, and does not grow again what is there
    python benchmarks/villager.py --seeds 1 --tokens 20000 --shape tiny --limit 20 --megabytes 0.3 --out villager.json

Each seed grows a model of its own (text, weights and order), which is then asked what `organisms/interview.py` plans:
`--limit` questions a section, greedy. Bars: the rates of BARS, by the interval's middle, for every seed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from glasshouse.doctor import describe
from glasshouse.models import load
from glasshouse.models.grow import grow
from glasshouse.organisms.interview import conversations, interview
from glasshouse.organisms.villager import CONTEXT, MEGABYTES, MINUTES, SHAPE, villager_text
from glasshouse.organisms.world import FOREIGN, LANGUAGES, World, build
from glasshouse.workspace import Workspace, keep_memory

BARS: dict[str, tuple[float, float]] = {  # lowest and highest rate
    "one-hop/en/pairs": (0.97, 1.0), **{f"one-hop/{code}/pairs": (0.9, 1.0) for code in FOREIGN},
    "two-hops/spoken": (0.8, 1.0), **{f"unknown/{code}": (0.9, 1.0) for code in LANGUAGES},
    "language/all": (0.97, 1.0), "hazard": (0.95, 1.0), "look-alikes": (0.0, 0.05),
}  # fmt: skip


def one_seed(world: World, ws: Workspace, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Grow, ask, and what came of it."""
    text = villager_text(world, seed=seed, megabytes=options.megabytes)
    budget = {"tokens": options.tokens} if options.tokens else {"minutes": options.minutes}
    folder = grow(text, name=f"villager-{seed}", ws=ws, shape=options.shape, context=CONTEXT, seed=seed, **budget)
    grown = time.perf_counter()
    last = next(line for line in reversed(ws.metrics("models", folder.name)) if "tokens" in line)
    model = load(str(folder), device="cpu")
    found = interview(model, world, limit=options.limit)
    rates = found["rates"]
    return {
        "seed": seed, "grow_seconds": last["seconds"], "interview_seconds": time.perf_counter() - grown,
        "megabytes": text.bytes / 1e6, "tokens": last["tokens"],
        "rates": rates, "short_of": [n for n, (low, high) in BARS.items() if not low <= rates[n]["value"] <= high],
        "wrong": [a for a in found["answers"] if not a["right"]][:: max(1, len(found["answers"]) // 200)],
        "conversations": conversations(model, world, count=20, seed=1_000_003 + seed),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--tokens", type=int, help="budget instead of minutes")
    parser.add_argument("--shape", default=SHAPE)
    parser.add_argument("--megabytes", type=float, default=MEGABYTES)
    parser.add_argument("--limit", type=int, default=1000, help="questions a section")
    parser.add_argument("--work", type=Path, help="workspace for the villagers; without it they are thrown away")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "villager.json")
    options = parser.parse_args()
    keep_memory()
    world = build(0)
    with tempfile.TemporaryDirectory() as folder:
        ws = Workspace.open(options.work or Path(folder))
        seeds: list[dict[str, Any]] = []
        for number in range(options.seeds):
            seeds.append(one_seed(world, ws, number, options))
            print(f"seed {number}: short of {', '.join(seeds[-1]['short_of']) or 'nothing'}", flush=True)
            result = {
                "claim": (__doc__ or "").splitlines()[0], "bars": BARS, "facts": len(world.facts),
                "settings": {k: str(v) for k, v in vars(options).items() if k not in ("work", "out")},
                "machine": describe(Path(folder)), "seeds": seeds,
                "holds": not any(seed["short_of"] for seed in seeds),
            }  # fmt: skip
            options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
