"""The one training loop of sparse dictionaries: an activation function and a list of loss terms go in.

Training happens in normalised space, x̂ = (x - centre) × scale with E|x̂|² = D, and is folded back into the saved
weights. Gradients are written out by hand, because most of them are sparse; see `kernels.py` for the products.

Legend: B tokens of a batch, D width, F features, N pairs (token, feature), R dead features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from glasshouse.dictionaries.kernels import (
    ACTIVATIONS,
    Activation,
    ByFeature,
    Codes,
    Encoder,
    decode,
    gather_dot,
    sum_by_feature,
)
from glasshouse.types import UserError


@dataclass(frozen=True, kw_only=True)
class LearnConfig:
    """What a dictionary is made like. None means: by the rule in the comment."""

    features: int | None = None  # None: 16 × width, at most 16,384
    k: int = 32  # active features per token (on average for batchtopk)
    activation: str = "batchtopk"  # or "topk"
    tokens: int = 2_000_000  # activations seen in all; a store is gone through again when it has fewer
    batch: int = 1024  # tokens per step
    rate: float | None = None  # None: TRAVEL / steps × (features / 1024)^¼, at most MOST_RATE
    warmup: float = 0.02  # share of the steps in which the rate rises from 0
    decay: float = 0.2  # share of the steps, at the end, in which the rate falls to 0
    clip: float = 1.0  # largest norm of a step's gradient
    dead_after: int | None = None  # tokens without firing; None: `tokens` / 40, 10 batches to 10 million
    dead_weight: float = 1 / 32  # of the auxiliary loss on dead features
    dead_k: int | None = None  # features active in it per token; None: k
    held_out_rows: int = 16_384  # rows for calibration and the report at most
    statistics_rows: int = 131_072  # rows over which each feature's largest activation is taken at most
    checkpoint_seconds: float = 60.0  # wall time between checkpoints (does not change the result)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise UserError(f"expected an activation of {', '.join(ACTIVATIONS)}, got {self.activation!r}")
        for key in ("k", "tokens", "batch", "held_out_rows", "statistics_rows"):
            if getattr(self, key) < 1:
                raise UserError(f"expected {key} of at least 1, got {getattr(self, key)}")
        if self.features is not None and self.features < self.k:
            raise UserError(f"expected more features than k = {self.k}, got {self.features}; raise --features")
        if self.tokens < self.batch:
            raise UserError(f"expected at least one batch of {self.batch} tokens, got {self.tokens}; raise --tokens")
        if self.rate is not None and not 0 <= self.rate < math.inf:
            raise UserError(f"expected a rate of 0 or more, got {self.rate}")

    def resolved(self, width: int) -> LearnConfig:
        """The same with every None replaced for a site of this width."""
        features = self.features or min(16 * width, 16_384)
        return replace(
            self,
            features=features,
            rate=self.rate if self.rate is not None else self._rate(features),
            dead_after=self.dead_after or min(10_000_000, max(self.tokens // 40, 10 * self.batch)),
            dead_k=self.dead_k or self.k,
        )

    def _rate(self, features: int) -> float:
        return min(MOST_RATE, TRAVEL / (self.tokens // self.batch) * (features / 1024) ** 0.25)


# How far Adam may move a weight in a run, about rate × steps: the best rates of runs of 200 to 3,000 steps agree on
# that, not on a rate (docs/dictionaries.md).
TRAVEL, MOST_RATE = 6.0, 0.03


def schedule(step: int, steps: int, warmup: float, decay: float) -> float:
    """The factor of the learning rate at a step: linear up, flat, linear down to 0 over the last `decay` share."""
    up = (step + 1) / max(1.0, warmup * steps)
    down = (steps - step) / max(1.0, decay * steps)
    return min(1.0, up, down)


# -- one step --------------------------------------------------------------------------------------------------------


@dataclass
class Weights:
    """Parameters in normalised space, float32. `W_enc_FD` is stored by feature, like the decoder."""

    W_enc_FD: Tensor
    b_enc_F: Tensor
    W_dec_FD: Tensor
    b_dec_D: Tensor

    def tensors(self) -> list[Tensor]:
        return [self.W_enc_FD, self.b_enc_F, self.W_dec_FD, self.b_dec_D]

    @classmethod
    def initial(cls, features: int, width: int, seed: int, device: torch.device) -> Weights:
        """Random unit decoder rows, the encoder their transpose, biases 0 (the centre is subtracted already)."""
        draw = torch.Generator().manual_seed(seed)
        rows_FD = torch.randn(features, width, generator=draw).to(device)
        rows_FD /= rows_FD.norm(dim=1, keepdim=True)
        return cls(rows_FD.clone(), torch.zeros(features, device=device), rows_FD, torch.zeros(width, device=device))


@dataclass
class Forward:
    """What loss terms see of a step. `error_BD` is reconstruction minus input."""

    x_BD: Tensor
    codes: Codes
    error_BD: Tensor
    weights: Weights
    dead_R: Tensor
    config: LearnConfig


@dataclass
class Gradients:
    """What loss terms add to. The loop carries the first two back through the codes; `rows` go to features directly."""

    reconstruction_BD: Tensor
    codes_N: Tensor | None = None
    rows: list[tuple[Tensor, Tensor, Tensor, Tensor]] = field(default_factory=list)  # features, dW_enc, db_enc, dW_dec


LossTerm = Callable[[Forward, Gradients], Tensor]
"""Adds its gradients and returns its value (a scalar tensor)."""


def squared_error(forward: Forward, gradients: Gradients) -> Tensor:
    """Mean squared error over D: in normalised space the share of the variance that is unexplained."""
    error_BD = forward.error_BD
    gradients.reconstruction_BD.add_(error_BD, alpha=2 / error_BD.numel())
    return error_BD.square().mean()


def dead_features(forward: Forward, gradients: Gradients) -> Tensor:
    """AuxK (Gao et al. 2024, §A.2): dead features, `dead_k` a token, are to reconstruct what the live ones leave.

    Its size is bounded by taking the first rows of the batch only when many are dead; that leaves it unbiased.
    """
    config, weights, dead_R = forward.config, forward.weights, forward.dead_R
    if len(dead_R) == 0 or config.dead_weight == 0:
        return forward.error_BD.new_zeros(())
    rows = min(len(forward.x_BD), max(64, (1 << 19) // len(dead_R)))
    x_bD, target_bD = forward.x_BD[:rows], -forward.error_BD[:rows]
    W_enc_RD, W_dec_RD = weights.W_enc_FD[dead_R], weights.W_dec_FD[dead_R]
    pre_bR = torch.addmm(weights.b_enc_F[dead_R], x_bD, W_enc_RD.t())
    assert config.dead_k is not None
    if config.dead_k < len(dead_R):
        best = pre_bR.topk(config.dead_k, dim=1, sorted=False)
        pre_bR = torch.zeros_like(pre_bR).scatter_(1, best.indices, best.values)
    codes_bR = pre_bR.relu_()
    miss_bD = codes_bR @ W_dec_RD - target_bD
    total = target_bD.square().sum()
    back_bD = miss_bD * (2 * config.dead_weight / total)
    back_bR = (back_bD @ W_dec_RD.t()) * (codes_bR > 0)
    gradients.rows.append((dead_R, back_bR.t() @ x_bD, back_bR.sum(0), codes_bR.t() @ back_bD))
    return config.dead_weight * miss_bD.square().sum() / total


class Trainer:
    """The state of a run and its step. All of it is in `tensors()`, so that a checkpoint of those is the run."""

    def __init__(
        self,
        config: LearnConfig,
        width: int,
        *,
        activation: Activation,
        terms: Sequence[LossTerm],
        precision: str,
        device: torch.device,
    ) -> None:
        assert config.features is not None and config.rate is not None
        self.config, self.activation, self.terms = config, activation, tuple(terms)
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.steps, self.step_index = config.tokens // config.batch, 0
        self.weights = Weights.initial(config.features, width, config.seed, device)
        parameters = self.weights.tensors()
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        self.adam = torch.optim.Adam(parameters, lr=config.rate, betas=(0.9, 0.999), fused=True)
        self.silent_F = torch.zeros(config.features, dtype=torch.int64, device=device)  # tokens since it last fired
        self.encoder = Encoder(config.features, config.k)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by name; written into in place by `restore`."""
        named = dict(zip(("W_enc", "b_enc", "W_dec", "b_dec"), self.weights.tensors(), strict=True))
        out = {**named, "silent": self.silent_F}
        for key, parameter in named.items():
            state = self.adam.state[parameter]
            if not state:
                state.update(
                    step=torch.zeros((), dtype=torch.float32, device=parameter.device),
                    exp_avg=torch.zeros_like(parameter),
                    exp_avg_sq=torch.zeros_like(parameter),
                )
            out |= {f"{key}.{part}": state[part] for part in ("step", "exp_avg", "exp_avg_sq")}
        return out

    def restore(self, step: int, tensors: dict[str, Tensor]) -> None:
        self.step_index = step
        for key, tensor in self.tensors().items():
            tensor.copy_(tensors[key])

    def forward(self, x_BD: Tensor) -> tuple[Codes, Tensor]:
        """Codes and reconstruction of normalised rows. The choice of features is made in `dtype`."""
        weights = self.weights
        pre_BF, maxima_BG = self.encoder(x_BD, weights.W_enc_FD.to(self.dtype), weights.b_enc_F.to(self.dtype))
        codes = self.activation(pre_BF, maxima_BG, self.config.k)
        codes = codes.with_values(codes.values_N.relu())
        return codes, decode(codes, weights.W_dec_FD) + weights.b_dec_D

    @torch.no_grad()
    def step(self, x_BD: Tensor) -> dict[str, Tensor]:
        """One update on normalised rows; the loss terms' values, `loss` the sum."""
        config, weights = self.config, self.weights
        codes, reconstruction_BD = self.forward(x_BD)
        assert config.dead_after is not None
        dead_R = (self.silent_F > config.dead_after).nonzero().view(-1)
        forward = Forward(x_BD, codes, reconstruction_BD - x_BD, weights, dead_R, config)
        gradients = Gradients(torch.zeros_like(x_BD))
        values = {term.__name__: term(forward, gradients) for term in self.terms}
        self._backward(forward, gradients)
        norm = torch.nn.utils.clip_grad_norm_(weights.tensors(), config.clip, foreach=True)
        assert config.rate is not None
        self.adam.param_groups[0]["lr"] = config.rate * schedule(
            self.step_index, self.steps, config.warmup, config.decay
        )
        self.adam.step()
        weights.W_dec_FD.div_(weights.W_dec_FD.norm(dim=1, keepdim=True))
        self.silent_F += len(x_BD)
        fired_N = torch.where(codes.values_N > 0, codes.features_N, len(self.silent_F))
        fired_F1 = torch.zeros(len(self.silent_F) + 1, dtype=torch.bool, device=x_BD.device).index_fill_(
            0, fired_N, True
        )
        self.silent_F.masked_fill_(fired_F1[:-1], 0)
        self.step_index += 1
        return {
            **values,
            "loss": torch.stack(list(values.values())).sum(),
            "norm": norm,
            "l0": (codes.values_N > 0).sum() / len(x_BD),
            "dead": torch.tensor(len(dead_R) / len(self.silent_F)),
        }

    @torch.no_grad()
    def unexplained(self, x_ND: Tensor) -> float | None:
        """The share of the rows' variance that is left, with the activation function of training; None of rows that do
        not vary."""
        missed = 0.0
        for x_BD in x_ND.split(self.config.batch):
            missed += float((self.forward(x_BD)[1] - x_BD).square().sum())
        varied = float((x_ND - x_ND.mean(0)).square().sum())
        return missed / varied if varied else None

    def _backward(self, forward: Forward, gradients: Gradients) -> None:
        """From the gradients of reconstruction and codes to those of the weights, in `.grad`."""
        weights, codes, features = self.weights, forward.codes, len(self.silent_F)
        back_BD = gradients.reconstruction_BD
        back_N = gather_dot(codes, weights.W_dec_FD, back_BD)
        if gradients.codes_N is not None:
            back_N += gradients.codes_N
        back_N *= codes.values_N > 0
        pairs = ByFeature.of(codes, features)
        weights.W_dec_FD.grad = pairs.scatter_rows(codes.values_N, back_BD)
        weights.W_enc_FD.grad = pairs.scatter_rows(back_N, forward.x_BD)
        weights.b_enc_F.grad = sum_by_feature(codes, back_N, features)
        weights.b_dec_D.grad = back_BD.sum(0)
        for rows_R, W_enc_RD, b_enc_R, W_dec_RD in gradients.rows:
            weights.W_enc_FD.grad[rows_R] += W_enc_RD
            weights.b_enc_F.grad[rows_R] += b_enc_R
            weights.W_dec_FD.grad[rows_R] += W_dec_RD
        # Decoder rows keep length 1, so the part of the gradient along them would only feed Adam's moments.
        along_F1 = (weights.W_dec_FD.grad * weights.W_dec_FD).sum(1, keepdim=True)
        weights.W_dec_FD.grad.addcmul_(weights.W_dec_FD, along_F1, value=-1)


