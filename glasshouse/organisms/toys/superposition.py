"""The published toy of superposition: x̂ = ReLU(WᵀWx + b), sparse features in fewer dimensions, many at once.

    toys = train(ToyConfig(features=5, hidden=2), probability=[0.05] * 32, seed=0)
    toys.best().dimensions_N          # 0.4 each: a pentagon

Elhage et al. 2022, "Toy Models of Superposition", https://transformer-circuits.pub/2022/toy_model/. Features are 0,
or, each with probability 1 − S, uniform in [0, 1]. The loss is Σ importance × (x − x̂)².

Legend: I instances trained at once, B rows of a batch, N features, M hidden dimensions, G sets of features.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from glasshouse.types import UserError
from glasshouse.workspace.files import hash_json

# Share of a dimension that a feature has in the arrangements of the paper: dimensions / features of one polytope.
POLYTOPES = {
    "tetrahedron": 3 / 4,
    "triangle": 2 / 3,
    "digon": 1 / 2,
    "pentagon": 2 / 5,
    "square antiprism": 3 / 8,
}
RELATIONS = ("independent", "correlated", "anticorrelated")
JUDGED_ROWS = 65_536  # fresh rows on which instances are compared: the last batch's loss is mostly noise


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """What a toy is like and how it is trained; the probabilities of its features are given to `train`."""

    features: int  # N
    hidden: int  # M
    relu: bool = True  # False: the linear model, x̂ = WᵀWx + b
    decay: float = 1.0  # importance of feature i is decay ** i
    relation: str = "independent"  # or "correlated" (on together), "anticorrelated" (never on together)
    set_size: int = 1  # features of a set that are related
    steps: int = 2000
    batch: int = 1024  # rows per step and instance
    rate: float = 1e-2  # of Adam at the first step; falls to 0 as half a cosine

    def __post_init__(self) -> None:
        if self.relation not in RELATIONS:
            raise UserError(f"expected a relation of {', '.join(RELATIONS)}, got {self.relation!r}")
        if not 1 <= self.hidden <= self.features:
            raise UserError(f"expected 1 to {self.features} hidden dimensions (the features), got {self.hidden}")
        if self.set_size < 1 or self.features % self.set_size:
            raise UserError(f"expected sets that divide {self.features} features, got a set_size of {self.set_size}")
        if self.relation == "independent" and self.set_size > 1:
            raise UserError(f"expected set_size 1 for independent features, got {self.set_size}; name the relation")


def draw(config: ToyConfig, probability_I: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """Rows of features, (I, rows, N). Each feature is on with the instance's probability, whatever the relation.

    One uniform number r a set decides: below p, r / p is uniform again and serves as the value. Of an anticorrelated
    set the feature j is on for r in [jp, (j + 1)p).
    """
    sets = config.features // config.set_size
    turn_IBG = torch.rand(len(probability_I), rows, sets, generator=generator) / probability_I[:, None, None]
    if config.set_size == 1:
        return turn_IBG.masked_fill_(turn_IBG >= 1, 0)
    turn_IBGJ = turn_IBG.unsqueeze(-1)
    if config.relation == "correlated":
        values_IBGJ = torch.rand(len(probability_I), rows, sets, config.set_size, generator=generator)
        x_IBGJ = values_IBGJ * (turn_IBGJ < 1)
    else:
        x_IBGJ = turn_IBGJ - torch.arange(config.set_size)
        x_IBGJ = x_IBGJ * ((x_IBGJ >= 0) & (x_IBGJ < 1))
    return x_IBGJ.flatten(2)


# -- trained toys ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Toy:
    """Trained instances. Column i of `W_IMN` is the direction of feature i; `loss_I` is measured on fresh rows."""

    config: ToyConfig
    probability_I: Tensor
    W_IMN: Tensor
    b_IN: Tensor
    loss_I: Tensor

    def __len__(self) -> int:
        return len(self.W_IMN)

    def __getitem__(self, instance: int) -> Toy:
        """One instance, as a toy of one. Raises IndexError past the last, so that a toy can be gone through."""
        at = range(len(self))[instance]
        one = slice(at, at + 1)
        return Toy(
            config=self.config,
            probability_I=self.probability_I[one],
            W_IMN=self.W_IMN[one],
            b_IN=self.b_IN[one],
            loss_I=self.loss_I[one],
        )

    def best(self, probability: float | None = None) -> Toy:
        """The instance of least loss, among those of one probability: losses of others cannot be compared."""
        wanted = self.probability_I[0] if probability is None else torch.tensor(probability)
        of_it_I = torch.isclose(self.probability_I, wanted)
        if not of_it_I.any() or (probability is None and not of_it_I.all()):
            known = ", ".join(f"{p:g}" for p in self.probability_I.unique().tolist())
            raise UserError(f"expected a probability of {known}, got {probability}; instances differ in it")
        return self[int(self.loss_I.masked_fill(~of_it_I, math.inf).argmin())]

    def hidden(self, x_IBN: Tensor) -> Tensor:
        """h = Wx, (I, B, M)."""
        return x_IBN @ self.W_IMN.mT

    def __call__(self, x_IBN: Tensor) -> Tensor:
        """x̂, (I, B, N)."""
        return reconstruct(x_IBN, self.W_IMN, self.b_IN, relu=self.config.relu)

    @property
    def W_MN(self) -> Tensor:
        """The weights of a toy of one instance."""
        assert len(self) == 1, f"{len(self)} instances; choose one with toy[i] or toy.best()"
        return self.W_IMN[0]

    @property
    def dimensions_N(self) -> Tensor:
        """`feature_dimensions` of a toy of one instance."""
        return feature_dimensions(self.W_MN)


def reconstruct(x_IBN: Tensor, W_IMN: Tensor, b_IN: Tensor, *, relu: bool) -> Tensor:
    out_IBN = torch.baddbmm(b_IN[:, None, :], x_IBN @ W_IMN.mT, W_IMN)
    return out_IBN.relu() if relu else out_IBN


def train(config: ToyConfig, probability: Sequence[float], *, seed: int) -> Toy:
    """One instance for each probability of a feature to be on (1 − S), all in one batched product, on the CPU.

    Instances of the same probability differ in their first weights and their rows. Gradient descent stops in local
    minima, so what the loss prefers is read from the best of many (`Toy.best`), as the paper does.
    """
    size = config.set_size if config.relation == "anticorrelated" else 1
    for p in probability:
        if not 0 < p * size <= 1:
            raise UserError(f"expected probabilities above 0 and at most {1 / size:g}, got {p:g}")
    generator = torch.Generator().manual_seed(seed)
    probability_I = torch.tensor(probability, dtype=torch.float32)
    importance_N = config.decay ** torch.arange(config.features, dtype=torch.float32)
    spread = math.sqrt(2 / (config.features + config.hidden))  # Xavier's, as in the paper's notebook
    shape = (len(probability), config.hidden, config.features)
    W_IMN = (spread * torch.randn(shape, generator=generator)).requires_grad_()
    b_IN = torch.zeros(len(probability), config.features, requires_grad=True)
    adam = torch.optim.Adam([W_IMN, b_IN], lr=config.rate)
    for step in range(config.steps):
        adam.param_groups[0]["lr"] = config.rate * (1 + math.cos(math.pi * step / config.steps)) / 2
        x_IBN = draw(config, probability_I, config.batch, generator)
        error_IBN = reconstruct(x_IBN, W_IMN, b_IN, relu=config.relu) - x_IBN
        # Divided by p, the gradients of rare features are as large as those of frequent ones.
        loss = (error_IBN.square().mean(1) * importance_N).sum(1) / probability_I
        adam.zero_grad()
        loss.sum().backward()
        adam.step()
    W_IMN, b_IN = W_IMN.detach(), b_IN.detach()
    loss_I = judge(config, probability_I, W_IMN, b_IN, importance_N, generator)
    return Toy(config=config, probability_I=probability_I, W_IMN=W_IMN, b_IN=b_IN, loss_I=loss_I)


@torch.no_grad()
def judge(
    config: ToyConfig,
    probability_I: Tensor,
    W_IMN: Tensor,
    b_IN: Tensor,
    importance_N: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Loss of each instance over fresh rows, (I,). Instances of the same probability see the same rows."""
    kinds, kind_I = probability_I.unique(return_inverse=True)
    total_I, rounds = torch.zeros(len(probability_I)), JUDGED_ROWS // 1024
    for _ in range(rounds):
        x_IBN = draw(config, kinds, 1024, generator)[kind_I]
        error_IBN = reconstruct(x_IBN, W_IMN, b_IN, relu=config.relu) - x_IBN
        total_I += (error_IBN.square().mean(1) * importance_N).sum(1)
    return total_I / rounds


