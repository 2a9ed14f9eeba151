"""What the terminal shows: features with shaded examples, a report's numbers, two completions side by side.

All text of models and corpora becomes `rich.text.Text` after `types.plain`: markup and control sequences are inert.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from glasshouse.types import plain

AROUND = 10  # tokens shown on each side of an example's peak
SHADES = ("on grey23", "on dark_orange3", "on orange3 bold")  # of a third, two thirds, all of the peak


def show_features(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Features as `Features.feature` gives them: label, rate, promoted tokens and two examples each."""
    for row in rows:
        label = row["label"] or {"text": "unclear"}
        head = Text.assemble((plain(row["id"]), "bold"), "  ", plain(label["text"]))
        head.append(f"   fires on {number(row['rate'])} of tokens", style="dim")
        if promoted := [one_line(entry["token"]) for entry in row.get("promotes") or []][:5]:
            head.append("   promotes " + " ".join(promoted), style="dim")
        console.print(head)
        for example in row["examples"]["top"][:2]:
            console.print(Text("    ") + shaded(example, colour=console.is_terminal), overflow="ellipsis", no_wrap=True)


def shaded(example: Mapping[str, Any], *, colour: bool) -> Text:
    """The tokens about the example's peak: shaded by activation in colour, else the strong ones in brackets."""
    tokens, activations = example["tokens"], example["activations"]
    peak = max(activations, default=0.0) or 1.0
    centre = max(range(len(activations)), key=activations.__getitem__, default=0)
    text = Text()
    for i in range(max(0, centre - AROUND), min(len(tokens), centre + AROUND + 1)):
        share, token = activations[i] / peak, one_line(tokens[i])
        if colour and share > 0:
            text.append(token, style=SHADES[min(2, int(3 * share))])
        else:
            text.append(f"[{token}]" if share >= 0.5 else token)
    return text


def one_line(token: str) -> str:
    """A token without line breaks and control sequences."""
    return plain(token).replace("\n", "⏎").replace("\t", " ")


def few_lines(text: str) -> str:
    """A completion without runs of empty lines, which small models love."""
    return re.sub(r"\n\s*\n+", "⏎\n", plain(text)).rstrip()


def number(value: Any) -> str:
    """A plain number or an estimate in JSON, to three digits, with its interval where it has one."""
    if value is None:
        return "not defined"
    if isinstance(value, Mapping):
        if value.get("value") is None:
            return "not defined"
        return f"{value['value']:.3g} [{value['low']:.3g}, {value['high']:.3g}]"
    return f"{value:.3g}"


def give_or_take(estimate: Mapping[str, Any]) -> str:
    """A mean with half the width of its interval, which lies evenly about it: less room than both its ends."""
    return f"{estimate['value']:.3f} ± {(estimate['high'] - estimate['low']) / 2:.3f}"


REPORT_LINES = (
    ("unexplained", "unexplained variance"),
    ("l0", "active features a token (L0)"),
    ("dead", "dead features, share (of training rows)"),
    ("dense", "dense features, share"),
    ("loss_recovered", "share of loss recovered"),
    ("error_norm", "norm of the error, relative"),
)


def show_report(console: Console, name: str, report: Mapping[str, Any]) -> None:
    table = Table(title=Text(f"{plain(name)} on held-out text"), title_justify="left", box=None, show_header=False)
    for key, words in REPORT_LINES:
        if key in report:
            table.add_row(Text(words), Text(number(report[key])))
    console.print(table)


def show_dose(console: Console, dose: Mapping[str, Any]) -> None:
    """Dose and response as a table: a line a strength, in both units, the feature beside random directions."""
    heads = {"own_tokens": "own tokens", "cross_entropy": "cost", "embedding_cosine": "cosine of embeddings"}
    measures = [key for key in heads if key in dose["doses"][0]["feature"]]
    title = f"{plain(dose['feature'])}, {dose['how']}: nats, 95% intervals over {dose['documents']} documents"
    table = Table(title=Text(title), title_justify="left", box=None, padding=(0, 2, 0, 0))
    for head in ("× max", "× norm"):
        table.add_column(Text(head), justify="right")
    for key in measures:
        table.add_column(Text(heads[key]))
        table.add_column(Text("random", style="dim"), style="dim")
    for one in dose["doses"]:
        cells = [number(one["strength"]["times_max"]), number(one["strength"]["times_norm"])]
        for key in measures:
            cells += [give_or_take(one["feature"][key]), give_or_take(one["random"][key])]
        table.add_row(*map(Text, cells))
    console.print(table)
    if own := dose["own_tokens"]:
        console.print(Text("own tokens: " + "  ".join(one_line(one["text"]) for one in own), style="dim"))


def side_by_side(console: Console, pairs: Sequence[tuple[str, str, str]], edit: str) -> None:
    """(prompt, plain completion, steered completion) as two columns."""
    table = Table(show_lines=True, expand=True)
    table.add_column(Text("plain"), ratio=1, overflow="fold")
    table.add_column(Text(plain(edit)), ratio=1, overflow="fold")
    for prompt, before, after in pairs:
        table.add_row(*(Text(plain(prompt), style="dim") + Text(few_lines(text)) for text in (before, after)))
    console.print(table)
