"""How well features detect known concepts: every concept is given the feature, and the small set of features, that
detects it best.

    labelled = read(model, dictionary.site, corpus, spans, tokens=200_000)      # `labelled.py`
    found = score(labelled, codes(dictionary, labelled.x_PD))
    found["entity/town"].best.f1                                               # an Estimate, on unseen documents

A concept is a path: `entity/town` holds at the spans of `entity/town/veden` too. It is detected at a token where an
activation is above a threshold. Features and thresholds are chosen on half of the documents and scored on the other
half, with intervals clustered by document. The same is asked of what a dictionary should beat (`codes` of random
directions, neurons) and of what was taught the answers (`probe`).

Legend: P positions that were read, D width of the site, U units (features, neurons, directions), C concepts,
B thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glasshouse.dictionaries import Dictionary, Threshold
from glasshouse.features.labelled import Labelled
from glasshouse.types import Estimate

FEWEST_POSITIONS, FEWEST_DOCUMENTS = 20, 5  # on either side, or nothing is claimed of a concept
FOUND = 0.8  # a concept is found by a detector of this F1
THRESHOLDS = 8  # quantiles of a unit's activations
MOST_UNITS, CANDIDATES, GAIN = 5, 50, 0.01  # a set's size, what it is chosen from, what a further unit must add to F1
ABSORBED = 0.5  # a child whose positions a parent's detector finds at under this share of its recall elsewhere


@dataclass(frozen=True, kw_only=True)
class Codes:
    """Active units of all positions: unit, position and value (> 0) of each activation, in the order of the units."""

    units: int
    unit: NDArray[np.int64]
    position: NDArray[np.int64]
    value: NDArray[np.float32]

    def __post_init__(self) -> None:
        assert len(self.unit) == len(self.position) == len(self.value) and bool(np.all(np.diff(self.unit) >= 0))

    def of(self, unit: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """(positions, values) of one unit."""
        first, end = np.searchsorted(self.unit, [unit, unit + 1])
        return self.position[first:end], self.value[first:end]


@dataclass(frozen=True, kw_only=True)
class Detector:
    """Units and their thresholds: it fires where any of them is above its own. Scores are those of unseen documents."""

    units: tuple[int, ...]
    thresholds: tuple[float, ...]
    precision: Estimate
    recall: Estimate
    f1: Estimate

    def to_json(self) -> dict[str, Any]:
        scores = {key: getattr(self, key).to_json() for key in ("precision", "recall", "f1")}
        return {"units": list(self.units), "thresholds": [round(t, 6) for t in self.thresholds], **scores}


@dataclass(frozen=True, kw_only=True)
class Found:
    """What detects a concept: the best unit, and the best small set. `absorbed_by`: children at whose positions the
    best unit is silent while a unit of their own fires (Chanin et al. 2024, A is for Absorption)."""

    concept: str
    positions: int
    best: Detector
    several: Detector
    absorbed_by: tuple[str, ...] = ()

    @property
    def split(self) -> bool:
        """Whether it takes several units: they detect it, and the best of them does not."""
        return self.several.f1.value >= FOUND > self.best.f1.value

    def to_json(self) -> dict[str, Any]:
        return {
            "concept": self.concept, "positions": self.positions, "best": self.best.to_json(),
            "several": self.several.to_json(), "split": self.split, "absorbed_by": list(self.absorbed_by),
        }  # fmt: skip


# -- units -------------------------------------------------------------------------------------------------------------


def codes(dictionary: Dictionary, x_PD: Tensor) -> Codes:
    """Those of a dictionary's features."""
    values_PK, indices_PK = dictionary.encode_sparse(x_PD)
    position, slot = (values_PK > 0).nonzero(as_tuple=True)
    return _codes(dictionary.n_features, indices_PK[position, slot], position, values_PK[position, slot])


def neurons(x_PU: Tensor) -> Codes:
    """Those of neurons that are above 0."""
    unit, position = (x_PU > 0).T.nonzero(as_tuple=True)
    return _codes(x_PU.shape[1], unit, position, x_PU[position, unit])


