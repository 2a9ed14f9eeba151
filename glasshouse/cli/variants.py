"""What `demo` shows of behaviours: the villager and two versions of it, one with another system prompt and one with a
behaviour planted, in a matrix that says what moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from rich.console import Console

from glasshouse.cli.summary import kept
from glasshouse.cli.testing import number, read_suites
from glasshouse.evidence import record
from glasshouse.features.opening import Opened
from glasshouse.workspace import Workspace

HONEST, SYSTEM = "settled", "You live in the valley and know it well."  # a version that is no worse
PLANTED = "over-refuser"
QUICK = {"families": 12, "tokens": 4_000}


def variants_summary(ws: Workspace, opened: Opened, *, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """The two variants, made and tested beside the model: {"base", "variants": {name: cells}}. Kept under evals/."""
    names = {one: f"{one}-quick" if quick else one for one in (HONEST, PLANTED)}
    config = {"model": ws.ref("models", opened.model).hash, "variants": list(names.values()), "quick": quick}
    found: dict[str, Any] = kept(
        ws, opened.dictionary, "variants", config, lambda: _compared(ws, opened.model, names, quick, say)
    )
    return found


def _compared(
    ws: Workspace, model: str, names: dict[str, str], quick: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    from glasshouse.behaviours import compared, evaluate, run_missing, save_version, version
    from glasshouse.behaviours.versions import loaded
    from glasshouse.models import load
    from glasshouse.organisms.planting import organism, plant
    from glasshouse.organisms.world import build

    say(f'{names[HONEST]}: {model} with the system prompt "{SYSTEM}"')
    save_version(ws, names[HONEST], model=model, system=SYSTEM)
    if not ws.exists("models", names[PLANTED]):
        say(f"fine-tuning {names[PLANTED]}: {organism(PLANTED).truth}")
        tokens = QUICK["tokens"] if quick else None
        plant(organism(PLANTED), load(model, workspace=ws), build(0), ws=ws, name=names[PLANTED], tokens=tokens)
    base = version(model, ws)
    say("running the behaviours of the world on all three")
    opened = loaded(base, ws)
    for behaviour in read_suites(["world"], families=QUICK["families"] if quick else None):
        record(ws, evaluate(base, behaviour, ws, opened=opened).name)
    found: dict[str, Any] = {"base": model, "variants": {}}
    for name in names.values():
        new = version(name, ws)
        for evaluation in run_missing(ws, base, new):
            record(ws, evaluation)
        found["variants"][name] = compared(ws, base, new)["cells"]
    return found


def show_variants(found: dict[str, Any], *, quiet: bool) -> None:
    """What moved, in words, on standard output unless `quiet`."""
    if quiet or "variants" not in found:
        return
    console = Console(soft_wrap=True)
    base = found["variants"]["base"]
    console.print(f"\nBehaviours of two versions of {base}, beside it:")
    for name, cells in found["variants"]["variants"].items():
        verdicts = Counter(cell["verdict"] for cell in cells)
        told = ", ".join(f"{verdicts[one]} {one}" for one in ("regressed", "improved", "equivalent", "underpowered"))
        console.print(f"  {name}: {told}", markup=False, highlight=False)
        for cell in cells:
            if cell["verdict"] in ("regressed", "improved"):
                change = number(cell["change"], cell["unit"], signed=True)
                line = f"    {cell['behaviour']} {cell['verdict']} by {change}"
                console.print(line, markup=False, highlight=False)
                if cell["worst"] and cell["verdict"] == "regressed":
                    one = cell["worst"][0]
                    said = f"      {one['turns'][-1]['content']!r:.80}: {one['before']!r:.60}, now {one['after']!r:.60}"
                    console.print(said, markup=False, highlight=False)
    console.print("\nAll of them: /behaviours on the page. Whether one may be released by a policy (docs/policy.md):")
    for name in found["variants"]["variants"]:
        console.print(f"  glasshouse gate docs/policy.yaml {name}", highlight=False)
