"""A policy as it is written, a form in YAML.

policy = read_policy(Path("policy.yaml"))
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from glasshouse.forms import Form, read_form
from glasshouse.policy.policy import (
    BY,
    TRIGGERS,
    Attestation,
    Bound,
    Earlier,
    Elicited,
    Level,
    Policy,
    Required,
    Safeguard,
    Threshold,
    Trend,
    Waiver,
)


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
    pinned = _hash(regressions, "the version's")
    if pinned and not against:
        regressions.wrong("expected `against`, the name of the version that `hash` pins, got none", "hash")
    allowed = _texts(regressions, "allowed")
    days, unscored = regressions.take("days", int, 90), regressions.take("unscored", float, 0.02)
    if days < 1 or not 0 <= unscored <= 1:
        regressions.wrong("expected days of 1 or more, and an unscored share from 0 to 1")
    undecided = regressions.take("undecided", str, "hold", among=("hold", "pass"))
    touched = regressions.take("touched", str, "hold", among=("hold", "pass"))
    provenance = regressions.take("provenance", str, "recorded", among=("recorded", "any"))
    definitions = regressions.anything("definitions", {})
    if not isinstance(definitions, dict) or not all(_is_hash(one) for one in definitions.values()):
        regressions.wrong("expected `definitions` as 10 or more digits of a hash by behaviour", "definitions")
    regressions.end()
    waivers = tuple(_waiver(one) for one in form.each("waivers")) if "waivers" in form else ()
    found = Policy(
        name=form.take("policy", str), version=str(form.anything("version")), date=_date(form, "date"),
        supersedes=form.take("supersedes", str, ""), about=form.take("about", str), levels=levels,
        thresholds=thresholds, against=against, pinned=pinned, allowed=allowed, days=days, unscored=unscored,
        undecided=undecided, touched=touched, provenance=provenance, definitions=definitions,
        approvals=_texts(form, "approvals"), waivers=waivers,
    )  # fmt: skip
    form.end()
    known = {*(t.name for t in thresholds), *names, *(s.name for level in levels for s in level.safeguards)}
    for waiver in waivers:
        if waiver.of not in known and not found.against:
            form.wrong(f"expected a waiver of one of {', '.join(sorted(known))}, got {waiver.of!r}", "waivers")
    return found


def _threshold(form: Form, levels: list[str]) -> Threshold:
    form.take("else", str, "unknown", among=("unknown",))  # said or not, it is so: what is neither counts as crossed
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
    if crossed.side == ruled_out.side or apart <= 0:
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
        behaviour=form.take("behaviour", str), hash=_hash(form, "the behaviour's"),
        families=form.take("families", int, 30), epochs=form.take("epochs", int, 1), days=form.take("days", int, 90),
        unscored=form.take("unscored", float, 0.02),
        provenance=form.take("provenance", str, "recorded", among=("recorded", "any")),
        over=form.take("over", str, ""), elicited=_elicited(form), best_of=form.take("best_of", int, 1),
        earlier=_earlier(form.form("earlier")) if "earlier" in form else None,
    )  # fmt: skip
    form.end()
    if min(found.families, found.epochs, found.days, found.best_of) < 1 or not 0 <= found.unscored <= 1:
        form.wrong("expected families, epochs, days and best_of of 1 or more, and an unscored share from 0 to 1")
    return replace(found, epochs=max(found.epochs, found.best_of))


def _elicited(form: Form) -> tuple[Elicited, ...]:
    given, found = form.anything("elicited", []), []
    if not isinstance(given, list):
        form.wrong(f"expected a list for `elicited`, got {given!r:.60}", "elicited")
    for one in given:
        if isinstance(one, str):
            found.append(Elicited(version=one))
            continue
        if not isinstance(one, dict) or not one.keys() <= {"version", "by", "tries"} or "version" not in one:
            wanted = "a version, or its `version`, `by` and `tries`"
            form.wrong(f"expected {wanted}, in `elicited`, got {one!r:.80}", "elicited")
        by, tries = one.get("by", ""), one.get("tries", 1)
        if not isinstance(one["version"], str) or by not in ("", *BY) or type(tries) is not int or tries < 1:
            form.wrong(f"expected `by` among {', '.join(BY)} and `tries` of 1 or more, got {one!r:.80}", "elicited")
        found.append(Elicited(version=one["version"], by=by, tries=tries))
    return tuple(found)


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
            attested = Attestation(by=_said(word, "by"), date=_date(word, "date"), expires=_date(word, "expires"))
            word.end()
            if attested.expires < attested.date:
                word.wrong(f"expected `expires` after {attested.date}, got {attested.expires}", "expires")
            yield Safeguard(name=name, attested=attested)
        else:
            evidence, holds = _required(one.form("evidence")), _bound(one, "holds")
            yield Safeguard(name=name, evidence=replace(evidence, lowest=holds.side == "above"), holds=holds)
        one.end()


def _waiver(form: Form) -> Waiver:
    found = Waiver(
        of=form.take("of", str), by=_said(form, "by"), reason=_said(form, "reason"),
        expires=_date(form, "expires"),
    )  # fmt: skip
    form.end()
    return found


def _said(form: Form, name: str) -> str:
    """By whom, or why: not left blank."""
    found = form.take(name, str)
    if not found.strip():
        form.wrong(f"expected somebody or something as `{name}`, got {found!r}", name)
    return found


def _hash(form: Form, whose: str) -> str:
    """`hash`, or "" without one."""
    found = form.take("hash", str, "")
    if found and not _is_hash(found):
        form.wrong(f"expected `hash` as 10 or more digits of {whose} hash, got {found!r:.80}", "hash")
    return found


def _is_hash(found: Any) -> bool:
    return isinstance(found, str) and len(found) >= 10 and set(found) <= set("0123456789abcdef")


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
