"""Steering: a feature or a direction to an edit; how strong that is, what it does, and what it costs.

    glasshouse chat MODEL --set resid6/1234=8x          # clamped to 8 × its largest activation
    glasshouse chat MODEL --add resid6/1234=0.8         # its direction, 0.8 × the stream's typical norm

Legend: B texts of a batch, T tokens, D width of the site, V vocabulary, K own tokens, W windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glasshouse.activations import Reading
from glasshouse.models import Batch, Edit, Generation, Model, add, patch, set
from glasshouse.types import Estimate, FeatureId, Site, UserError

STRENGTHS = {"add": (0.1, 0.2, 0.4, 0.8, 1.6), "set": (1.0, 2.0, 4.0, 8.0, 16.0)}
STREAM_KINDS = ("embed", "resid", "resid_mid", "attn_out", "mlp_out")  # sites that are added to the stream
OWN_TOKENS = 10
FORMS = "resid6/1234=8x (clamp to 8 × its largest activation), resid6/1234=0.8 or resid.6@FILE=0.8 (× the typical norm)"


# -- what is asked for -----------------------------------------------------------------------------------------------


def parse(text: str) -> Edit:
    """An edit from how people write it.

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
        return add(str(Site.parse(site)), _direction(Path(file)), times_norm=number)
    feature = str(FeatureId.parse(place))
    return set(feature, times_max=number) if times_max else add(feature, times_norm=number)


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


# -- with and without ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Completions:
    """One prompt completed by the model as it is and as edited, with the same seed."""

    prompt: str
    plain: Generation
    steered: Generation
    edit: Edit
    strengths: list[Strength]


def completions(
    model: Model,
    prompt: str,
    edit: Edit,
    *,
    max_new_tokens: int = 40,
    temperature: float = 0.0,
    seed: int = 0,
    on_token: Callable[[str, str], None] | None = None,
) -> Completions:
    """Both completions; greedy at temperature 0, else sampled, both with `seed`. `on_token(side, piece)` as they come.

    Raises `UserError` for an encoder, which completes nothing (see `embedding_change`), and an edit that did not fire.
    """
    made = {}
    for side, edits in (("plain", Edit()), ("steered", edit)):
        say = None if on_token is None else _teller(on_token, side)
        made[side] = model.generate(
            prompt, max_new_tokens, edits=edits, temperature=temperature, seed=seed, on_token=say
        )
    return Completions(
        prompt=prompt, plain=made["plain"], steered=made["steered"], edit=edit, strengths=strengths(model, edit)
    )


def _teller(on_token: Callable[[str, str], None], side: str) -> Callable[[str], None]:
    return lambda piece: on_token(side, piece)


@torch.no_grad()
def embeddings(model: Model, batch: Batch, edits: Edit | None = None) -> Tensor:
    """An encoder's embedding of each text: the mean over tokens of what leaves the last block, float32 (B, D)."""
    site = f"resid.{model.n_layers}"
    values_BTD = model.run(batch, [site], edits=edits)[site].values.float()
    mask_BT1 = batch.mask_BT[..., None].to(values_BTD)
    return (values_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)


def embedding_change(model: Model, texts: Sequence[str], edit: Edit) -> Estimate:
    """Mean over texts of the cosine between the embedding as it is and as edited: 1 is no change."""
    batch = model.tokens(list(texts))
    cosine_B = torch.cosine_similarity(embeddings(model, batch), embeddings(model, batch, edit), dim=-1)
    return Estimate.mean(cosine_B.tolist(), [1.0] * len(batch), unit="cosine")