# -- normalisation ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Normaliser:
    """x̂ = (x - centre) × scale, so that E|x̂|² = D."""

    centre_D: Tensor
    scale: float

    def __call__(self, x_BD: Tensor) -> Tensor:
        return (x_BD.to(self.centre_D.device).float() - self.centre_D) * self.scale

    @classmethod
    def of(cls, x_ND: Tensor) -> Normaliser:
        """Centre: the geometric median (Weiszfeld's iteration), which outliers hardly move."""
        centre_D = geometric_median(x_ND)
        mean_square = float((x_ND - centre_D).square().mean())
        if not math.isfinite(mean_square) or mean_square <= 0:
            raise UserError("expected activations that are finite and vary, got rows that do not; harvest them again")
        return cls(centre_D, 1 / math.sqrt(mean_square))


def geometric_median(x_ND: Tensor, iterations: int = 20) -> Tensor:
    """The point with the least sum of distances to the rows, (D,). Weiszfeld 1937."""
    centre_D = x_ND.mean(0)
    for _ in range(iterations):
        weight_N1 = 1 / (x_ND - centre_D).norm(dim=1, keepdim=True).clamp(min=1e-6)
        centre_D = (x_ND * weight_N1).sum(0) / weight_N1.sum()
    return centre_D


def fold(weights: Weights, normaliser: Normaliser) -> dict[str, Tensor]:
    """Weights that take raw rows and give codes in raw units, decoder rows of length 1: W_enc (D, F) and so on.

    codes = codes of normalised rows / scale.
    """
    scale, centre_D = normaliser.scale, normaliser.centre_D
    return {
        "W_enc": weights.W_enc_FD.t().contiguous(),
        "b_enc": weights.b_enc_F / scale - weights.W_enc_FD @ centre_D,
        "W_dec": weights.W_dec_FD.clone(),
        "b_dec": weights.b_dec_D / scale + centre_D,
    }
