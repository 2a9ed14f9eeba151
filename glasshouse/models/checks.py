"""The self-check on load: four short passes that a wrong row of the table does not survive.

1. Every declared site fires, with values of a shape that fits.
2. Embedding + every block's contributions = the stream entering the final norm (or, for post-norm encoders,
   resid.N+1 = LN(resid_mid.N + mlp_out.N)), within float error; attention with its pattern in hand gives the same
   stream as the model's own; patterns add up to 1 and look only where they may.
3. With one token's z (and mlp_act) not zero, only that token's attn_out (mlp_out) differs, and in proportion: `z` is
   behind the mixing of tokens and in front of one linear map.
4. With mlp_in zero everywhere, mlp_out is the same for every token.

Shapes: B = 1 text, T tokens, D width, H heads.
"""

from __future__ import annotations

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
        plain = [site for site in values if not site.startswith("pattern")]
        own = {site: read.values[0] for site, read in model.run(batch, plain).items()}
        _check_stream(model, own)
        last = f"resid.{model.n_layers}"
        _near(
            model, "pattern", values[last], own[last], own[last], "the stream with the pattern in hand", model.n_layers
        )
    _check_linear(model, batch)


def _short_batch(model: Model) -> Batch:
    vocabulary = getattr(model.config, "vocab_size", None) or (len(model.tokenizer) if model.tokenizer else 8)
    ids = torch.arange(3, 3 + 5 * _TOKENS, 5)[: model.context] % vocabulary
    return Batch(ids[None], torch.ones(1, len(ids), dtype=torch.bool))


def _wrong(model: Model, site: str, what: str) -> UserError:
    return UserError(
        f"the row for {model.family.name} does not fit {model.name}: {site} {what}; "
        "this version of transformers may differ, or pass sites=SiteMap(...) that fits"
    )


def _fire(model: Model, batch: Batch) -> dict[str, Tensor]:
    """Values (T, ...) of every declared site, attention through the pattern function."""
    try:
        run = model.run(batch, list(model.sites))
    except KeyError as error:
        raise _wrong(model, str(error).strip("'"), "did not fire") from None
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


def _near(model: Model, site: str, got: Tensor, want: Tensor, scale: Tensor, what: str, terms: int = 1) -> None:
    """Compare token by token: the difference may be a small share of `scale` (what was added) plus rounding of the
    stream itself, which in some models holds a few huge numbers."""
    rounding = torch.finfo(model.dtype).eps
    error_T = (got.float() - want.float()).norm(dim=-1)
    allowed_T = (rounding * 800) ** 0.75 * 0.1 * scale.float().norm(dim=-1) + 8 * terms * rounding * want.float().norm(
        dim=-1
    )
    if bool((error_T > allowed_T).any()) or not bool(torch.isfinite(error_T).all()):
        share = float((error_T / want.float().norm(dim=-1).clamp(min=1e-30)).max())
        raise _wrong(model, site, f"fails the check that {what} adds up (off by {share:.2g} of it)")


def _check_stream(model: Model, v: dict[str, Tensor]) -> None:
    family, last = model.family, f"resid.{model.n_layers}"
    if family.stream == "post_norm":
        for n in range(model.n_layers):
            for norm, parts, out in (
                (family.attn_norm, (f"resid.{n}", f"attn_out.{n}"), f"resid_mid.{n}"),
                (family.mlp_norm, (f"resid_mid.{n}", f"mlp_out.{n}"), f"resid.{n + 1}"),
            ):
                assert norm is not None, "a post_norm row names its norms"
                layer = model._submodule(norm.replace("{n}", str(n)))
                with torch.no_grad():
                    made = layer(v[parts[0]] + v[parts[1]])
                _near(model, parts[1], made, v[out], v[out], f"{out} = LN({' + '.join(parts)})")
        _near(model, "embed", v["embed"], v["resid.0"], v["resid.0"], "embed = resid.0")
        return
    _near(model, "embed", v["embed"], v["resid.0"], v["resid.0"], "embed = resid.0")
    total = v["embed"].float()
    for n in range(model.n_layers):
        attn, mlp = v[f"attn_out.{n}"].float(), v[f"mlp_out.{n}"].float()
        before, after = v[f"resid.{n}"].float(), v[f"resid.{n + 1}"].float()
        if f"resid_mid.{n}" in v:
            _near(model, f"attn_out.{n}", before + attn, v[f"resid_mid.{n}"], attn, f"resid.{n} + attn_out.{n}")
        what = f"resid.{n} + attn_out.{n} + mlp_out.{n} = resid.{n + 1}"
        scale = torch.where(attn.norm(dim=-1, keepdim=True) < mlp.norm(dim=-1, keepdim=True), attn, mlp)
        _near(model, f"mlp_out.{n}", before + attn + mlp, after, scale, what, 2)
        total = total + attn + mlp
    _near(model, last, total, v[last], v[last] - v["embed"], "embedding + contributions", 2 * model.n_layers)


def _check_linear(model: Model, batch: Batch) -> None:
    """Checks 3 and 4 of the file's list, all blocks in one pass each."""
    places, layers = model.family.places, range(model.n_layers)
    for inner, outer in (("z", "attn_out"), ("mlp_act", "mlp_out")):
        if inner not in places or outer not in places:
            continue
        run = model.run(
            batch,
            [f"{outer}.{n}" for n in layers],
            edits=sum((_two_tokens(model, f"{inner}.{n}") for n in layers), Edit()),
        )
        for n in layers:
            out_TD = run[f"{outer}.{n}"].values[0].float()
            first_D, second_D, rest_TD = out_TD[0] - out_TD[-1], out_TD[1] - out_TD[-1], out_TD[2:] - out_TD[-1]
            size = float(first_D.norm())
            alike = float(torch.cosine_similarity(first_D, second_D, dim=0))
            if not size > 0 or float(rest_TD.norm(dim=-1).max()) > 1e-2 * size or alike < 0.95:
                raise _wrong(model, f"{inner}.{n}", f"is not the input of the linear map that ends in {outer}.{n}")
    if "mlp_in" in places and "mlp_out" in places:
        zero = sum((edits.ablate(f"mlp_in.{n}") for n in layers), Edit())
        run = model.run(batch, [f"mlp_out.{n}" for n in layers], edits=zero)
        for n in layers:
            out_TD = run[f"mlp_out.{n}"].values[0].float()
            if float((out_TD - out_TD[:1]).abs().max()) > 1e-2 * float(out_TD.abs().max()) + 1e-6:
                raise _wrong(model, f"mlp_in.{n}", f"is not the input of the MLP that ends in mlp_out.{n}")


def _two_tokens(model: Model, site: str) -> Edit:
    """Zero at `site`, but for noise at position 0 and half of it at position 1."""
    noise = torch.randn(model.sites[site].width, generator=torch.Generator().manual_seed(0))
    return edits.ablate(site) + edits.add(site, noise, positions=0) + edits.add(site, noise, scale=0.5, positions=1)
