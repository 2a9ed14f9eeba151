"""What each kind of edit does to the values at its place. One function a kind; `effects` binds an edit to a model.

Shapes: B texts, T tokens of this pass, S tokens seen, H heads, D width, F features, N = B·T.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glasshouse.models.edits import DictionaryLike, Edit, Part
from glasshouse.types import Site, UserError

if TYPE_CHECKING:
    from glasshouse.models.model import Model


@dataclass
class Pass:
    """One forward pass: which token of its text each column holds.

    position_BT: index of the token in its text, −1 on padding (CPU). prompt_B: tokens in each prompt (CPU).
    """

    position_BT: Tensor
    prompt_B: Tensor
    device: torch.device
    _selected: dict[Any, Tensor | None] = field(default_factory=dict)

    def select(self, positions: str | int) -> tuple[bool, Tensor | None]:
        """(whether any token of this pass is meant, mask (B, T) of those meant; None for every token)."""
        if positions not in self._selected:
            at, prompt = self.position_BT, self.prompt_B[:, None]
            if positions == "all":
                mask = at >= 0
            elif positions == "prompt":
                mask = (at >= 0) & (at < prompt)
            elif positions == "new":
                mask = at >= prompt
            else:
                assert isinstance(positions, int), positions
                mask = (at >= 0) & (at == (positions if positions >= 0 else prompt + positions))
            every, some = bool(mask.all()), bool(mask.any())
            self._selected[positions] = None if every else mask.to(self.device)
            self._selected[positions, "any"] = some  # type: ignore[assignment]
        return bool(self._selected[positions, "any"]), self._selected[positions]


Change = Callable[[Tensor, Pass], Tensor]


@dataclass(eq=False)
class Effect:
    """A part of an edit bound to a model: the base site where it acts and the function that acts there."""

    part: Part
    site: str
    change: Change
    token_dim: int
    reach: Tensor | None = None  # of a patch: how many positions its source has, (1,) or (B,)
    fired: bool = False
    visited: bool = False

    def __call__(self, x: Tensor, at: Pass) -> Tensor:
        self.visited = True
        some, mask_BT = at.select(self.part.positions)
        if some and self.reach is not None:
            position_BT = at.position_BT
            known_BT = (position_BT >= 0) & (position_BT < _per_text(self.reach, len(x), self.part.site)[:, None])
            mask_BT = known_BT.to(at.device) if mask_BT is None else mask_BT & known_BT.to(at.device)
            some = bool(mask_BT.any())
        if mask_BT is not None and x.shape[self.token_dim] < mask_BT.shape[1]:
            mask_BT = mask_BT[:, -x.shape[self.token_dim] :]  # logits may be asked of the last token only
            some = bool(mask_BT.any())
        if not some:
            return x
        new = self.change(x, at)
        if mask_BT is not None:
            shape = [1] * x.ndim
            shape[0], shape[self.token_dim] = mask_BT.shape
            new = torch.where(mask_BT.view(shape), new, x)
        self.fired = True
        return new


def effects(edit: Edit, model: Model) -> Iterator[Effect]:
    """The parts of `edit` that act at sites, in order. Raises `UserError` for what this model or its dictionaries
    lack, and for tensors of the wrong shape."""
    for part in edit.parts:
        if part.kind == "weight":
            continue
        site = model.site(part.site)
        if site.dictionary is not None:
            dictionary = model.dictionary(site.dictionary)
            yield Effect(part, str(dictionary.site), _through(dictionary, site, part), 1, part.tensors.get("lengths"))
            continue
        if part.head is not None and not 0 <= part.head < model.n_heads:
            raise UserError(f"expected a head from 0 to {model.n_heads - 1} at {site}, got {part.head}")
        shape = model.value_shape(site)
        token_dim = 2 if site.kind == "pattern" else 1
        if part.head is not None:
            head_dim = 1 if site.kind == "pattern" else 2
            plain = _plain(_of_head(part, shape), site, shape[1:], 1, model)
            change = _on_head(part.head, head_dim, plain)
        else:
            change = _plain(part, site, shape, token_dim, model)
        yield Effect(part, str(site), change, token_dim, part.tensors.get("lengths"))


def _of_head(part: Part, shape: tuple[int, ...]) -> Part:
    """The ablation of a head with its own part of a mean, or of rows to resample, that was given of all heads.
    shape: of one token's values of all heads; () for a pattern, which has no fixed one."""
    if part.kind != "ablate" or not shape:
        return part
    assert part.head is not None
    own: dict[str, Tensor] = {}
    for key, value in part.tensors.items():
        rows = value if key == "values" else value[None]
        if len(rows) and rows[0].numel() == torch.Size(shape).numel():
            rows = rows.reshape(-1, *shape)[:, part.head]
        own[key] = rows if key == "values" else rows[0]
    return replace(part, tensors=own)


