"""`glasshouse gate` and `ledger`: a policy's verdict on a version, from recorded evidence."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.entry import Commands, JsonOption, VersionArgument, WorkspaceOption, answer
from glasshouse.evidence import hashes_in, judged
from glasshouse.policy import append, verified
from glasshouse.policy.ledger import FILE
from glasshouse.types import UserError
from glasshouse.workspace import Workspace

if TYPE_CHECKING:
    from glasshouse.policy import Decision

STATUS = {"pass": 0, "hold": 1, "unknown": 3}
SHOWN = 8  # rules that hold

ledger = typer.Typer(cls=Commands, help="The log of evidence, approvals and verdicts.", no_args_is_help=True)
HeadOption = Annotated[
    str | None,
    typer.Option(metavar="HASH", help="A head that was kept elsewhere: it has to be in the chain.", show_default=False),
]


def gate(
    policy: Annotated[Path, typer.Argument(metavar="POLICY", help="A policy as YAML.")],
    version: VersionArgument,
    report: Annotated[
        Path | None, typer.Option(help="Write the verdict as a page, .html or .md.", show_default=False)
    ] = None,
    on: Annotated[
        str | None, typer.Option(metavar="DATE", help="Judge as of that day; today without it.", show_default=False)
    ] = None,
    head: HeadOption = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Decide by a policy whether a version may be released.

    From what `glasshouse test` and `compare` have recorded; runs nothing, and needs no torch. Exit status 0 for pass, 1
    for hold, 3 for unknown, which holds the release too. The verdict goes into the ledger, whose head is printed.
    """
    from glasshouse.policy import check_report, read_policy, write_report

    rules = read_policy(policy)
    if report is not None:
        check_report(report)
    ws = Workspace.open(workspace, create=False)
    entries, _ = verified(ws.root / FILE, known=_known(head))
    today = datetime.datetime.now(datetime.UTC).date() if on is None else _day(on)
    decision, comparison = judged(ws, rules, version, today)
    new_head = append(ws.root / FILE, "verdict", decision.to_json())
    if report is not None:
        write_report(report, decision, comparison, new_head, evals=ws.root / "evals", hashes=hashes_in(entries))
    answer(json, {**decision.to_json(), "ledger": new_head}, _lines(decision, new_head))
    raise typer.Exit(STATUS[decision.verdict])


@ledger.command("verify")
def verify(head: HeadOption = None, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Say whether the chain is whole, and print its head."""
    entries, found = verified(Workspace.open(workspace, create=False).root / FILE, known=_known(head))
    answer(json, {"entries": len(entries), "head": found}, f"{len(entries)} entries, whole; head {found}")


@ledger.command("approve")
def approve(
    version: VersionArgument,
    role: Annotated[str, typer.Option(help="In which role, as the policy names it.")],
    by: Annotated[str, typer.Option(help="Who approves; a name, which nothing proves.")],
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Record that somebody approves a version."""
    from glasshouse.behaviours import version as named

    ws = Workspace.open(workspace, create=False)
    if not role.strip() or not by.strip():
        raise UserError(f"expected somebody's name and role, got {by!r} as {role!r}; say who approves, and as what")
    found = named(version, ws)
    body = {"role": role, "by": by, "name": found.name, "version": found.hash}
    head = append(ws.root / FILE, "approval", body)
    answer(
        json, {**body, "ledger": head}, f"{by} approves {found.name} ({found.hash[:16]}) as {role}; ledger head {head}"
    )


def _known(head: str | None) -> str:
    """A head that was given, which an unset variable of a script is not; "" without one."""
    if head is not None and (len(head) != 64 or not set(head) <= set("0123456789abcdef")):
        raise UserError(f"expected --head as the 64 digits that were printed, got {head!r:.80}")
    return head or ""


def _day(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise UserError(f"expected a day such as 2026-01-31 for --on, got {text!r}") from None


# -- in words ----------------------------------------------------------------------------------------------------------


def _lines(decision: Decision, head: str) -> str:
    from glasshouse.policy.report import rows

    found = rows(decision)
    kept = [row for row in found if not row[1].startswith("holds")] + [r for r in found if r[1].startswith("holds")][
        :SHOWN
    ]
    left = len(found) - len(kept)
    lines = [
        f"{decision.verdict}: {decision.version['name']} by {decision.policy}, level {decision.level} required, on "
        f"{decision.today}",
        "",
    ]
    lines += [f"{word:16} {rule}: {why}" for rule, word, why in kept]
    lines += [f"{'':16} and {left} rules more that hold (--report FILE.html for all)"] if left else []
    return "\n".join([*lines, "", f"ledger head {head}"])
