"""A verdict: the policy's rules over evidence, in three-valued logic, with every reason.

    found = decide(policy, version, evidence, today=date.today(), comparison=compared(...), approvals=[...])
    found.verdict, [reason.text for reason in found.reasons]

A pure function: the same evidence gives the same verdict anywhere. *pass*: every rule holds. *hold*: some rule does
not. *unknown*: none is broken, and some cannot be told (evidence missing, stale, too small, altered, touched by
training): that holds the release too.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from glasshouse.fits import Fit, power_law, rate_law
from glasshouse.policy.policy import (
    JUDGED,
    Attestation,
    Bound,
    Key,
    Level,
    Policy,
    Required,
    Safeguard,
    Threshold,
    Waiver,
    day,
    now,
)

Truth = Literal[True, False, None]
WORST_FIRST = ("regressed", "underpowered", "equivalent", "improved")  # verdicts of a cell


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was measured of a behaviour on a version (or of its change over a base). low, high: the interval. source:
    the evaluation it comes from, hash: of that. problem: why it cannot count (altered, touched by training), or "".
    compute: effective, of the version that was measured, FLOP (0: not recorded). earlier: the version that it was
    measured on in place of the one that was asked for, with what has `changed` since, and `grown`: by how many times
    its compute has grown (0: not recorded). rate: whether it lies in [0, 1]. runs: recorded ones that it is the worst
    of. judge: what its judge has in common with the version, or "". left_out: families of which training has touched
    a prompt, as `touched` says: value and `families` are of the others, the interval holds that of all of them, too."""

    behaviour: str
    version: str
    value: float
    low: float
    high: float
    families: int
    epochs: int
    unscored: float
    created: str
    source: str
    hash: str
    over: str = ""
    problem: str = ""
    compute: float = 0.0
    earlier: str = ""
    changed: tuple[str, ...] = ()
    grown: float = 0.0
    rate: bool = True
    runs: int = 1
    judge: str = ""
    left_out: int = 0
    touched: str = ""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One line of the chain. holds: whether the rule holds, None if it cannot be told. sources: evaluations it rests
    on."""

    rule: str
    holds: Truth
    text: str
    sources: tuple[str, ...] = ()
    waived: str = ""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """policy: its name, version and day, and what it supersedes."""

    policy: str
    policy_hash: str
    version: Mapping[str, Any]
    today: str
    verdict: Literal["pass", "hold", "unknown"]
    level: str
    reasons: tuple[Reason, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def decide(
    policy: Policy, version: Mapping[str, Any], evidence: Mapping[Key, Evidence], *, today: datetime.date,
    against: str = "", comparison: Mapping[str, Any] | None = None, approvals: Sequence[Mapping[str, Any]] = (),
) -> Decision:  # fmt: skip
    """version: its card ("name", "hash"). evidence: by version's name and what is required of it. against: the hash of
    the version that `policy.against` names; comparison: of that with the version, with its judged "cells". approvals:
    recorded ones, "role", "by", "version", and "at", when."""
    judge = _Judge(policy, str(version["name"]), str(version["hash"]), evidence, today, against)
    reasons, required = [], 0
    names = [level.name for level in policy.levels]
    if day(policy.date) > today:
        reasons.append(Reason(rule="policy", holds=None, text=f"the policy is of {policy.date}, which is not yet"))
    for threshold in policy.thresholds:
        for found, counts in judge.threshold(threshold), judge.warning(threshold):
            if found is not None:
                reasons.append(found)
            if found is not None and counts and not found.waived:
                required = max(required, names.index(threshold.level))
    for level in policy.levels[: required + 1]:
        reasons += judge.level(level)
    reasons += judge.regressions(comparison)
    for role in policy.approvals:
        given = [a for a in approvals if (a.get("role"), a.get("version")) == (role, version["hash"])]
        since = [a for a in given if day(str(a["at"])) >= day(policy.date)]
        text = f"approved by {since[-1].get('by')} on {day(str(since[-1]['at']))}" if since else (
            f"approved before the policy's day ({policy.date}) only" if given else "nobody has approved this version"
        )  # fmt: skip
        reasons.append(Reason(rule=f"approval: {role}", holds=True if since else None, text=text))
    for role in sorted({str(a.get("role")) for a in approvals} - {*policy.approvals}):
        last = [a for a in approvals if (a.get("role"), a.get("version")) == (role, version["hash"])][-1:]
        text = "; ".join(
            f"approved by {a.get('by')} on {day(str(a['at']))}, which the policy does not ask" for a in last
        )
        reasons += [Reason(rule=f"approval: {role}", holds=True, text=text)] if last else []
    ruled = {threshold.name for threshold in policy.thresholds} | {reason.rule.partition(": ")[2] for reason in reasons}
    ruled |= {name for level in policy.levels for name in (level.name, *(one.name for one in level.safeguards))}
    for waiver in policy.waivers:
        if waiver.of not in ruled:
            text = "is of no rule of this verdict: is it the name of a threshold, a safeguard, a level or a guard?"
            reasons.append(Reason(rule=f"waiver: {waiver.of}", holds=None, text=text))
    counted = [reason.holds for reason in reasons if not reason.waived]
    verdict: Literal["pass", "hold", "unknown"] = (
        "hold" if False in counted else "unknown" if None in counted else "pass"
    )
    return Decision(
        policy=policy.title, policy_hash=policy.hash, version=dict(version),
        today=today.isoformat(), verdict=verdict, level=names[required], reasons=tuple(reasons),
    )  # fmt: skip


@dataclass(frozen=True)
class _Judge:
    policy: Policy
    version: str
    hash: str
    evidence: Mapping[Key, Evidence]
    today: datetime.date
    against: str

    def threshold(self, of: Threshold) -> tuple[Reason, bool]:
        """The reason, and whether the threshold counts as crossed. A crossed one breaks no rule by itself: it requires
        its level. One that cannot be told does the same, and its reason says so."""
        found = [self.asked(of.evidence, name) for name in (self.version, *self.elicited(of.evidence))]
        said = "; ".join(text for _, text in found)
        sources = tuple(one.source for one, _ in found if one is not None)
        waiver = self.waiver(of.name)
        rule = f"threshold: {of.name}"
        if any(one is not None and of.crossed.holds(one.low, one.high) for one, _ in found):
            text = f"crossed ({of.crossed}): {said}; requires level {of.level}"
            return Reason(rule=rule, holds=True, text=text, sources=sources, waived=waiver), True
        if all(one is not None and of.ruled_out.holds(one.low, one.high) for one, _ in found):
            text = f"ruled out ({of.ruled_out}): {said}"
            return Reason(rule=rule, holds=True, text=text, sources=sources), False
        text = f"unknown, counts as crossed: {said}; requires level {of.level}"
        lacking = any(one is None for one, _ in found)
        return Reason(rule=rule, holds=None if lacking else True, text=text, sources=sources, waived=waiver), True

    def warning(self, of: Threshold) -> tuple[Reason | None, bool]:
        """Whether the trend over versions brings crossing within reach; none where the policy asks for no trend."""
        if of.trend is None:
            return None, False
        asked = [self.asked(now(of.evidence), name) for name in (*of.trend.versions, self.version)]
        points = [one for one, _ in asked if one is not None]
        rule, waiver, then = f"early warning: {of.name}", self.waiver(of.name), f"requires level {of.level}"
        lacking = [text for one, text in asked if one is None] + [
            f"the compute of {one.source} is not recorded" for one in points if not one.compute
        ]
        sources = tuple(one.source for one in points)
        if not lacking:
            try:
                there = of.trend.ahead * points[-1].compute  # of the version that is judged
                value, low, high = _law(sorted(points, key=lambda one: one.compute)).at(there)
                if not all(map(math.isfinite, (value, low, high))):
                    raise ValueError(f"the trend says nothing at {of.trend.ahead:g} times the compute")
            except (ValueError, OverflowError) as error:
                lacking = [str(error)]
        if lacking:
            text = f"unknown, counts as crossed: {'; '.join(lacking)}; {then}"
            return Reason(rule=rule, holds=None, text=text, sources=sources, waived=waiver), True
        reached = high > of.crossed.value if of.crossed.side == "above" else low < of.crossed.value
        said = f"at {of.trend.ahead:g} times the compute {value:.3f} [{low:.3f}, {high:.3f}]"
        far = f"within reach; {then}" if reached else "out of reach"
        text = f"{said}, from {len(points)} versions: {of.crossed.side} {of.crossed.value:g} is {far}"
        return Reason(rule=rule, holds=True, text=text, sources=sources, waived=waiver if reached else ""), reached

    def elicited(self, required: Required) -> list[str]:
        return [one.version.replace(JUDGED, self.version) for one in required.elicited]

    def asked(self, required: Required, version: str) -> tuple[Evidence | None, str]:
        """The evidence if it counts, and what it says or why it does not count."""
        what = f"{required.what} on {version}" + (f" over {required.over}" if required.over else "")
        found = self.evidence.get((version, required))
        if found is None:
            return None, f"no evidence of {what}: run `glasshouse test {version}`"
        if found.problem:
            return None, f"evidence of {what} does not count: {found.problem}"
        old = self.too_old(found.created, required.days)
        families = f"{found.families} families" + _left_out(found.left_out, found.touched)
        short = [
            (found.families < required.families, f"{families}, {required.families} are wanted"),
            (found.epochs < required.epochs, f"{found.epochs} epochs, {required.epochs} are wanted"),
            (
                found.unscored > required.unscored,
                f"{found.unscored:.0%} unscored, at most {required.unscored:.0%} may be",
            ),
            (old, old),
            *((True, text) for text in self.retest(required, found)),
        ]  # fmt: skip
        if wrong := [text for bad, text in short if bad]:
            return None, f"evidence of {what} does not count: {'; '.join(wrong)}"
        said = f"{what} {found.value:.3f} [{found.low:.3f}, {found.high:.3f}], {families}"
        if found.runs > 1:
            said += f", the {'lowest' if required.lowest else 'highest'} of {found.runs} recorded runs"
        said += f", {found.judge}" if found.judge else ""
        return found, f"{said}, measured on {found.earlier}" if found.earlier else said

    def retest(self, required: Required, found: Evidence) -> list[str]:
        """Why evidence of an earlier version does not stand in: the triggers that were pulled since."""
        if not found.earlier or required.earlier is None:
            return []
        since, most = f"since {found.earlier}", required.earlier.compute
        pulled = [f"{what} changed {since}" for what in found.changed if what in required.earlier.on]
        if not found.grown:
            pulled.append(f"how compute has grown {since} is not recorded")
        elif found.grown > most:
            pulled.append(f"compute has grown {found.grown:.3g} times {since}, at most {most:g} may be")
        return pulled

    def too_old(self, created: str, days: int) -> str:
        """What is wrong with when it was made, or nothing."""
        age = (self.today - day(created)).days
        if age < 0:
            return f"dated {created}, after today ({self.today}): is the clock right?"
        return f"{age} days old, at most {days} may be" if age > days else ""

    def level(self, level: Level) -> list[Reason]:
        if level.unspecified:
            text = "required, and not yet specified"
            return [Reason(rule=f"level: {level.name}", holds=False, text=text, waived=self.waiver(level.name))]
        return [self.safeguard(level, one) for one in level.safeguards]

    def safeguard(self, level: Level, one: Safeguard) -> Reason:
        rule, waiver = f"level {level.name}: {one.name}", self.waiver(one.name)
        if one.attested is not None:
            holds, text = self.attested(one.attested)
            return Reason(rule=rule, holds=holds, text=text, waived=waiver)
        assert one.evidence is not None and isinstance(one.holds, Bound), one
        found = [self.asked(one.evidence, name) for name in (self.version, *self.elicited(one.evidence))]
        said = "; ".join(text for _, text in found)
        sources = tuple(evidence.source for evidence, _ in found if evidence is not None)
        if any(evidence is None for evidence, _ in found):
            return Reason(rule=rule, holds=None, text=said, sources=sources, waived=waiver)
        holds = all(evidence is not None and one.holds.holds(evidence.low, evidence.high) for evidence, _ in found)
        text = f"{said}; wanted: {one.holds}"
        return Reason(rule=rule, holds=holds, text=text, sources=sources, waived="" if holds else waiver)

    def attested(self, word: Attestation) -> tuple[Truth, str]:
        said = f"attested by {word.by} on {word.date}, until {word.expires}"
        if day(word.date) > self.today:
            return None, f"{said}: not yet"
        return (True, said) if day(word.expires) >= self.today else (False, f"{said}: expired")

    def regressions(self, comparison: Mapping[str, Any] | None) -> list[Reason]:
        """Of every guard against the base: regressed breaks the rule, unless it is allowed."""
        policy = self.policy
        if not policy.against:
            return []
        if self.against == self.hash:
            return [Reason(rule="regressions", holds=True, text="it is itself what others are held against")]
        if comparison is None:
            text = f"no comparison with {policy.against}: run `glasshouse compare {policy.against} {self.version}`"
            return [Reason(rule="regressions", holds=None, text=text)]
        reasons = []
        lacking = dict.fromkeys(comparison["missing"], f"not run on {self.version}")
        lacking |= {name: f"evidence does not count: {why}" for name, why in comparison.get("unsound", {}).items()}
        for name, text in lacking.items():
            reasons.append(self.guarded(name, None, text))
        reasons += [self.guard(cell) for cell in comparison["cells"] if cell["tag"] == "guard"]
        if not reasons:
            text = f"no guard was run on {policy.against}: run `glasshouse test {policy.against}`"
            return [Reason(rule="regressions", holds=None, text=text)]
        return reasons

    def guard(self, cell: Mapping[str, Any]) -> Reason:
        """Of all its families, or of those that training has not touched: the worse of the two verdicts counts, and of
        two that are as bad that of the untouched."""
        policy, name = self.policy, cell["behaviour"]
        counted = min((cell.get("clean", cell), cell), key=lambda one: WORST_FIRST.index(one["verdict"]))
        change, verdict = counted["change"], counted["verdict"]
        interval = f"{change['value']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]"
        text = f"{verdict}: {interval}, margin {cell['margin']:g}"
        if left_out := counted.get("left_out"):
            text += f", {counted['families']} families{_left_out(left_out, counted['touched'])}"
        holds: Truth = verdict != "regressed"
        if verdict == "underpowered":
            holds = None if policy.undecided == "hold" else True
            text += f", {counted['needed']} families would do" if counted["needed"] else ""
            text = f"cannot be told, which the policy lets pass; {text}" if holds else text
        if holds is not True and name in policy.allowed:
            holds, text = True, f"{text} (allowed)"
        if cell.get("runs", 1) > 1:
            text += f"; the worst of {cell['runs']} recorded runs"
        text += f"; {cell['judge']}" if cell.get("judge") else ""
        if cell.get("definitions", 1) > 1 and name not in policy.definitions:
            holds = holds if holds is False else None
            text = (
                f"{cell['definitions']} definitions of this name were run on the base: say under `definitions` "
                f"which counts ({name}: {cell['definition'][:12]} is the newest); by that {text}"
            )
        if holds is not False:  # that it fell counts, unless it may; that it did not, says nothing
            if cell.get("touched"):
                holds = None if policy.touched == "hold" else holds
                text = f"does not count ({cell['touched']}); {text}"
            if cell.get("unknown"):
                refused = policy.provenance == "recorded"
                holds, counts = (None, "does not count") if refused else (holds, "counts")
                text = f"{counts} ({cell['unknown']}); {text}"
            wrong = [f"evidence is {old}"] if (old := self.too_old(cell["created"], policy.days)) else []
            lacking = max(cell["lacking"], counted["lacking"])
            if lacking > policy.unscored:
                wrong.append(f"{lacking:.0%} unscored, at most {policy.unscored:.0%} may be")
            if wrong:
                holds, text = None, "; ".join([*wrong, text])
        return self.guarded(name, holds, text, tuple(cell.get("sources", ())))

    def guarded(self, name: str, holds: Truth, text: str, sources: tuple[str, ...] = ()) -> Reason:
        """Of one guard; what breaks the rule may be waived."""
        waiver = "" if holds is True else self.waiver(name)
        return Reason(rule=f"regression: {name}", holds=holds, text=text, sources=sources, waived=waiver)

    def waiver(self, of: str) -> str:
        """By whom and why it is waived, if it is, and not past its day."""
        found: list[Waiver] = [one for one in self.policy.waivers if one.of == of and day(one.expires) >= self.today]
        return f"waived by {found[0].by} until {found[0].expires}: {found[0].reason}" if found else ""


def _left_out(families: int, touched: str) -> str:
    return f" ({families} more are left out: {touched})" if families else ""


def _law(points: Sequence[Evidence]) -> Fit:
    """Of values against compute: log-odds of rates, logarithms of what is none. Raises `ValueError`."""
    sizes, values = [one.compute for one in points], [one.value for one in points]
    if all(one.rate for one in points):
        return rate_law(sizes, values, [one.low for one in points], [one.high for one in points])
    return power_law(sizes, values, [(one.high - one.low) / (2 * 1.96) for one in points])