def _on_head(head: int, dim: int, change: Change) -> Change:
    def apply(x: Tensor, at: Pass) -> Tensor:
        index = torch.tensor([head], device=x.device)
        return x.index_copy(dim, index, change(x.select(dim, head), at).unsqueeze(dim).to(x.dtype))

    return apply


def _plain(part: Part, site: Site, shape: tuple[int, ...], token_dim: int, model: Model) -> Change:
    """The change at a site of the model. `shape`: one token's values there (of one head, if the part names one);
    () for what has no fixed shape, a pattern."""

    def fitted(x: Tensor) -> Tensor:
        """A tensor of one token's values, checked against the site."""
        if not shape or x.ndim == 0:
            return x
        if tuple(x.shape) != shape and x.numel() == torch.Size(shape).numel():
            x = x.reshape(shape)
        if tuple(x.shape) != shape:
            raise UserError(f"expected values of shape {shape} at {site}, got {tuple(x.shape)} in {part.kind}({site})")
        return x

    if part.kind == "add":
        vector = fitted(part.tensors["vector"]) * part.options.get("scale", 1.0)
        if "times_norm" in part.options:
            vector = _unit(vector, site) * part.options["times_norm"] * _typical_norm(model, site)
        added = _spread(vector, site)
        return lambda x, at: x + added(x)
    if part.kind == "patch":
        return _patched(part, site, shape, token_dim, head_dim=None if part.head is None else 2)
    if part.kind == "ablate" and part.options["how"] == "resample":
        return _resampled(part, site, shape, token_dim)
    if part.kind == "set":
        value = part.tensors["value"] if "value" in part.tensors else torch.tensor(part.options["value"])
    else:
        value = part.tensors["mean"] if part.options["how"] == "mean" else torch.tensor(0.0)
    spread = _spread(fitted(value), site)
    return lambda x, at: spread(x)


def _spread(value: Tensor, site: Site) -> Callable[[Tensor], Tensor]:
    """`value` over all of what it meets. Of a pattern it is known only then whether it fits."""
    cast = _cast(value)

    def spread(x: Tensor) -> Tensor:
        try:
            return cast(x).expand_as(x)
        except RuntimeError:
            raise UserError(
                f"expected values that spread over {tuple(x.shape)} at {site}, got {tuple(value.shape)}"
            ) from None

    return spread


def _cast(value: Tensor) -> Callable[[Tensor], Tensor]:
    """`value` in the dtype and on the device of what it meets, converted once."""
    kept: dict[Any, Tensor] = {}

    def cast(x: Tensor) -> Tensor:
        key = (x.dtype, x.device)
        if key not in kept:
            kept[key] = value.to(device=x.device, dtype=x.dtype)
        return kept[key]

    return cast


def _unit(vector: Tensor, site: Site) -> Tensor:
    """The direction, of length 1, in fp32. Raises `UserError` for one that has none."""
    length = vector.float().norm()
    if not length > 0:
        raise UserError(f"expected a direction to add at {site} with times_norm=, got a vector of length {length:.3g}")
    return vector.float() / length


def _typical_norm(model: Model, site: Site) -> float:
    for dictionary in model.attached.values():
        if str(dictionary.site) == str(site):
            return float(_known(dictionary, "typical_norm", None))
    raise UserError(f"expected a dictionary attached at {site} for times_norm=, found none; attach one, or give scale=")


