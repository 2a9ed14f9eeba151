"""How every command starts and ends: where its workspace is, what a mistake looks like, what Ctrl-C says.

A user's mistake, or a place that refuses to be read or written, is one line on standard error and exit status 2; an
interrupted command says how to go on and exits with 130; anything else is a bug and keeps its traceback. Results go to
standard output, everything else to standard error.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from glasshouse.types import UserError, finite, plain
from glasshouse.workspace import KINDS, Workspace, keep_memory, refusal

# Typer brings its own click in newer versions; this is the class of its usage errors either way.
UsageError: type[Any] = typer.BadParameter.__mro__[1]


class Commands(TyperGroup):
    """The group of all commands, with one way to fail."""

    def main(self, *args: Any, **extra: Any) -> Any:
        standalone = extra.pop("standalone_mode", True)
        try:
            status = super().main(*args, **{**extra, "standalone_mode": False})
        except UserError as error:
            status = complain(str(error))
        except UsageError as error:
            context = getattr(error, "ctx", None)
            command = f"glasshouse {context.info_name}" if context and context.parent else "glasshouse"
            status = complain(f"{error.format_message().rstrip('.')}; see `{command} --help`")
        except OSError as error:
            if (said := refusal(error)) is None:
                raise
            status = complain(said)
        except (KeyboardInterrupt, typer.Abort):
            status = 130
        if status == 130:
            print("\nstopped; run the same command again to go on", file=sys.stderr)
        if standalone:
            sys.exit(status if isinstance(status, int) else 0)
        return status

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)  # in the order of the work, not of the alphabet


def complain(message: str) -> int:
    """One line, whatever the message holds. Returns the exit status."""
    print("glasshouse: " + " ".join(plain(message).split()), file=sys.stderr)
    return 2


# -- options that many commands share ----------------------------------------------------------------------------------


def count(text: str) -> int:
    """`2000000`, `2_000_000`, `2e6`, `2M` or `500k` as a number."""
    match = re.fullmatch(r"([0-9][0-9_]*(?:\.[0-9]+)?(?:e[0-9]{1,2})?)([kKmMgG]?)", text)
    number = float(match[1].replace("_", "")) if match else math.nan
    number *= {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}[match[2].lower()] if match else 1
    if not 1 <= number < math.inf or number != int(number):
        raise typer.BadParameter(f"expected a count such as 2000000, 2M or 500k, got {text!r}")
    return int(number)


WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        metavar="DIR",
        help="The workspace; else the nearest folder upwards with a glasshouse.toml, else ./glasshouse-workspace.",
        show_default=False,
    ),
]
VersionArgument = Annotated[
    str, typer.Argument(metavar="VERSION", help="A model of the workspace, or a saved version.")
]
CorpusOption = Annotated[str, typer.Option(help="A folder, a file, or `python`, the library of this Python.")]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Name in the workspace, folder, or hub name.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
NameOption = Annotated[str | None, typer.Option(metavar="NAME", help="Name of what is made.", show_default=False)]
SeedOption = Annotated[int, typer.Option(help="Seed of everything random.", min=0, max=2**31 - 1)]


def known_device(device: str | None) -> str | None:
    """The device itself. Raises `UserError`, before anything is begun, for one that this machine has not."""
    if device is not None:
        from glasshouse.models.load import check_device

        check_device(device)
    return device


DeviceOption = Annotated[
    str | None,
    typer.Option(help="cpu or cuda; without it, cuda where there is one.", show_default=False, callback=known_device),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(
        help="float32, bfloat16 or float16, of a model that this workspace does not know yet; float32 without it.",
        show_default=False,
    ),
]


def file_to_write(file: Path | None) -> Path | None:
    """The file itself. Raises `UserError`, before any work is done for it, where no file can be."""
    if file is not None and not file.parent.is_dir():
        raise UserError(f"expected a folder at {file.parent} to write to, found none; make it")
    if file is not None and file.is_dir():
        raise UserError(f"expected a file to write, got the folder {file}; give a file in it")
    return file


WeightOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND=N",
        show_default=False,
        help="Read the documents of that kind N times: 2.5 is twice, and half of them once more; 0 leaves the kind "
        "out. May be repeated.",
    ),
]
TextColumnOption = Annotated[str, typer.Option(help="Column of .jsonl, .parquet and .csv files that holds the text.")]
PORT = 8421
PortOption = Annotated[int, typer.Option(help="Port of the page; 0 takes a free one.", min=0, max=65535)]
NoServeOption = Annotated[bool, typer.Option("--no-serve", help="Do not serve the page.")]


def CountOption(help: str) -> Any:  # an option's declaration, written like the ones above
    return typer.Option(parser=count, metavar="N", help=help, show_default=False)


ContextOption = Annotated[int | None, CountOption("Tokens a window; what the model reads, at most 256, without it.")]


def weights_of(given: list[str] | None) -> dict[str, float]:
    """Of `--weight KIND=N`. Raises `UserError` for what is none."""
    found = {}
    for one in given or []:
        kind, _, amount = one.rpartition("=")
        try:
            found[kind] = float(amount)
        except ValueError:
            kind = ""
        if not kind:
            raise UserError(f"expected --weight as a kind and a number, such as help=0.5, got {one!r:.60}")
    return found


@contextlib.contextmanager
def begin(workspace: Path | None, *, create: bool = True) -> Iterator[Workspace]:
    """The workspace of a long command, with the C allocator told to keep what it has.

    A user's mistake, or a place that refuses, leaves no new workspace behind: one that was made for this command and
    holds nothing goes again.
    """
    path = Workspace.find(workspace)
    new = not os.path.exists(path)  # also where it may not be looked: opening says so
    ws = Workspace.open(path, create=create)
    keep_memory()
    try:
        yield ws
    except (UserError, OSError):
        if new and not any((ws.root / kind).is_dir() and any((ws.root / kind).iterdir()) for kind in KINDS):
            shutil.rmtree(ws.root, ignore_errors=True)
        raise


def versions_here(ws: Workspace, *sources: str, device: str | None = None, dtype: str | None = None) -> list[str]:
    """What versions or models are called in the workspace; those of elsewhere are noted there, which is said."""
    from glasshouse.behaviours.versions import named_here

    names = [named_here(source, ws, device=device, dtype=dtype) for source in sources]
    for source, name in zip(sources, names, strict=True):
        if name != source:
            say(f"{source} is {name} in this workspace")
    return names


def say(text: str) -> None:
    """A line for the person at the terminal."""
    print(plain(text), file=sys.stderr, flush=True)


def answer(as_json: bool, value: Any, text: str = "") -> None:
    """The command's result on standard output: as JSON if asked (what is not finite as null), else in words."""
    if as_json:
        print(json.dumps(finite(value), indent=1, ensure_ascii=True, allow_nan=False))
    elif text:
        print(plain(text))