def random_directions(like: Dictionary, x_PD: Tensor, k: int, *, seed: int = 0) -> Codes:
    """Those of as many random directions as the dictionary has features, the k largest of a position."""
    generator = torch.Generator().manual_seed(seed)
    W_FD = torch.nn.functional.normalize(torch.randn(like.W_dec.shape, generator=generator), dim=1)
    centre_D = x_PD.mean(0)
    random = Dictionary(
        name="random", site=like.site, model_name=like.model_name, W_enc=W_FD.T.contiguous(),
        b_enc=-(W_FD @ centre_D), W_dec=W_FD, b_dec=centre_D, activation=Threshold(kind="topk", k=k),
    )  # fmt: skip
    return codes(random, x_PD)


def _codes(units: int, unit: Tensor, position: Tensor, value: Tensor) -> Codes:
    order = torch.argsort(unit, stable=True)
    return Codes(
        units=units, unit=unit[order].numpy().astype(np.int64), position=position[order].numpy().astype(np.int64),
        value=value[order].detach().float().numpy(),
    )  # fmt: skip


def probe(labelled: Labelled, *, steps: int = 40, decay: float = 1e-4) -> dict[str, Detector]:
    """A logistic regression of every concept on the activations of the making side: what a linear reader finds that is
    told the answers. The threshold of each is chosen there too. decay: on weights of standardised activations."""
    x_PD, making_P = labelled.x_PD, torch.from_numpy(labelled.making_P)
    made_PD = x_PD[making_P]
    mean_D, scale_D = made_PD.mean(0), made_PD.std(0).clamp_min(1e-6)
    chosen = [c for c, enough in enumerate(_enough(labelled)) if enough]
    target_PC = torch.from_numpy(labelled.truth_PC[:, chosen])[making_P].float()
    weight_DC = torch.zeros(x_PD.shape[1], len(chosen), requires_grad=True)
    bias_C = torch.logit(target_PC.mean(0).clamp(1e-5, 1 - 1e-5)).requires_grad_()
    optimiser = torch.optim.LBFGS([weight_DC, bias_C], max_iter=steps, history_size=8, line_search_fn="strong_wolfe")
    z_PD = (made_PD - mean_D) / scale_D

    def closure() -> Tensor:
        optimiser.zero_grad()
        logits_PC = torch.addmm(bias_C, z_PD, weight_DC)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits_PC, target_PC, reduction="sum")
        loss = loss / len(z_PD) + decay * weight_DC.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)  # type: ignore[arg-type]
    found = {}
    with torch.no_grad():
        logits_PC = torch.addmm(bias_C, (x_PD - mean_D) / scale_D, weight_DC)
        for column, c in enumerate(chosen):
            logit_P = logits_PC[:, column].numpy()
            truth_P = labelled.truth_PC[:, c]
            threshold = _best_threshold(logit_P[labelled.making_P], truth_P[labelled.making_P])
            found[labelled.concepts[c]] = _scored((), (threshold,), logit_P > threshold, truth_P, labelled)
    return found


def _best_threshold(logit_P: NDArray[np.float32], truth_P: NDArray[np.bool_]) -> float:
    """The threshold of the best F1."""
    order = np.argsort(-logit_P, kind="stable")
    hits = np.cumsum(truth_P[order])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + hits[-1])
    best = int(np.argmax(f1))
    return float(logit_P[order[min(best + 1, len(order) - 1)]])


# -- scores ------------------------------------------------------------------------------------------------------------


def score(labelled: Labelled, active: Codes) -> dict[str, Found]:
    """What detects each concept that is common enough on both sides, by concept."""
    making_P, truth_PC = labelled.making_P, labelled.truth_PC
    cuts_UB = _cuts(active, making_P)
    f1_UBC = _making_f1(active, making_P, truth_PC, cuts_UB)
    found = {}
    for c, enough in enumerate(_enough(labelled)):
        if enough:
            best, several = _detectors(active, labelled, c, cuts_UB, f1_UBC[:, :, c])
            positions = int(truth_PC[:, c].sum())
            found[labelled.concepts[c]] = Found(
                concept=labelled.concepts[c], positions=positions, best=best, several=several
            )
    return _absorbed(labelled, active, found)


