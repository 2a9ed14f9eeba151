"""Claim: verdicts on changes err as often as they say, also with few families of prompts, and under peeking.

    python benchmarks/verdicts.py                               # three quarters of an hour of one core
    python benchmarks/verdicts.py --draws 50 --out verdicts.json

Simulated scores of two versions on the same prompts: families differ, wordings within them differ, samples are drawn.
Coverage of the 95% interval of changes and of means, false alarms over a matrix of twenty guards, regressions caught
alone and in such a matrix against the power that was stated, changes as large as the margin called equivalent, also
where scores have no bounds, scores that are shares of the other families, and alarms of `evidence` looked at after
every family.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from glasshouse.behaviours.peeking import evidence
from glasshouse.behaviours.statistics import (
    Cell,
    Change,
    Scored,
    families_for,
    judged,
    mean,
    paired,
    pseudo_values,
    smallest_change,
)
from glasshouse.doctor import describe
from glasshouse.types import Estimate

MARGIN = 0.05


class Setting(NamedTuple):
    """How scores are drawn. rate and change: of the logit's middle; spread: of families' logits; shared: the share of
    it that both versions have in common; wordings: spread of a family's wordings."""

    families: int
    prompts: int = 2
    samples: int = 1
    rate: float = 0.8
    change: float = 0.0
    spread: float = 1.5
    shared: float = 0.8
    wordings: float = 0.7
    uneven: bool = False


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def drawn(setting: Setting, rng: np.random.Generator) -> tuple[list[Scored], list[Scored]]:
    """Samples of a base and a new version."""
    g = setting.families
    own = np.sqrt(1 - setting.shared**2)
    both_G = rng.normal(size=g)
    sizes = rng.integers(1, 2 * setting.prompts, g) if setting.uneven else np.full(g, setting.prompts)
    versions: list[list[Scored]] = []
    wording = [rng.normal(size=size) for size in sizes]
    for moved in (0.0, setting.change):
        middle = logit(setting.rate) + moved
        u_G = setting.shared * both_G + own * rng.normal(size=g)
        found = []
        for i, size in enumerate(sizes):
            p_P = 1 / (1 + np.exp(-(middle + setting.spread * u_G[i] + setting.wordings * wording[i])))
            hits_PK = rng.random((size, setting.samples)) < p_P[:, None]
            found += [Scored(str(i), str(j), float(hit)) for j in range(size) for hit in hits_PK[j]]
        versions.append(found)
    return versions[0], versions[1]


def true_change(setting: Setting) -> float:
    """The change of the mean score over all families that there could be."""
    total = np.hypot(setting.spread, setting.wordings)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    rates = [
        float((weights / (1 + np.exp(-(logit(setting.rate) + moved + total * nodes)))).sum() / weights.sum())
        for moved in (0.0, setting.change)
    ]
    return rates[1] - rates[0]


def true_mean(setting: Setting) -> float:
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    spread = np.hypot(setting.spread, setting.wordings)
    return float((weights / (1 + np.exp(-(logit(setting.rate) + spread * nodes)))).sum() / weights.sum())


def change_of(wanted: float, setting: Setting) -> Setting:
    """The setting with the change of the logit that moves the mean by `wanted`."""
    low, high = (-8.0, 0.0) if wanted < 0 else (0.0, 8.0)
    for _ in range(60):
        middle = (low + high) / 2
        if true_change(setting._replace(change=middle)) < wanted:
            low = middle
        else:
            high = middle
    return setting._replace(change=(low + high) / 2)


def share(hits: int, of: int) -> dict[str, Any]:
    return Estimate.proportion(hits, of).to_json()


def measured(setting: Setting, rng: np.random.Generator) -> Change:
    return paired(*drawn(setting, rng), bounded=True)