def _known(dictionary: DictionaryLike, what: str, part: Part | None) -> Any:
    """A statistic that an imported dictionary may have come without."""
    value = getattr(dictionary, what)
    if value is None:
        raise UserError(
            f"expected dictionary {dictionary.name} to know its {what} for {part or 'times_norm='}, but it was "
            "imported without; measure it (`glasshouse open` does), or give value= or scale="
        )
    return value


def _largest(dictionary: DictionaryLike, index: int, part: Part) -> float:
    """The feature's largest activation. Raises `UserError` where it never fired: a multiple of 0 would silence it."""
    largest = float(_known(dictionary, "max_activation", part)[index])
    if largest <= 0:
        raise UserError(
            f"expected {dictionary.name}/{index} to have fired where its largest activation was looked for, it never "
            "did; give value= in place of times_max="
        )
    return largest


def _patched(part: Part, site: Site, shape: tuple[int, ...], token_dim: int, head_dim: int | None) -> Change:
    """Position p of text b becomes the source's position p. Patterns need rows that start at the same column."""
    values = part.tensors["values"]  # (B', T', ...)
    if part.head is not None and values.ndim > 3:
        values = values.select(head_dim or 2, part.head)
    if shape and tuple(values.shape[2:]) != shape and values[0, 0].numel() == torch.Size(shape).numel():
        values = values.reshape(*values.shape[:2], *shape)
    if shape and tuple(values.shape[2:]) != shape:
        raise UserError(f"expected patched values of shape {shape} a token at {site}, got {tuple(values.shape[2:])}")

    def apply(x: Tensor, at: Pass) -> Tensor:
        source = _per_text(values, x.shape[0], str(site))
        index = at.position_BT[:, -x.shape[token_dim] :].clamp(0, source.shape[1] - 1)
        text = torch.arange(x.shape[0], device=source.device)[:, None]
        rows = source[text, index.to(source.device)].to(device=x.device, dtype=x.dtype)
        if site.kind == "pattern":
            rows = _columns(rows, x.shape[-1], at, site)
            rows = rows.transpose(1, 2) if token_dim == 2 else rows
            if rows.shape != x.shape:
                raise UserError(f"expected a pattern of {x.shape[1]} heads to patch {site}, got {rows.shape[1]}")
        return rows

    return apply


def _per_text(values: Tensor, texts: int, site: str) -> Tensor:
    if len(values) not in (1, texts):
        raise UserError(f"expected values of 1 or {texts} texts to patch {site}, got {len(values)}")
    return values.expand(texts, *values.shape[1:])


def _columns(rows: Tensor, seen: int, at: Pass, site: Site) -> Tensor:
    """Rows of a pattern cut or filled with zeros to the columns that this pass sees, if column p is position p."""
    position_BT = at.position_BT
    column_T = torch.arange(seen - position_BT.shape[1], seen)
    if bool(((position_BT >= 0) & (position_BT != column_T)).any()):
        raise UserError(f"expected texts that start at the first column to patch {site}; run them one by one")
    if rows.shape[-1] >= seen:
        return rows[..., :seen]
    return torch.nn.functional.pad(rows, (0, seen - rows.shape[-1]))


def _resampled(part: Part, site: Site, shape: tuple[int, ...], token_dim: int) -> Change:
    """The token at position p gets row order[p mod N] of the given values, `order` a permutation from the seed."""
    values = part.tensors["values"]
    if not len(values):
        raise UserError(f"expected at least one row of values to resample {site}, got none")
    if shape and tuple(values.shape[1:]) != shape and values[0].numel() == torch.Size(shape).numel():
        values = values.reshape(len(values), *shape)
    if tuple(values.shape[1:]) != shape:
        raise UserError(f"expected rows of shape {shape} to resample {site}, got {tuple(values.shape[1:])}")
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(part.options["seed"]))

    def apply(x: Tensor, at: Pass) -> Tensor:
        position = at.position_BT[:, -x.shape[token_dim] :].clamp(min=0)
        rows = values[order[position % len(values)].to(values.device)]
        return rows.to(device=x.device, dtype=x.dtype)

    return apply


# -- through a dictionary --------------------------------------------------------------------------------------------


_ROWS = 1024  # encoded at once where codes are used up at once: _ROWS × F floats


