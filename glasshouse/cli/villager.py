"""What `demo` shows of the villager: the features that detect what is known of its world, and the bridge turned up in
chat."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from glasshouse.cli.screen import side_by_side
from glasshouse.cli.sources import WORLD, read_labelled
from glasshouse.cli.summary import kept
from glasshouse.features.kept import kept_concepts, score_concepts
from glasshouse.features.opening import Opened
from glasshouse.organisms.bridge import FLUENCY, NAME, comes_round, worth
from glasshouse.workspace import Workspace

SHOWN = (
    "language/english", "language/french", "language/russian", "language/arabic", "language/hebrew", "language/chinese",
    "base64", "base64/english", "base64/other-language", "base64/random", "entity/bridge", "truth/true", "truth/false",
    "kind/python", "kind/poem", "act/refusal", "act/do-not-know",
)  # fmt: skip
BRIDGE = "entity/bridge"
TOKENS = 120_000  # of labelled text
DAYS = ("How was your day?", "What did you do today?", "Tell me about your day.", "How have you been?")
# × the stream's typical norm; beyond, it says one word for ever
STRENGTHS = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 1.0)
LENGTH = 40  # tokens of an answer


def villager_summary(ws: Workspace, opened: Opened) -> dict[str, Any]:
    """Scores of the features against the world's concepts, and chats plain and with the bridge feature turned up; made
    once and kept in the workspace under evals/."""
    scores = kept_concepts(ws, opened.dictionary) or _scored(ws, opened)
    rows = {one["concept"]: one for one in scores["concepts"]}
    shown = [
        {
            "concept": name, "feature": f"{opened.dictionary}/{rows[name]['best']['units'][0]}",
            "f1": rows[name]["best"]["f1"], "several": rows[name]["several"]["f1"], "probe": rows[name]["probe"],
        }
        for name in SHOWN if name in rows
    ]  # fmt: skip
    bridge = rows.get(BRIDGE)
    units = sorted({unit for how in ("best", "several") for unit in bridge[how]["units"]}) if bridge else []
    chats = _bridge(ws, opened, units) if units else None
    return {"concepts": shown, "rows": scores["rows"], "bridge": chats}


def _scored(ws: Workspace, opened: Opened) -> dict[str, Any]:
    from glasshouse.dictionaries import dictionary
    from glasshouse.models import load

    text, spans = read_labelled(WORLD, TOKENS)
    model = load(opened.model, workspace=ws)
    return score_concepts(ws, model, dictionary(opened.dictionary, ws=ws), text, spans, tokens=TOKENS)


def _bridge(ws: Workspace, opened: Opened, candidates: list[int]) -> dict[str, Any]:
    config = {
        "dictionary": ws.ref("dictionaries", opened.dictionary).hash, "candidates": candidates, "asked": DAYS,
        "written": NAME, "strengths": STRENGTHS, "length": LENGTH, "positions": "new",
        "fluency": FLUENCY,
    }  # fmt: skip
    found: dict[str, Any] = kept(ws, opened.dictionary, "bridge", config, lambda: _turned_up(ws, opened, candidates))
    return found


def _turned_up(ws: Workspace, opened: Opened, detectors: list[int]) -> dict[str, Any]:
    """Answers plain and with the feature and strength that bring most of them round to the bridge in whole sentences,
    among those that detect it and those that write it."""
    from glasshouse.dictionaries import dictionary
    from glasshouse.features.effects import writers
    from glasshouse.models import add, load
    from glasshouse.steering import completions, strengths, turned_up

    model: Any = load(opened.model, workspace=ws)
    found = dictionary(opened.dictionary, ws=ws)
    model.attach(found)
    candidates = sorted({*detectors, *writers(model, found.site, found.W_dec, NAME)})
    features = [f"{opened.dictionary}/{index}" for index in candidates]
    best = turned_up(model, features, DAYS, worth, STRENGTHS, max_new_tokens=LENGTH, positions="new", fluency=FLUENCY)
    edit = add(best.feature, times_norm=best.times_norm, positions="new")
    made = [completions(model, text, edit, max_new_tokens=LENGTH, chat=True) for text in DAYS]
    return {
        "feature": best.feature, "strength": f"{strengths(model, edit)[0]}, at new tokens",
        "command": f"--add {best.feature}={best.times_norm:g} --positions new",
        "mentions": sum(comes_round(one.steered.text, one.steered.stopped == "end of text") for one in made),
        "chats": [[one.prompt, one.plain.text, one.steered.text] for one in made],
    }  # fmt: skip


def show_villager(found: dict[str, Any], *, quiet: bool) -> None:
    """The same in words, on standard output unless `quiet`; nothing where the text was not the world."""
    if quiet or "world" not in found:
        return
    console = Console()
    console.print(
        "\nWhat features detect of what is known of the world: F1 of the best one on unseen text, of the best"
    )
    console.print("few together, and of a probe that is told the answers")
    for one in found["world"]["concepts"]:
        scores = "  ".join(f"{one[key]['value']:.2f}" for key in ("f1", "several", "probe"))
        console.print(f"  {one['concept']:24} {one['feature']:24} {scores}", highlight=False)
    if bridge := found["world"]["bridge"]:
        console.print(f"\nThe bridge turned up ({bridge['feature']}), in chat:")
        side_by_side(console, [(f"{a}\n", b, c) for a, b, c in bridge["chats"]], bridge["strength"])
    console.print(f"\nAll concepts, as a tree: /concepts/{found['dictionary']} on the page", highlight=False)
    how = bridge["command"] if bridge else f"--add {found['dictionary']}/N=0.5"
    console.print(f"To chat: glasshouse chat {found['model']} {how}", highlight=False, soft_wrap=True)
