"""One forward pass with plain hooks: read sites, apply edits, stop after the last site asked for.

    run = model.run(["one text", "another"], get=["resid.3", "z.*"], stop=True)
    run["resid.3"].values                       # (texts, tokens, width)
    run["resid.3"].mask                         # (texts, tokens), False on padding

Hooks exist only at sites that are read or edited, and only during the pass. Values are the model's own tensors, not
copies. Shapes: B texts, T tokens, H heads, D width, V vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from glasshouse.models.attention import Watcher, watching
from glasshouse.models.edits import Edit, Part
from glasshouse.models.effects import Effect, Pass, code_of, codes_of, decoded, effects, rebuilt
from glasshouse.models.families import Place
from glasshouse.types import Site, UserError

if TYPE_CHECKING:
    from glasshouse.models.model import Model


@dataclass(frozen=True)
class Batch:
    """Token ids (B, T) and a mask (B, T) that is False on padding, which may be at the left or the right."""

    ids_BT: Tensor
    mask_BT: Tensor

    def __post_init__(self) -> None:
        assert self.ids_BT.shape == self.mask_BT.shape, (self.ids_BT.shape, self.mask_BT.shape)
        object.__setattr__(self, "mask_BT", self.mask_BT.bool())

    def __len__(self) -> int:
        return len(self.ids_BT)

    @property
    def lengths(self) -> list[int]:
        return [int(n) for n in self.mask_BT.sum(1)]

    @property
    def position_BT(self) -> Tensor:
        """Index of each token in its text, −1 on padding."""
        return torch.where(self.mask_BT, self.mask_BT.long().cumsum(1) - 1, -1)

    def ids(self, text: int) -> list[int]:
        """The unpadded ids of one text."""
        return self.ids_BT[text][self.mask_BT[text]].tolist()


@dataclass(frozen=True)
class SiteValues:
    """What a site held. values: (B, T, ...), for a pattern (B, H, T, T). mask: (B, T), False on padding."""

    values: Tensor
    mask: Tensor
    is_pattern: bool = False

    def text(self, index: int) -> Tensor:
        """The values of one text without padding: (t, ...), for a pattern (H, t, t)."""
        mask_T = self.mask[index].to(self.values.device)
        if self.is_pattern:
            return self.values[index][:, mask_T][:, :, mask_T]
        return self.values[index][mask_T]

    def rows(self) -> Tensor:
        """The values of all unpadded tokens: (N, ...)."""
        if self.is_pattern:
            raise UserError("expected a site with one row a token, got a pattern; take run[site].text(i)")
        return self.values[self.mask.to(self.values.device)]

    def mean(self) -> Tensor:
        """Mean over unpadded tokens."""
        return self.rows().mean(0)


class Run(Mapping[str, SiteValues]):
    """The sites read in one run: `run["resid.3"]`, also by TransformerLens' names."""

    def __init__(self, batch: Batch, values: dict[str, SiteValues], tokens: Callable[[Batch], list[list[str]]]) -> None:
        self.batch = batch
        self._values = values
        self._tokens = tokens

    def __getitem__(self, site: str) -> SiteValues:
        name = str(Site.parse(str(site)))
        if name not in self._values:
            raise UserError(f"expected one of the sites read ({', '.join(self._values) or 'none'}), got {site}")
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, site: object) -> bool:
        try:
            return str(Site.parse(str(site))) in self._values
        except UserError:
            return False

    @property
    def tokens(self) -> list[list[str]]:
        """The tokens of each text as strings, without padding."""
        return self._tokens(self.batch)

    @property
    def logits(self) -> Tensor:
        """(B, T, V), if the site `logits` was read."""
        return self["logits"].values


class _Enough(BaseException):
    """Every site asked for has been read. Not an `Exception`, so that no model catches it on the way."""


class Bound:
    """An edit bound to a model for one run or one generation: which of its parts have acted is counted here."""

    def __init__(self, model: Model, edit: Edit) -> None:
        self.model = model
        self.effects = list(effects(edit, model))
        self.weights = [part for part in edit.parts if part.kind == "weight"]
        with model.lock:  # not while another thread's edited weights stand in the modules
            self.new_parameters = _new_parameters(model.module, self.weights)
            self.beyond_base = bool(self.weights) and model.beyond_base([part.site for part in self.weights])
        self.weights_fired: set[int] = set()

    def at(self) -> dict[str, list[Effect]]:
        by_site: dict[str, list[Effect]] = {}
        for effect in self.effects:
            by_site.setdefault(effect.site, []).append(effect)
        return by_site

    def check_fired(self, why: str = "", *, new_tokens_seen: bool = True) -> None:
        """Raises `UserError` naming the parts that never acted."""
        silent = [
            effect.part
            for effect in self.effects
            if not effect.fired and not (effect.visited and effect.part.positions == "new" and not new_tokens_seen)
        ]
        silent += [part for i, part in enumerate(self.weights) if i not in self.weights_fired]
        if silent:
            parts = " and ".join(str(part) for part in silent)
            raise UserError(
                f"expected every edit to act, but {parts} did not fire"
                f"{why or ': its site or its positions were not reached'}; check them, or leave it out"
            )


