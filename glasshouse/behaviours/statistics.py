"""Two versions compared on one behaviour: the paired change, its interval, and four verdicts. No torch.

    change = paired(base, new, bounded=True)                # samples of the same prompts, from both versions
    cells = judged([Cell("facts", "guard", "up", 0.05, change), ...])
    cells[0].verdict                                        # regressed, improved, equivalent or underpowered

A *family* is what is asked, in several wordings (its prompts), each sampled K times. Prompts are paired between
versions; families are the clusters: what is asked in one wording stands or falls with what is asked in another.

Legend: G families, P prompts, K samples of a prompt. d: change of a prompt's mean score, new − base.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from glasshouse.types import Estimate, UserError

Verdict = Literal["regressed", "improved", "equivalent", "underpowered"]
Tag = Literal["target", "guard", "neutral"]
LEVEL, POWER = 0.05, 0.8
FEWEST = 5  # families below which nothing is said but "underpowered"
FEW_MOVED = 30  # families that moved, above which t does


class Scored(NamedTuple):
    """One sample's score. None: it could not be scored (a judge that did not answer), which is never 0."""

    family: str
    prompt: str
    score: float | None


class Scoring(TypedDict):
    """What there is to know of scores. bounded: they lie in [0, 1]. degree: of how many families each is (see
    `pseudo_values`). discrete: a family may stay where it was while others move, as replies do; likelihoods all move,
    however little."""

    bounded: bool
    degree: int
    discrete: bool


