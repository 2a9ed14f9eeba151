"""Which shape knows the world best at equal time, and whether more parameters know more on equal tokens.

    python benchmarks/villager_shapes.py                        # forty minutes on two cores, three seeds
    python benchmarks/villager_shapes.py --seeds 1 --seconds 5 --limit 10 --out shapes.json

Depth against width: shapes of about the same cost a token, each grown for `--seconds`. Sizes: four layers of 64 to 256
on equal tokens. Each is then asked `--limit` questions a section (`organisms/interview.py`).
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
from glasshouse.models.shapes import Shape
from glasshouse.organisms.interview import answers, rates
from glasshouse.organisms.villager import CONTEXT, villager_text
from glasshouse.organisms.world import World, build
from glasshouse.workspace import Workspace, keep_memory

SECTIONS = ("one-hop/en/pairs", "one-hop/fr/pairs", "two-hops/spoken", "unknown/en", "look-alikes", "hazard")


def shape(layers: int, width: int) -> Shape:
    return Shape(layers=layers, width=width, heads=width // 64, inner=4 * width)


DEPTHS = {"2 × 384": shape(2, 384), "4 × 256": shape(4, 256), "8 × 192": shape(8, 192)}
SIZES = {"4 × 64": shape(4, 64), "4 × 128": shape(4, 128), "4 × 192": shape(4, 192), "4 × 256": shape(4, 256)}


def one(world: World, ws: Workspace, name: str, of: Shape, seed: int, limit: int, **budget: float) -> dict[str, Any]:
    text = villager_text(world, seed=seed)
    started = time.perf_counter()
    folder = grow(text, name=name, ws=ws, shape=of, context=CONTEXT, seed=seed, precision="auto-isa", **budget)  # type: ignore[arg-type]
    seconds = time.perf_counter() - started
    last = next(line for line in reversed(ws.metrics("models", folder.name)) if "tokens" in line)
    found = rates(answers(load(str(folder), device="cpu"), world, limit=limit))
    return {
        "seconds": seconds, "tokens": last["tokens"], "parameters": of.parameters(4096),
        "held_out": ws.manifest("models", folder.name)["held_out_bits_per_byte"],
        "rates": {section: found[section].to_json() for section in SECTIONS},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each shape of the comparison of depths")
    parser.add_argument("--tokens", type=int, default=400_000, help="of each size")
    parser.add_argument("--limit", type=int, default=100, help="questions a section")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "villager_shapes.json")
    options = parser.parse_args()
    keep_memory()
    world = build(0)
    depths: dict[str, list[dict[str, Any]]] = {name: [] for name in DEPTHS}
    sizes: dict[str, list[dict[str, Any]]] = {name: [] for name in SIZES}
    with tempfile.TemporaryDirectory() as folder:
        ws = Workspace.open(Path(folder))
        for seed in range(options.seeds):  # interleaved, so that a slow minute hits no shape alone
            for n, (name, of) in enumerate(DEPTHS.items()):
                minutes = options.seconds / 60
                made = one(world, ws, f"depth-{n}-{seed}", of, seed, options.limit, minutes=minutes)
                depths[name].append(made)
                print(seed, name, made["tokens"], made["held_out"]["value"], made["rates"], flush=True)
            for n, (name, of) in enumerate(SIZES.items()):
                made = one(world, ws, f"size-{n}-{seed}", of, seed, options.limit, tokens=options.tokens)
                sizes[name].append(made)
                print(seed, name, made["tokens"], made["held_out"]["value"], flush=True)
        result = {
            "claim": (__doc__ or "").splitlines()[0],
            "settings": {k: str(v) for k, v in vars(options).items() if k != "out"},
            "machine": describe(Path(folder)), "depths": depths, "sizes": sizes,
        }  # fmt: skip
    options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
