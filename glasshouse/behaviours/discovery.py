"""What nobody named: two versions sampled widely, and what differs in what they say and in what is active inside.

    asked = widely(behaviours, count=2000, seed=0)           # prompts of many behaviours, as one
    runs = evaluate(base, asked, ws), evaluate(new, asked, ws)
    found = discovered(*runs, inside=insides(ws, base, new, runs[0], dictionary("villager-resid.2", ws=ws)))
    found["groups"][0]["name"], found["groups"][0]["change"]

Half of the prompts proposes differences, the other half confirms them: what is said of a difference (its size, its
interval, that it is one) comes from prompts that had no part in choosing it, with Holm's adjustment over all that were
proposed. A difference is looked for over all prompts and within each kind. Differences that the same prompts show are
one group.

Legend: P prompts, T traits: of a reply, and features as it begins. d: the new version's trait less the
base's.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasshouse.behaviours.behaviour import Behaviour
from glasshouse.behaviours.breadth import ENOUGH, kinds_of
from glasshouse.behaviours.classifier import direction_apart, told_apart
from glasshouse.behaviours.evaluation import Evaluation
from glasshouse.behaviours.language import language
from glasshouse.behaviours.scorers import Sample, refuses
from glasshouse.behaviours.statistics import LEVEL, Scored, benjamini_hochberg, holm, mean, paired
from glasshouse.types import UserError

if TYPE_CHECKING:
    from glasshouse.behaviours.insides import Insides

PROPOSED = 60  # differences that go on to be confirmed
FEWEST = 6  # replies of either version with a trait, or prompts on which a feature moved, for it to be looked at
TOGETHER = 0.5  # cosine of two differences over prompts, from which they are one group
SHOWN = 5
LANGUAGE = "is in the language "
EMBEDDING = "log-odds, by its embedding, of being the new version's"
AMOUNTS = ("words", "sentences", EMBEDDING)  # traits that are no rate: counts, and log-odds
LENGTHS = 0.1  # of the base's words: by so much a reply's tokens may change, where a difference in length is kept


# -- traits of a reply -------------------------------------------------------------------------------------------------

# Of a reply's shape, what a regular expression tells.
PATTERNS = {"is empty": r"^\s*$", "has code": "```", "asks back": r"[?؟？]\s*$", "has digits": r"\d", "exclaims": "!"}


def traits(sample: Sample) -> dict[str, float]:
    """What can be counted of a reply: shape, script, language, refusal, its first words, and the words in it."""
    said = sample.reply
    words = re.findall(r"[^\W_]+(?:['’][^\W_]+)?", said.casefold())
    found = {
        "words": float(len(words)), "sentences": float(len(re.findall(r"[.!?。！？؟]+(?:\s|$)", said))),
        "is cut off": float(not sample.stopped), "refuses": float(refuses(said)),
        "repeats itself": float(len(words) > 8 and len(set(words)) < len(words) / 2),
        **{name: float(re.search(pattern, said) is not None) for name, pattern in PATTERNS.items()},
    }  # fmt: skip
    scripts = Counter(unicodedata.name(c, "?").split(" ")[0] for c in said if c.isalpha())
    if scripts:
        found[f"is in {scripts.most_common(1)[0][0].lower()} letters"] = 1.0
    if (code := _language(said)) is not None:
        found[f"{LANGUAGE}{code}"] = 1.0
    if words:
        found[f"begins with “{words[0]}”"] = 1.0
        found |= {f"says “{word}”": 1.0 for word in words}
        found |= {f"says “{a} {b}”": 1.0 for a, b in itertools.pairwise(words)}
    return found


def _language(said: str) -> str | None:
    try:
        return language(said)
    except UserError:  # the package that tells it is an extra
        return None


class _Table(NamedTuple):
    """before_PT, after_PT: traits of either version, d_PT their difference. outside: how many of them are of replies;
    the others are of features. kinds: of each prompt, see `kinds_of`."""

    before_PT: NDArray[np.float64]
    after_PT: NDArray[np.float64]
    d_PT: NDArray[np.float64]
    names: list[str]
    outside: int
    kinds: list[tuple[str, ...]]


Both = tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]  # of the base's replies, and of the new version's


def _embedded(read: Both, proposing: NDArray[np.int64]) -> Both:
    """The log-odds, less the base's mean, that a reply is the new version's, by a direction of embeddings; of a prompt
    of the proposing half by one that was learnt from the other half of those."""
    old_PD, new_PD = read
    d_PD = new_PD - old_PD
    by_PD = np.tile(direction_apart(d_PD[proposing]), (len(d_PD), 1))
    for one, other in itertools.permutations((proposing[::2], proposing[1::2])):
        by_PD[one] = direction_apart(d_PD[other])
    old_P, new_P = ((side_PD * by_PD).sum(1) for side_PD in read)
    return old_P - old_P.mean(), new_P - old_P.mean()


def _table(pairs: Sequence[tuple[Sample, Sample]], inside: Insides | None, embedded: Both | None = None) -> _Table:
    sides = [[traits(side) for side in one] for one in zip(*pairs, strict=True)]
    counts = [Counter(key for one in every for key in one) for every in sides]
    names = sorted(name for name in counts[0] | counts[1] if max(c[name] for c in counts) >= FEWEST)
    at = {name: i for i, name in enumerate(names)}
    tables = [np.zeros((len(pairs), len(names))) for _ in sides]
    for table_PT, every in zip(tables, sides, strict=True):
        for p, one in enumerate(every):
            for name, value in one.items():
                if name in at:
                    table_PT[p, at[name]] = value
    if embedded is not None:
        tables = [np.column_stack([table_PT, side_P]) for table_PT, side_P in zip(tables, embedded, strict=True)]
        names.append(EMBEDDING)
    outside = len(names)
    if inside is not None:
        often_F = (inside.before_PF != inside.after_PF).sum(0) >= FEWEST
        shares = (inside.before_PF[:, often_F], inside.after_PF[:, often_F])
        tables = [np.hstack([one, two]) for one, two in zip(tables, shares, strict=True)]
        names += [name for name, often in zip(inside.names, often_F, strict=True) if often]
    kinds = [kinds_of(old.family) for old, _ in pairs]
    return _Table(tables[0], tables[1], tables[1] - tables[0], names, outside, kinds)


# -- proposing and confirming ------------------------------------------------------------------------------------------


def discovered(
    base: Evaluation, new: Evaluation, *, seed: int = 0, inside: Insides | None = None,
    read: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What differs: {"groups", "proposed", "prompts", "apart", "embedded"}, groups by size.

    A group: "name" (the trait that shows it most), "where" ("outside", in replies, or "inside"), "kind" ("" for all
    prompts), "change" (an `Estimate` as JSON, from the confirming half), "p" (adjusted), "also" (traits that move with
    it), "pairs" (replies side by side, the clearest first), "pattern" (what a behaviour is made of: "trait", "kind" and
    "good" of the clearest that a pattern tells, or None). "apart" and "embedded": see `_apart`; the first by words, the
    second by `read`, embeddings of either version's replies (`insides.readings`), None without them. inside: features
    of the prompts of `base`, in its order. Raises `UserError` for runs of different prompts, and where too few were
    answered by both.
    """
    if base.behaviour.hash != new.behaviour.hash:
        raise UserError("expected two runs of the same prompts, got different ones; discover on both anew")
    both = list(zip(base.samples, new.samples, strict=True))
    sound = [p for p, (old, fresh) in enumerate(both) if not old.error and not fresh.error]
    pairs = [both[p] for p in sound]
    if len(pairs) < ENOUGH:
        why = next((error for one in both for error in (one[0].error, one[1].error) if error), "no reply")
        raise UserError(
            f"expected {ENOUGH} prompts or more that both answered, got {len(pairs)} of {len(both)} ({why}); give "
            "others"
        )
    if inside is not None:
        inside = inside._replace(before_PF=inside.before_PF[sound], after_PF=inside.after_PF[sound])
    order = Random(f"halves {seed}").sample(range(len(pairs)), len(pairs))
    proposing, confirming = np.array(sorted(order[::2])), np.array(sorted(order[1::2]))
    embedded = None
    if read is not None:
        same_P = np.array([old.reply == new.reply for old, new in pairs])
        old_PD, new_PD = read[0][sound], read[1][sound]
        new_PD[same_P] = old_PD[same_P]  # read in another batch, it differs in the last digits
        with contextlib.suppress(UserError):  # scikit-learn is an extra
            embedded = _embedded((old_PD, new_PD), proposing)
    table = _table(pairs, inside, embedded)
    proposals = _propose(table, proposing)
    confirmed = _confirm(table, proposals, confirming)
    groups = _grouped(table, confirmed, proposing)
    found = [_group(table, pairs, group, confirming) for group in groups]
    found.sort(key=lambda one: -one["share"] * abs(one["effect"]))
    told = {"groups": found, "proposed": len(proposals), "prompts": len(pairs), "apart": None, "embedded": None}
    try:
        said = [(old.reply, new.reply) for old, new in pairs]
        words = told_apart([said[p] for p in proposing], [said[p] for p in confirming])
        told["apart"] = _apart(pairs, confirming, words)
        if embedded is not None:
            told["embedded"] = _apart(pairs, confirming, list((embedded[1] - embedded[0])[confirming]))
    except UserError:  # scikit-learn is an extra
        pass
    return told


