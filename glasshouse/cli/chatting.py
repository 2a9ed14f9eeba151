"""Completions with and without an edit, for `glasshouse chat`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from glasshouse.cli.screen import side_by_side
from glasshouse.types import UserError
from glasshouse.workspace import Workspace


def steered_model(
    source: str, ws: Workspace, *, sets: Sequence[str], adds: Sequence[str], device: str | None
) -> tuple[Any, Any]:
    """The loaded model with the dictionaries that the edits name attached, and the edits added up."""
    from glasshouse.dictionaries import dictionary
    from glasshouse.models import Edit, load
    from glasshouse.steering import parse
    from glasshouse.types import FeatureId

    edit = Edit()
    for text in sets:
        if not text.endswith("x"):
            raise UserError(
                f"expected --set FEATURE=Nx such as resid6/1234=8x, got {text!r}; N × the largest activation"
            )
        edit += parse(text)
    for text in adds:
        if text.endswith("x"):
            raise UserError(f"expected --add FEATURE=N such as resid6/1234=0.8, got {text!r}; N × the typical norm")
        edit += parse(text)
    if not edit:
        raise UserError("expected --set resid6/1234=8x or --add resid6/1234=0.8, got neither; say what to steer with")
    names = {FeatureId.parse(text.partition("=")[0]).dictionary for text in (*sets, *adds)}
    found = [dictionary(name, ws=ws) for name in sorted(names)]
    model: Any = load(source, device=device, workspace=ws)
    for one in found:
        model.attach(one)
    return model, edit


def prompts(given: Sequence[str] | None) -> Iterator[str]:
    """The prompts given, else lines typed until the end of input."""
    if given:
        yield from given
        return
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.rstrip("\n")


def complete_each(model: Any, edit: Any, given: Iterator[str], settings: dict[str, Any]) -> Iterator[dict[str, str]]:
    for prompt in given:
        plain = model.generate(prompt, **settings).text
        yield {
            "prompt": prompt, "plain": plain, "steered": model.generate(prompt, edits=edit, **settings).text,
            "edit": str(edit),
        }  # fmt: skip


def show_pair(pair: dict[str, str], *, quiet: bool) -> None:
    if not quiet:
        side_by_side(Console(), [(pair["prompt"], pair["plain"], pair["steered"])], pair["edit"])
