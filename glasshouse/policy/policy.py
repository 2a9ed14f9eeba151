"""A release policy: if-then rules over recorded evidence.

    policy.thresholds[0].evidence.behaviour, policy.hash

A *threshold* asks evidence whether something is so: *crossed* or *ruled out* by bounds on an interval, with a safety
buffer between them; what is neither is unknown, and counts as crossed. A crossed threshold requires a *level*, a level
its safeguards.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from glasshouse.types import UserError

TRIGGERS = ("weights", "prompt", "edits")
BY = ("fine-tune", "edits", "prompt")
JUDGED = "{version}"  # in a name: the version that is judged


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """A version whose evidence stands in where the one that is judged has none, until a trigger says to test again:
    effective compute that has grown by more than `compute` times, or a change of what `on` names."""

    version: str
    compute: float = 4.0
    on: tuple[str, ...] = ("prompt", "edits")


@dataclass(frozen=True, kw_only=True)
class Elicited:
    """A version made of the one that is judged ("{version}" stands for it) to bring the behaviour out. by: what it has
    to differ in, `fine-tune`, `edits` or `prompt`; "" for any. tries: of more than one, the version names a sweep with
    that many steps at least, as passwords that are tried: of them the most telling counts."""

    version: str
    by: str = ""
    tries: int = 1


@dataclass(frozen=True, kw_only=True)
class Required:
    """The evidence that counts: of a behaviour, on at least so many families and epochs, at most so many days old, with
    at most that share unscored, and by a model whose training text is `recorded` (or of `any`). hash: how the hash of
    the behaviour begins, so that it is this definition and no later one of that name. over: a version over which the
    change is what counts, not the score itself. elicited: see `Elicited`; those need the same. best_of: elicited by
    trying, so that of each prompt the best of so many samples counts; `lowest`: the best is the lowest score, as
    crossing lies below. earlier: see `Earlier`."""

    behaviour: str
    hash: str = ""
    families: int = 30
    epochs: int = 1
    days: int = 90
    unscored: float = 0.02
    provenance: str = "recorded"
    over: str = ""
    elicited: tuple[Elicited, ...] = ()
    best_of: int = 1
    lowest: bool = False
    earlier: Earlier | None = None

    @property
    def what(self) -> str:
        """The behaviour, and which of a prompt's samples count if not all."""
        best = "lowest" if self.lowest else "highest"
        return self.behaviour if self.best_of == 1 else f"{self.behaviour}, the {best} of {self.best_of}"


Key = tuple[str, Required]  # evidence: of a version by name, and as it is required


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
    it stays the same one whatever bears its name later. definitions: how the hash of a guard begins, by its name: where
    others of that name were run on the base, which one counts. unscored: the largest share of a guard's samples that
    may lack a score. undecided: whether guards that cannot be told hold the release; touched: and those of which
    training has left no family of prompts untouched; provenance: and of models whose training text is not `recorded`
    (or of `any`)."""

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
    unscored: float = 0.02
    undecided: str = "hold"
    touched: str = "hold"
    provenance: str = "recorded"
    definitions: Mapping[str, str] = field(default_factory=dict)
    approvals: tuple[str, ...] = ()
    waivers: tuple[Waiver, ...] = ()

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def title(self) -> str:
        superseding = f", superseding {self.supersedes}" if self.supersedes else ""
        return f"{self.name} {self.version} of {self.date}{superseding}"

    @property
    def required(self) -> list[tuple[Required, str]]:
        """All evidence that the policy can ask for, each with whose it is: a name in which "{version}" stands for the
        version that is judged."""
        safeguards = [one.evidence for level in self.levels for one in level.safeguards if one.evidence]
        found = [
            (one, name)
            for one in (*(threshold.evidence for threshold in self.thresholds), *safeguards)
            for name in (JUDGED, *(each.version for each in one.elicited))
        ]
        for one in self.thresholds:
            if one.trend is not None:
                found += [(now(one.evidence), name) for name in (*one.trend.versions, JUDGED)]
        return found


def now(required: Required) -> Required:
    """The same, of the version itself: no earlier one stands in."""
    return replace(required, earlier=None)


def day(text: str) -> datetime.date:
    """Of a date, or of a time with its zone, as a day in UTC. Raises `UserError`."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"expected a date or time in ISO form, got {text!r:.40}") from None
    return (moment.astimezone(datetime.UTC) if moment.tzinfo else moment).date()
