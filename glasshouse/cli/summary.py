"""What `demo` and `open` end with: clear features, the report's numbers, a completion plain and steered."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

from rich.console import Console

from glasshouse.cli.screen import show_features, show_report, side_by_side
from glasshouse.features.opening import Opened
from glasshouse.features.table import Features, features
from glasshouse.workspace import Workspace, write_atomically

SHOWN = 10  # clear features
TRIED = 8  # of them steered with, to find the one whose steering shows most
STRENGTH = 0.5  # × the stream's typical norm; from about 0.6 a small model says one word for ever
PROMPT = "The first"
LENGTH = 40  # tokens of a completion
TEMPERATURE = 0.7  # greedy, small models say one word for ever


def summary(ws: Workspace, opened: Opened) -> dict[str, Any]:
    """The summary as JSON. The completions are made once and kept in the workspace under evals/."""
    table = features(opened.dictionary, ws=ws)
    chosen = clear_features(table, SHOWN)
    return {
        "model": opened.model,
        "dictionary": opened.dictionary,
        "site": opened.site,
        "evidence": table.summary,
        "report": opened.report,
        "features": [table.feature(index) for index in chosen],
        "steered": steered(ws, opened, chosen[:TRIED]),
    }


def clear_features(table: Features, wanted: int) -> list[int]:
    """Labelled features that scored best, no two with one label, taken in turn from each kind of document."""
    rows = table.query(flag="labelled", sort="score", limit=40 * wanted)["rows"]
    by_kind: dict[str, dict[str, int]] = {}
    for row in rows:
        if row["flag"] == "live":
            by_kind.setdefault(row["kind"] or "", {}).setdefault(row["label"], row["index"])
    queues = [list(labels.values()) for labels in by_kind.values()]
    chosen: list[int] = []
    while queues and len(chosen) < wanted:
        queues = [queue for queue in queues if queue]
        chosen += [queue.pop(0) for queue in queues]
    return chosen[:wanted]


def steered(ws: Workspace, opened: Opened, candidates: list[int]) -> dict[str, Any] | None:
    """The candidate whose steered text makes it fire most when the unedited model reads that text again.

    None for an encoder, which completes nothing, and where no feature is clear.
    """
    config = {
        "dictionary": ws.ref("dictionaries", opened.dictionary).hash, "candidates": candidates, "prompt": PROMPT,
        "strength": STRENGTH, "length": LENGTH, "temperature": TEMPERATURE,
    }  # fmt: skip
    found = kept(ws, opened.dictionary, "steered", config, lambda: _steer_each(ws, opened, candidates))
    return found if isinstance(found, dict) else None


def kept(ws: Workspace, dictionary: str, what: str, config: dict[str, Any], make: Callable[[], Any]) -> Any:
    """What `make` gives, as JSON: made once, kept in the workspace as evals/NAME-WHAT-HASH/WHAT.json."""
    # Named by its settings: a dictionary learnt anew under its name, or other settings, never meet the old one.
    name = f"{dictionary[:46]}-{what}-{hashlib.sha256(json.dumps(config).encode()).hexdigest()[:8]}"
    if not ws.done("evals", name, config):
        found = make()
        with ws.writing("evals", name, config=config, command="demo") as draft:
            write_atomically(draft.path / f"{what}.json", json.dumps(found, indent=1))
            draft.finish(made_from=[ws.ref("dictionaries", dictionary)])
    return json.loads((ws.path("evals", name) / f"{what}.json").read_text(encoding="utf-8"))


def _steer_each(ws: Workspace, opened: Opened, candidates: list[int]) -> dict[str, Any] | None:
    from glasshouse.dictionaries import dictionary
    from glasshouse.models import add, load
    from glasshouse.steering import strengths

    model: Any = load(opened.model, workspace=ws)
    if model.is_encoder or not candidates:
        return None
    model.attach(dictionary(opened.dictionary, ws=ws))
    plain = model.generate(PROMPT, LENGTH, temperature=TEMPERATURE).text
    best: dict[str, Any] | None = None
    for index in candidates:
        feature = f"{opened.dictionary}/{index}"
        edit = add(feature, times_norm=STRENGTH)
        text = model.generate(PROMPT, LENGTH, edits=edit, temperature=TEMPERATURE).text
        effect = _firing(model, opened.dictionary, index, text) - _firing(model, opened.dictionary, index, plain)
        if best is None or effect > best["effect"]:
            best = {"feature": feature, "strength": str(strengths(model, edit)[0]), "prompt": PROMPT}
            best |= {"plain": plain, "steered": text}
            best["effect"] = effect  # mean activation, as a share of the feature's largest, over the text's tokens
    return best


def _firing(model: Any, dictionary: str, index: int, text: str) -> float:
    """Mean activation over a text read by the unedited model, as a share of the feature's largest.

    0 for a text in which a person would see nothing.
    """
    if not readable(text):
        return 0.0
    values = model.run([PROMPT + text], [f"{dictionary}/codes"], stop=True)[f"{dictionary}/codes"].values
    largest = float(model.attached[dictionary].max_activation[index])
    return float(values[0, :, index].float().mean()) / max(largest, 1e-9)


def readable(text: str) -> bool:
    """Whether it is neither mostly white space nor mostly one run of signs, as of base64."""
    ink = len("".join(text.split()))
    longest = max((len(run) for run in re.findall(r"[!-~]+", text)), default=0)
    return bool(text) and 2 * ink >= len(text) and 2 * longest <= len(text)


def show_summary(found: dict[str, Any], *, quiet: bool) -> None:
    """The summary in words, on standard output unless `quiet`."""
    if quiet:
        return
    console = Console()
    seen = found["evidence"]
    console.rule()
    console.print(
        f"{seen['clear']} of {seen['n_features']} features have a clear label; {len(found['features'])} of them:",
        markup=False,
        highlight=False,
    )
    show_features(console, found["features"])
    console.print()
    show_report(console, found["dictionary"], found["report"])
    if steer := found["steered"]:
        console.print()
        side_by_side(
            console,
            [(steer["prompt"], steer["plain"], steer["steered"])],
            steer["strength"],
        )


def concept_lines(kept: dict[str, Any]) -> str:
    """Scores against known concepts, as text: shares found, and the concepts that were found best."""
    lines = [
        f"{kept['dictionary']} on {kept['positions']:,} tokens of {kept['documents']:,} documents of {kept['text']}",
        f"{'':18} {'found by one':>22} {'found by several':>22} {'mean F1':>8}",
    ]
    for name, row in kept["rows"].items():
        levels = row.get("best", {"all": row})
        for level in sorted(levels, key=lambda one: (one != "all", one)):
            alone, several = levels[level], row.get("several", {}).get(level)
            lines.append(
                f"{name if level == 'all' else f'  of level {level}':18} {_share(alone['found']):>22} "
                f"{_share(several['found']) if several else '':>22} {alone['mean_f1']:8.3f}"
            )
    best = sorted(kept["concepts"], key=lambda one: -one["best"]["f1"]["value"])[:SHOWN]
    lines.append("")
    lines += [
        f"{one['concept']:28} {kept['dictionary']}/{one['best']['units'][0]:<6} F1 {one['best']['f1']['value']:.2f}"
        for one in best
    ]
    return "\n".join(lines)


def _share(of: dict[str, Any]) -> str:
    return f"{of['value']:.0%} [{of['low']:.0%}, {of['high']:.0%}]"
