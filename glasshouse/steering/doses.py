"""Dose and response: what a feature does over a range of strengths, and what it costs, beside random directions.

    glasshouse chat MODEL --add resid6/1234=0.8 --dose

Legend: B texts of a batch, T tokens, D width of the site, V vocabulary, K own tokens, R random directions, W windows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glasshouse.activations import Reading
from glasshouse.models import Batch, Edit, Model, add, patch, set
from glasshouse.steering.amounts import Strength, strength
from glasshouse.steering.pairs import embeddings
from glasshouse.types import STREAM_KINDS, Estimate, FeatureId, Site, UserError
from glasshouse.workspace import write_atomically

STRENGTHS = {"add": (0.1, 0.2, 0.4, 0.8, 1.6), "set": (1.0, 2.0, 4.0, 8.0, 16.0)}
OWN_TOKENS = 10


@dataclass(frozen=True, kw_only=True)
class Dose:
    """One strength: what was measured with the feature, and with random directions of equal length at each token.

    Of a language model `own_tokens`: mean change of the log-probability of the feature's own tokens (nats, over tokens
    and positions; absent where it has none), and `cross_entropy`: change of the next-token loss (nats per token). Of an
    encoder `embedding_cosine`. Clustered by document.
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
        return {**asdict(self), "own_tokens": [{"token": t, "text": text} for t, text in self.own_tokens.items()]}


@torch.no_grad()
def dose_response(
    model: Model,
    feature: str,
    strengths: Sequence[float] | None = None,
    *,
    held_out: Reading | Sequence[str] | Sequence[Sequence[int]],
    how: str = "add",
    tokens: Sequence[int] | None = None,
    windows: int = 32,
    batch_tokens: int = 1024,
    draws: int = 3,
    seed: int = 0,
    sums: Path | None = None,
    advance: Callable[[float], None] = lambda share: None,
) -> DoseResponse:
    """Effect and cost of a feature over a range of strengths, on text that neither model nor dictionary saw.

    how: "add" (strengths × the typical norm) or "set" (× the largest activation). held_out: a store's
    `reading(held_out=True)`, of which `windows` are read, or texts, or their token ids. tokens: the feature's own; None
    takes the ten that its decoder row promotes most by the direct effect. Away from the stream that is not defined:
    then, unless they are given, only the cost is measured. Beside it stand `draws` random directions from `seed`: at
    each token as long as what the feature's edit writes there. Edits act at every position; a text's first token is
    not scored, nor of a store's text what it does not teach to write (see `Document.unlearned`). sums: a file that
    keeps what was read so far, so that the same call goes on after it was killed.
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
    parts = list(_batches(model, held_out, windows, batch_tokens))
    found = _Sums.read(sums, len(doses))
    for done in range(found.batches, len(parts)):
        batch, scored_BT, documents_B = parts[done]
        trial.read(batch, scored_BT)
        for number, dose in enumerate(doses):
            found.add(number, "feature", documents_B, trial.feature(dose))
            for index in range(draws):
                found.add(number, "random", documents_B, trial.random(dose, index))
        found.keep(sums)
        advance((done + 1) / len(parts))
    return DoseResponse(
        feature=feature,
        how=how,
        own_tokens=own,
        draws=draws,
        documents=len({d for *_, documents_B in parts for d in documents_B}),
        doses=[
            Dose(strength=dose, feature=found.estimates(i, "feature"), random=found.estimates(i, "random"))
            for i, dose in enumerate(doses)
        ],
    )


def _own_tokens(model: Model, dictionary: Any, index: int, tokens: Sequence[int] | None) -> dict[int, str]:
    if tokens is None:
        if Site.parse(str(dictionary.site)).kind not in STREAM_KINDS:
            return {}
        logits_V = model.unembed(dictionary.W_dec[index : index + 1])[0]
        tokens = logits_V.topk(min(OWN_TOKENS, len(logits_V))).indices.tolist()
    return {int(t): model.tokenizer.decode([int(t)]) if model.tokenizer is not None else str(t) for t in tokens}


def _batches(
    model: Model, held_out: Reading | Sequence[str] | Sequence[Sequence[int]], windows: int, batch_tokens: int
) -> Iterator[tuple[Batch, Tensor, list[int]]]:
    """Batches, with the next tokens that are scored (B, T - 1) and the document of each text."""
    if isinstance(held_out, Reading):
        ids_WT, mask_WT = held_out.tensors()
        whole, documents = Batch(ids_WT[:windows], mask_WT[:windows]), held_out.doc_W[:windows].tolist()
        scored_BT = held_out.scored()[:windows]
    else:
        whole = model.tokens(held_out)
        documents = list(range(len(whole)))
        scored_BT = whole.mask_BT[:, 1:] & whole.mask_BT[:, :-1]
    step = max(1, batch_tokens // whole.ids_BT.shape[1])
    for first in range(0, len(whole), step):
        ids_BT, mask_BT = whole.ids_BT[first : first + step], whole.mask_BT[first : first + step]
        longest = int(mask_BT.sum(1).max())
        batch = Batch(ids_BT[:, :longest], mask_BT[:, :longest])
        yield batch, scored_BT[first : first + step, : longest - 1], documents[first : first + step]


class _Trial:
    """One batch, read as it is and then with every edit."""

    def __init__(self, model: Model, dictionary: Any, index: int, how: str, random_RD: Tensor, own: list[int]) -> None:
        self.model, self.dictionary, self.index, self.how = model, dictionary, index, how
        self.random_RD, self.own = random_RD, own
        self.site = str(dictionary.site)
        self.name = str(FeatureId(dictionary.name, index))

    def read(self, batch: Batch, scored_BT: Tensor) -> None:
        self.batch, self.scored_BT = batch, scored_BT
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
        count_B = self.scored_BT.sum(1)
        return {
            key: (((after[key] - self.before[key]) * self.scored_BT.to(after[key])).sum(1), count_B)
            for key in self.before
        }

    def _measures(self, edit: Edit) -> dict[str, Tensor]:
        """own_tokens and cross_entropy (B, T - 1) in nats, or an encoder's embedding (B, D)."""
        if self.model.is_encoder:
            return {"embedding": embeddings(self.model, self.batch, edit)}
        logits_BTV = self.model.run(self.batch, ["logits"], edits=edit)["logits"].values[:, :-1].float()
        total_BT = logits_BTV.logsumexp(-1)
        next_BT1 = self.batch.ids_BT[:, 1:, None].to(logits_BTV.device)
        cost = {"cross_entropy": total_BT - logits_BTV.gather(-1, next_BT1)[..., 0]}
        return {"own_tokens": logits_BTV[..., self.own].mean(-1) - total_BT, **cost} if self.own else cost