@dataclass(frozen=True)
class Change:
    """The change of a behaviour from a base to a new version.

    base, new, change: means over families' prompts, with intervals at 95%. error, freedom: standard error and degrees
    of freedom of the change. spread: the standard deviation of the families' changes. parts: the variance of the
    change's mean that comes from families, from wordings within them, and from sampling. unscored: samples without a
    score. alike: how many families of one size tell as much (Kish). moved: families that changed at all. bounded,
    discrete: see `Scoring`. reach: how far a family is taken to move, if it moves: 1 of bounded scores, of others from
    the lowest to the highest of the families seen and 0.
    """

    base: Estimate
    new: Estimate
    change: Estimate
    error: float
    freedom: float
    spread: float
    parts: dict[str, float]
    families: int
    prompts: int
    unscored: int
    alike: float
    moved: int
    bounded: bool
    reach: float
    discrete: bool = True

    @property
    def few(self) -> bool:
        """So few families moved that t makes too little of what they cannot rule out."""
        most = FEW_MOVED if self.bounded else min(FEW_MOVED, self.families // 2)
        return self.discrete and self.moved <= most


@dataclass(frozen=True)
class Cell:
    """One behaviour of the matrix. p_moved: two-sided, p_adjusted: among its like (see `judged`), p_equivalent: the
    larger of the two one-sided tests' against ±margin. needed: families with which equivalence would be shown in four
    of five runs if nothing moved, where the verdict is underpowered."""

    behaviour: str
    tag: Tag
    good: Literal["up", "down"]
    margin: float
    change: Change
    p_moved: float = math.nan
    p_adjusted: float = math.nan
    p_equivalent: float = math.nan
    verdict: Verdict = "underpowered"
    needed: int | None = None


NOTHING = Estimate(math.nan, math.nan, math.nan, 0.95, 0, "", "")


def paired(
    base: Iterable[Scored], new: Iterable[Scored], *, bounded: bool, degree: int = 1, discrete: bool = True
) -> Change:  # fmt: skip
    """The change from `base` to `new` on the prompts that both have scores of.

    bounded, degree, discrete: see `Scoring`. To bounded scores two families are added that moved by ±1/√2 (Agresti and
    Min 2005, "Simple improved confidence intervals for comparing matched proportions", carried over to clusters): a
    handful of families of which none moved says little, and the interval says so (of pseudo-values by `degree` times as
    much, as far as one family moves the mean: see `pseudo_values`). Where few moved it also reaches, away
    from 0, what so few cannot rule out (see `_reach`); scores without bounds are taken to lie between 0 and those seen.
    The error is CR2, its degrees of freedom are Bell and McCaffrey's (2002) for families of one variance. Raises
    `UserError` if no prompt is in both.
    """
    before, after = _by_prompt(base), _by_prompt(new)
    both = sorted(key for key in before.keys() & after.keys() if before[key].scores and after[key].scores)
    unscored = sum(rest.unscored for rest in (*before.values(), *after.values()))
    if not both:
        raise UserError(
            "expected prompts that both versions have scores of, found none; run both on the same behaviour"
        )
    groups: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = defaultdict(list)
    for family, prompt in both:
        groups[family].append((np.array(before[family, prompt].scores), np.array(after[family, prompt].scores)))
    means = [np.array([(b.mean(), a.mean()) for b, a in prompts]) for prompts in groups.values()]
    size_G = np.array([len(m) for m in means], np.float64)
    base_G, new_G = np.array([m.mean(0) for m in means]).T
    return replace(
        clustered(base_G, new_G, size_G, bounded=bounded, degree=degree, discrete=discrete),
        base=_mean(base_G, size_G, bounded, degree), new=_mean(new_G, size_G, bounded, degree),
        parts=_parts(list(groups.values())),
        prompts=len(both), unscored=unscored,
    )  # fmt: skip


def clustered(
    base_G: NDArray[np.float64], new_G: NDArray[np.float64], size_G: NDArray[np.float64], *, bounded: bool,
    degree: int = 1, discrete: bool = True,
) -> Change:  # fmt: skip
    """The change of families' means (G,), weighted by their prompts: what `paired` says of it, without the means of
    either side, the parts of the variance and the counts of prompts and unscored samples."""
    d_G = new_G - base_G
    value = float(np.average(d_G, weights=size_G))
    error, freedom, spread = _robust(d_G, size_G, added=degree if bounded else 0)
    half = _t(0.975, freedom) * error
    limit = 1.0 if bounded else math.inf  # no change of a rate is larger
    reach = 1.0 if bounded else float(np.ptp(np.concatenate([base_G, new_G, [0.0]])))
    low, high, moved = max(value - half, -limit), min(value + half, limit), int(np.count_nonzero(np.abs(d_G) > 1e-12))
    change = Change(
        NOTHING, NOTHING, Estimate(value, low, high, 0.95, len(d_G), "", "CR2, t"), error, freedom, spread, {},
        len(d_G), 0, 0, _alike(size_G) / degree, moved, bounded, reach, discrete,
    )  # fmt: skip
    if change.few and reach:
        far = reach * _reach(abs(value) / reach, change.alike)
        low, high = (min(low, -far) if value <= 0 else low), (max(high, far) if value >= 0 else high)
    return replace(change, change=replace(change.change, low=low, high=high))


def pseudo_values(samples: Sequence[Scored], degree: int) -> list[Scored]:
    """Scores of which the mean has the variance of a mean of independent ones, where each is of `degree` families, as
    the share of the other families that do alike is of two: such a mean is a U-statistic, and what one family moves it
    by is `degree` times what its own score says (Hoeffding 1948; the jackknife's pseudo-values up to 1 / families).
    Their mean is that of the scores."""
    if degree == 1:
        return list(samples)
    prompts = [float(np.mean(prompt.scores)) for prompt in _by_prompt(samples).values() if prompt.scores]
    middle = float(np.mean(prompts)) if prompts else 0.0
    return [one if one.score is None else one._replace(score=middle + degree * (one.score - middle)) for one in samples]


def _alike(size_G: NDArray[np.float64]) -> float:
    """How many families of one size tell as much (Kish)."""
    return float(size_G.sum() ** 2 / (size_G**2).sum())


def _reach(change: float, families: float) -> float:
    """The largest chance of a move all the way, by 1, with which so little would be seen in 5% of runs (Clopper and
    Pearson 1934, one side): 3 / families where nothing moved."""
    from scipy.special import betaincinv

    n, k = math.floor(families + 1e-9), change * families
    return float(betaincinv(k + 1, n - k, 1 - LEVEL)) if k < n else 1.0


def mean(samples: Iterable[Scored], *, bounded: bool, degree: int = 1) -> Estimate:
    """One version's mean score over its families' prompts. Raises `UserError` where nothing was scored."""
    by_family: dict[str, list[float]] = defaultdict(list)
    for (family, _), prompt in _by_prompt(samples).items():
        if prompt.scores:
            by_family[family].append(float(np.mean(prompt.scores)))
    if not by_family:
        raise UserError("expected samples with scores, found none; see why none was scored in samples.jsonl")
    size_G = np.array([len(scores) for scores in by_family.values()], np.float64)
    return _mean(np.array([np.mean(scores) for scores in by_family.values()]), size_G, bounded, degree)


def best_of(samples: Iterable[Scored], n: int, *, lowest: bool = False) -> list[Scored]:
    """Of every prompt the expected highest (or lowest) score of n of its samples, drawn without putting back: of rates
    this is pass@k (Chen et al. 2021, arXiv:2107.03374, eq. 1). None for a prompt with fewer than n scores."""
    scores: dict[tuple[str, str], list[float]] = {}
    for one in samples:
        own = scores.setdefault((one.family, one.prompt), [])
        if one.score is not None:
            own.append(-one.score if lowest else one.score)
    found = []
    for (family, prompt), own in scores.items():
        own.sort()
        chances = [math.comb(i, n - 1) / math.comb(len(own), n) if len(own) >= n else 0.0 for i in range(len(own))]
        best = sum(score * chance for score, chance in zip(own, chances, strict=True))
        found.append(Scored(family, prompt, (-best if lowest else best) if len(own) >= n else None))
    return found


def parts_of_mean(samples: Iterable[Scored]) -> dict[str, float]:
    """The variance of one version's mean score by where it comes from, as `Change.parts` has that of a change."""
    groups: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = defaultdict(list)
    for (family, _), prompt in _by_prompt(samples).items():
        if prompt.scores:
            groups[family].append((np.zeros(1), np.array(prompt.scores)))  # the change from a version that scores 0
    return _parts(list(groups.values()))


class _Prompt(NamedTuple):
    scores: list[float]
    unscored: int


def _by_prompt(samples: Iterable[Scored]) -> dict[tuple[str, str], _Prompt]:
    found: dict[tuple[str, str], list[float | None]] = defaultdict(list)
    for sample in samples:
        found[sample.family, sample.prompt].append(sample.score)
    return {k: _Prompt([s for s in v if s is not None], sum(s is None for s in v)) for k, v in found.items()}


def _robust(x_G: NDArray[np.float64], size_G: NDArray[np.float64], *, added: int = 0) -> tuple[float, float, float]:
    """Standard error of the mean of x weighted by size, its degrees of freedom, and the spread of x. added: by how many
    times ±1/√2 two further families moved (0: none are added).

    CR2 for a mean: V = Σ w² (x − x̄)² / (1 − w), w = size / Σ size. V is a quadratic form xᵀBx; for families of equal
    variance its degrees of freedom are (tr B)² / tr B² (Bell and McCaffrey 2002, Satterthwaite's approximation).
    """
    if added:
        x_G = np.concatenate([x_G, [added * math.sqrt(0.5), -added * math.sqrt(0.5)]])
        size_G = np.concatenate([size_G, [size_G.mean()] * 2])
    if len(x_G) < 2:
        return math.inf, 1.0, math.inf
    w_G = size_G / size_G.sum()
    residual_G = x_G - w_G @ x_G
    a_G = w_G**2 / (1 - w_G)
    centre_GG = np.eye(len(w_G)) - w_G[None, :]  # x − x̄ = Cx
    form_GG = centre_GG.T @ (a_G[:, None] * centre_GG)
    freedom = np.trace(form_GG) ** 2 / max(float(np.sum(form_GG * form_GG)), 1e-300)
    spread = math.sqrt(float(w_G @ residual_G**2) * len(w_G) / (len(w_G) - 1))
    return math.sqrt(float(a_G @ residual_G**2)), float(freedom), spread


def _mean(x_G: NDArray[np.float64], size_G: NDArray[np.float64], bounded: bool, degree: int) -> Estimate:
    """One version's mean score. Bounded ones are drawn towards ½ by two families, one at 0 and one at 1 (Agresti and
    Coull 1998, for clusters; of pseudo-values, which reach `degree` times as far, as far from ½), for the interval
    only."""
    value = float(np.average(x_G, weights=size_G))
    middle = value
    if bounded:
        x_G = np.concatenate([x_G, [0.5 - degree / 2, 0.5 + degree / 2]])
        size_G = np.concatenate([size_G, [size_G.mean()] * 2])
        middle = float(np.average(x_G, weights=size_G))
    error, freedom, _ = _robust(x_G, size_G)
    half = _t(0.975, freedom) * error
    low, high = min(value, middle - half), max(value, middle + half)
    if bounded:
        low, high = max(low, 0.0), min(high, 1.0)
    return Estimate(value, low, high, 0.95, len(size_G) - 2 * bounded, "", "CR2, t")


def _parts(groups: Sequence[Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]]) -> dict[str, float]:
    """The variance of the mean change, by where it comes from: a nested analysis of variance by moments.

    Sampling: within a prompt. Wordings: between a family's prompts, less sampling. Families: between them, less both.
    A part below 0 is 0. What a single sample or a single wording cannot show counts with the level above it.
    """
    prompts_G = np.array([len(group) for group in groups], np.float64)
    total = prompts_G.sum()
    noise_P = [np.mean([_noise(before) + _noise(after) for before, after in group]) for group in groups]
    sampling = float(np.average(noise_P, weights=prompts_G))  # of one prompt's change
    d = [np.array([after.mean() - before.mean() for before, after in group]) for group in groups]
    within = sum(float(((x - x.mean()) ** 2).sum()) for x in d)
    loose = float(total - len(d))
    wordings = max(within / loose - sampling, 0.0) if loose else 0.0
    mean_G = np.array([x.mean() for x in d])
    expected_G = (wordings + sampling) / prompts_G  # of a family's mean, were families alike
    between = float(np.average((mean_G - np.average(mean_G, weights=prompts_G)) ** 2, weights=prompts_G))
    families = max(between * len(d) / max(len(d) - 1, 1) - float(np.average(expected_G, weights=prompts_G)), 0.0)
    squares = float((prompts_G**2).sum() / total**2)
    return {"families": families * squares, "wordings": wordings / total, "sampling": sampling / total}