# -- geometry --------------------------------------------------------------------------------------------------------


def feature_dimensions(W_MN: Tensor) -> Tensor:
    """D_i = |W_i|² / Σ_j (Ŵ_i·W_j)²: the share of a dimension that each feature has, (…, M, N) -> (…, N).

    1 is a dimension to itself, 1/2 one shared by a pair. A feature that is not represented (W_i = 0) has 0.
    """
    square_N1 = W_MN.square().sum(-2).unsqueeze(-1)
    met_N1 = (W_MN.mT @ W_MN).square().sum(-1, keepdim=True)  # |W_i|² Σ_j (Ŵ_i·W_j)²
    return (square_N1.square() / met_N1.clamp(min=torch.finfo(W_MN.dtype).tiny)).squeeze(-1)


def dimensions_per_feature(W_MN: Tensor) -> Tensor:
    """D* = M / |W|²_F, (…, M, N) -> (…): hidden dimensions for each feature represented, as |W_i| is about 1 or 0."""
    return W_MN.shape[-2] / W_MN.square().sum((-2, -1))


# -- for dictionaries ------------------------------------------------------------------------------------------------


class HiddenRows:
    """The hidden layer of one instance as an endless source of rows, which `dictionaries.learn` reads.

    The same rows for the same seed and start. Held-out rows are drawn apart, `held_out_rows` of them.
    """

    name = "toy"

    def __init__(self, toy: Toy, *, held_out_rows: int = 16_384) -> None:
        assert len(toy) == 1, f"{len(toy)} instances; choose one"
        self.toy, self.held_out_rows = toy, held_out_rows

    @property
    def hash(self) -> str:
        """Of the toy and of how many rows are held out."""
        toy = self.toy
        weights = [each.tolist() for each in (toy.probability_I, toy.W_IMN, toy.b_IN)]
        return hash_json({"toy": asdict(toy.config), "weights": weights, "held_out_rows": self.held_out_rows})

    def width(self, site: str) -> int:
        """M; a toy has one place, whatever it is called."""
        return self.toy.config.hidden

    def batches(
        self, site: str, batch_rows: int, *, start_row: int = 0, seed: int = 0, held_out: bool = False
    ) -> Iterator[Tensor]:
        """Whole batches (B, M) without end from `start_row`, a multiple of B; held-out rows once."""
        starts = itertools.count(start_row, batch_rows)
        for start in range(start_row, self.held_out_rows, batch_rows) if held_out else starts:
            generator = torch.Generator().manual_seed((2 * start + held_out) * 1_000_003 + seed)
            x_IBN = draw(self.toy.config, self.toy.probability_I, batch_rows, generator)
            yield self.toy.hidden(x_IBN)[0]
