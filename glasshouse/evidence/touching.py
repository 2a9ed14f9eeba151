"""What training has touched of an evaluation, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from glasshouse.types import UserError
from glasshouse.workspace import Workspace

if TYPE_CHECKING:
    from glasshouse.behaviours import Version


class Touch(NamedTuple):
    """What is wrong with where a behaviour's prompts and its instrument come from: what training has touched, what is
    not known of it, and what was altered. judge: what a judge has in common with the model, which is nothing wrong.
    families: those of which a prompt was touched."""

    prompts: str = ""
    instrument: str = ""
    unknown: str = ""
    problem: str = ""
    judge: str = ""
    families: frozenset[str] = frozenset()


def touched_by(ws: Workspace, version: Version, evaluation: str) -> Touch:
    from glasshouse.behaviours import read_evaluation
    from glasshouse.behaviours.provenance import touched

    try:
        done = read_evaluation(ws, evaluation)
        found = touched(ws, version, done.behaviour, done.checked.by.get("at") if done.checked else None)
    except UserError as error:
        return Touch(problem=str(error))
    text = "stand in the text that the model was trained on"
    prompts = [f"{found.prompts} of its {found.of} prompts {text}"] if found.prompts else []
    prompts += [
        f"{count} of its {found.of} prompts stand in the text that the dictionary {name} was trained on"
        for name, count in found.steered
    ]
    instrument = [f"{found.labels} of the labelled texts of its instrument {text}"] if found.labels else []
    instrument += [f"its judge, {found.judge}, is of the model's own line"] if found.judge else []
    on = "on which its judge was checked stand in the text that the judge was trained on"
    instrument += [f"{found.judged} of the labelled texts {on}"] if found.judged else []
    unknown = f"what {', '.join(found.unknown)} was trained on is not recorded"
    judge = f"its judge comes from {found.base}, as the model does" if found.base else ""
    return Touch(
        "; ".join(prompts),
        "; ".join(instrument),
        unknown if found.unknown else "",
        judge=judge,
        families=found.families,
    )
