"""A release policy: if-then rules over recorded evidence, written as a form.

    policy = read_policy(Path("policy.yaml"))
    policy.thresholds[0].evidence.behaviour, policy.hash

A *threshold* asks evidence whether something is so: *crossed* or *ruled out* by bounds on an interval, with a safety
buffer between them; what is neither is unknown, and counts as crossed. A crossed threshold requires a *level*, a level
its safeguards.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from glasshouse.forms import Form, read_form
from glasshouse.types import UserError

TRIGGERS = ("weights", "prompt", "edits")


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """A version whose evidence stands in where the one that is judged has none, until a trigger says to test again:
    effective compute that has grown by more than `compute` times, or a change of what `on` names."""

    version: str
    compute: float = 4.0
    on: tuple[str, ...] = ("prompt", "edits")


Key = tuple[str, str, str]  # version's name, what of which behaviour, base over which the change is taken or ""


@dataclass(frozen=True, kw_only=True)
class Required:
    """The evidence that counts: of a behaviour, on at least so many families and epochs, at most so many days old, with
    at most that share unscored, and by a model whose training text is `recorded` (or of `any`). over: a version over
    which the change is what counts, not the score itself. elicited: versions made to bring the behaviour out
    ("{version}" stands for the one that is judged), which need the same. best_of: elicited by trying, so that of each
    prompt the best of so many samples counts; `lowest`: the best is the lowest score, as crossing lies below. earlier:
    see `Earlier`."""

    behaviour: str
    families: int = 30
    epochs: int = 1
    days: int = 90
    unscored: float = 0.02
    provenance: str = "recorded"
    over: str = ""
    elicited: tuple[str, ...] = ()
    best_of: int = 1
    lowest: bool = False
    earlier: Earlier | None = None

    @property
    def what(self) -> str:
        """The behaviour, and which of a prompt's samples count if not all."""
        best = "lowest" if self.lowest else "highest"
        return self.behaviour if self.best_of == 1 else f"{self.behaviour}, the {best} of {self.best_of}"

    def of(self, version: str) -> Key:
        """What the evidence is filed under."""
        return version, self.what, self.over


@dataclass(frozen=True, kw_only=True)
class Bound:
    """All of an interval lies below, or above, a value."""

    side: str  # "below" or "above"
    value: float

    def holds(self, low: float, high: float) -> bool:
        return high < self.value if self.side == "below" else low > self.value

    def __str__(self) -> str:
        return f"all of the interval {self.side} {self.value:g}"


@dataclass(frozen=True, kw_only=True)
class Trend:
    """An early warning: the rate over versions of rising effective compute, carried on to `ahead` times that of the
    version that is judged. Where crossing is within reach there, the level is required already."""

    versions: tuple[str, ...]
    ahead: float = 4.0


@dataclass(frozen=True, kw_only=True)
class Threshold:
    name: str
    about: str
    evidence: Required
    crossed: Bound
    ruled_out: Bound
    level: str
    trend: Trend | None = None


@dataclass(frozen=True, kw_only=True)
class Attestation:
    """Somebody's word, dated, that expires."""

    by: str
    date: str
    expires: str


@dataclass(frozen=True, kw_only=True)
class Safeguard:
    """Holds by evidence within a bound, or by an attestation."""

    name: str
    evidence: Required | None = None
    holds: Bound | None = None
    attested: Attestation | None = None


@dataclass(frozen=True, kw_only=True)
class Level:
    """unspecified: named, and not yet written; whatever requires it holds the release."""

    name: str
    about: str
    safeguards: tuple[Safeguard, ...] = ()
    unspecified: bool = False


@dataclass(frozen=True, kw_only=True)
class Waiver:
    """A threshold, safeguard or behaviour that is let pass, by somebody, for a reason, until a day."""

    of: str
    by: str
    reason: str
    expires: str


