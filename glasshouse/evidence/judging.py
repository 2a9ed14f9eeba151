"""A policy's verdict over what the workspace holds."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from glasshouse.evidence.comparing import comparison_of
from glasshouse.evidence.gathering import evidence_of, of_earlier
from glasshouse.evidence.recorded import recordings
from glasshouse.policy import verified
from glasshouse.policy.ledger import FILE
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

if TYPE_CHECKING:
    from glasshouse.policy import Decision, Policy


def judged(ws: Workspace, rules: Policy, name: str, today: datetime.date) -> tuple[Decision, Mapping[str, Any] | None]:
    """What the rules say of the version of that name on that day, and the comparison that it rests on (`compared`; None
    for a policy that compares with nothing, or with this version). It runs nothing and writes nothing: a verdict is put
    into the ledger by `append`. Raises `UserError` for a version that does not exist, a model whose folder was altered,
    or a ledger that is broken."""
    from glasshouse.behaviours import version as named
    from glasshouse.policy import decide
    from glasshouse.policy.policy import JUDGED, day

    of = named(name, ws)
    if of.model:  # what is judged is what was tested
        ws.manifest("models", of.model, verify=True)
    entries, _ = verified(ws.root / FILE)
    recorded = recordings(entries)
    evidence = {}
    for required, template in dict.fromkeys(rules.required):
        found = evidence_of(ws, required, template, of, recorded, today)
        if found is None and required.earlier is not None:
            found = of_earlier(ws, required, template, of, recorded, today)
        if found is not None:
            evidence[template.replace(JUDGED, of.name), required] = found
    comparison = None
    base = named(rules.pinned or rules.against, ws) if rules.against else None
    if base is not None and not base.hash.startswith(rules.pinned):  # a version whose name is those digits
        raise UserError(f"expected the version whose hash begins with {rules.pinned}, found {base.name}; rename that")
    if base is not None and base.hash != of.hash:
        comparison = comparison_of(ws, base, of, recorded, rules.definitions)
    approvals = [
        {**entry["body"], "at": entry["at"]}
        for entry in entries
        if entry["kind"] == "approval" and day(entry["at"]) <= today
    ]
    against = base.hash if base is not None else ""
    decision = decide(
        rules, of.to_json(), evidence, today=today, against=against, comparison=comparison, approvals=approvals
    )
    return decision, comparison
