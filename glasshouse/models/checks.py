"""The self-check on load: six short passes that a wrong row of the table does not survive.

1. Every declared site fires, with values of a shape that fits.
2. Embedding + every block's contributions = the stream entering the final norm (or, for post-norm encoders,
   resid.N+1 = LN(resid_mid.N + mlp_out.N)), within float error; attention with its pattern in hand gives the same
   stream as the model's own; patterns add up to 1 and look only where they may.
3. Noise put in z at one token moves attn_out at that token only, its negative moves it the other way, and attn_out is
   not that noise itself: `z` is behind the mixing of tokens and before a linear map. The same for mlp_act and mlp_out.
4. With one vector in mlp_in at every token, mlp_out is the same at every token while the stream is not, and the
   vector's length matters (`mlp_in` is after the norm).
5. With one vector in resid_mid at every token, the stream after the block is the same at every token: edits there reach
   the stream and not only the MLP.

Shapes: B = 1 text, T tokens, D width, H heads.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from glasshouse.models import edits
from glasshouse.models.edits import Edit
from glasshouse.models.model import Model, SiteInfo
from glasshouse.models.runs import Batch
from glasshouse.types import Site, UserError

_TOKENS = 7
_SHAPE_WORDS = {
    "z": "tokens × heads × head width",
    "pattern": "heads × tokens × tokens",
    "logits": "tokens × vocabulary",
}


def check_sites(model: Model) -> None:
    """Run the self-check and fill in the widths of `model.sites`. Raises `UserError` naming the row and the site."""
    batch = _short_batch(model)
    values = _fire(model, batch)
    _fill_widths(model, values)
    _check_pattern(model, values)
    if model.family.stream is not None:
        _require_stream_places(model)
        plain = [site for site in values if not site.startswith("pattern")]
        own = {site: read.values[0] for site, read in model.run(batch, plain).items()}
        _check_stream(model, own)
        last = f"resid.{model.n_layers}"
        _check_same_stream(model, values[last], own[last])
    _check_linear(model, batch)
    _check_edits_of_mlp(model, batch)


def _require_stream_places(model: Model) -> None:
    have = model.family.places
    missing = [kind for kind in ("embed", "resid", "resid_final") if kind not in have]
    if missing or not ("attn_out" in have or "mlp_out" in have):
        raise UserError(
            f"expected places for embed, resid, resid_final and attn_out or mlp_out in the site map of {model.name}, "
            f"to check that contributions add up, found {', '.join(have)}; add them, or say stream=None"
        )


def _short_batch(model: Model) -> Batch:
    vocabulary = getattr(model.config, "vocab_size", None) or (len(model.tokenizer) if model.tokenizer else 8)
    step = next(step for step in itertools.count(5) if math.gcd(step, vocabulary) == 1)  # or tokens would repeat
    ids = torch.arange(3, 3 + step * _TOKENS, step)[: model.context] % vocabulary
    return Batch(ids[None], torch.ones(1, len(ids), dtype=torch.bool))


def _wrong(model: Model, site: str, what: str) -> UserError:
    return UserError(
        f"the row for {model.family.name} does not fit {model.name}: {site} {what}; "
        "this version of transformers may differ, or pass sites=SiteMap(...) that fits"
    )


def _fire(model: Model, batch: Batch) -> dict[str, Tensor]:
    """Values (T, ...) of every declared site, attention through the pattern function."""
    run = model.run(batch, list(model.sites))
    return {site: read.values[0] for site, read in run.items()}


def _fill_widths(model: Model, values: dict[str, Tensor]) -> None:
    if not model.width:
        model.width = values["resid.0"].shape[-1] if "resid.0" in values else 0
    for name, x in values.items():
        site = Site.parse(name)
        if site.kind == "pattern":
            fits, width = x.shape[0] == model.n_heads and x.ndim == 3, model.n_heads
        elif site.kind == "z":
            fits, width = x.ndim == 3, x.shape[-1] * x.shape[-2]
        else:
            fits, width = x.ndim == 2, x.shape[-1]
            fits = fits and (width == model.width or site.kind in ("mlp_act", "logits"))
        if not fits:
            raise _wrong(model, name, f"has values of shape {tuple(x.shape)}")
        model.sites[name] = SiteInfo(site, width, _SHAPE_WORDS.get(site.kind, "tokens × width"))


def _check_pattern(model: Model, values: dict[str, Tensor]) -> None:
    for name, x_HTS in values.items():
        if not name.startswith("pattern"):
            continue
        if not torch.allclose(x_HTS.float().sum(-1), torch.ones(()).to(x_HTS.device), atol=2e-2):
            raise _wrong(model, name, "has rows that do not add up to 1")
        if model.family.causal and bool(x_HTS.triu(1).any()):
            raise _wrong(model, name, "looks at later tokens though the family is causal")


def _check_same_stream(model: Model, with_pattern_TD: Tensor, own_TD: Tensor) -> None:
    """The two ways to attend round differently, and blocks amplify it; a wrong way is off by its whole size."""
    error_T = (with_pattern_TD.float() - own_TD.float()).norm(dim=-1) / own_TD.float().norm(dim=-1).clamp(min=1e-30)
    if not float(error_T.max()) <= (1e-2 if model.dtype == torch.float32 else 0.3):
        raise _wrong(model, "pattern", f"changes the stream when it is read (by {float(error_T.max()):.2g} of it)")


def _near(model: Model, site: str, got: Tensor, want: Tensor, added: Tensor, stream: Tensor, what: str) -> None:
    """Token by token, the difference may be a small share of what was `added`, plus the rounding of the `stream` it was
    added to, which in some models holds a few huge numbers. Raises `UserError` otherwise."""
    share, eps = (1e-4 if model.dtype == torch.float32 else 5e-2), torch.finfo(model.dtype).eps
    error_T = (got.float() - want.float()).norm(dim=-1)
    allowed_T = share * added.float().norm(dim=-1) + 2 * eps * stream.float().norm(dim=-1)
    if not bool((error_T <= allowed_T).all()):
        off = float((error_T / added.float().norm(dim=-1).clamp(min=1e-30)).max())
        raise _wrong(model, site, f"fails the check that {what} (off by {off:.2g} of what was added)")


def _check_stream(model: Model, v: dict[str, Tensor]) -> None:
    """Check 2 of the file's list, block by block and then in all."""
    zero = torch.zeros_like(v["embed"])
    _near(model, "embed", v["embed"], v["resid.0"], zero, v["embed"], "it is resid.0")
    if model.family.stream == "post_norm":
        return _check_post_norm(model, v)
    added = [kind for kind in ("attn_out", "mlp_out") if kind in model.family.places]
    nothing = torch.zeros_like(v["embed"]).float()
    total, streams = v["embed"].float(), v["embed"].float().abs()
    for n in range(model.n_layers):
        attn, mlp = (v.get(f"{kind}.{n}", nothing).float() for kind in ("attn_out", "mlp_out"))
        before, after = v[f"resid.{n}"].float(), v[f"resid.{n + 1}"].float()
        if f"resid_mid.{n}" in v:
            middle = v[f"resid_mid.{n}"]
            _near(model, f"attn_out.{n}", before + attn, middle, attn, before, f"with resid.{n} it makes resid_mid.{n}")
        smaller = torch.where(attn.norm(dim=-1, keepdim=True) < mlp.norm(dim=-1, keepdim=True), attn, mlp)
        smaller = smaller if len(added) == 2 else attn + mlp
        what = f"with resid.{n} and attn_out.{n} it makes resid.{n + 1}"
        _near(model, f"mlp_out.{n}", before + attn + mlp, after, smaller, before.abs() + after.abs(), what)
        total, streams = total + attn + mlp, streams + 2 * after.abs()
    last = v[f"resid.{model.n_layers}"]
    what = "embedding and contributions of all blocks make it"
    return _near(model, f"resid.{model.n_layers}", total, last, last.float() - v["embed"].float(), streams, what)


