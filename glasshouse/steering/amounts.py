"""A feature or a direction as an edit, from how people write it; how strong that is, in both units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from glasshouse.models import Edit, Model, add, set
from glasshouse.models.edits import Positions
from glasshouse.types import FeatureId, Site, UserError

FORMS = "resid6/1234=8x (clamp to 8 × its largest activation), resid6/1234=0.8 or resid.6@FILE=0.8 (× the typical norm)"


def parse(text: str, positions: Positions = "all") -> Edit:
    """An edit from how people write it, of all positions, of those of the prompt or of the new tokens only.

    `resid6/1234=8x`: `set`, clamped to 8 × the feature's largest activation, the dictionary's error kept.
    `resid6/1234=0.8`: `add`, the feature's direction × 0.8 × the typical norm of the stream at its site.
    `resid.6@direction.safetensors=0.8`: `add`, the one vector in that file, likewise; a dictionary must be attached
    at the site, for its typical norm. Raises `UserError` for anything else. Whether the model has it, the model says.
    """
    place, equals, amount = text.rpartition("=")
    times_max = amount.endswith("x")
    try:
        number = float(amount.removesuffix("x"))
    except ValueError:
        number = math.nan
    if not equals or not math.isfinite(number):
        raise UserError(f"expected {FORMS}, got {text!r}")
    site, at, file = place.partition("@")
    if at:
        if times_max:
            raise UserError(
                f"expected a strength × the typical norm, such as 0.8, for the direction {place}, got {amount}"
            )
        return add(str(Site.parse(site)), _direction(Path(file)), times_norm=number, positions=positions)
    feature = str(FeatureId.parse(place))
    if times_max:
        return set(feature, times_max=number, positions=positions)
    return add(feature, times_norm=number, positions=positions)


def _direction(path: Path) -> Tensor:
    """The one vector of a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = list(load_file(path).values())
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"expected a safetensors file with one vector at {path}, found none that reads ({error})"
        ) from None
    if len(found) != 1 or found[0].ndim != 1 or not bool(found[0].float().norm() > 0):
        shapes = ", ".join(str(tuple(t.shape)) for t in found) or "nothing"
        raise UserError(f"expected one vector other than zero in {path}, found {shapes}; save the direction by itself")
    return found[0]


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How strong an edit of a feature is, in both units.

    times_max: the feature's code × its largest activation. times_norm: the length of what is written, × the typical
    norm of the stream. A clamp writes that much where the feature is silent, less where it fires already. times_max is
    None for an added feature that never fired: it has no largest activation.
    """

    feature: str
    how: str
    times_max: float | None
    times_norm: float

    def __str__(self) -> str:
        by_max = (
            "unknown × its largest activation"
            if self.times_max is None
            else (f"{self.times_max:.3g} × its largest activation")
        )
        by_norm = f"{self.times_norm:.3g} × the typical norm"
        if self.how == "set":
            return f"{self.feature} set to {by_max} ({by_norm})"
        return f"{self.feature} added at {by_norm} ({by_max})"


def strength(
    dictionary: Any, index: int, *, times_max: float | None = None, times_norm: float | None = None
) -> Strength:
    """One of the two units turned into both. Raises `UserError` if the dictionary does not know its statistics."""
    assert (times_max is None) != (times_norm is None), (times_max, times_norm)
    feature = FeatureId(dictionary.name, _index(dictionary, index))
    maximum, norm = dictionary.max_activation, dictionary.typical_norm
    if maximum is None or not norm:
        raise UserError(
            f"expected the largest activations and typical norm with dictionary {dictionary.name}, found none; "
            "open the model with it once, which measures them"
        )
    norm_per_max = float(maximum[index]) * float(dictionary.W_dec[index].norm()) / float(norm)
    if times_max is not None:
        return Strength(feature=str(feature), how="set", times_max=times_max, times_norm=times_max * norm_per_max)
    assert times_norm is not None
    by_max = times_norm / norm_per_max if norm_per_max else None
    return Strength(feature=str(feature), how="add", times_max=by_max, times_norm=times_norm)


def strengths(model: Model, edit: Edit) -> list[Strength]:
    """The strength of every part of an edit that sets or adds a feature by one of the two units."""
    found = []
    for part in edit.parts:
        site = Site.parse(part.site) if part.kind in ("add", "set") else None
        if site is None or site.dictionary is None or not site.kind.isdigit():
            continue
        given = {key: float(part.options[key]) for key in ("times_max", "times_norm") if key in part.options}
        if given:
            found.append(strength(model.dictionary(site.dictionary), int(site.kind), **given))
    return found


def _index(dictionary: Any, index: int) -> int:
    if not 0 <= index < dictionary.n_features:
        raise UserError(f"expected a feature below {dictionary.n_features} in {dictionary.name}, got {index}")
    return index
