"""Edits of a model as values: they add up, print, save as JSON, and act alike in `run` and in `generate`.

    loud = gh.set("resid8/1234", times_max=8)
    both = loud + gh.ablate("z.5", head=3)
    both.save("edit.json")                      # tensors, if any, in edit.safetensors beside it, named by hash
    with model.edit(both): ...

Edits at one place act in the order in which they were added up. Padding is never edited.
Shapes: B texts, T tokens, H heads, D width, F features.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from glasshouse.types import Site, UserError
from glasshouse.workspace import hash_file, write_atomically

if TYPE_CHECKING:
    from glasshouse.models.runs import Run

EDIT_FORMAT = 1
KINDS = ("add", "set", "ablate", "patch", "weight")
Positions = str | int


class DictionaryLike(Protocol):
    """What a model needs of a dictionary attached to it. Decoding is linear: codes @ W_dec + a constant."""

    name: str
    site: Any
    n_features: int
    width: int
    W_dec: Tensor
    max_activation: Tensor | None
    typical_norm: float | None

    def encode(self, x_ND: Tensor) -> Tensor: ...

    def decode(self, codes_NF: Tensor) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Part:
    """One edit at one place. `options` holds numbers and words, `tensors` arrays; both as the kind reads them."""

    kind: str
    site: str
    positions: Positions = "all"
    head: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def __str__(self) -> str:
        words = [repr(self.site)]
        if self.head is not None:
            words.append(f"head={self.head}")
        words += [f"{key}={value!r}" for key, value in self.options.items()]
        words += [f"{key}=tensor{tuple(value.shape)}" for key, value in self.tensors.items()]
        if self.positions != "all":
            words.append(f"positions={self.positions!r}")
        return f"{self.kind}({', '.join(words)})"

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "site": self.site,
            "positions": self.positions,
            "head": self.head,
            "options": dict(self.options),
            "tensors": {key: tensor_hash(value) for key, value in self.tensors.items()},
        }


@dataclass(frozen=True)
class Edit:
    """A sum of edits. `Edit()` is the empty one."""

    parts: tuple[Part, ...] = ()

    def __add__(self, other: Edit) -> Edit:
        if not isinstance(other, Edit):
            return NotImplemented
        return Edit(self.parts + other.parts)

    def __str__(self) -> str:
        return " + ".join(str(part) for part in self.parts) or "no edit"

    __repr__ = __str__

    def __bool__(self) -> bool:
        return bool(self.parts)

    def to_json(self) -> dict[str, Any]:
        """The edit without its tensors, which stand in it as their hashes."""
        return {"format": EDIT_FORMAT, "parts": [part.to_json() for part in self.parts]}

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def save(self, path: str | Path) -> Path:
        """Write JSON at `path` and, if the edit holds tensors, a safetensors file beside it: `NAME.safetensors` for
        NAME or NAME.json."""
        path, record = Path(path), self.to_json()
        tensors = {tensor_hash(t): t.detach().cpu().contiguous() for p in self.parts for t in p.tensors.values()}
        if tensors:
            from safetensors.torch import save

            data, file = save(tensors), path.with_name(f"{path.name.removesuffix('.json')}.safetensors")
            write_atomically(file, data)
            record["tensors"] = {"file": file.name, "sha256": hashlib.sha256(data).hexdigest()}
        write_atomically(path, json.dumps(record, indent=1))
        return path


def load_edit(path: str | Path) -> Edit:
    """The edit saved at `path`. Raises `UserError` if it does not read, is newer, or its tensors do not match."""
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found, entries = record["format"], record["parts"]
        assert isinstance(found, int) and isinstance(entries, list)
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise UserError(f"expected an edit saved as JSON at {path}, found one that does not read ({error!r})") from None
    if found > EDIT_FORMAT:
        raise UserError(f"{path} has format {found}, this glasshouse reads up to {EDIT_FORMAT}; upgrade glasshouse")
    tensors = _load_tensors(path, record.get("tensors"))
    try:
        return Edit(tuple(_part_from_json(entry, tensors) for entry in entries))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"expected the parts of an edit in {path}, found {error!r}; save the edit again") from None


def _load_tensors(path: Path, entry: Mapping[str, str] | None) -> dict[str, Tensor]:
    if entry is None:
        return {}
    from safetensors.torch import load_file

    file = path.parent / Path(entry["file"]).name
    if not file.is_file():
        raise UserError(f"expected the tensors of {path.name} in {file}, found no such file; copy both together")
    if hash_file(file) != entry["sha256"]:
        raise UserError(f"{file} does not match its hash in {path.name}; copy both again or save the edit again")
    return load_file(file)


def _part_from_json(entry: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Part:
    if entry["kind"] not in KINDS:
        raise ValueError(f"an edit of kind {entry['kind']!r}; known are {', '.join(KINDS)}")
    named = {key: tensors[digest] for key, digest in entry["tensors"].items()}
    return Part(
        kind=entry["kind"],
        site=str(entry["site"]),
        positions=_checked_positions(entry["positions"]),
        head=entry["head"],
        options=dict(entry["options"]),
        tensors=named,
    )


def tensor_hash(x: Tensor) -> str:
    """Hash of dtype, shape and content."""
    x = x.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{x.dtype} {tuple(x.shape)} ".encode())
    digest.update(x.view(-1).view(torch.uint8).numpy().data if x.numel() else b"")
    return digest.hexdigest()


# -- the five kinds --------------------------------------------------------------------------------------------------


def add(
    site: str,
    vector: Tensor | None = None,
    *,
    times_norm: float | None = None,
    scale: float | None = None,
    head: int | None = None,
    positions: Positions = "all",
) -> Edit:
    """Add a direction to the stream at a site.

    add("resid.6", vector): the vector as it is, or times `scale`; with `times_norm`, as a unit vector times that share
        of the typical norm known to a dictionary attached at the site.
    add("resid6/1234", times_norm=0.8): the feature's unit decoder direction × 0.8 × the stream's typical norm.
    add("resid6/1234", scale=3.0): 3 is added to the feature's code, in the units of its activations.
    """
    _one_of("add", times_norm=times_norm, scale=scale)
    if not all(math.isfinite(amount) for amount in (times_norm, scale) if amount is not None):
        raise UserError(f"expected a finite amount to add at {site}, got {times_norm if scale is None else scale}")
    if Site.parse(site).kind.isdigit() and (vector is not None or (times_norm is None and scale is None)):
        raise UserError(f"expected times_norm= or scale=, and no vector, to add the feature {site}")
    if not Site.parse(site).kind.isdigit() and vector is None:
        raise UserError(f"expected a vector to add at {site}; only a feature (NAME/1234) brings its own direction")
    return _edit("add", site, positions, head, {"times_norm": times_norm, "scale": scale}, {"vector": vector})


def set(
    site: str,
    value: float | ArrayLike | Tensor | None = None,
    *,
    times_max: float | None = None,
    head: int | None = None,
    positions: Positions = "all",
) -> Edit:
    """Clamp a feature's code (what the dictionary leaves unexplained is kept), or replace the values at a site.

    set("resid6/1234", times_max=8): the code becomes 8 × the largest activation stored with the dictionary.
    set("resid6/1234", 2.5): the code becomes 2.5. set("resid.6", vector): the stream becomes the vector, a tensor, an
    array or a list.
    """
    if (value is None) == (times_max is None):
        raise UserError(
            f"expected either a value or times_max= to set {site}, got {'neither' if value is None else 'both'}"
        )
    if times_max is not None and not Site.parse(site).kind.isdigit():
        raise UserError(f"expected a feature (NAME/1234) with times_max=, got the site {site}; give a value")
    number, tensor = _value(site, value)
    if not all(math.isfinite(amount) for amount in (number, times_max) if amount is not None):
        raise UserError(f"expected a finite amount to set {site} to, got {number if times_max is None else times_max}")
    return _edit("set", site, positions, head, {"value": number, "times_max": times_max}, {"value": tensor})


def ablate(
    site: str,
    how: str = "zero",
    *,
    head: int | None = None,
    mean: Tensor | float | None = None,
    values: Tensor | None = None,
    seed: int = 0,
    positions: Positions = "all",
) -> Edit:
    """Remove what is at a site, of one head (`z`, `pattern`), or of a feature (its error is kept).

    how="zero"; "mean": replaced by `mean` (shape of one token's values, or a number for a feature), measured by you
    on text of your choice, so that it is the same in every run; "resample": the token at position p gets a row of
    `values` (N, ...), the same row for the same p and `seed`, whatever the batch. With `head`, of a mean or rows of all
    heads the head's own are taken.
    `ablate("NAME/error")` leaves only what the dictionary reconstructs.
    """
    if how not in ("zero", "mean", "resample"):
        raise UserError(f"expected how='zero', 'mean' or 'resample' to ablate {site}, got {how!r}")
    if (how == "mean") != (mean is not None):
        raise UserError(f"expected mean= exactly with how='mean' to ablate {site}; take it from run[site].mean()")
    if (how == "resample") != (values is not None):
        raise UserError(f"expected values= exactly with how='resample' to ablate {site}; take it from run[site].rows()")
    options = {"how": how, "seed": seed if how == "resample" else None}
    mean_tensor = torch.tensor(float(mean)) if isinstance(mean, int | float) else mean
    return _edit("ablate", site, positions, head, options, {"mean": mean_tensor, "values": values})


def patch(site: str, source: Tensor | Run, *, head: int | None = None, positions: Positions = "all") -> Edit:
    """Put the values of another run at a site, by position.

    source: a `Run` that read the site, or values (T, ...) or (B, T, ...) without padding. Position p of text b gets
    the source's position p of text b (of the only text, if the source has one). Positions that the source lacks stay.
    """
    values, lengths = _patch_values(site, source)
    return _edit("patch", site, positions, head, {}, {"values": values, "lengths": lengths})


def weight(parameter: str, tensor: Tensor | None = None, *, delta: Tensor | None = None) -> Edit:
    """Replace a parameter (`tensor`) or add to it (`delta`), wherever it is used; the original is never written to."""
    if (tensor is None) == (delta is None):
        raise UserError(f"expected either a tensor or delta= for the weight {parameter}")
    given = {k: v for k, v in {"tensor": tensor, "delta": delta}.items() if v is not None}
    return Edit((Part(kind="weight", site=parameter, tensors=given),))


def _edit(
    kind: str, site: str, positions: Positions, head: int | None, options: dict[str, Any], tensors: dict[str, Any]
) -> Edit:
    parsed = Site.parse(site)
    if head is not None and parsed.kind not in ("z", "pattern"):
        raise UserError(f"expected a site with heads (z.N or pattern.N) for head={head}, got {site}")
    part = Part(
        kind=kind,
        site=str(parsed),
        positions=_checked_positions(positions),
        head=head,
        options={k: v for k, v in options.items() if v is not None},
        tensors={k: torch.as_tensor(v) for k, v in tensors.items() if v is not None},
    )
    return Edit((part,))


def _value(site: str, value: Any) -> tuple[float | None, Tensor | None]:
    """What to set as a number or as a tensor; neither for None. A scalar of numpy's is a number."""
    if value is None or isinstance(value, Tensor):
        return None, value
    if isinstance(value, int | float):
        return float(value), None
    try:
        made = torch.tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"expected a number or a vector to set {site}, got {type(value).__name__}") from None
    return (float(made), None) if made.ndim == 0 else (None, made if made.is_floating_point() else made.float())


