"""How well dictionaries of a villager find the concepts of its world, by kind of dictionary and width.

    python benchmarks/villager.py --work villagers                   # first: three villagers
    python benchmarks/concepts.py --work villagers                   # about twenty minutes on two cores
    python benchmarks/concepts.py --work villagers --seeds 1 --tokens 100000 --read 40000 --features 512 --out -

Every seed has a villager, and text of its own to learn from; what is scored is text that neither was made from. Of each
concept the best feature, the best small set, and their thresholds are chosen on half of its documents and scored on the
other half (`features/concepts.py`), beside the neurons of the block before, as many random directions, and a logistic
regression that is told the answers.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from glasshouse.activations import harvest
from glasshouse.dictionaries import LearnConfig, learn
from glasshouse.features.concepts import (
    Found,
    codes,
    neurons,
    probe,
    probe_summary,
    random_directions,
    score,
    summary,
)
from glasshouse.features.labelled import read
from glasshouse.models import load
from glasshouse.organisms.villager import labelled_text
from glasshouse.organisms.world import build
from glasshouse.workspace import Workspace, keep_memory

KINDS = ("topk", "batchtopk")


def one_seed(ws: Workspace, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Every dictionary of one villager, and what it is compared with."""
    world = build(0)
    model = load(str(ws.path("models", f"villager-{seed}")), device="cpu")
    layer = int(options.site.split(".")[1])
    told, _ = labelled_text(world, seed=1000 + seed, megabytes=options.megabytes)
    unseen, spans = labelled_text(world, seed=2000 + seed, megabytes=options.megabytes / 4)
    store = harvest(
        model,
        told,
        [options.site],
        name=f"world-{seed}",
        ws=ws,
        tokens=options.tokens,
        context=model.context,
        seed=seed,
    )
    around = f"mlp_act.{layer - 1}"
    labelled = read(model, options.site, unseen, spans, tokens=options.read, others=[around], seed=seed)
    rows: dict[str, Any] = {}
    dictionaries = {}
    for kind in KINDS:
        for features in options.features:
            config = LearnConfig(
                features=features, k=options.k, activation=kind, tokens=2 * options.tokens, seed=seed
            )  # fmt: skip
            name = f"{kind}-{features}"
            dictionary = learn(store, options.site, name=f"{name}-{seed}", ws=ws, config=config)
            started = time.perf_counter()
            found = score(labelled, codes(dictionary, labelled.x_PD))
            rows[name] = row(found) | {
                "score_seconds": time.perf_counter() - started,
                "unexplained": dictionary.report["unexplained"]["value"], "dead": dictionary.report["dead"],
            }  # fmt: skip
            dictionaries[name] = (dictionary, found)
    widest = dictionaries[f"topk-{max(options.features)}"][0]
    rows["random directions"] = row(score(labelled, random_directions(widest, labelled.x_PD, options.k, seed=seed)))
    rows["neurons"] = row(score(labelled, neurons(labelled.others[around])))
    taught = probe(labelled)
    rows["probe"] = probe_summary(taught)
    best = max((name for name in dictionaries), key=lambda name: rows[name]["best"]["all"]["mean_f1"])
    table = {
        one.concept: [
            one.positions, round(one.best.f1.value, 3), len(one.several.units), round(one.several.f1.value, 3),
            round(taught[one.concept].f1.value, 3),
        ]
        for one in dictionaries[best][1].values()
    }  # fmt: skip
    return {"seed": seed, "positions": len(labelled.doc_P), "rows": rows, "best": best, "concepts": table}


def row(found: dict[str, Found]) -> dict[str, Any]:
    return summary(found) | {
        "split": [one.concept for one in found.values() if one.split],
        "absorbed": [one.concept for one in found.values() if one.absorbed_by],
    }


def rounded(value: Any) -> Any:
    """The same with five digits after the point: thousands of numbers that nobody compares further."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 5) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="workspace with villager-0, villager-1, …")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--site", default="resid.2")
    parser.add_argument("--features", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=1_000_000, help="rows harvested; twice as many are learnt from")
    parser.add_argument("--read", type=int, default=200_000, help="positions that are scored")
    parser.add_argument("--megabytes", type=float, default=8.0)
    parser.add_argument("--out", default=str(Path(__file__).parent / "results" / "concepts.json"))
    options = parser.parse_args()
    keep_memory()
    ws = Workspace.open(options.work)
    seeds = [one_seed(ws, seed, options) for seed in range(options.seeds)]
    result = {
        "claim": (__doc__ or "").splitlines()[0],
        "concepts_columns": ["positions", "F1 of the best feature", "features of the set", "its F1", "F1 of the probe"],
        "settings": {k: str(v) for k, v in vars(options).items() if k not in ("work", "out")},
        "seeds": seeds,
    }  # fmt: skip
    text = json.dumps(rounded(result), separators=(",", ":")).replace('{"seed"', '\n{"seed"') + "\n"
    if options.out == "-":
        sys.stdout.write(text)
    else:
        Path(options.out).write_text(text, encoding="utf-8")
    for seed in seeds:
        for name, one in seed["rows"].items():
            best, several = one.get("best", {}).get("all", one), one.get("several", {}).get("all", one)
            print(
                f"seed {seed['seed']} {name:20} best {best['mean_f1']:.3f} found {best['found']['value']:.2f}; several "
                f"{several['mean_f1']:.3f} found {several['found']['value']:.2f}", file=sys.stderr,
            )  # fmt: skip


if __name__ == "__main__":
    main()