def coverage(draws: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    grid = itertools.product((5, 10, 20, 50, 150), (0.5, 0.9, 0.98), (0.0, -0.1))
    for families, rate, moved in grid:
        for more in ({}, {"uneven": True, "prompts": 4}, {"samples": 4, "wordings": 1.5}):
            setting = change_of(moved, Setting(families=families, rate=rate, **more))  # type: ignore[arg-type]
            true = true_change(setting)
            found = [measured(setting, rng).change for _ in range(draws)]
            held = sum(one.low <= true <= one.high for one in found)
            rows.append({**setting._asdict(), "true": true, "covered": share(held, draws)})
    return rows


def cell(change: Change, name: str = "", tag: Any = "guard") -> Cell:
    return Cell(name, tag, "up", MARGIN, change)


def false_alarms(draws: int, rng: np.random.Generator, cells: int = 20) -> list[dict[str, Any]]:
    """Of whole matrices of guards in which nothing moved, the share with any alarm."""
    rows = []
    for families, samples in ((10, 1), (30, 1), (100, 1), (30, 4)):
        alarms, verdicts = 0, dict.fromkeys(("regressed", "improved", "equivalent", "underpowered"), 0)
        for _ in range(draws):
            rates = rng.uniform(0.3, 0.99, cells)
            made = [measured(Setting(families=families, samples=samples, rate=float(rate)), rng) for rate in rates]
            found = judged([cell(one, str(i)) for i, one in enumerate(made)])
            alarms += any(one.verdict in ("regressed", "improved") for one in found)
            for one in found:
                verdicts[one.verdict] += 1
        rows.append({"families": families, "samples": samples, "alarms": share(alarms, draws), "verdicts": verdicts})
    return rows


def caught(draws: int, rng: np.random.Generator, cells: int = 20) -> list[dict[str, Any]]:
    """Regressions of the size that the plan says it could see, alone and among guards that did not move, and
    equivalence with as many families as it says."""
    rows = []
    for families, rate, guards in itertools.product((30, 100, 300), (0.6, 0.9, 0.97), (1, cells)):
        still = Setting(families=families, rate=rate)
        before = [measured(still, rng) for _ in range(50)]
        spread = float(np.mean([one.spread for one in before]))
        middle = float(np.mean([one.base.value for one in before]))
        size = smallest_change(spread, families, rate=middle, among=guards)
        moved = change_of(-size, still)
        beside = [cell(one, str(i)) for i, one in enumerate(before)]
        found = [
            judged([cell(measured(moved, rng)), *(beside[i] for i in rng.integers(len(beside), size=guards - 1))])[0]
            for _ in range(draws)
        ]
        seen = sum(one.p_adjusted <= 0.05 and one.change.change.value < 0 for one in found)
        rows.append(
            {
                "families": families, "rate": rate, "guards": guards, "size": size, "seen": share(seen, draws),
                "stated": 0.8,
            }
        )  # fmt: skip
        if guards > 1:
            continue
        needed = families_for(spread, MARGIN)
        if needed <= 600:
            enough = [judged([cell(measured(still._replace(families=needed), rng))])[0] for _ in range(draws)]
            hits = sum(one.verdict == "equivalent" for one in enough)
            rows[-1] |= {"needed": needed, "equivalent": share(hits, draws)}
    return rows


def false_comfort(draws: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Of regressions as large as the margin, the share called equivalent (5% at most)."""
    rows = []
    for families, rate in itertools.product((10, 40, 150), (0.5, 0.9, 0.98)):
        setting = change_of(-MARGIN, Setting(families=families, rate=rate))
        found = [judged([cell(measured(setting, rng))])[0].verdict for _ in range(draws)]
        rows.append({"families": families, "rate": rate, "equivalent": share(found.count("equivalent"), draws)})
    return rows


def ceiling(draws: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Of a base that is always right, of which each family falls all the way with a chance: how often it is called
    equivalent, and how often the interval holds the true change; exact, over how many fall. At a chance as large as the
    margin 5% at most may be called equivalent."""
    from scipy.stats import binom

    rows = []
    for families, of_families in itertools.product((20, 35, 60, 100, 200, 300), (0.0, 0.01, MARGIN, None)):
        fall = 2.2 / families if of_families is None else of_families  # none falls in a ninth of the runs
        called = held = 0.0
        for fell in range(families + 1):
            chance = float(binom.pmf(fell, families, fall))
            if chance < 1e-9:
                continue
            before, after = ([Scored(str(i), "0", float(i >= some)) for i in range(families)] for some in (0, fell))
            found = judged([cell(paired(before, after, bounded=True))])[0]
            called += chance * (found.verdict == "equivalent")
            held += chance * (found.change.change.low <= -fall <= found.change.change.high)
        rows.append({"families": families, "fall": fall, "equivalent": called, "covered": held})
    return rows


def means(draws: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Of one version's mean, the share of 95% intervals that hold the mean over all families that there could be."""
    rows = []
    for families, rate in itertools.product((5, 10, 20, 50, 150), (0.5, 0.9, 0.98)):
        for more in ({}, {"uneven": True, "prompts": 4}, {"samples": 4, "wordings": 1.5}):
            setting = Setting(families=families, rate=rate, **more)  # type: ignore[arg-type]
            true = true_mean(setting)
            found = [mean(drawn(setting, rng)[0], bounded=True) for _ in range(draws)]
            held = sum(one.low <= true <= one.high for one in found)
            rows.append({**setting._asdict(), "true": true, "covered": share(held, draws)})
    return rows


def habits(draws: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Scores that are shares of the other families, which begin their replies with one word by chance or with one that
    is seldom: false alarms of two versions with the same habit, and intervals of the mean that hold it."""
    rows = []
    for families, often in itertools.product((20, 40, 100), (0.3, 0.5, 0.7, 0.9)):
        alarms = held = 0
        for _ in range(draws):
            sides = []
            for _ in range(2):
                words = np.where(rng.random(families) < often, 0, rng.integers(1, 10**9, families))
                alike = (words[:, None] == words[None, :]).sum(1) - 1
                scored = [Scored(str(i), "0", float(count) / (families - 1)) for i, count in enumerate(alike)]
                sides.append(pseudo_values(scored, 2))
            (found,) = judged([cell(paired(sides[0], sides[1], bounded=True, degree=2))])
            alarms += found.verdict in ("regressed", "improved")
            one = mean(sides[0], bounded=True, degree=2)
            held += one.low <= often**2 <= one.high
        rows.append(
            {"families": families, "often": often, "alarms": share(alarms, draws), "covered": share(held, draws)}
        )
    return rows


def silent(draws: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Scores without bounds, as lengths: of changes as large as the margin that come from few families falling silent,
    the share called equivalent (5% at most)."""
    rows = []
    for families, fall in itertools.product((5, 20, 60, 150), (0.02, 0.05, 0.2)):
        called = 0
        for _ in range(draws):
            length_G = rng.gamma(20.0, 1.0, families)
            after_G = np.where(rng.random(families) < fall, 0.0, length_G)
            before, after = ([Scored(str(i), "0", float(x)) for i, x in enumerate(s)] for s in (length_G, after_G))
            (found,) = judged([Cell("", "guard", "up", 20.0 * fall, paired(before, after, bounded=False))])
            called += found.verdict == "equivalent"
        rows.append({"families": families, "fall": fall, "equivalent": share(called, draws)})
    return rows


def peeking(draws: int, rng: np.random.Generator, families: int = 200) -> list[dict[str, Any]]:
    """Looked at after every family from the fifth: alarms of `evidence`, and of a t-test that is asked each time."""
    from scipy.stats import t

    rows = []
    for wanted in (0.0, -0.05, -0.15):
        setting = change_of(wanted, Setting(families=families, rate=0.8)) if wanted else Setting(families=families)
        bets = naive = 0
        when: list[int] = []
        for _ in range(draws):
            base, new = drawn(setting, rng)
            scores = [[one.score for one in side] for side in (base, new)]
            d_GP = np.array(scores[1], float) - np.array(scores[0], float)
            d_G = d_GP.reshape(families, -1).mean(1)
            over = np.flatnonzero(evidence(d_G) >= 20)
            bets += len(over) > 0
            when += [int(over[0]) + 1] if len(over) else []
            n_G = np.arange(1, families + 1)
            mean_G = np.cumsum(d_G) / n_G
            var_G = np.maximum(np.cumsum(d_G**2) / n_G - mean_G**2, 1e-12) * n_G / np.maximum(n_G - 1, 1)
            p_G = 2 * t.sf(np.abs(mean_G) / np.sqrt(var_G / n_G), np.maximum(n_G - 1, 1))
            naive += bool((p_G[4:] < 0.05).any())
        rows.append(
            {
                "true": wanted, "alarms": share(bets, draws), "alarms_of_a_t_test": share(naive, draws),
                "families_at_alarm": float(np.median(when)) if when else None,
            }
        )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="parts, of which each has a seed of its own; all without it")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "verdicts.json")
    options = parser.parse_args()
    result: dict[str, Any] = {
        "claim": (__doc__ or "").splitlines()[0], "draws": options.draws, "seed": options.seed,
        "machine": describe(Path(__file__).parent),
    }  # fmt: skip
    for number, (name, make) in enumerate(
        {
            "coverage": coverage, "false_alarms": false_alarms, "caught": caught, "false_comfort": false_comfort,
            "peeking": peeking, "ceiling": ceiling, "means": means, "habits": habits, "silent": silent,
        }.items()
    ):  # fmt: skip
        if options.only and name not in options.only:
            continue
        result[name] = make(options.draws, np.random.default_rng([options.seed, number]))
        for row in result[name]:
            print(name, {k: f"{v['value']:.3f}" if isinstance(v, dict) and "value" in v else v for k, v in row.items()})
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
