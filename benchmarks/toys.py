"""Toy models of superposition against what is known of them, compressed sensing against theory, a dictionary on a toy.

    python benchmarks/toys.py            # writes benchmarks/results/toys.json and docs/images/toys.svg
    python benchmarks/toys.py --quick --out - --page -     # a look in two minutes; its numbers are not the ones quoted

Every figure over the seeds given. Where the best of many is said, it is the instance of least loss on fresh rows, as in
the paper (Elhage et al. 2022): gradient descent stops in local minima, and how often it does is reported beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from toys_plots import PAGE, page

from glasshouse.dictionaries import LearnConfig, learn
from glasshouse.organisms.toys import (
    POLYTOPES,
    HiddenRows,
    Toy,
    ToyConfig,
    active_held,
    dimensions_per_feature,
    feature_dimensions,
    features_held,
    measured,
    recovered,
    train,
)
from glasshouse.types import Estimate
from glasshouse.workspace import Workspace, write_atomically

RESULTS = Path(__file__).parent / "results" / "toys.json"
REPRESENTED = 0.5  # |W_i| above which a feature counts as represented
NEAR = 0.02  # a dimensionality this close to a named fraction counts as at it
INSTANCES = 12
# Toys in which the named arrangement is the best: features, hidden dimensions, probability of a feature.
SMALL = {
    "tetrahedron": (4, 3, 0.9),
    "triangle": (8, 2, 0.7),
    "digon": (8, 2, 0.5),
    "pentagon": (5, 2, 0.05),
    "square antiprism": (8, 3, 0.05),
}
# Two features in one dimension: how much more the second matters, by how often each is on.
IMPORTANCE = tuple(10 ** (i / 4) for i in range(-4, 5))
DENSITY = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02)
SWEEP = (1.0, 0.6, 0.3, 0.2, 0.1, 0.05, 0.02)  # probabilities of the pictures of n = 5, m = 2


def rounded(tensor: Tensor, digits: int = 4) -> Any:
    return json.loads(json.dumps(tensor.tolist()), parse_float=lambda text: round(float(text), digits))


def over(values: list[float], unit: str = "") -> dict[str, Any]:
    """The mean over seeds with its interval."""
    return Estimate.mean(values, [1.0] * len(values), unit=unit).to_json()


# -- the published toy -----------------------------------------------------------------------------------------------


def linear(seeds: list[int], quick: bool) -> dict[str, Any]:
    """A linear model keeps the m most important features, each at length 1, and nothing of the others."""
    config = ToyConfig(features=20, hidden=5, relu=False, decay=0.7)
    toys = [train(config, [0.5], seed=seed) for seed in seeds]
    target_N = (torch.arange(20) < 5).float()
    return {
        "features": 20, "hidden": 5, "importance": "0.7 ** i",
        "norms": [rounded(toy.W_MN.norm(dim=0)) for toy in toys],
        "largest_miss": [rounded((toy.W_MN.T @ toy.W_MN - target_N.diag()).abs().max()) for toy in toys],
    }  # fmt: skip


def small(seeds: list[int], quick: bool) -> dict[str, Any]:
    """For each named arrangement a small toy, the best of its instances, and how many instances end there."""
    out = {}
    for name, (n, m, p) in SMALL.items():
        runs = []
        for seed in seeds:
            toys = train(
                ToyConfig(features=n, hidden=m, steps=1000 if quick else 3000, batch=512), [p] * INSTANCES, seed=seed
            )
            here = [at(toy, POLYTOPES[name], 0.03) for toy in toys]
            runs.append({**described(toys.best()), "share_there": round(sum(here) / len(here), 3)})
        misses = [max(abs(d - POLYTOPES[name]) for d in run["dimensions"]) for run in runs]
        out[name] = {"features": n, "hidden": m, "probability": p, "fraction": POLYTOPES[name], "runs": runs,
                     "largest_miss": round(max(misses), 4)}  # fmt: skip
    return out


def at(toy: Toy, fraction: float, near: float) -> bool:
    on_N = toy.W_MN.norm(dim=0) > REPRESENTED
    return bool(on_N.any() and ((toy.dimensions_N[on_N] - fraction).abs() < near).all())


def described(toy: Toy) -> dict[str, Any]:
    on_N = toy.W_MN.norm(dim=0) > REPRESENTED
    return {"loss": rounded(toy.loss_I[0], 6), "represented": int(on_N.sum()),
            "dimensions": rounded(toy.dimensions_N[on_N])}  # fmt: skip


def sweep(seeds: list[int], quick: bool) -> dict[str, Any]:
    """n = 5, m = 2 over sparsity: the best of the instances at each probability."""
    config = ToyConfig(features=5, hidden=2, steps=1000 if quick else 2000, batch=512)
    runs = []
    for seed in seeds:
        toys = train(config, [p for p in SWEEP for _ in range(INSTANCES)], seed=seed)
        best = [toys.best(p) for p in SWEEP]
        runs.append([{**described(toy), "W": rounded(toy.W_MN.T)} for toy in best])
    return {"features": 5, "hidden": 2, "probabilities": list(SWEEP), "runs": runs}


def phases(seeds: list[int], quick: bool) -> dict[str, Any]:
    """n = 2, m = 1 over importance and sparsity: which features the best instance keeps, and which theory says it does
    (the paper's "Superposition as a phase change")."""
    runs = []
    for seed in seeds:
        rows = []
        for ratio in IMPORTANCE:
            config = ToyConfig(features=2, hidden=1, decay=ratio, steps=500 if quick else 1500, batch=512)
            toys = train(config, [p for p in DENSITY for _ in range(8)], seed=seed)
            rows.append([kept(toys.best(p)) for p in DENSITY])
        runs.append(rows)
    theory = [[preferred(ratio, p) for p in DENSITY] for ratio in IMPORTANCE]
    said = [(i, j) for i, row in enumerate(theory) for j, one in enumerate(row) if one != "either"]
    as_said = [sum(run[i][j] == theory[i][j] for i, j in said) / len(said) for run in runs]
    return {
        "features": 2, "hidden": 1, "importance": [round(ratio, 4) for ratio in IMPORTANCE],
        "probabilities": list(DENSITY), "runs": runs, "theory": theory,
        "as_theory_says": over(as_said, "share of importances and sparsities"),
    }  # fmt: skip


def kept(toy: Toy) -> str:
    """Which of two features a toy of one dimension represents."""
    first, second = (toy.W_MN.norm(dim=0) > REPRESENTED).tolist()
    return "both" if first and second else "first" if first else "second" if second else "neither"


def preferred(ratio: float, p: float) -> str:
    """Which of three toys of n = 2, m = 1 has the least loss, where the second feature matters `ratio` times as much: a
    feature left out costs its importance times its variance, p/3 - p²/4; two opposite ones, each its importance times
    the mean square of the lesser of both where both are on, p²/6."""
    out, opposite = p / 3 - p * p / 4, p * p / 6
    costs = {"both": (1 + ratio) * opposite, "first": ratio * out, "second": out}
    least = min(costs.values())
    best = [name for name, cost in costs.items() if cost < least + 1e-9]
    return best[0] if len(best) == 1 else "either"


def related(seeds: list[int], quick: bool) -> dict[str, Any]:
    """Two pairs of features in two dimensions: cosines within a pair, and between, of the best instance."""
    out: dict[str, Any] = {}
    for relation in ("correlated", "anticorrelated"):
        config = ToyConfig(features=4, hidden=2, relation=relation, set_size=2, steps=1000, batch=512)
        runs = []
        for seed in seeds:
            toy = train(config, [0.1] * INSTANCES, seed=seed).best()
            cosines_NN = normalize(toy.W_MN, dim=0).T @ normalize(toy.W_MN, dim=0)
            within = [cosines_NN[0, 1], cosines_NN[2, 3]]
            runs.append({"W": rounded(toy.W_MN.T), "within": rounded(torch.stack(within))})
        out[relation] = {"runs": runs, "within": over([sum(run["within"]) / 2 for run in runs], "cosine")}
    return out


def sticky(seeds: list[int], quick: bool) -> dict[str, Any]:
    """Many features in a space of many dimensions: D* and every D_i, over sparsity."""
    points = 9 if quick else 17
    inverse = [10 ** (i / (points - 1)) for i in range(points)]
    config = ToyConfig(features=120, hidden=20, steps=800 if quick else 4000, batch=256)
    runs = []
    for seed in seeds:
        toys = train(config, [1 / x for x in inverse], seed=seed)
        on_IN, D_IN = toys.W_IMN.norm(dim=1) > REPRESENTED, feature_dimensions(toys.W_IMN)
        dimensions = [sorted(rounded(D_N[on_N], 3)) for D_N, on_N in zip(D_IN, on_IN, strict=True)]
        runs.append({"d_star": rounded(dimensions_per_feature(toys.W_IMN)), "dimensions": dimensions})
    return {
        "features": 120, "hidden": 20, "inverse_density": [round(x, 4) for x in inverse], "runs": runs,
        "plateau_one": over([width(inverse, run["d_star"], 1.0) for run in runs], "e-folds of 1/(1-S)"),
        "plateau_half": over([width(inverse, run["d_star"], 0.5) for run in runs], "e-folds of 1/(1-S)"),
        "without_plateau": over([passing(inverse, run["d_star"]) for run in runs], "e-folds of 1/(1-S)"),
        "at_fractions": at_fractions(runs),
    }  # fmt: skip


def width(inverse: list[float], d_star: list[float], level: float) -> float:
    """How long D* stays within a tenth of a level, in natural logarithms of 1/(1 − S); interpolated."""
    steps, inside = 200, 0.0
    for (x0, x1), (d0, d1) in zip(pairwise(inverse), pairwise(d_star), strict=True):
        share = sum(abs(d0 + (d1 - d0) * (i + 0.5) / steps - level) < level / 10 for i in range(steps)) / steps
        inside += share * math.log(x1 / x0)
    return inside


def passing(inverse: list[float], d_star: list[float]) -> float:
    """How long it would stay within a tenth of 1/2 if from where it leaves 1 to the end it fell as a power."""
    left = max(i for i, d in enumerate(d_star) if d > 0.9)
    slope = math.log(d_star[left] / d_star[-1]) / math.log(inverse[-1] / inverse[left])
    return math.log(1.1 / 0.9) / slope


def at_fractions(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the features with D in [0.35, 0.8], all sparsities together: the share within NEAR of each named fraction.

    `even` is what it would be if dimensionalities were spread evenly.
    """
    pooled = [[d for one in run["dimensions"] for d in one if 0.35 <= d <= 0.8] for run in runs]
    shares = {
        name: over([sum(abs(d - fraction) < NEAR for d in all_d) / len(all_d) for all_d in pooled])
        for name, fraction in POLYTOPES.items()
    }
    return {**shares, "even": round(2 * NEAR / 0.45, 4), "features": [len(all_d) for all_d in pooled]}


# -- compressed sensing ----------------------------------------------------------------------------------------------


def sensing(seeds: list[int], quick: bool) -> dict[str, Any]:
    """Where basis pursuit fails, against the weak threshold, by size; and how many features a space holds."""
    trials = 4 if quick else 12
    points = []
    for n in (100, 200) if quick else (100, 200, 400):
        for signed in (False, True):
            for share in (0.1, 0.2, 0.35, 0.5, 0.7):
                points.append(transition(n, round(share * n), signed, trials, seeds))
    largest = max(point["features"] for point in points)
    return {
        "points": points,
        "ratio": {
            kind: {str(n): pooled(points, n, kind == "signed") for n in (100, 200, 400) if n <= largest}
            for kind in ("nonnegative", "signed")
        },
        "capacity": [capacity(16, k, trials, seeds) for k in (3, 4, 6)],
    }


def transition(n: int, m: int, signed: bool, trials: int, seeds: list[int]) -> dict[str, Any]:
    theory = active_held(n, m, signed=signed)
    step = max(1, round(theory / 10))
    grid = [step * i for i in range(1, math.ceil(2.5 * theory / step) + 2) if step * i <= m]
    hits_TK = torch.cat([recovered(n, m, grid, trials=trials, seed=seed, signed=signed) for seed in seeds])
    held = measured(hits_TK, grid, unit="active features")
    ratio = measured(hits_TK, grid, expected=theory)
    return {"features": n, "dimensions": m, "signed": signed, "theory": round(theory, 3),
            "measured": held.to_json(), "ratio": ratio.to_json()}  # fmt: skip


def pooled(points: list[dict[str, Any]], n: int, signed: bool) -> dict[str, Any]:
    """The mean ratio over the dimensions tried, clustered by them."""
    return over([p["ratio"]["value"] for p in points if p["features"] == n and p["signed"] == signed])


def capacity(m: int, active: int, trials: int, seeds: list[int]) -> dict[str, Any]:
    """Among how many features `active` non-negative ones are recovered half of the time: grid in half octaves."""
    theory = features_held(m, active)
    grid = [math.log2(theory) + i / 2 for i in range(-6, 10)]
    sizes = [max(m, round(2**at)) for at in grid]
    hits_TK = torch.cat(
        [torch.cat([recovered(n, m, [active], trials=trials, seed=seed) for n in sizes], 1) for seed in seeds]
    )
    octaves = measured(hits_TK, grid, expected=1.0)
    value, low, high = (2**at for at in (octaves.value, octaves.low, octaves.high))
    held = Estimate(value, low, high, octaves.level, octaves.n, "features", "clustered mean of octaves")
    return {"dimensions": m, "active": active, "theory": round(theory, 1), "measured": held.to_json()}


# -- a dictionary on a toy -------------------------------------------------------------------------------------------


def dictionary(seeds: list[int], quick: bool) -> dict[str, Any]:
    """Dictionaries of a toy's hidden layer: the share of its features found, by k and number of features."""
    config = ToyConfig(features=64, hidden=20, steps=1000 if quick else 2000, batch=512)
    toys = [train(config, [0.05] * 2, seed=seed).best() for seed in seeds]
    rows = []
    for features in (64, 128):
        for k in (1, 2, 3, 4, 6):
            found = [learnt(toy, features, k, seed) for toy, seed in zip(toys, seeds, strict=True)]
            rows.append({"dictionary_features": features, "k": k}
                        | {key: over([one[key] for one in found]) for key in found[0]})  # fmt: skip
    return {"features": 64, "hidden": 20, "probability": 0.05, "active_on_average": 3.2, "rows": rows,
            "represented": [int((toy.W_MN.norm(dim=0) > REPRESENTED).sum()) for toy in toys]}  # fmt: skip


def learnt(toy: Toy, features: int, k: int, seed: int) -> dict[str, float]:
    learn_config = LearnConfig(
        features=features, k=k, tokens=200_000, batch=512, held_out_rows=4096, statistics_rows=16_384, seed=seed
    )
    with tempfile.TemporaryDirectory() as folder:
        ws = Workspace.open(Path(folder) / "ws")
        found = learn(HiddenRows(toy), "resid.0", name="toy", ws=ws, config=learn_config, precision="fp32")
    assert found.max_activation is not None
    on_N, live_F = toy.W_MN.norm(dim=0) > REPRESENTED, found.max_activation > 0
    truth_ND = normalize(toy.W_MN.T[on_N], dim=1)
    random_FD = normalize(
        torch.randn(features, toy.config.hidden, generator=torch.Generator().manual_seed(seed)), dim=1
    )
    cosines_NF, chance_NF = truth_ND @ normalize(found.W_dec, dim=1).T, truth_ND @ random_FD.T
    best_N = cosines_NF[:, live_F].amax(1)
    return {
        "found": share(best_N), "mean_cosine": float(best_N.mean()),
        "random_found": share(chance_NF.amax(1)), "random_mean_cosine": float(chance_NF.amax(1).mean()),
        "true": share(cosines_NF[:, live_F].amax(0)), "live": float(live_F.sum()),
        "unexplained": found.report["unexplained"]["value"],
    }  # fmt: skip


def share(cosines: Tensor) -> float:
    """Of directions whose nearest on the other side has a cosine of at least 0.9."""
    return float((cosines >= 0.9).double().mean())


# -- all of it -------------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[list[int], bool], dict[str, Any]]] = {
    "linear": linear, "small": small, "sweep": sweep, "phases": phases, "related": related, "sticky": sticky,
    "sensing": sensing, "dictionary": dictionary,
}  # fmt: skip


def compact(results: dict[str, Any]) -> str:
    """JSON with lists of numbers on one line."""
    text = json.dumps(results, indent=1)
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=PARTS, nargs="*", help="these parts; the others stay as they are in --out")
    parser.add_argument("--quick", action="store_true", help="shorter runs on fewer points")
    parser.add_argument("--out", default=str(RESULTS), help="a file, or - for standard output only")
    parser.add_argument("--page", default=str(PAGE), help="the page of plots, or - for none")
    given = parser.parse_args()
    torch.set_num_threads(1)
    seeds, results = list(range(given.seeds)), {}
    if given.only and given.out != "-":
        results = json.loads(Path(given.out).read_text())
    results["seeds"] = seeds
    results["machine"] = f"{platform.machine()}, one thread, torch {torch.__version__}"
    for name in given.only or PARTS:
        cpu = time.process_time()
        results[name] = PARTS[name](seeds, given.quick)
        results.setdefault("cpu_seconds", {})[name] = round(time.process_time() - cpu, 1)
        print(f"{name}: {results['cpu_seconds'][name]} s of one core", flush=True)
        if given.out != "-":
            write_atomically(Path(given.out), compact(results))
    if given.out == "-":
        print(compact(results))
    if given.page != "-":
        write_atomically(Path(given.page), page(results))


if __name__ == "__main__":
    main()
