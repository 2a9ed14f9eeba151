"""A loaded model: its sites, runs, edits, and what is attached to it.

    model = gh.load("folder-or-name")
    run = model.run(["How was your day?"], get=["resid.3"], stop=True)
    with model.edit(gh.ablate("z.1", head=0)):
        print(model.generate("How was", max_new_tokens=20).text)

Shapes: B texts, T tokens, D width of the stream, V vocabulary, F directions.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import inspect
import json
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from glasshouse.models.edits import DictionaryLike, Edit, tensor_hash
from glasshouse.models.effects import Pass
from glasshouse.models.families import Place, SiteMap
from glasshouse.models.runs import Batch, Bound, Run, SiteValues, forward
from glasshouse.types import LAYERED_SITES, Site, UserError, check_text


@dataclass(frozen=True)
class SiteInfo:
    """One declared site. width: numbers a token has there (heads, for a pattern). shape: in words."""

    site: Site
    width: int
    shape: str


class Loss(NamedTuple):
    """nats_BT: at each token, −log p of the *next* one; 0 on padding and at each text's last token. n: how many."""

    nats_BT: Tensor
    n: int


class Model:
    """A transformers model (or any module with a `SiteMap`) with named, checked sites. Made by `glasshouse.load`."""

    def __init__(self, module: nn.Module, tokenizer: Any, family: SiteMap, *, name: str) -> None:
        config: Any = getattr(module, "config", None)
        text_config: Any = config.get_text_config() if hasattr(config, "get_text_config") else config
        self.module, self.tokenizer, self.family, self.name = module, tokenizer, family, name
        self.config = text_config
        self.n_layers = len(self._submodule(family.blocks))
        self.n_heads = int(family.n_heads or getattr(text_config, "num_attention_heads", None) or 1)
        self.width = int(family.width or getattr(text_config, "hidden_size", None) or 0)
        self.context = int(family.context or _context(text_config, family))
        self.is_encoder = "logits" not in family.places
        self.bos_id, self.pad_id = _bos_id(tokenizer), _pad_id(tokenizer)
        self.attached: dict[str, DictionaryLike] = {}
        self.lock = threading.RLock()
        self.sites: dict[str, SiteInfo] = {str(s): SiteInfo(s, 0, "") for s in self._declared()}
        self._local = threading.local()
        self._weights_hash: str | None = None
        base = getattr(module, getattr(module, "base_model_prefix", "") or "-", None)
        self._base: nn.Module | None = base if isinstance(base, nn.Module) else None

    def __repr__(self) -> str:
        return f"Model({self.name}: {self.family.name}, {self.n_layers} blocks, width {self.width}, {self.dtype})"

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.module.parameters()).dtype

    @property
    def vocabulary(self) -> int | None:
        """How many token ids the embedding has rows for; None where the module does not say."""
        embedding = None
        with contextlib.suppress(NotImplementedError):  # transformers' word for a module without one
            embedding = getattr(self.module, "get_input_embeddings", lambda: None)()
        return len(embedding.weight) if isinstance(embedding, nn.Embedding) else None

    # -- sites -----------------------------------------------------------------------------------------------------

    def _declared(self) -> Iterator[Site]:
        places = self.family.places
        if "embed" in places:
            yield Site("embed")
        for n in range(self.n_layers):
            yield from (Site(kind, n) for kind in LAYERED_SITES if kind in places)
        if "resid_final" in places:
            yield Site("resid", self.n_layers)
        if "logits" in places:
            yield Site("logits")

    def _submodule(self, path: str) -> Any:
        try:
            return self.module.get_submodule(path)
        except AttributeError:
            raise UserError(
                f"expected a submodule {path!r} of {type(self.module).__name__}, as the row for {self.family.name} "
                "says, found none; pass sites=SiteMap(...) that fits this module"
            ) from None

    def site(self, text: str | Site) -> Site:
        """The site of that name (or TransformerLens name), checked. Raises `UserError` if this model lacks it."""
        site = text if isinstance(text, Site) else Site.parse(text)
        if site.dictionary is not None:
            dictionary = self.dictionary(site.dictionary)
            if site.kind.isdigit() and int(site.kind) >= dictionary.n_features:
                raise UserError(
                    f"expected a feature below {dictionary.n_features} in {site.dictionary}, got {site}; choose another"
                )
        elif str(site) not in self.sites:
            raise UserError(self._missing(site))
        return site

    def _missing(self, site: Site) -> str:
        family, kind = self.family, site.kind
        if kind in family.lacks:
            return f"{site} is not defined for {self.name} ({family.name}): {family.lacks[kind]}; choose another site"
        layers = self.n_layers - 1 + (kind == "resid" and "resid_final" in family.places)
        if kind in family.places and site.layer is not None:
            return f"expected a layer from 0 to {layers} for {kind} in {self.name}, got {site}; choose one of these"
        have = ", ".join(k if k in ("embed", "logits") else f"{k}.N" for k in family.places if k != "resid_final")
        return f"expected a site that {self.name} ({family.name}) has ({have}), got {site}; choose one of these"

    def place(self, site: Site) -> tuple[Place, nn.Module]:
        """Where the site's hook goes: its place in the family's row, and the submodule."""
        final = site.kind == "resid" and site.layer == self.n_layers
        place = self.family.places["resid_final" if final else site.kind]
        layer = self.n_layers - 1 if final else site.layer
        return place, self._submodule(place.path.replace("{n}", str(layer)))

    def heads_at(self, site: Site) -> int | None:
        """How many heads share the last dimension there, or None."""
        return self.n_heads if site.kind == "z" else None

    def value_shape(self, site: Site) -> tuple[int, ...]:
        """The shape of one token's values at a site; () for a pattern, which has no fixed one."""
        width = self.sites[str(site)].width
        if site.kind == "pattern":
            return ()
        return (self.n_heads, width // self.n_heads) if site.kind == "z" else (width,)

    def expand(self, get: str | Sequence[str]) -> list[Site]:
        """Sites for names and patterns with * (`z.*`, `resid8/*`), in the model's order within each pattern."""
        known = [*self.sites, *(f"{name}/{kind}" for name in self.attached for kind in ("codes", "error"))]
        found: dict[str, Site] = {}
        for text in [get] if isinstance(get, str) else get:
            if any(c in str(text) for c in "*?["):
                names = fnmatch.filter(known, str(text))
                if not names:
                    raise UserError(f"expected a pattern that names sites of {self.name}, got {text!r}; try resid.*")
            else:
                names = [str(self.site(text))]
            found.update({name: self.site(name) for name in names})
        return list(found.values())

    # -- dictionaries ----------------------------------------------------------------------------------------------

    def attach(self, dictionary: DictionaryLike) -> None:
        """Make `NAME/codes`, `NAME/error` and `NAME/1234` sites, on the model's device.

        Raises `UserError` if the widths differ.
        """
        site = self.site(str(dictionary.site))
        width = self.sites[str(site)].width
        if site.kind == "pattern" or site.dictionary is not None:
            raise UserError(f"expected a dictionary for a site with one vector a token, got one for {site}")
        if dictionary.width != width:
            raise UserError(
                f"dictionary {dictionary.name} expects width {dictionary.width} but {site} of {self.name} has {width}; "
                f"choose a site of width {dictionary.width} or train a dictionary there"
            )
        move = getattr(dictionary, "to", None)
        self.attached[dictionary.name] = dictionary if move is None else move(self.device)

    def detach(self, name: str) -> None:
        """Forget the dictionary of that name."""
        self.dictionary(name)
        del self.attached[name]

    def dictionary(self, name: str) -> DictionaryLike:
        """The attached dictionary of that name. Raises `UserError` if there is none."""
        if name not in self.attached:
            raise UserError(
                f"expected a dictionary attached to {self.name} ({', '.join(self.attached) or 'none is'}), "
                f"got {name!r}; attach it with model.attach(gh.dictionary(NAME))"
            )
        return self.attached[name]

    # -- tokens ----------------------------------------------------------------------------------------------------

    def tokens(self, texts: str | Sequence[int] | Sequence[str] | Sequence[Sequence[int]] | Batch) -> Batch:
        """Texts as the tokenizer makes them (with what it puts before and after), or ids as given; padded right."""
        if isinstance(texts, Batch):
            self._check_ids(texts.ids_BT)
            return texts
        several: Any = [texts] if _is_one(texts) else texts
        rows = [self._ids(text) for text in several]
        if not rows:
            raise UserError("expected at least one text, got none")
        for i, row in enumerate(rows):
            if not 0 < len(row) <= self.context:
                raise UserError(
                    f"expected 1 to {self.context} tokens in a text for {self.name}, text {i} has {len(row)}; "
                    f"{'cut it' if row else 'leave it out'}"
                )
        ids_BT = torch.full((len(rows), max(map(len, rows))), self.pad_id)
        mask_BT = torch.zeros(ids_BT.shape, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids_BT[i, : len(row)] = torch.as_tensor(row)
            mask_BT[i, : len(row)] = True
        self._check_ids(ids_BT)
        return Batch(ids_BT, mask_BT)

    def _ids(self, text: str | Sequence[int]) -> Sequence[int]:
        if not isinstance(text, str):
            return text
        if self.tokenizer is None:
            raise UserError("expected token ids, since the model was loaded without a tokenizer; load(..., tokenizer=)")
        return self.tokenizer(check_text(text), verbose=False).input_ids

    def _check_ids(self, ids_BT: Tensor) -> None:
        if (rows := self.vocabulary) is not None and ids_BT.numel():
            low, high = (int(end) for end in ids_BT.aminmax())
            if low < 0 or high >= rows:
                raise UserError(
                    f"expected token ids from 0 to {rows - 1}, which the embedding of {self.name} has, got "
                    f"{low if low < 0 else high}; give others, or the tokenizer that the model was trained with"
                )

    def token_strings(self, batch: Batch) -> list[list[str]]:
        """Each token of each text as text, without padding. A piece of a character shows as �."""
        if self.tokenizer is None:
            return [[str(i) for i in batch.ids(row)] for row in range(len(batch))]
        return [[self.tokenizer.decode([i]) for i in batch.ids(row)] for row in range(len(batch))]

    # -- runs ------------------------------------------------------------------------------------------------------

    def run(
        self,
        texts: str | Sequence[int] | Sequence[str] | Sequence[Sequence[int]] | Batch,
        get: str | Sequence[str] = (),
        *,
        edits: Edit | None = None,
        grad: bool = False,
        stop: bool = False,
    ) -> Run:
        """Run texts (of unequal length as you like) and read sites.

        get: names or patterns such as "resid.3", "z.*", "NAME/codes". edits: besides those of `with model.edit(...)`.
        grad: keep the graph, so that gradients with respect to the values read can be taken. stop: end the pass after
        the last site asked for; an edit that comes later then does not fire, which is an error.
        Raises `UserError` for sites that the model lacks, texts that are empty or too long, edits that did not fire.
        """
        batch, sites = self.tokens(texts), self.expand(get)
        edit = self.edits + (edits or Edit())
        bound = Bound(self, edit) if edit else None
        at = Pass(batch.position_BT.cpu(), batch.mask_BT.sum(1).cpu(), self.device)
        values, _ = forward(self, batch.ids_BT, at, get=sites, bound=bound, grad=grad, stop=stop)
        if bound is not None:
            bound.check_fired(f"; the run stopped after {sites[-1]}" if stop and sites else "")
        silent = [str(site) for site in sites if str(site) not in values]
        if silent:
            raise UserError(
                f"expected every site read to fire, but {', '.join(silent)} did not: the row for {self.family.name} "
                "does not fit this module; pass sites=SiteMap(...) that fits"
            )
        mask = batch.mask_BT
        read = {str(s): SiteValues(values[str(s)], mask, s.kind == "pattern") for s in sites}
        return Run(batch, read, self.token_strings)

    @property
    def takes_cache(self) -> bool:
        """Whether the module's forward takes the keys and values of what was read before."""
        accepted = inspect.signature(self.module.forward).parameters
        return hasattr(self.module, "get_input_embeddings") and _cache_name(accepted) in accepted

    def call(
        self, ids_BT: Tensor, at: Pass, *, attention_mask: Tensor | dict[str, Tensor] | None, past: Any,
        last_only: bool, whole: bool,
    ) -> Any:  # fmt: skip
        """The module's own forward on this device, with masks and position ids where the padding needs them.

        Padding at the right of a causal model needs none: no token sees what comes after it. Raises `UserError` where
        the padding needs what the forward does not take; one with `**kwargs` takes everything.
        """
        target = self.module if whole or self._base is None else self._base
        padded = bool((at.position_BT < 0).any())
        at_right = padded and bool((at.position_BT[:, :-1] >= 0)[at.position_BT[:, 1:] >= 0].all())
        accepted = inspect.signature(target.forward).parameters
        given: dict[str, Any] = {_cache_name(accepted): past, "use_cache": past is not None}
        if attention_mask is None:
            seen = at.position_BT >= 0
            attention_mask = torch.ones_like(seen) if self.family.causal and at_right else seen
        if past is not None or (padded and not (self.family.causal and at_right)):
            first = self.family.first_position(self.config)
            given["position_ids"] = (at.position_BT.clamp(min=0) + first).to(self.device)
        if last_only:
            given["logits_to_keep"] = 1
        given["attention_mask"] = _placed(attention_mask, self.device)
        ids_BT = ids_BT.to(self.device)
        needed = _needed(attention_mask)
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
        missing = [key for key in needed if key not in accepted and not takes_all]
        if missing:
            raise UserError(
                f"expected texts of equal length, since {type(target).__name__} takes no "
                f"{' and no '.join(missing)}; give them one by one"
            )
        kwargs = {key: value for key, value in given.items() if key in accepted or key in needed}
        if "input_ids" in accepted:
            return target(input_ids=ids_BT, **kwargs)
        return target(ids_BT, **kwargs)

    def loss(self, texts: Any, *, edits: Edit | None = None) -> Loss:
        """Next-token cross-entropy in nats. `Loss.nats_BT[b, t]` scores token t + 1 of text b."""
        batch = self.tokens(texts)
        self._require_logits("loss")
        logits_BTV = self.run(batch, ["logits"], edits=edits)["logits"].values
        ids_BT, mask_BT = batch.ids_BT.to(logits_BTV.device), batch.mask_BT.to(logits_BTV.device)
        scored = mask_BT[:, 1:] & mask_BT[:, :-1]
        nats_BT = torch.zeros(ids_BT.shape, device=logits_BTV.device)
        for b in range(len(batch)):  # one text at a time: fp32 logits of a whole batch may not fit
            nats = nn.functional.cross_entropy(logits_BTV[b, :-1].float(), ids_BT[b, 1:], reduction="none")
            nats_BT[b, :-1] = nats * scored[b]
        return Loss(nats_BT, int(scored.sum()))

    def _require_logits(self, what: str) -> None:
        if self.is_encoder:
            why = self.family.lacks.get("logits", "its site map names no logits")
            raise UserError(f"{what} is not defined for {self.name} ({self.family.name}): {why}; use run and its sites")

    def unembed(self, directions_FD: Tensor) -> Tensor:
        """Direct effect (F, V) on the logits of directions (F, D) in the stream entering the final norm.

        The norm's gain (and for LayerNorm its centring) is applied, its division by the stream's size is not: these
        are logits per unit of the *normalised* stream. Later blocks and a cap on logits are left out.
        """
        self._require_logits("the direct effect on logits")
        if self.family.unembedding is None or self.family.final_norm is None:
            raise UserError(
                f"expected final_norm and unembedding in the site map of {self.name}, to unembed directions"
            )
        norm, head = self._submodule(self.family.final_norm), self._submodule(self.family.unembedding)
        x_FD = directions_FD.to(self.device).float()
        if isinstance(norm, nn.LayerNorm):
            x_FD = x_FD - x_FD.mean(-1, keepdim=True)
        with torch.no_grad():
            x_FD = x_FD * (norm.weight.float() + self.family.norm_offset)
            return x_FD @ head.weight.float().T

    def generate(
        self,
        prompt: str | list[int] | list[str] | list[list[int]],
        max_new_tokens: int = 40,
        *,
        edits: Edit | None = None,
        temperature: float = 0.0,
        seed: int | Sequence[int] = 0,
        use_cache: bool = True,
        on_token: Callable[..., None] | None = None,
    ) -> Any:
        """A `Generation` that continues the prompt, or a list of them for a list (see `generation.generate`).

        prompt: a text, or the ids of its tokens. seed: of the first prompt, or one for each. on_token(piece) is called
        as text comes; on_token(index, piece) for a list.
        """
        from glasshouse.models.generation import generate

        single = _is_one(prompt)
        prompts: Any = [prompt] if single else prompt
        say = (lambda index, piece: on_token(piece)) if on_token and single else on_token
        made = generate(
            self, prompts, max_new_tokens, edits=edits or Edit(), temperature=temperature, seed=seed,
            use_cache=use_cache, on_token=say,
        )  # fmt: skip
        return made[0] if single else made

    # -- edits -----------------------------------------------------------------------------------------------------

    def beyond_base(self, parameters: Iterable[str]) -> bool:
        """Whether one of these parameters is used only after the base model, as an unembedding that is not tied is."""
        if self._base is None:
            return False
        known, base = dict(self.module.named_parameters(remove_duplicate=False)), set(self._base.parameters())
        return any(known[name] not in base for name in parameters)

    @property
    def edits(self) -> Edit:
        """The edits in force in this thread."""
        return sum(getattr(self._local, "stack", []), Edit())

    @contextlib.contextmanager
    def edit(self, edit: Edit) -> Iterator[Model]:
        """Within, every run and generation of this thread is edited; undone on exit, also after an error."""
        if not isinstance(edit, Edit):
            raise UserError(f"expected an edit such as gh.ablate('z.1', head=0), got {edit!r}")
        Bound(self, edit)  # says now what is wrong with it
        stack = self._local.__dict__.setdefault("stack", [])
        stack.append(edit)
        try:
            yield self
        finally:
            stack.pop()

    @property
    def version(self) -> str:
        """Hash of weights (read once), tokenizer, chat template and the edits in force."""
        with self.lock:  # not while another thread's edited weights stand in the modules
            if self._weights_hash is None:
                digest = hashlib.sha256()
                for key, value in sorted(self.module.state_dict().items()):
                    digest.update(f"{key} {tensor_hash(value)}\n".encode())
                self._weights_hash = digest.hexdigest()
        parts = [self._weights_hash, _tokenizer_text(self.tokenizer), getattr(self.tokenizer, "chat_template", None)]
        parts.append(self.edits.hash if self.edits else None)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _is_one(texts: Any) -> bool:
    """Whether it is one text, or the ids of one, and not a list of several."""
    return isinstance(texts, str) or (isinstance(texts, Sequence) and len(texts) > 0 and isinstance(texts[0], int))


def _needed(attention_mask: Tensor | dict[str, Tensor]) -> list[str]:
    """What a forward pass must take, or padding would be seen: a mask; and positions, where columns are not they."""
    if isinstance(attention_mask, dict) or attention_mask.ndim == 4:
        return ["attention_mask", "position_ids"]
    seen_BS = attention_mask.bool()
    if bool(seen_BS.all()):
        return []
    shifted = bool((seen_BS[:, 1:] & ~seen_BS[:, :-1]).any())
    return ["attention_mask", "position_ids"] if shifted else ["attention_mask"]


def _cache_name(accepted: Container[str]) -> str:
    """What a forward pass calls the keys and values of what was read before: `cache` since transformers 5.24."""
    return "cache" if "cache" in accepted else "past_key_values"


def _placed(mask: Tensor | dict[str, Tensor], device: torch.device) -> Tensor | dict[str, Tensor]:
    if isinstance(mask, dict):
        return {kind: one.to(device) for kind, one in mask.items()}
    return mask.to(device) if mask.ndim == 4 else mask.long().to(device)


def _context(config: Any, family: SiteMap) -> int:
    positions = getattr(config, "max_position_embeddings", None)
    return positions - family.first_position(config) if positions else 1 << 20


def _bos_id(tokenizer: Any) -> int | None:
    """The id that the tokenizer itself puts before a text, or None."""
    if tokenizer is None:
        return None
    with_special, without = (tokenizer("a", add_special_tokens=s).input_ids for s in (True, False))
    return with_special[0] if len(with_special) > len(without) and with_special[:1] != without[:1] else None


def _pad_id(tokenizer: Any) -> int:
    ids = (getattr(tokenizer, key, None) for key in ("pad_token_id", "eos_token_id", "bos_token_id"))
    return next((i for i in ids if i is not None), 0)


def _tokenizer_text(tokenizer: Any) -> str:
    if tokenizer is None:
        return ""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