def forward(
    model: Model,
    ids_BT: Tensor,
    at: Pass,
    *,
    get: Sequence[Site] = (),
    bound: Bound | None = None,
    grad: bool = False,
    stop: bool = False,
    attention_mask: Tensor | dict[str, Tensor] | None = None,
    past: Any = None,
    last_only: bool = False,
) -> tuple[dict[str, Tensor], Any]:
    """One pass of the model. Returns the values read by site, and the model's output (None if stopped).

    attention_mask: (B, S), what is no padding; or what is added to the attention's scores, (B, 1, T, S), or such by
    kind of layer.
    """
    reader = _Reader(model, at, get, bound.at() if bound else {}, grad, stop)
    whole = reader.whole or (bound is not None and bound.beyond_base)
    output = None
    with model.lock, contextlib.ExitStack() as stack:
        stack.enter_context(torch.enable_grad() if grad else torch.no_grad())
        if bound is not None and bound.weights:
            stack.enter_context(_swapped(model.module, bound))
        stack.callback(reader.remove)
        stack.enter_context(reader.hooked())
        with contextlib.suppress(_Enough):
            output = model.call(ids_BT, at, attention_mask=attention_mask, past=past, last_only=last_only, whole=whole)
    return reader.values, output


class _Reader:
    """Installs the hooks of one pass, and keeps what they read."""

    def __init__(
        self, model: Model, at: Pass, get: Sequence[Site], edits: dict[str, list[Effect]], grad: bool, stop: bool
    ) -> None:
        self.model, self.at, self.edits, self.grad, self.stop = model, at, edits, grad, stop
        self.values: dict[str, Tensor] = {}
        self.wanted: dict[str, list[Site]] = {}  # base site → what is read there, also through dictionaries
        for site in get:
            base = str(site if site.dictionary is None else model.dictionary(site.dictionary).site)
            self.wanted.setdefault(base, []).append(site)
        self.left = len(self.wanted)
        self.handles: list[Any] = []
        self.whole = "logits" in self.wanted or "logits" in edits

    @contextlib.contextmanager
    def hooked(self) -> Iterator[None]:
        watchers: dict[nn.Module, Watcher] = {}
        for name in dict.fromkeys([*self.edits, *self.wanted]):
            site = Site.parse(name)
            place, module = self.model.place(site)
            visit = self._visitor(name, self.model.heads_at(site), place.shared)
            if site.kind == "pattern":
                watchers[module] = visit
            else:
                self.handles.append(_hook(module, place, visit))
        with watching(watchers, {id(c): c for m in watchers for c in [getattr(m, "config", None)] if c}.values()):
            yield

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()

    def _visitor(self, name: str, heads: int | None, shared: bool) -> Callable[..., Tensor]:
        """The function called with the raw tensor at a site, returning the tensor to go on with. seen: of a pattern,
        where it may look; edited, it looks nowhere else."""
        edits, wanted = self.edits.get(name, []), self.wanted.get(name, [])

        def visit(raw: Tensor, seen: Tensor | None = None) -> Tensor:
            x = raw if heads is None else raw.unflatten(-1, (heads, -1))
            if edits:
                x = self._edited(x, edits, shared)
                x = x if seen is None else x.masked_fill(~seen, 0)
            if wanted:
                if self.grad:
                    x = self._differentiable(x, name, wanted, shared)
                self._read(x, wanted)
                self.left -= 1
                if self.stop and self.left == 0:
                    raise _Enough
            if heads is None:
                return x
            return x.flatten(-2) if edits or self.grad else raw

        return visit

    def _edited(self, x: Tensor, edits: list[Effect], shared: bool) -> Tensor:
        old = x.clone() if shared else x  # what autograd saves must not be written over
        new = old
        for effect in edits:
            new = effect(new, self.at)
        if not shared:
            return new
        if new is not old:
            x.copy_(new)
        return x

    def _differentiable(self, x: Tensor, name: str, wanted: list[Site], shared: bool) -> Tensor:
        """Put what is read on the path of the gradient without changing a number.

        Codes c and errors e of a dictionary enter as x + (decode(c) − decode(c).detach()) + (e − e.detach()): the sum
        added is exactly zero, the gradient of c is that through the decoder, that of x the model's own.
        """
        if not x.requires_grad:
            x.requires_grad_()
        elif not x.is_leaf:
            x.retain_grad()
        extra: Tensor | None = None
        for site in wanted:
            if site.dictionary is None:
                continue
            leaf = self._dictionary_value(site, x.detach()).detach().requires_grad_()
            self.values[str(site)] = leaf
            dictionary = self.model.dictionary(site.dictionary)
            if site.kind == "codes":
                written = decoded(dictionary, leaf, x)
            elif site.kind == "error":
                written = leaf.reshape(x.shape)
            else:
                row = dictionary.W_dec[int(site.kind)].detach().to(x.device).float()
                written = (leaf[..., None] * row).reshape(x.shape)
            zero = written - written.detach()
            extra = zero if extra is None else extra + zero
        if extra is None:
            return x
        if shared:
            raise UserError(f"expected another site than {name} for gradients through a dictionary; use resid or *_out")
        return x + extra.to(x.dtype)

    def _read(self, x: Tensor, wanted: list[Site]) -> None:
        codes: dict[str, Tensor] = {}
        for site in wanted:
            if site.dictionary is None:
                self.values[str(site)] = x
            elif not self.grad:
                self.values[str(site)] = self._dictionary_value(site, x, codes)

    def _dictionary_value(self, site: Site, x: Tensor, known: dict[str, Tensor] | None = None) -> Tensor:
        known = {} if known is None else known
        assert site.dictionary is not None
        dictionary = self.model.dictionary(site.dictionary)
        if site.dictionary not in known:
            if site.kind.isdigit():
                return code_of(dictionary, x, int(site.kind))
            if site.kind == "error":
                return (x.float() - rebuilt(dictionary, x)).flatten(2)
            known[site.dictionary] = codes_of(dictionary, x)
        codes = known[site.dictionary]
        if site.kind == "codes":
            return codes
        if site.kind == "error":
            return (x.float() - decoded(dictionary, codes, x)).flatten(2)
        return codes[..., int(site.kind)]