def _checked_positions(positions: Positions) -> Positions:
    if positions in ("all", "prompt", "new") or (isinstance(positions, int) and not isinstance(positions, bool)):
        return positions
    raise UserError(f"expected positions 'all', 'prompt', 'new' or one number, got {positions!r}")


def _one_of(kind: str, **given: Any) -> None:
    have = [key for key, value in given.items() if value is not None]
    if len(have) > 1:
        raise UserError(f"expected at most one of {', '.join(given)} for {kind}, got {' and '.join(have)}")


def _patch_values(site: str, source: Any) -> tuple[Tensor, Tensor]:
    """Values (B, T, ...), tokens first also for patterns, each text's tokens at the left; and the lengths (B,)."""
    kind = Site.parse(site).kind
    if not isinstance(source, Tensor):
        rows = [source[site].text(i) for i in range(len(source.batch))]
        rows = [row.transpose(0, 1) for row in rows] if kind == "pattern" else rows
        lengths = torch.tensor([len(row) for row in rows])
        shape = [max(row.shape[i] for row in rows) for i in range(rows[0].ndim)]
        values = rows[0].new_zeros(len(rows), *shape)
        for value, row in zip(values, rows, strict=True):
            value[tuple(slice(size) for size in row.shape)] = row
        return values, lengths
    per_token = 0 if kind.isdigit() else 2 if kind in ("z", "pattern") else 1
    if source.ndim == per_token + 1:
        source = source[None]
    if source.ndim != per_token + 2:
        raise UserError(
            f"expected {per_token + 2} dimensions (texts, tokens, ...) in the values to patch {site}, got {source.ndim}"
        )
    source = source.transpose(1, 2) if kind == "pattern" else source
    return source, torch.full((len(source),), source.shape[1])