def _noise(scores: NDArray[np.float64]) -> float:
    """Variance of the mean of a prompt's samples."""
    return float(scores.var(ddof=1) / len(scores)) if len(scores) > 1 else 0.0


# -- verdicts ----------------------------------------------------------------------------------------------------------


def judged(cells: Sequence[Cell]) -> list[Cell]:
    """Every cell with its verdict.

    *Equivalent*: both one-sided tests against ±margin at 5% (Schuirmann 1987), also where the change is not 0; where
    few families moved also by the binomial law of those that move all the way or not at all: t makes too little
    of what so few would show. Else
    *regressed* or *improved*: the change is not 0, by p-values that Holm's method adjusts over the guards (so that any
    false alarm among them has at most 5%) and Benjamini and Hochberg's over the others (false discovery rate 5%). Else
    *underpowered*.
    """
    tested = [_tested(cell) for cell in cells]
    guards = [i for i, cell in enumerate(tested) if cell.tag == "guard"]
    others = [i for i, cell in enumerate(tested) if cell.tag != "guard"]
    adjusted = dict(zip(guards, holm([tested[i].p_moved for i in guards]), strict=True))
    adjusted |= dict(zip(others, benjamini_hochberg([tested[i].p_moved for i in others]), strict=True))
    return [_with_verdict(cell, adjusted[i]) for i, cell in enumerate(tested)]