class _Sums:
    """Sums and counts by document of every measure, for each dose: of the feature and of random directions."""

    def __init__(self, doses: int) -> None:
        self.batches = 0
        self._found: list[dict[str, dict[str, dict[str, list[float]]]]] = [
            {"feature": {}, "random": {}} for _ in range(doses)
        ]

    @classmethod
    def read(cls, file: Path | None, doses: int) -> _Sums:
        sums = cls(doses)
        if file is not None and file.is_file():
            kept = json.loads(file.read_text(encoding="utf-8"))
            sums.batches, sums._found = kept["batches"], kept["sums"]
        return sums

    def keep(self, file: Path | None) -> None:
        """One more batch is whole."""
        self.batches += 1
        if file is not None:
            write_atomically(file, json.dumps({"batches": self.batches, "sums": self._found}))

    def add(self, dose: int, what: str, documents_B: list[int], measures: dict[str, tuple[Tensor, Tensor]]) -> None:
        for key, (sum_B, count_B) in measures.items():
            by_document = self._found[dose][what].setdefault(key, {})
            for document, total, count in zip(documents_B, sum_B.tolist(), count_B.tolist(), strict=True):
                have = by_document.setdefault(str(document), [0.0, 0.0])
                have[0] += total
                have[1] += count

    def estimates(self, dose: int, what: str) -> dict[str, Estimate]:
        units = {"own_tokens": "nats", "cross_entropy": "nats/token", "embedding_cosine": "cosine"}
        return {
            key: Estimate.mean([s for s, _ in found.values()], [c for _, c in found.values()], unit=units[key])
            for key, found in self._found[dose][what].items()
        }