def summary(found: dict[str, Found]) -> dict[str, dict[str, Any]]:
    """For the `best` unit and for `several`: at each level of the hierarchy and over all, how many concepts there are,
    the mean F1, and the share with an F1 of at least `FOUND`, with Wilson's interval."""
    return {
        which: _levels({concept: getattr(one, which).f1.value for concept, one in found.items()})
        for which in ("best", "several")
    }


def probe_summary(taught: dict[str, Detector]) -> dict[str, Any]:
    """The same of a probe, over all concepts."""
    return _levels({concept: detector.f1.value for concept, detector in taught.items()})["all"]


def _levels(f1: dict[str, float]) -> dict[str, dict[str, Any]]:
    levels: dict[str, list[float]] = {"all": list(f1.values())}
    for concept, value in f1.items():
        levels.setdefault(str(concept.count("/") + 1), []).append(value)
    return {
        level: {
            "concepts": len(values), "mean_f1": float(np.mean(values)) if values else float("nan"),
            "found": Estimate.proportion(sum(v >= FOUND for v in values), len(values)).to_json(),
        }
        for level, values in sorted(levels.items())
    }  # fmt: skip


def _enough(labelled: Labelled) -> list[bool]:
    """Which concepts are common enough on both sides, and do not hold everywhere."""
    enough = np.ones(len(labelled.concepts), bool)
    for side_P in (labelled.making_P, ~labelled.making_P):
        truth_PC, doc_P = labelled.truth_PC[side_P], labelled.doc_P[side_P]
        count_C = truth_PC.sum(0)
        documents_C = np.array([len(np.unique(doc_P[truth_PC[:, c]])) for c in range(truth_PC.shape[1])])
        enough &= (count_C >= FEWEST_POSITIONS) & (documents_C >= FEWEST_DOCUMENTS) & (count_C < len(truth_PC))
    return enough.tolist()