def _check_post_norm(model: Model, v: dict[str, Tensor]) -> None:
    family = model.family
    for n in range(model.n_layers):
        for path, before, out, after in (
            (family.attn_norm, f"resid.{n}", f"attn_out.{n}", f"resid_mid.{n}"),
            (family.mlp_norm, f"resid_mid.{n}", f"mlp_out.{n}", f"resid.{n + 1}"),
        ):
            assert path is not None, "a post_norm row names its norms"
            norm = model._submodule(path.replace("{n}", str(n)))
            with torch.no_grad():
                made = norm(v[before] + v[out])
            _near(model, out, made, v[after], made, made, f"LN({before} + {out}) = {after}")


def _check_linear(model: Model, batch: Batch) -> None:
    """Check 3 of the file's list, all blocks in two passes."""
    places, layers = model.family.places, range(model.n_layers)
    pairs = [(i, o) for i, o in (("z", "attn_out"), ("mlp_act", "mlp_out")) if i in places and o in places]
    inner = [f"{i}.{n}" for i, _ in pairs for n in layers]
    outer = [f"{o}.{n}" for _, o in pairs for n in layers]
    if not pairs or len(batch.ids_BT[0]) < 3:
        return
    zero = sum((edits.ablate(site) for site in inner), Edit())
    noise = sum((_noise_at_two(model, site) for site in inner), zero)
    still, moved = model.run(batch, outer, edits=zero), model.run(batch, outer, edits=noise)
    for site, out in zip(inner, outer, strict=True):
        change_TD = (moved[out].values[0] - still[out].values[0]).float()
        size, rest = float(change_TD[0].norm()), float(change_TD[2:].norm(dim=-1).max())
        opposite = float(torch.cosine_similarity(change_TD[0], change_TD[1], dim=0)) < -0.95
        if not (size > 0 and rest < 1e-2 * size and opposite) or _is_noise(model, site, change_TD[0]):
            raise _wrong(model, site, f"is not the input of the linear map that ends in {out}")


