"""What nobody named: two versions sampled widely, and what differs in what they say.

    asked = widely(behaviours, count=800, seed=0)            # prompts of many behaviours, as one
    found = discovered(evaluate(base, asked, ws), evaluate(new, asked, ws))
    found["groups"][0]["name"], found["groups"][0]["change"]

Half of the prompts proposes differences, the other half confirms them: what is said of a difference (its size, its
interval, that it is one) comes from prompts that had no part in choosing it, with Holm's adjustment over all that were
proposed. A difference is looked for over all prompts and within each kind. Differences that the same prompts show are
one group.

Legend: P prompts, T traits of a reply. d: trait of the new version's reply less that of the base's.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glasshouse.behaviours.behaviour import Behaviour, Prompt, Settings
from glasshouse.behaviours.evaluation import Evaluation
from glasshouse.behaviours.scorers import Sample, refuses
from glasshouse.behaviours.statistics import LEVEL, Scored, benjamini_hochberg, holm, paired
from glasshouse.types import UserError

NAME, FAMILY_END = "discovery", " | "
PROPOSED = 60  # differences that go on to be confirmed
FEWEST = 6  # replies of either version with a trait, for it to be looked at
TOGETHER = 0.5  # correlation of two differences over prompts, from which they are one group
SHOWN = 5


def widely(behaviours: Sequence[Behaviour], *, count: int = 800, seed: int = 0, max_new_tokens: int = 48) -> Behaviour:
    """Up to `count` prompts of the behaviours, as many of each, one a family, as one behaviour. A prompt's family
    begins with the name of where it comes from, its kind. Raises `UserError` where there are too few prompts to tell
    anything."""
    rng = Random(f"discovery {seed}")
    replied = [b for b in behaviours if any(turn[1] for turn in b.prompts[0].turns)]
    found: list[Prompt] = []
    left = count
    for number, behaviour in enumerate(sorted(replied, key=lambda b: b.families)):
        one_each = {prompt.family: prompt for prompt in rng.sample(behaviour.prompts, len(behaviour.prompts))}
        share = left // (len(replied) - number)
        some = rng.sample(sorted(one_each), min(share, len(one_each)))
        found += [one_each[f]._replace(family=f"{behaviour.name}{FAMILY_END}{f}", number=0, expect=None) for f in some]
        left -= len(some)
    if len(found) < 40:
        raise UserError(
            f"expected 40 prompts or more to discover anything with, got {len(found)}; give more behaviours"
        )
    return Behaviour(
        name=NAME, about="Prompts of many kinds, to compare what two versions say.", tag="neutral", good="down",
        margin=1.0, unit="tokens", scorer=("length", {}), prompts=tuple(found),
        settings=Settings(max_new_tokens=max_new_tokens),
    )  # fmt: skip


# -- traits of a reply -------------------------------------------------------------------------------------------------


def traits(sample: Sample) -> dict[str, float]:
    """What can be counted of a reply: shape, scripts, refusal, its first words, and the words in it."""
    said = sample.reply
    words = re.findall(r"[^\W_]+(?:['’][^\W_]+)?", said.casefold())
    found = {
        "words": float(len(words)), "sentences": float(len(re.findall(r"[.!?。！？؟]+(?:\s|$)", said))),
        "is empty": float(not said.strip()), "is cut off": float(not sample.stopped), "refuses": float(refuses(said)),
        "has code": float("```" in said), "asks back": float(said.rstrip().endswith(("?", "؟", "？"))),
        "has digits": float(any(c.isdigit() for c in said)), "exclaims": float("!" in said),
        "repeats itself": float(len(words) > 8 and len(set(words)) < len(words) / 2),
    }  # fmt: skip
    scripts = Counter(unicodedata.name(c, "?").split(" ")[0] for c in said if c.isalpha())
    if scripts:
        found[f"is in {scripts.most_common(1)[0][0].lower()}"] = 1.0
    if words:
        found[f"begins with “{words[0]}”"] = 1.0
        found |= {f"says “{word}”": 1.0 for word in words}
        found |= {f"says “{a} {b}”": 1.0 for a, b in itertools.pairwise(words)}
    return found


class _Table(NamedTuple):
    """d_PT: differences; names_T; kinds_P: where each prompt comes from."""

    d_PT: NDArray[np.float64]
    names: list[str]
    kinds: list[str]


def _table(pairs: Sequence[tuple[Sample, Sample]]) -> _Table:
    before, after = ([traits(side) for side in sides] for sides in zip(*pairs, strict=True))
    counts = [Counter(key for one in every for key in one) for every in (before, after)]
    names = sorted(name for name in counts[0] | counts[1] if max(c[name] for c in counts) >= FEWEST)
    at = {name: i for i, name in enumerate(names)}
    d_PT = np.zeros((len(pairs), len(names)))
    for sign, every in ((-1.0, before), (1.0, after)):
        for p, one in enumerate(every):
            for name, value in one.items():
                if name in at:
                    d_PT[p, at[name]] += sign * value
    return _Table(d_PT, names, [old.family.partition(FAMILY_END)[0] for old, _ in pairs])


# -- proposing and confirming ------------------------------------------------------------------------------------------


def discovered(base: Evaluation, new: Evaluation, *, seed: int = 0) -> dict[str, Any]:
    """What differs: {"groups", "proposed", "prompts"}, groups by size.

    A group: "name" (the trait that shows it most), "kind" ("" for all prompts), "change" (an `Estimate` as JSON, from
    the confirming half), "p" (adjusted), "also" (traits that move with it), "pairs" (replies side by side, the clearest
    first). Raises `UserError` for runs of different prompts.
    """
    if base.behaviour.hash != new.behaviour.hash:
        raise UserError("expected two runs of the same prompts, got different ones; discover on both anew")
    pairs = [
        (old, fresh) for old, fresh in zip(base.samples, new.samples, strict=True) if not old.error and not fresh.error
    ]
    table = _table(pairs)
    order = Random(f"halves {seed}").sample(range(len(pairs)), len(pairs))
    proposing, confirming = np.array(sorted(order[::2])), np.array(sorted(order[1::2]))
    proposals = _propose(table, proposing)
    confirmed = _confirm(table, proposals, confirming)
    groups = _grouped(table, confirmed, proposing)
    found = [_group(table, pairs, group, confirming) for group in groups]
    found.sort(key=lambda one: -one["share"] * abs(one["effect"]))
    return {"groups": found, "proposed": len(proposals), "prompts": len(pairs)}


class _Difference(NamedTuple):
    trait: int
    kind: str
    p: float
    effect: float  # mean difference over its standard deviation


def _rows(table: _Table, half: NDArray[np.int64], kind: str) -> NDArray[np.int64]:
    return half if not kind else np.array([p for p in half if table.kinds[p] == kind], np.int64)


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
    """The clearest differences, over all prompts and within each kind, at a false discovery rate of 10%."""
    found: list[_Difference] = []
    for kind in ("", *sorted(set(table.kinds))):
        rows = _rows(table, half, kind)
        if len(rows) >= 10:
            p_T, effect_T = _tests(table.d_PT[rows])
            found += [_Difference(i, kind, float(p), float(effect_T[i])) for i, p in enumerate(p_T) if p < 0.05]
    tested = len(table.names) * (1 + len(set(table.kinds)))
    padded = benjamini_hochberg([one.p for one in found] + [1.0] * (tested - len(found)))
    kept = [one for one, q in zip(found, padded, strict=False) if q <= 0.1]
    return sorted(kept, key=lambda one: one.p)[:PROPOSED]


def _confirm(table: _Table, proposals: Sequence[_Difference], half: NDArray[np.int64]) -> list[_Difference]:
    """Those that the other half shows too, in the same direction, at 5% over all that were proposed."""
    tested = []
    for one in proposals:
        rows = _rows(table, half, one.kind)
        if len(rows) < 5:
            continue
        p_T, effect_T = _tests(table.d_PT[rows][:, [one.trait]])
        tested.append((one, one._replace(p=float(p_T[0]), effect=float(effect_T[0]))))
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
        d_P = np.where(np.isin(np.arange(len(table.d_PT)), half), table.d_PT[:, one.trait], 0.0)
        for group in groups:
            head = table.d_PT[:, group[0].trait]
            rows = _rows(table, half, one.kind or group[0].kind)
            a, b = head[rows], d_P[rows]
            if a.std() > 0 and b.std() > 0 and abs(float(np.corrcoef(a, b)[0, 1])) >= TOGETHER:
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
    head = group[0]
    rows = _rows(table, half, head.kind)
    name = table.names[head.trait]
    scores: dict[str, list[Scored]] = defaultdict(list)
    for p in rows:
        for side, sample in zip(("before", "after"), pairs[p], strict=True):
            scores[side].append(Scored(sample.family, "", traits(sample).get(name, 0.0)))
    change = paired(scores["before"], scores["after"], bounded=name not in ("words", "sentences"))
    order = sorted(rows, key=lambda p: -np.sign(head.effect) * table.d_PT[p, head.trait])
    shown = [_pair(*pairs[p]) for p in order[:SHOWN] if table.d_PT[p, head.trait] * head.effect > 0]
    also = dict.fromkeys(table.names[one.trait] for one in group[1:])
    return {
        "name": name, "kind": head.kind, "change": change.change.to_json(), "base": change.base.to_json(),
        "new": change.new.to_json(), "p": head.p, "effect": head.effect, "share": len(rows) / max(len(half), 1),
        "also": [one for one in also if one != name][:12], "pairs": shown,
    }  # fmt: skip


def _pair(old: Sample, new: Sample) -> dict[str, Any]:
    turns = [{"role": role, "content": content} for role, content in old.turns]
    return {"family": old.family, "turns": turns, "before": old.reply, "after": new.reply}


def as_behaviour(group: dict[str, Any], asked: Behaviour, name: str) -> Behaviour:
    """A difference as a behaviour of its own, to be run on versions to come: its kind's prompts, and whether a reply
    has the trait. Raises `UserError` for a trait that is no pattern of words."""
    trait = group["name"]
    if trait == "refuses":
        scorer: tuple[str, dict[str, Any]] = ("refusal", {})
    elif match := re.fullmatch(r"(begins with|says) “(.+)”", trait):
        words = r"\W+".join(map(re.escape, match[2].split()))
        start = r"^\W*" if match[1] == "begins with" else r"\b"
        scorer = ("regex", {"pattern": rf"(?i){start}{words}\b"})
    else:
        raise UserError(f"expected a difference in words or refusals to make a behaviour of, got {trait!r}")
    prompts = tuple(p for p in asked.prompts if p.family.startswith(group["kind"]))
    good: Literal["up", "down"] = "down" if group["change"]["value"] > 0 else "up"
    about = f"{trait}: found where two versions differed{' in ' + group['kind'] if group['kind'] else ''}."
    return replace(
        asked, name=name, about=about, tag="guard", good=good, margin=0.05, unit="rate", scorer=scorer, prompts=prompts
    )  # fmt: skip