def _tested(cell: Cell) -> Cell:
    change = cell.change
    if cell.margin <= 0:
        raise UserError(f"expected a margin above 0 for {cell.behaviour}, got {cell.margin}; say what does not matter")
    d, error, freedom = change.change.value, change.error, change.freedom
    moved = 2 * _upper(abs(d), error, freedom)
    equivalent = max(_upper(cell.margin + d, error, freedom), _upper(cell.margin - d, error, freedom))
    if change.families and change.few:
        share = cell.margin / change.reach if change.reach else 1.0
        equivalent = max(equivalent, _so_few(abs(d) / (change.reach or 1.0), change.alike, share))
    return replace(cell, p_moved=min(moved, 1.0), p_equivalent=equivalent)


def _so_few(change: float, families: float, margin: float) -> float:
    """P that no more families moved, if each moves by 1 with a chance of `margin`."""
    from scipy.stats import binom

    n = math.floor(families + 1e-9)
    return float(binom.cdf(math.floor(change * n + 1e-9), n, min(margin, 1.0)))


def _with_verdict(cell: Cell, p_adjusted: float) -> Cell:
    verdict: Verdict = "underpowered"
    if cell.change.families >= FEWEST:
        if cell.p_equivalent <= LEVEL:
            verdict = "equivalent"
        elif p_adjusted <= LEVEL:
            verdict = "improved" if (cell.change.change.value > 0) == (cell.good == "up") else "regressed"
    change, needed = cell.change, None
    if verdict == "underpowered":
        reach = change.reach if change.bounded or change.few else 0.0
        needed = families_for(change.spread, cell.margin, reach=reach)
        if needed <= change.families:  # so it did move
            needed = _families_for_seen(change, cell.margin)
    return replace(cell, p_adjusted=p_adjusted, verdict=verdict, needed=needed)