# -- dose and response -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Dose:
    """One strength: what was measured with the feature, and with random directions of equal length at each token.

    Of a language model `own_tokens`: mean change of the log-probability of the feature's own tokens (nats, over tokens
    and positions), and `cross_entropy`: change of the next-token loss (nats per token). Of an encoder
    `embedding_cosine`. Clustered by document.
    """

    strength: Strength
    feature: dict[str, Estimate]
    random: dict[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class DoseResponse:
    """Doses in the order asked for. own_tokens: ids and texts of the tokens that the feature promotes."""

    feature: str
    how: str
    own_tokens: dict[int, str]
    draws: int
    documents: int
    doses: list[Dose]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@torch.no_grad()
def dose_response(
    model: Model,
    feature: str,
    strengths: Sequence[float] | None = None,
    *,
    held_out: Reading | Sequence[str],
    how: str = "add",
    tokens: Sequence[int] | None = None,
    windows: int = 32,
    batch_tokens: int = 1024,
    draws: int = 3,
    seed: int = 0,
    advance: Callable[[float], None] = lambda share: None,
) -> DoseResponse:
    """Effect and cost of a feature over a range of strengths, on text that neither model nor dictionary saw.

    how: "add" (strengths × the typical norm) or "set" (× the largest activation). held_out: a store's
    `reading(held_out=True)`, of which `windows` are read, or texts. tokens: the feature's own tokens; None takes the
    ten that its decoder row promotes most by the direct effect (not defined away from the stream, so that there they
    must be given). Beside it stand `draws` random directions from `seed`: at each token as long as what the feature's
    edit writes there. Edits act at every position; a text's first token is not scored.
    """
    if how not in STRENGTHS:
        raise UserError(f"expected how='add' or 'set', got {how!r}")
    name = FeatureId.parse(feature)
    dictionary: Any = model.dictionary(name.dictionary)
    doses = [
        strength(dictionary, name.index, **{"times_norm" if how == "add" else "times_max": float(s)})
        for s in (STRENGTHS[how] if strengths is None else strengths)
    ]
    own = {} if model.is_encoder else _own_tokens(model, dictionary, name.index, tokens)
    generator = torch.Generator().manual_seed(seed)
    random_RD = torch.nn.functional.normalize(torch.randn(draws, dictionary.width, generator=generator), dim=1)
    trial = _Trial(model, dictionary, name.index, how, random_RD, list(own))
    sums = [_Sums() for _ in doses]
    parts = list(_batches(model, held_out, windows, batch_tokens))
    for done, (batch, documents_B) in enumerate(parts):
        trial.read(batch)
        for dose, found in zip(doses, sums, strict=True):
            found.add("feature", documents_B, trial.feature(dose))
            for index in range(draws):
                found.add("random", documents_B, trial.random(dose, index))
        advance((done + 1) / len(parts))
    return DoseResponse(
        feature=feature,
        how=how,
        own_tokens=own,
        draws=draws,
        documents=len({d for _, documents_B in parts for d in documents_B}),
        doses=[
            Dose(strength=dose, feature=found.estimates("feature"), random=found.estimates("random"))
            for dose, found in zip(doses, sums, strict=True)
        ],
    )


def _own_tokens(model: Model, dictionary: Any, index: int, tokens: Sequence[int] | None) -> dict[int, str]:
    if tokens is None:
        site = Site.parse(str(dictionary.site))
        if site.kind not in STREAM_KINDS:
            raise UserError(
                f"expected tokens= for a feature at {site}, whose direct effect on the logits is not defined; "
                "give the ids of the tokens to measure"
            )
        logits_V = model.unembed(dictionary.W_dec[index : index + 1])[0]
        tokens = logits_V.topk(min(OWN_TOKENS, len(logits_V))).indices.tolist()
    if not tokens:
        raise UserError("expected at least one token id in tokens=, got none")
    return {int(t): model.tokenizer.decode([int(t)]) if model.tokenizer is not None else str(t) for t in tokens}


def _batches(
    model: Model, held_out: Reading | Sequence[str], windows: int, batch_tokens: int
) -> Iterator[tuple[Batch, list[int]]]:
    """Batches, with the document of each text."""
    if isinstance(held_out, Reading):
        ids_WT, mask_WT = held_out.tensors()
        whole, documents = Batch(ids_WT[:windows], mask_WT[:windows]), held_out.doc_W[:windows].tolist()
    else:
        whole = model.tokens(list(held_out))
        documents = list(range(len(whole)))
    step = max(1, batch_tokens // whole.ids_BT.shape[1])
    for first in range(0, len(whole), step):
        ids_BT, mask_BT = whole.ids_BT[first : first + step], whole.mask_BT[first : first + step]
        longest = int(mask_BT.sum(1).max())
        yield Batch(ids_BT[:, :longest], mask_BT[:, :longest]), documents[first : first + step]


class _Trial:
    """One batch, read as it is and then with every edit."""

    def __init__(self, model: Model, dictionary: Any, index: int, how: str, random_RD: Tensor, own: list[int]) -> None:
        self.model, self.dictionary, self.index, self.how = model, dictionary, index, how
        self.random_RD, self.own = random_RD, own
        self.site = str(dictionary.site)
        self.name = str(FeatureId(dictionary.name, index))

    def read(self, batch: Batch) -> None:
        self.batch = batch
        run = self.model.run(batch, [self.site], stop=True)
        self.values = run[self.site].values
        flat_BTD = self.values.flatten(2)
        self.code_BT = self.dictionary.encode(flat_BTD.reshape(-1, flat_BTD.shape[-1]))[:, self.index].view(
            flat_BTD.shape[:2]
        )
        self.before = self._measures(Edit())

    def feature(self, dose: Strength) -> dict[str, tuple[Tensor, Tensor]]:
        edit = (
            add(self.name, times_norm=dose.times_norm)
            if self.how == "add"
            else set(self.name, times_max=dose.times_max)
        )
        return self._changes(edit)

    def random(self, dose: Strength, draw: int) -> dict[str, tuple[Tensor, Tensor]]:
        step_BTD = self._length(dose)[..., None].to(self.values.device) * self.random_RD[draw].to(self.values.device)
        moved = (self.values.flatten(2).float() + step_BTD).to(self.values.dtype).view(self.values.shape)
        return self._changes(patch(self.site, moved))

    def _length(self, dose: Strength) -> Tensor:
        """How far the feature's edit moves the stream at each token (B, T), with its sign."""
        if self.how == "add":
            return torch.full_like(self.code_BT, dose.times_norm * float(self.dictionary.typical_norm))
        assert dose.times_max is not None
        target = dose.times_max * float(self.dictionary.max_activation[self.index])
        return (target - self.code_BT) * float(self.dictionary.W_dec[self.index].norm())

    def _changes(self, edit: Edit) -> dict[str, tuple[Tensor, Tensor]]:
        """{measure: (sum (B,), count (B,))} of each text."""
        after = self._measures(edit)
        if self.model.is_encoder:
            cosine_B = torch.cosine_similarity(self.before["embedding"], after["embedding"], dim=-1)
            return {"embedding_cosine": (cosine_B, torch.ones_like(cosine_B))}
        scored_BT = self.batch.mask_BT[:, 1:] & self.batch.mask_BT[:, :-1]
        count_B = scored_BT.sum(1)
        return {
            key: (((after[key] - self.before[key]) * scored_BT.to(after[key])).sum(1), count_B) for key in self.before
        }

    def _measures(self, edit: Edit) -> dict[str, Tensor]:
        """own_tokens and cross_entropy (B, T - 1) in nats, or an encoder's embedding (B, D)."""
        if self.model.is_encoder:
            return {"embedding": embeddings(self.model, self.batch, edit)}
        logits_BTV = self.model.run(self.batch, ["logits"], edits=edit)["logits"].values[:, :-1].float()
        total_BT = logits_BTV.logsumexp(-1)
        next_BT1 = self.batch.ids_BT[:, 1:, None].to(logits_BTV.device)
        return {
            "own_tokens": logits_BTV[..., self.own].mean(-1) - total_BT,
            "cross_entropy": total_BT - logits_BTV.gather(-1, next_BT1)[..., 0],
        }


class _Sums:
    """Sums and counts by document of every measure, for the feature and for random directions."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, dict[int, list[float]]]] = {"feature": {}, "random": {}}

    def add(self, what: str, documents_B: list[int], measures: dict[str, tuple[Tensor, Tensor]]) -> None:
        for key, (sum_B, count_B) in measures.items():
            by_document = self._found[what].setdefault(key, {})
            for document, total, count in zip(documents_B, sum_B.tolist(), count_B.tolist(), strict=True):
                have = by_document.setdefault(document, [0.0, 0.0])
                have[0] += total
                have[1] += count

    def estimates(self, what: str) -> dict[str, Estimate]:
        units = {"own_tokens": "nats", "cross_entropy": "nats/token", "embedding_cosine": "cosine"}
        return {
            key: Estimate.mean([s for s, _ in found.values()], [c for _, c in found.values()], unit=units[key])
            for key, found in self._found[what].items()
        }