def _noise(model: Model, site: str) -> Tensor:
    """Large, so that an activation function on the way bends it."""
    return 10 * torch.randn(model.sites[site].width, generator=torch.Generator().manual_seed(0))


def _noise_at_two(model: Model, site: str) -> Edit:
    noise = _noise(model, site)
    return edits.add(site, noise, positions=0) + edits.add(site, -noise, positions=1)


def _is_noise(model: Model, site: str, out_D: Tensor) -> bool:
    noise = _noise(model, site).to(out_D.device)
    return noise.shape == out_D.shape and abs(float(torch.cosine_similarity(noise, out_D, dim=0))) > 0.8


def _spread(x_TD: Tensor) -> float:
    """How far tokens differ, as a share of their size."""
    x_TD = x_TD.float()
    return float((x_TD - x_TD[:1]).norm(dim=-1).max() / x_TD.norm(dim=-1).max().clamp(min=1e-30))


def _check_edits_of_mlp(model: Model, batch: Batch) -> None:
    """Checks 4 and 5 of the file's list, all blocks in one pass each."""
    places, layers = model.family.places, range(model.n_layers)
    same = 2e-3 if model.dtype == torch.float32 else 2e-2
    if "mlp_in" in places and "mlp_out" in places and "resid_final" in places and len(batch.ids_BT[0]) >= 3:
        names = [f"mlp_in.{n}" for n in layers]
        vectors = [_noise(model, name) / 100 for name in names]
        edit = sum((edits.set(name, v) for name, v in zip(names, vectors, strict=True)), Edit())
        edit += sum((edits.set(n, 30 * v, positions=1) for n, v in zip(names, vectors, strict=True)), Edit())
        run = model.run(batch, [s for n in layers for s in (f"mlp_out.{n}", f"resid.{n + 1}")], edits=edit)
        for n, name in enumerate(names):
            out_TD = run[f"mlp_out.{n}"].values[0]
            others_TD = torch.cat([out_TD[:1], out_TD[2:]])
            stream_TD = run[f"resid.{n + 1}"].values[0]
            scale_free = torch.nn.functional.normalize(out_TD.float(), dim=-1)
            if (
                _spread(others_TD) > same
                or _spread(scale_free[:2]) < same
                or _spread(stream_TD[2:]) < 1e-4
                or _is_noise(model, name, out_TD[0].float())
            ):
                raise _wrong(model, name, f"is not the normed input of the MLP that ends in mlp_out.{n}")
    if "resid_mid" in places and "resid_final" in places:
        names = [f"resid_mid.{n}" for n in layers]
        edit = sum((edits.set(name, _noise(model, name) / 10) for name in names), Edit())
        run = model.run(batch, [f"resid.{n + 1}" for n in layers], edits=edit)
        for n, name in enumerate(names):
            if _spread(run[f"resid.{n + 1}"].values[0]) > same:
                raise _wrong(model, name, f"is not what resid.{n + 1} is made from (is the place `shared`?)")