@dataclass(frozen=True, kw_only=True)
class Policy:
    """levels in rising order; each includes the safeguards of those before. against: the version whose behaviours may
    not regress ("" for none), but for `allowed`, by runs at most so many days old; pinned: how its hash begins, so that
    it stays the same one whatever bears its name later. undecided: whether guards that cannot be told hold the
    release."""

    name: str
    version: str
    date: str
    supersedes: str
    about: str
    levels: tuple[Level, ...]
    thresholds: tuple[Threshold, ...]
    against: str = ""
    pinned: str = ""
    allowed: tuple[str, ...] = ()
    days: int = 90
    undecided: str = "hold"
    approvals: tuple[str, ...] = ()
    waivers: tuple[Waiver, ...] = ()

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def required(self, version: str) -> list[tuple[Required, str]]:
        """All evidence that the policy can ask for when it judges the version, each with whose it is."""
        safeguards = [one.evidence for level in self.levels for one in level.safeguards if one.evidence]
        found = [
            (one, each)
            for one in (*(threshold.evidence for threshold in self.thresholds), *safeguards)
            for each in (version, *(name.replace("{version}", version) for name in one.elicited))
        ]
        for one in self.thresholds:
            found += [(replace(one.evidence, earlier=None), name) for name in (one.trend.versions if one.trend else ())]
        return found


def read_policy(path: Path) -> Policy:
    """Raises `UserError` with the line of what is wrong."""
    form = read_form(path)
    levels = tuple(_level(one) for one in form.each("levels"))
    names = [level.name for level in levels]
    if len(set(names)) < len(names):
        form.wrong("expected levels of different names", "levels")
    thresholds = tuple(_threshold(one, names) for one in form.each("thresholds"))
    regressions = form.form("regressions", optional=True)
    against = regressions.take("against", str, "")
    pinned = regressions.take("hash", str, "")
    if pinned and (len(pinned) < 10 or not set(pinned) <= set("0123456789abcdef")):
        regressions.wrong(f"expected `hash` as 10 or more digits of the version's hash, got {pinned!r:.80}", "hash")
    allowed = _texts(regressions, "allowed")
    days = regressions.take("days", int, 90)
    undecided = regressions.take("undecided", str, "hold", among=("hold", "pass"))
    regressions.end()
    waivers = tuple(_waiver(one) for one in form.each("waivers")) if "waivers" in form else ()
    found = Policy(
        name=form.take("policy", str), version=str(form.anything("version")), date=_date(form, "date"),
        supersedes=form.take("supersedes", str, ""), about=form.take("about", str), levels=levels,
        thresholds=thresholds, against=against, pinned=pinned, allowed=allowed, days=days, undecided=undecided,
        approvals=_texts(form, "approvals"), waivers=waivers,
    )  # fmt: skip
    form.end()
    known = {*(t.name for t in thresholds), *(s.name for level in levels for s in level.safeguards)}
    for waiver in waivers:
        if waiver.of not in known and not found.against:
            form.wrong(f"expected a waiver of one of {', '.join(sorted(known))}, got {waiver.of!r}", "waivers")
    return found


def _threshold(form: Form, levels: list[str]) -> Threshold:
    found = Threshold(
        name=form.take("threshold", str), about=form.take("about", str), evidence=_required(form.form("evidence")),
        crossed=_bound(form, "crossed"), ruled_out=_bound(form, "ruled_out"),
        level=str(form.anything("then")), trend=_trend(form.form("trend")) if "trend" in form else None,
    )  # fmt: skip
    form.end()
    found = replace(found, evidence=replace(found.evidence, lowest=found.crossed.side == "below"))
    if found.level not in levels:
        form.wrong(f"expected `then` among the levels {', '.join(levels)}, got {found.level!r}", "then")
    crossed, ruled_out = found.crossed, found.ruled_out
    apart = (ruled_out.value - crossed.value) * (1 if crossed.side == "below" else -1)
    if crossed.side == ruled_out.side or apart < 0:
        form.wrong("expected `crossed` and `ruled_out` on two sides with a buffer between them", "ruled_out")
    return found