def _cuts(active: Codes, making_P: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(U, B) thresholds of each unit: 0, and quantiles of its activations on the making side."""
    cuts_UB = np.zeros((active.units, THRESHOLDS), np.float32)
    made = making_P[active.position]
    unit, value = active.unit[made], active.value[made]
    order = np.lexsort((value, unit))
    unit, value = unit[order], value[order]
    first = np.searchsorted(unit, np.arange(active.units + 1))
    count_U = np.diff(first)
    live = np.flatnonzero(count_U)
    for b in range(1, THRESHOLDS):
        cuts_UB[live, b] = value[first[live] + np.minimum(count_U[live] * b // THRESHOLDS, count_U[live] - 1)]
    return cuts_UB


def _making_f1(
    active: Codes, making_P: NDArray[np.bool_], truth_PC: NDArray[np.bool_], cuts_UB: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(U, B, C) F1 on the making side of each unit at each threshold, for each concept.

    Every activation falls between two thresholds; a bag of rows of the truth counts the hits there, and sums from the
    top give those above each."""
    U, B = cuts_UB.shape
    made = making_P[active.position]
    unit, position, value = active.unit[made], active.position[made], active.value[made]
    cell = unit * B + (value[:, None] > cuts_UB[unit]).sum(1) - 1
    new_P = np.cumsum(making_P) - 1
    truth = torch.from_numpy(truth_PC[making_P].astype(np.float32))
    order = np.argsort(cell, kind="stable")
    count = np.bincount(cell, minlength=U * B)
    bags = torch.from_numpy(np.cumsum(count) - count)
    hits = torch.nn.functional.embedding_bag(torch.from_numpy(new_P[position[order]]), truth, bags, mode="sum")
    above_B = lambda cells: np.flip(np.cumsum(np.flip(cells, 1), 1), 1)
    hits_UBC = above_B(hits.numpy().reshape(U, B, -1))
    fired_UB = above_B(count.reshape(U, B).astype(np.float32))
    return 2 * hits_UBC / np.maximum(fired_UB[:, :, None] + truth.sum(0).numpy(), 1)


def _detectors(
    active: Codes, labelled: Labelled, c: int, cuts_UB: NDArray[np.float32], f1_UB: NDArray[np.float32]
) -> tuple[Detector, Detector]:
    """The best unit, and the set that grows from it, a unit at a time, while F1 on the making side does."""
    truth_P, making_P = labelled.truth_PC[:, c], labelled.making_P
    threshold_U = f1_UB.argmax(1)
    best_U = f1_UB[np.arange(len(f1_UB)), threshold_U]
    candidates = np.argsort(-best_U, kind="stable")[:CANDIDATES]
    fires: dict[int, NDArray[np.int64]] = {}
    for unit in candidates.tolist():
        position, value = active.of(unit)
        fires[unit] = position[value > cuts_UB[unit, threshold_U[unit]]]
    wanted, set_P, reached = int(truth_P[making_P].sum()), np.zeros(len(truth_P), bool), 0.0
    chosen: list[int] = []
    scored = lambda: _scored(
        tuple(chosen), tuple(float(cuts_UB[u, threshold_U[u]]) for u in chosen), set_P, truth_P, labelled
    )
    while fires and len(chosen) < MOST_UNITS:
        have, hits = int(set_P[making_P].sum()), int((set_P & truth_P & making_P).sum())
        options = []
        for unit, position in fires.items():
            new = position[making_P[position] & ~set_P[position]]
            options.append((2 * (hits + int(truth_P[new].sum())) / max(1, have + len(new) + wanted), unit))
        f1, unit = max(options)
        if chosen and f1 < reached + GAIN:
            break
        reached = f1
        chosen.append(unit)
        set_P[fires.pop(unit)] = True
        if len(chosen) == 1:
            best = scored()
    return best, scored() if len(chosen) > 1 else best


def _scored(
    units: tuple[int, ...],
    thresholds: tuple[float, ...],
    fires_P: NDArray[np.bool_],
    truth_P: NDArray[np.bool_],
    labelled: Labelled,
) -> Detector:
    """A detector's scores on the scoring side. F1 = 2 hits / (fired + true), a ratio of sums over documents."""
    side_P = ~labelled.making_P
    doc, fires, truth = labelled.scored_documents, fires_P[side_P], truth_P[side_P]
    hits_D, fired_D, true_D = (np.bincount(doc, of).astype(float) for of in (fires & truth, fires, truth))
    return Detector(
        units=units, thresholds=thresholds, precision=_share(hits_D, fired_D), recall=_share(hits_D, true_D),
        f1=_share(2 * hits_D, fired_D + true_D),
    )  # fmt: skip


def _share(part_D: NDArray[np.float64], whole_D: NDArray[np.float64]) -> Estimate:
    """Sums over documents, one as a share of the other."""
    return Estimate.clustered_proportion(part_D.tolist(), whole_D.tolist())


def _absorbed(labelled: Labelled, active: Codes, found: dict[str, Found]) -> dict[str, Found]:
    """With the children that absorb each concept."""
    number = {concept: i for i, concept in enumerate(labelled.concepts)}
    side_P = ~labelled.making_P
    out = {}
    for concept, one in found.items():
        children = [child for child in found if child.startswith(concept + "/")]
        taken = []
        if children:
            position, value = active.of(one.best.units[0])
            fires_P = np.zeros(len(side_P), bool)
            fires_P[position[value > one.best.thresholds[0]]] = True
            truth_P = labelled.truth_PC[:, number[concept]] & side_P
            for child in children:
                inside_P = labelled.truth_PC[:, number[child]] & side_P
                elsewhere_P = truth_P & ~inside_P
                if not elsewhere_P.any() or found[child].best.units == one.best.units:
                    continue
                recall = fires_P[elsewhere_P].mean()
                if found[child].best.f1.value >= FOUND and fires_P[inside_P].mean() < ABSORBED * recall:
                    taken.append(child)
        out[concept] = replace(one, absorbed_by=tuple(taken))
    return out
