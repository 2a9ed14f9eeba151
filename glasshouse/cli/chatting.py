"""Completions with and without an edit, and dose and response, for `glasshouse chat`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from glasshouse.cli.screen import side_by_side
from glasshouse.types import FeatureId, UserError
from glasshouse.workspace import Workspace


def steered_model(
    source: str, ws: Workspace, *, sets: Sequence[str], adds: Sequence[str], positions: str, device: str | None
) -> tuple[Any, Any]:
    """The loaded model with the dictionaries that the edits name attached, and the edits added up."""
    from glasshouse.dictionaries import dictionary
    from glasshouse.models import Edit, load
    from glasshouse.models.origins import check_known
    from glasshouse.steering import parse

    edit = Edit()
    for text in sets:
        if not text.endswith("x"):
            raise UserError(
                f"expected --set FEATURE=Nx such as resid6/1234=8x, got {text!r}; N × the largest activation"
            )
        edit += parse(text, positions)
    for text in adds:
        if text.endswith("x"):
            raise UserError(f"expected --add FEATURE=N such as resid6/1234=0.8, got {text!r}; N × the typical norm")
        edit += parse(text, positions)
    if not edit:
        raise UserError("expected --set resid6/1234=8x or --add resid6/1234=0.8, got neither; say what to steer with")
    features = [text for text in (*sets, *adds) if "@" not in text]
    found = [dictionary(name, ws=ws) for name in sorted({place.dictionary for place in places(features)})]
    model: Any = load(source, device=device, workspace=ws)
    check_known(model, ws)
    for one in found:
        model.attach(one)
    for text in adds:
        if "@" in text:
            _attach_at(model, ws, str(model.site(text.partition("@")[0])))
    return model, edit


def _attach_at(model: Any, ws: Workspace, site: str) -> None:
    """A dictionary of the model at a site: it knows the typical norm there, which a direction is measured in."""
    from glasshouse.dictionaries import dictionary

    if any(str(one.site) == site for one in model.attached.values()):
        return
    for name in ws.names("dictionaries"):
        found = dictionary(name, ws=ws)
        if str(found.site) == site and found.model_name == model.name:
            model.attach(found)
            return
    raise UserError(
        f"expected a dictionary of {model.name} at {site} in {ws.root}, whose typical norm a direction is added in "
        "units of, found none; run `glasshouse open` at that site first"
    )


def places(texts: Sequence[str]) -> list[FeatureId]:
    """The features named in `resid6/1234=8x` and the like."""
    return [FeatureId.parse(text.rpartition("=")[0]) for text in texts]


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


def complete_each(model: Any, edit: Any, given: Iterator[str], settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each prompt with the completion as it is and as edited; of an encoder, how far the embedding moves."""
    from glasshouse.steering import completions, embedding_moves, strengths

    said = {
        "edit": str(edit), "positions": edit.parts[0].positions,
        "strengths": [str(one) for one in strengths(model, edit)],  # of features, not of directions
    }  # fmt: skip
    for prompt in given:
        if model.is_encoder:
            cosine, moved = (float(values[0]) for values in embedding_moves(model, [prompt], edit))
            yield {"prompt": prompt, "cosine": cosine, "moved": moved, **said}
        else:
            pair = completions(model, prompt, edit, **settings)
            yield {
                "prompt": prompt, "chat": pair.chat, "plain": pair.plain.text, "steered": pair.steered.text, **said,
            }  # fmt: skip


def show_pair(pair: dict[str, Any]) -> None:
    with_it = "; ".join(pair["strengths"]) or pair["edit"]
    if pair["strengths"] and pair["positions"] != "all":
        with_it += f", at {pair['positions']} tokens"
    if "plain" in pair:
        asked = pair["prompt"] + ("\n" if pair["chat"] else "")
        side_by_side(Console(), [(asked, pair["plain"], pair["steered"])], with_it)
    else:
        moved = f"the embedding moves by {pair['moved']:.1%} of its norm; cosine to the plain one {pair['cosine']:.4f}"
        Console().print(f"{with_it}: {moved}", markup=False, highlight=False)


def measure_each(model: Any, ws: Workspace, sets: Sequence[str], adds: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Dose and response of every feature named, as it was asked for: set or added."""
    from glasshouse.features import features
    from glasshouse.steering import measure_dose

    for how, texts in (("set", sets), ("add", adds)):
        for place in places(texts):
            table = place.dictionary
            yield measure_dose(ws, model, place, how, otherwise=lambda count, t=table: features(t, ws=ws).ids(count))
