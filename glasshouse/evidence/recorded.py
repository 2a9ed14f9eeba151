"""What the ledger has recorded of evaluations, and why one of them cannot be evidence."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from glasshouse.policy import append, verified
from glasshouse.policy.ledger import FILE
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

if TYPE_CHECKING:
    from glasshouse.behaviours import Version


class Recorded(NamedTuple):
    """What the ledger says of an evaluation: its hash, when it was put there, what it asked (the hash of the behaviour,
    and the seed), the behaviour's tag, and when the replies were made; the last two are "" in entries of before."""

    hash: str
    at: str
    behaviour: str
    seed: int
    tag: str = ""
    made: str = ""


Ledger = Mapping[str, Recorded]  # evaluations, in the order in which they were recorded


def record(ws: Workspace, evaluation: str) -> None:
    """Put an evaluation's hash into the ledger, once: what is altered afterwards does not count. Raises `UserError` for
    one that is another's, or was scored anew from replies that are not those the ledger has recorded."""
    from glasshouse.behaviours import read_evaluation
    from glasshouse.behaviours.evaluation import KEPT

    recorded = recordings(verified(ws.root / FILE)[0])
    if evaluation in recorded:
        return
    done = read_evaluation(ws, evaluation)  # whole, and itself
    manifest = ws.manifest("evals", evaluation)
    kept = manifest["choices"].get(KEPT)
    before = recorded.get(kept["evaluation"]) if kept is not None else None
    if kept is not None and (before is None or before.hash != kept["hash"]):
        raise UserError(
            f"{evaluation} was scored anew from the replies of {kept['evaluation']}, which is not what the ledger has "
            f"recorded; delete both from {ws.root / 'evals'} and run `glasshouse test`, which asks the model anew"
        )
    config = manifest["config"]
    body = {
        "evaluation": evaluation,
        "hash": manifest["hash"],
        "behaviour": config["behaviour"],
        "seed": config["seed"],
        "tag": done.behaviour.tag,
        "made": done.created,
    }
    append(ws.root / FILE, "evidence", body)


def recordings(entries: list[dict[str, Any]]) -> Ledger:
    found: dict[str, Recorded] = {}
    for entry in entries:
        body = entry["body"]
        name = str(body.get("evaluation"))
        if entry["kind"] == "evidence" and name not in found:  # the first counts
            asked = str(body.get("behaviour", "")), int(body.get("seed", 0))  # entries of before had neither
            more = str(body.get("tag", "")), str(body.get("made", ""))
            found[name] = Recorded(str(body.get("hash")), entry["at"], *asked, *more)
    return found


def hashes_in(entries: list[dict[str, Any]]) -> dict[str, str]:
    """Of every evaluation that a ledger has, by name."""
    return {name: one.hash for name, one in recordings(entries).items()}


def runs_of(ws: Workspace, version: Version, recorded: Ledger) -> dict[str, list[str]]:
    """By behaviour, the evaluations of the version that the ledger has, in its order: also those that are gone. Of a
    behaviour of which it has none, those of the workspace, but for what was imported, which is no evidence."""
    from glasshouse.behaviours.breadth import NAME as DISCOVERY
    from glasshouse.behaviours.evaluation import evaluations, name_parts

    kept: dict[str, list[str]] = {}
    for name in recorded:
        behaviour, whose, _ = name_parts(name)
        if whose == version.hash[:10] and behaviour != DISCOVERY:
            kept.setdefault(behaviour, []).append(name)
    others: dict[str, list[str]] = {}
    for name in evaluations(ws, version):
        behaviour = name_parts(name)[0]
        if behaviour not in {*kept, DISCOVERY} and not _imported(ws, name):
            others.setdefault(behaviour, []).append(name)
    return {**others, **kept}


def last(runs: list[str], recorded: Ledger) -> list[str]:
    """Those of the last definition."""
    if not runs or runs[-1] not in recorded:
        return runs
    return [run for run in runs if run in recorded and recorded[run].behaviour == recorded[runs[-1]].behaviour]


def defined(runs: list[str], recorded: Ledger, begins: str) -> list[str]:
    """Those of the definition whose hash begins so."""
    return [run for run in runs if run in recorded and recorded[run].behaviour.startswith(begins)]


def seeds(runs: list[str], recorded: Ledger) -> list[str]:
    """One a seed: of what was scored anew the last."""
    return list({recorded[run].seed if run in recorded else 0: run for run in runs}.values())


def asked(one: Recorded) -> tuple[str, int]:
    return one.behaviour, one.seed


def _imported(ws: Workspace, evaluation: str) -> bool:
    """Whether it is of a log, which is no evidence: `glasshouse import` puts nothing into the ledger."""
    try:
        return bool(ws.manifest("evals", evaluation)["command"] == "import")
    except UserError:  # damaged: told where it is read
        return False


def problem_of(ws: Workspace, evaluation: str, version: Version, recorded: Ledger) -> str:
    """Why an evaluation cannot be evidence of the version: gone, altered, another's, or not in the ledger as it is; ""
    for one that was never made."""
    from glasshouse.behaviours.evaluation import SAID

    at = recorded.get(evaluation)
    if not ws.exists("evals", evaluation):
        return f"{evaluation} is in the ledger and no longer in {ws.root / 'evals'}: restore it" if at else ""
    try:
        manifest = ws.manifest("evals", evaluation, verify=True)
    except UserError as error:
        return str(error)
    if at is None:
        return f"{evaluation} is not in the ledger; `glasshouse test` and `compare` put it there"
    if at.hash != manifest["hash"]:
        return f"{evaluation} is not what the ledger has recorded"
    if manifest["name"] != evaluation or manifest["config"].get("version") != version.hash:
        return f"{evaluation} holds {manifest['name']}, of another version"
    made = manifest["choices"].get(SAID, manifest["created"])
    if at.made and made != at.made:
        return f"{evaluation} is dated {made}, the ledger has {at.made}"
    try:
        moment = datetime.datetime.fromisoformat(made).replace(microsecond=0)
        later = moment > datetime.datetime.fromisoformat(at.at)
    except (ValueError, TypeError):
        later = True
    return f"{evaluation} is dated {made}, after it was recorded ({at.at})" if later else ""
