"""`glasshouse import`: a log of Inspect becomes an evaluation of the workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from glasshouse.cli.entry import JsonOption, WorkspaceOption, answer, begin, say
from glasshouse.cli.testing import result_line, result_row
from glasshouse.types import UserError


def import_command(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="A log of Inspect, .eval or .json.")],
    scorer: Annotated[
        str | None, typer.Option(help="Which of its scores, where it has several.", show_default=False)
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the version, for a model run elsewhere.", show_default=False),
    ] = None,
    good: Annotated[str, typer.Option(help="up or down: which way its score is good.")] = "up",
    margin: Annotated[float, typer.Option(help="A change of its score that does not matter.")] = 0.05,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Import a log of Inspect as an evaluation, to be compared.

    Its mean is recomputed from the log's samples, and a header that says otherwise is told. A log of `--model
    glasshouse/VERSION` is of that version; of any other model, --name says which version it is to be.
    """
    from glasshouse.behaviours.inspect_logs import import_log

    if good not in ("up", "down"):
        raise UserError(f"expected --good up or down, got {good!r}")
    way: Literal["up", "down"] = "up" if good == "up" else "down"
    with begin(workspace) as ws:
        found = import_log(log, ws, scorer=scorer, name=name, good=way, margin=margin)
    row = result_row(found.evaluation)
    for metric, value in found.said.items():
        say(f"the log's header says {metric} {value:.6g}, which is not what its samples say; the header is not used")
    if found.incomplete:
        say(f"the log's header counts {found.incomplete} samples more than the log has")
    version = found.evaluation.version
    answer(
        json, {"version": version, **row, "header": found.said, "incomplete": found.incomplete},
        f"{version['name']}: {result_line(row)}",
    )  # fmt: skip