def _hook(module: nn.Module, place: Place, visit: Callable[[Tensor], Tensor]) -> Any:
    """A hook at the module's input or output that hands the tensor there to `visit` and puts its answer in place."""

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args and isinstance(place.item, int):
            return (visit(args[0]), *args[1:]), kwargs
        key = place.item if isinstance(place.item, str) else "hidden_states"
        if not isinstance(kwargs.get(key), Tensor):
            raise UserError(
                f"expected a tensor as input {key!r} of {place.path}, got {', '.join(kwargs)}; name another"
            )
        return args, {**kwargs, key: visit(kwargs[key])}

    def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, Tensor):
            return visit(output)
        if isinstance(place.item, str):
            output[place.item] = visit(output[place.item])
            return output
        if isinstance(output, list | tuple):
            return (*output[: place.item], visit(output[place.item]), *output[place.item + 1 :])
        raise UserError(f"expected a tensor or a tuple from {place.path}, got {type(output).__name__}; name its item")

    if place.side == "in":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)


# -- weights -----------------------------------------------------------------------------------------------------------


def _owners(module: nn.Module, parameter: nn.Parameter) -> list[tuple[nn.Module, str]]:
    """Every (module, name) that holds the parameter: tied weights have several."""
    return [(m, key) for m in module.modules() for key, p in m._parameters.items() if p is parameter]


def _new_parameters(module: nn.Module, parts: Iterable[Part]) -> dict[str, Tensor]:
    """The value of each edited parameter after all parts, by name. The originals are not touched."""
    known = dict(module.named_parameters(remove_duplicate=False))
    new: dict[str, Tensor] = {}
    for part in parts:
        if part.site not in known:
            raise UserError(
                f"expected the name of a parameter, got {part.site!r}; "
                f"list them with model.module.named_parameters(), for example {next(iter(known))}"
            )
        old = known[part.site]
        given = part.tensors.get("tensor", part.tensors.get("delta"))
        assert given is not None
        if given.shape != old.shape:
            raise UserError(
                f"expected shape {tuple(old.shape)} for the parameter {part.site}, got {tuple(given.shape)}"
            )
        given = given.to(device=old.device, dtype=old.dtype)
        same = next((key for key in new if known[key] is old), part.site)  # tied parameters have several names
        new[same] = given if "tensor" in part.tensors else new.get(same, old.detach()) + given
    return new


@contextlib.contextmanager
def _swapped(module: nn.Module, bound: Bound) -> Iterator[None]:
    """Within, the edited parameters stand in the modules in place of the originals, which are put back unchanged."""
    known = dict(module.named_parameters(remove_duplicate=False))
    undo: list[tuple[nn.Module, str, nn.Parameter]] = []
    handles: list[Any] = []
    try:
        for i, part in enumerate(bound.weights):
            for owner, _ in _owners(module, known[part.site]):
                handles.append(owner.register_forward_pre_hook(lambda *_, i=i: bound.weights_fired.add(i)))
        for name, value in bound.new_parameters.items():
            for owner, key in _owners(module, known[name]):
                undo.append((owner, key, known[name]))
                owner._parameters[key] = nn.Parameter(value, requires_grad=False)
        yield
    finally:
        for owner, key, original in undo:
            owner._parameters[key] = original
        for handle in handles:
            handle.remove()