def _upper(distance: float, error: float, freedom: float) -> float:
    """P(T ≥ distance / error)."""
    from scipy.stats import t

    if error == 0:
        return 0.5 if distance == 0 else float(distance < 0)
    return float(t.sf(distance / error, freedom)) if math.isfinite(error) else 0.5


def _t(quantile: float, freedom: float) -> float:
    from scipy.stats import t

    return float(t.ppf(quantile, freedom))


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values that hold the family-wise error (Holm 1979)."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    found, highest = [1.0] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min((len(p) - rank) * p[i], 1.0))
        found[i] = highest
    return found


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Adjusted p-values that hold the false discovery rate (Benjamini and Hochberg 1995)."""
    from scipy.stats import false_discovery_control

    return [float(q) for q in false_discovery_control(p)] if p else []


# -- power -------------------------------------------------------------------------------------------------------------


def families_for(spread: float, margin: float, *, reach: float = 1.0) -> int:
    """How many families show equivalence within ±margin with a power of 80% if nothing moved, at that spread of the
    families' changes: (z₀.₉₅ + z₀.₉)² (spread / margin)²; at least so many that none could have moved by chance in 5%
    at most, (1 − margin / reach)ⁿ ≤ 0.05, if each moved by `reach` (1 of scores in [0, 1])."""
    from scipy.stats import norm

    if not math.isfinite(spread):
        return FEWEST
    z = norm.ppf(1 - LEVEL) + norm.ppf(1 - (1 - POWER) / 2)
    share = margin / reach if reach else 1.0
    fewest = math.ceil(math.log(LEVEL) / math.log(1 - share)) if share < 1 else FEWEST
    return max(FEWEST, fewest, math.ceil((z * spread / margin) ** 2))


def _families_for_seen(change: Change, margin: float) -> int:
    """How many families tell a change as large as the one that was seen, with a power of 80%: that it is within the
    margin, or that it is not 0, whichever takes fewer."""
    from scipy.stats import norm

    d, power = abs(change.change.value), norm.ppf(POWER)
    distances = ((margin - d) / (norm.ppf(1 - LEVEL) + power), d / (norm.ppf(1 - LEVEL / 2) + power))
    return math.ceil(change.families * (change.error / max(distances)) ** 2)


def smallest_change(spread: float, families: int, *, rate: float | None = None, among: int = 1) -> float:
    """The smallest change that so many families would show, two-sided, in four of five runs, if it were the only one
    of `among` behaviours that are held at 5% together (5% / among by itself, where Holm's method begins).

    rate: the mean of scores in [0, 1] of which 1 is best. Scores that fall from near 1 vary more than they did, in
    proportion to p (1 − p): then the spread is that of one version as it is and one that has fallen by the change.
    """
    if families < 2:
        return math.inf
    errors = (_t(1 - LEVEL / among / 2, families - 1) + _t(POWER, families - 1)) / math.sqrt(families)
    change = errors * spread
    if rate is not None and 0 < rate < 1:
        for _ in range(50):  # the change on which the spread depends
            fallen = max(rate - change, 0.0)
            more = (1 + fallen * (1 - fallen) / (rate * (1 - rate))) / 2
            change = errors * spread * math.sqrt(max(more, 1.0))
    return change


def expected_spread(samples: Iterable[Scored], *, bounded: bool, degree: int = 1) -> float:
    """The spread of families' changes against a version whose scores would be as these are and independent of them: the
    most that pairing could leave, short of scores that run against each other."""
    by_family: dict[str, list[float]] = defaultdict(list)
    for family, prompt in _by_prompt(samples).items():
        if prompt.scores:
            by_family[family[0]].append(float(np.mean(prompt.scores)))
    x_G = np.array([np.mean(scores) for scores in by_family.values()])
    if bounded:
        x_G = np.concatenate([x_G, [0.5 - degree / 2, 0.5 + degree / 2]])
    return math.sqrt(2) * float(x_G.std(ddof=1)) if len(x_G) > 1 else math.inf