class _Difference(NamedTuple):
    trait: int
    kind: str
    p: float
    effect: float  # mean difference over its standard deviation
    proposed: float = 0.0  # the effect on the half that proposed it: what is shown of a group is chosen by this


def _rows(table: _Table, half: NDArray[np.int64], kind: str) -> NDArray[np.int64]:
    return half if not kind else np.array([p for p in half if kind in table.kinds[p]], np.int64)


def _tests(d_PT: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two-sided p-values and effects of mean differences. Where only signs differ the sign test, which is exact; where
    amounts do, Student's t."""
    from scipy.stats import binom, t

    n = len(d_PT)
    up_T, down_T = (d_PT > 0).sum(0), (d_PT < 0).sum(0)
    moved_T = up_T + down_T
    sign_T = np.minimum(1.0, 2 * binom.cdf(np.minimum(up_T, down_T), moved_T, 0.5))
    sd_T = d_PT.std(0, ddof=1) if n > 1 else np.zeros(d_PT.shape[1])
    mean_T = d_PT.mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        t_T = 2 * t.sf(np.abs(mean_T) / (sd_T / np.sqrt(n)), max(n - 1, 1))
    amounts_T = (np.abs(d_PT) > 1).any(0)
    p_T = np.where(amounts_T & np.isfinite(t_T), t_T, sign_T)
    return p_T, mean_T / np.maximum(sd_T, 1e-9)


def _propose(table: _Table, half: NDArray[np.int64]) -> list[_Difference]:
    """The clearest differences, over all prompts and within each kind, at a false discovery rate of 10%; outside and
    inside apart, so that many features do not hide a few words. A trait that moved on too few prompts to be told is no
    test (Tarone 1990: which way it moved, the sign test's question, does not depend on how often)."""
    chosen: list[_Difference] = []
    for columns in range(table.outside), range(table.outside, len(table.names)):
        found: list[_Difference] = []
        tested = 0
        for kind in ("", *sorted({kind for kinds in table.kinds for kind in kinds})):
            rows = _rows(table, half, kind)
            d_PT = table.d_PT[np.ix_(rows, np.array(columns, np.int64))]
            moved = ((d_PT != 0).sum(0) >= FEWEST).nonzero()[0]
            if len(moved):
                p_T, effect_T = _tests(d_PT[:, moved])
                found += [
                    _Difference(columns[i], kind, float(p), float(effect))
                    for i, p, effect in zip(moved, p_T, effect_T, strict=True)
                    if p < 0.05
                ]
                tested += len(moved)
        padded = benjamini_hochberg([one.p for one in found] + [1.0] * (tested - len(found)))
        kept = [one for one, q in zip(found, padded, strict=False) if q <= 0.1]
        chosen += sorted(kept, key=lambda one: one.p)[:PROPOSED]
    return chosen


def _confirm(table: _Table, proposals: Sequence[_Difference], half: NDArray[np.int64]) -> list[_Difference]:
    """Those that the other half shows too, in the same direction, at 5% over all that were proposed."""
    tested = []
    for one in proposals:
        rows = _rows(table, half, one.kind)
        if len(rows) < 5:
            continue
        p_T, effect_T = _tests(table.d_PT[rows][:, [one.trait]])
        tested.append((one, one._replace(p=float(p_T[0]), effect=float(effect_T[0]), proposed=one.effect)))
    adjusted = holm([after.p for _, after in tested])
    return [
        after._replace(p=p)
        for (before, after), p in zip(tested, adjusted, strict=True)
        if p <= LEVEL and after.effect * before.effect > 0
    ]


def _grouped(table: _Table, found: Sequence[_Difference], half: NDArray[np.int64]) -> list[list[_Difference]]:
    """Differences that go together over prompts, under the one with the least p; a kind's go under those of all
    prompts."""
    groups: list[list[_Difference]] = []
    for one in sorted(found, key=lambda each: (each.p, each.kind)):
        for group in groups:
            rows = _rows(table, half, one.kind or group[0].kind)
            a, b = table.d_PT[rows, group[0].trait], table.d_PT[rows, one.trait]
            if abs(float(a @ b)) >= TOGETHER * float(np.linalg.norm(a) * np.linalg.norm(b)) > 0:
                group.append(one)
                break
            if one.trait == group[0].trait:
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def _group(
    table: _Table, pairs: Sequence[tuple[Sample, Sample]], group: Sequence[_Difference], half: NDArray[np.int64]
) -> dict[str, Any]:
    name_of = lambda one: table.names[one.trait]
    # Of what is about as clear, the one that can be made a behaviour.
    clear = lambda one: (one.kind == group[0].kind, round(min(abs(one.proposed), 3.0), 1), name_of(one) == "refuses",
                         name_of(one) not in (*PATTERNS, EMBEDDING), scorer_of(name_of(one)) is not None)  # fmt: skip
    head, *others = sorted(group, key=clear, reverse=True)
    scored = lambda by: (one for one in (head, *others) if by(name_of(one)) is not None)
    pattern = next(scored(scorer_of), None) or next(scored(measure_of), None)
    rows = _rows(table, half, head.kind)
    name = table.names[head.trait]
    before, after = (
        [Scored(pairs[p][0].family, "", float(table_PT[p, head.trait])) for p in rows]
        for table_PT in (table.before_PT, table.after_PT)
    )
    change = paired(before, after, bounded=name not in AMOUNTS)
    in_unit = lambda of: replace(of, unit="" if name in AMOUNTS else "rate").to_json()
    order = sorted(rows, key=lambda p: -np.sign(head.effect) * table.d_PT[p, head.trait])
    shown = [_pair(*pairs[p]) for p in order[:SHOWN] if table.d_PT[p, head.trait] * head.effect > 0]
    also = dict.fromkeys(table.names[one.trait] for one in group)
    where = "outside" if head.trait < table.outside else "inside"
    return {
        "name": name, "where": where, "kind": head.kind, "change": in_unit(change.change),
        "base": in_unit(change.base), "new": in_unit(change.new), "p": head.p, "effect": head.effect,
        "share": len(rows) / max(len(half), 1), "also": [one for one in also if one != name][:12], "pairs": shown,
        "pattern": None if pattern is None else {
            "trait": name_of(pattern), "kind": pattern.kind, "good": "down" if pattern.effect > 0 else "up",
        },
    }  # fmt: skip


def _apart(
    pairs: Sequence[tuple[Sample, Sample]], confirming: NDArray[np.int64], gaps: Sequence[float]
) -> dict[str, Any]:
    """Whether a classifier trained on one half tells old replies from new ones on the other (a classifier two-sample
    test, Lopez-Paz and Oquab 2017, paired): "share" of prompts on which it takes the new one for the new one, equal
    replies counting half, "p" of the sign test, "pairs" that it tells best. What no trait shows may show here. gaps: by
    how much it takes each new reply of the confirming half for the new one."""
    from scipy.stats import binomtest

    right = [1.0 if gap > 0 else 0.0 if gap < 0 else 0.5 for gap in gaps]
    share = mean([Scored(pairs[p][0].family, "", one) for p, one in zip(confirming, right, strict=True)], bounded=True)
    moved = sum(gap != 0 for gap in gaps)
    order = sorted(zip(gaps, confirming, strict=True), key=lambda one: -one[0])
    return {
        "share": share.to_json(), "p": float(binomtest(right.count(1.0), moved).pvalue) if moved else 1.0,
        "pairs": [_pair(*pairs[p]) for gap, p in order[:SHOWN] if gap > 0],
    }  # fmt: skip


def _pair(old: Sample, new: Sample) -> dict[str, Any]:
    turns = [{"role": role, "content": content} for role, content in old.turns]
    return {"family": old.family, "turns": turns, "before": old.reply, "after": new.reply}


def as_behaviour(group: dict[str, Any], asked: Behaviour, name: str) -> Behaviour:
    """A difference as a behaviour of its own, to be run on versions to come: its kind's prompts, and whether a reply
    has the clearest of its traits that a pattern tells, else its length, its language or whether it ends. Raises
    `UserError` where none is."""
    pattern = group.get("pattern")
    scorer = (scorer_of(pattern["trait"]) or measure_of(pattern["trait"])) if pattern else None
    if pattern is None or scorer is None:
        raise UserError(
            f"expected a difference in words, refusals, length or language, or one of {', '.join(PATTERNS)}, to make a "
            f"behaviour of, got {group['name']!r}"
        )
    trait, kind, good = pattern["trait"], pattern["kind"], pattern["good"]
    if scorer[0] == "ends":  # what is cut off more often ends less often
        good = "up" if good == "down" else "down"
    prompts = tuple(p for p in asked.prompts if not kind or kind in kinds_of(p.family))
    if scorer[0] == "language":
        prompts = tuple(p._replace(expect=trait.removeprefix(LANGUAGE)) for p in prompts)
    counted = scorer[0] == "length"
    margin = max(1.0, round(LENGTHS * float(group["base"]["value"]), 1)) if counted else 0.05
    about = f"{trait}: found where two versions differed{f' ({kind})' if kind else ''}."
    return replace(
        asked, name=name, about=about, tag="guard", good=good, margin=margin, unit="tokens" if counted else "rate",
        scorer=scorer, prompts=prompts,
    )  # fmt: skip


def scorer_of(trait: str) -> tuple[str, dict[str, Any]] | None:
    """What scores a reply by whether it has the trait; None for what is no pattern."""
    if trait == "refuses":
        return "refusal", {}
    if trait in PATTERNS:
        return "regex", {"pattern": PATTERNS[trait]}
    match = re.fullmatch(r"(begins with|says) “(.+)”", trait)
    if match is None:
        return None
    words = r"\W+".join(map(re.escape, match[2].split()))
    start = r"^\W*" if match[1] == "begins with" else r"\b"
    return "regex", {"pattern": rf"(?i){start}{words}\b"}


def measure_of(trait: str) -> tuple[str, dict[str, Any]] | None:
    """What scores a reply by a trait that is no pattern: its length in tokens, whether it ends, its language."""
    if trait.startswith(LANGUAGE):
        return "language", {}
    return {"words": ("length", {}), "sentences": ("length", {}), "is cut off": ("ends", {})}.get(trait)
