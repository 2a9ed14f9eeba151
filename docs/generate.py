"""Write docs/cli.md from the commands themselves: `python docs/generate.py`. A test holds the page to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from glasshouse.cli import app

HEAD = """# The command line

Generated from the commands by `make docs`; a test holds it to them.

A count may be written `2000000`, `2e6`, `2M` or `500k`. A user's mistake gets one line on standard error and exit
status 2; a command interrupted with Ctrl-C exits with 130 and goes on when it is run again. Results are printed on
standard output, everything else on standard error.
"""


def command_page(name: str, command: Any) -> str:
    """One command: its help, its arguments and options."""
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"## glasshouse {name}", "", " ".join(command.help.split("\n\n")[0].split())]
    lines += [line for part in command.help.split("\n\n")[1:] for line in ("", " ".join(part.split()))]
    lines += ["", "```", f"glasshouse {name} {usage}", "```", "", "| option | meaning |", "|---|---|"]
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):
            lines.append(f"| `{record[0]}` | {record[1].replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its name, those of a group under the group's."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def page() -> str:
    group: Any = typer.main.get_command(app)
    return "\n".join([HEAD, *(command_page(name, command) for name, command in commands(group))])


if __name__ == "__main__":
    (Path(__file__).parent / "cli.md").write_text(page(), encoding="utf-8")
