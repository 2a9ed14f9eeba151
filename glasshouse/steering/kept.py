"""Dose and response kept in the workspace: measured once for a feature, under evals/; reading it needs no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from glasshouse.types import ArtifactRef, FeatureId
from glasshouse.workspace import Workspace, write_atomically
from glasshouse.workspace.files import hash_json
from glasshouse.workspace.origin import model_ref, own_model, weights_key

if TYPE_CHECKING:
    from glasshouse.activations import Reading
    from glasshouse.models import Model

FILE = "dose_response.json"
WINDOWS = 32  # of text, or as many texts
DRAWS = 3  # random directions


def kept_dose(ws: Workspace, feature: str | FeatureId, how: str) -> dict[str, Any] | None:
    """What `measure_dose` found for this feature in the dictionary's own model, both as they stand now, or None."""
    place = FeatureId.parse(str(feature))
    own = own_model(ws, place.dictionary)
    if own is None or not ws.exists("models", own):
        return None
    return _found(ws, _name(ws, place, how, weights_key(ws, own)))


def _found(ws: Workspace, name: str) -> dict[str, Any] | None:
    if not ws.exists("evals", name):
        return None
    ws.manifest("evals", name)
    found: dict[str, Any] = json.loads((ws.path("evals", name) / FILE).read_text(encoding="utf-8"))
    return found


def measure_dose(
    ws: Workspace,
    model: Model,
    feature: str | FeatureId,
    how: str = "add",
    *,
    otherwise: Callable[[int], Sequence[Sequence[int]]],
    advance: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """`dose_response` as JSON with `text`, what it was measured on; measured unless it stands for this model, and kept.

    The model must have the dictionary attached. Text is what was held out when the dictionary was learnt here;
    of a dictionary from elsewhere it is `otherwise(WINDOWS)`, token ids without BOS. Killed, the same call goes on.
    """
    place, (of, weights) = FeatureId.parse(str(feature)), model_ref(ws, model)
    name = _name(ws, place, how, weights)
    if (found := _found(ws, name)) is not None:
        return found
    from glasshouse.steering.doses import STRENGTHS, dose_response

    made_from = [ws.ref("dictionaries", place.dictionary), of]
    first = [] if model.bos_id is None else [model.bos_id]
    text: Reading | Sequence[Sequence[int]]
    if (stored := _held_out(ws, place.dictionary)) is not None:
        text, ref = stored
        said, windows = f"held out of activations/{ref.name}", min(WINDOWS, len(text))
        made_from.append(ref)
    else:
        text = [[*first, *ids] for ids in otherwise(WINDOWS)]
        said, windows = "contexts of the evidence", len(text)
    config = {
        "feature": str(place), "how": how, "model": asdict(of), "strengths": STRENGTHS.get(how), "windows": windows,
        "draws": DRAWS,
    }  # fmt: skip
    with ws.writing("evals", name, config=config, command="dose") as draft:
        sums = draft.path / "sums.json"
        with ws.running("dose", "evals", name, total=windows, unit="windows") as progress:

            def move(share: float) -> None:
                progress.advance(share * windows)
                advance(share)

            measured = dose_response(
                model, str(place), held_out=text, how=how, windows=windows, draws=DRAWS, sums=sums, advance=move
            )
        sums.unlink()
        found = {**measured.to_json(), "text": said}
        write_atomically(draft.path / FILE, json.dumps(found, indent=1))
        draft.finish(made_from=made_from)
    return found


def _name(ws: Workspace, place: FeatureId, how: str, weights: str) -> str:
    """Of the artefact. It carries a hash of the dictionary's and the model's: made anew under its name, either is
    another; and an organism's dose is not its villager's."""
    both = hash_json([ws.ref("dictionaries", place.dictionary).hash, weights])
    return f"{place.dictionary[:36]}-{place.index}-{how}-dose-{both[:8]}"


def _held_out(ws: Workspace, dictionary: str) -> tuple[Reading, ArtifactRef] | None:
    """The text that the dictionary's own harvest held out, if that harvest is still here."""
    from glasshouse.activations import store

    for ref in ws.manifest("dictionaries", dictionary)["made_from"]:
        if ref["kind"] == "activations" and ws.exists("activations", ref["name"]):
            found = ArtifactRef(**ref)
            if ws.ref("activations", found.name) == found and len(text := store(ws, found.name).reading(True)):
                return text, found
    return None