def codes_of(dictionary: DictionaryLike, x: Tensor) -> Tensor:
    """Codes (B, T, F) of the values (B, T, D), or (B, T, H, D) taken together, at the dictionary's site."""
    flat = x.reshape(-1, dictionary.width).float()
    return dictionary.encode(flat).reshape(*x.shape[:2], -1)


def code_of(dictionary: DictionaryLike, x: Tensor, index: int) -> Tensor:
    """The code (B, T) of one feature."""
    flat = x.reshape(-1, dictionary.width).float()
    return torch.cat([dictionary.encode(rows)[:, index] for rows in flat.split(_ROWS)]).reshape(x.shape[:2])


def rebuilt(dictionary: DictionaryLike, x: Tensor) -> Tensor:
    """decode(encode(x)), in fp32, in the shape of x."""
    flat = x.reshape(-1, dictionary.width).float()
    return torch.cat([dictionary.decode(dictionary.encode(rows)) for rows in flat.split(_ROWS)]).reshape(x.shape)


def decoded(dictionary: DictionaryLike, codes: Tensor, like: Tensor) -> Tensor:
    """What the dictionary makes of the codes, in fp32, in the shape of `like`."""
    return dictionary.decode(codes.reshape(-1, codes.shape[-1])).reshape(like.shape)


def _through(dictionary: DictionaryLike, site: Site, part: Part) -> Change:
    """The change of x that an edit of codes, of one feature, or of the error means. What is not edited is kept: x
    moves by the difference of two reconstructions, so the dictionary's error stays in it."""
    if site.kind == "error":
        inner = _code_change(part, site, (dictionary.width,), None, dictionary)

        def change_error(x: Tensor, at: Pass) -> Tensor:
            made = rebuilt(dictionary, x)
            error = (x.float() - made).flatten(2)
            return (made + inner(error, at).reshape(x.shape)).to(x.dtype)

        return change_error
    if site.kind == "codes":
        inner = _code_change(part, site, (dictionary.n_features,), None, dictionary)

        def change_codes(x: Tensor, at: Pass) -> Tensor:
            codes = codes_of(dictionary, x)
            moved = decoded(dictionary, inner(codes, at), x) - decoded(dictionary, codes, x)
            return (x.float() + moved).to(x.dtype)

        return change_codes
    index = int(site.kind)
    row_D = dictionary.W_dec[index].detach()
    if part.kind == "add" and "times_norm" in part.options:
        length = part.options["times_norm"] * _known(dictionary, "typical_norm", part)
        step = _unit(row_D, site) * length
        cast = _cast(step)
        return lambda x, at: x + cast(x).reshape(x.shape[2:])
    if part.kind == "add":
        cast = _cast(row_D.float() * part.options["scale"])
        return lambda x, at: x + cast(x).reshape(x.shape[2:])
    inner = _code_change(part, site, (), index, dictionary)

    def change_feature(x: Tensor, at: Pass) -> Tensor:
        code_BT = code_of(dictionary, x, index)
        step_BT = inner(code_BT, at) - code_BT
        row = row_D.to(device=x.device, dtype=torch.float32).reshape(x.shape[2:])
        return (x.float() + step_BT.reshape(*x.shape[:2], *[1] * (x.ndim - 2)) * row).to(x.dtype)

    return change_feature


def _code_change(part: Part, site: Site, shape: tuple[int, ...], index: int | None, d: DictionaryLike) -> Change:
    """The change of codes (B, T, F), of the error (B, T, D) or of one code (B, T)."""
    if part.kind == "set" and "times_max" in part.options:
        assert index is not None
        part = Part(
            kind="set",
            site=part.site,
            positions=part.positions,
            options={"value": part.options["times_max"] * _largest(d, index, part)},
        )
    if part.kind == "patch":
        return _patched(part, site, shape, 1, None)
    if part.kind == "ablate" and part.options["how"] == "resample":
        return _resampled(part, site, shape, 1)
    if part.kind == "add" and "times_norm" in part.options:
        raise UserError(f"expected scale= or a plain vector to add at {site}; times_norm= is for features and streams")
    return _plain(part, site, shape, 1, None)  # type: ignore[arg-type]