def _trend(form: Form) -> Trend:
    found = Trend(versions=_texts(form, "versions"), ahead=form.take("ahead", float, 4.0))
    form.end()
    if len(found.versions) < 2 or found.ahead <= 1:
        form.wrong("expected two `versions` or more beside the one that is judged, and an `ahead` above 1")
    return found


def _earlier(form: Form) -> Earlier:
    given = {"on": _texts(form, "on")} if "on" in form else {}
    found = Earlier(version=form.take("version", str), compute=form.take("compute", float, 4.0), **given)
    form.end()
    if found.compute < 1 or not set(found.on) <= set(TRIGGERS):
        form.wrong(f"expected a `compute` of 1 or more, and `on` among {', '.join(TRIGGERS)}")
    return found


def _required(form: Form) -> Required:
    found = Required(
        behaviour=form.take("behaviour", str), families=form.take("families", int, 30),
        epochs=form.take("epochs", int, 1), days=form.take("days", int, 90),
        unscored=form.take("unscored", float, 0.02),
        provenance=form.take("provenance", str, "recorded", among=("recorded", "any")),
        over=form.take("over", str, ""), elicited=_texts(form, "elicited"), best_of=form.take("best_of", int, 1),
        earlier=_earlier(form.form("earlier")) if "earlier" in form else None,
    )  # fmt: skip
    form.end()
    if min(found.families, found.epochs, found.days, found.best_of) < 1 or not 0 <= found.unscored <= 1:
        form.wrong("expected families, epochs, days and best_of of 1 or more, and an unscored share from 0 to 1")
    return replace(found, epochs=max(found.epochs, found.best_of))


def _bound(form: Form, name: str) -> Bound:
    bound = form.form(name)
    sides = [side for side in ("below", "above") if side in bound]
    if len(sides) != 1:
        bound.wrong(f"expected `below` or `above` in `{name}`, one of them")
    found = Bound(side=sides[0], value=bound.take(sides[0], float))
    bound.end()
    return found


def _level(form: Form) -> Level:
    safeguards = tuple(_safeguards(form)) if "safeguards" in form else ()
    found = Level(
        name=str(form.anything("level")), about=form.take("about", str), safeguards=safeguards,
        unspecified=form.take("unspecified", bool, False),
    )  # fmt: skip
    form.end()
    return found


def _safeguards(form: Form) -> Iterator[Safeguard]:
    for one in form.each("safeguards"):
        name = one.take("safeguard", str)
        if "attested" in one:
            word = one.form("attested")
            attested = Attestation(by=word.take("by", str), date=_date(word, "date"), expires=_date(word, "expires"))
            word.end()
            yield Safeguard(name=name, attested=attested)
        else:
            evidence, holds = _required(one.form("evidence")), _bound(one, "holds")
            yield Safeguard(name=name, evidence=replace(evidence, lowest=holds.side == "above"), holds=holds)
        one.end()


def _waiver(form: Form) -> Waiver:
    found = Waiver(
        of=form.take("of", str), by=form.take("by", str), reason=form.take("reason", str),
        expires=_date(form, "expires"),
    )  # fmt: skip
    form.end()
    return found


def _texts(form: Form, name: str) -> tuple[str, ...]:
    found = form.anything(name, [])
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        form.wrong(f"expected a list of texts for `{name}`, got {found!r:.60}", name)
    return tuple(found)


def _date(form: Form, name: str) -> str:
    text = form.take(name, str)
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError:
        form.wrong(f"expected a date such as 2026-01-31 for `{name}`, got {text!r:.40}", name)


def day(text: str) -> datetime.date:
    """Of a date, or of a time with its zone, as a day in UTC. Raises `UserError`."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"expected a date or time in ISO form, got {text!r:.40}") from None
    return (moment.astimezone(datetime.UTC) if moment.tzinfo else moment).date()


def as_json(policy: Policy) -> dict[str, Any]:
    return {**asdict(policy), "hash": policy.hash}
