"""One step against autograd, and what the recipe promises of it."""

import pytest
import torch

from glasshouse.dictionaries.kernels import ACTIVATIONS
from glasshouse.dictionaries.training import (
    LearnConfig,
    Normaliser,
    Trainer,
    dead_features,
    fold,
    geometric_median,
    schedule,
    squared_error,
)
from glasshouse.types import UserError

D, F, K = 16, 256, 4


def trainer(**given: object) -> Trainer:
    config = LearnConfig(**{"features": F, "k": K, "tokens": 64_000, "batch": 64, "clip": 1e9, **given}).resolved(D)  # type: ignore[arg-type]
    return Trainer(
        config,
        D,
        activation=ACTIVATIONS[config.activation],
        terms=(squared_error, dead_features),
        precision="fp32",
        device=torch.device("cpu"),
    )


@pytest.mark.parametrize("activation", ["topk", "batchtopk"])
def test_gradients_equal_autograd(activation: str) -> None:
    state = trainer(activation=activation, rate=0.0)
    state.silent_F[40:60] = 10**9  # some features are dead, so the auxiliary loss is part of it
    x_BD = torch.randn(64, D, generator=torch.Generator().manual_seed(3))
    W_enc, b_enc, W_dec, b_dec = (t.detach().clone().requires_grad_() for t in state.weights.tensors())
    pre_BF = x_BD @ W_enc.T + b_enc
    keep = pre_BF.topk(K, dim=1) if activation == "topk" else pre_BF.flatten().topk(64 * K)
    codes_BF = pre_BF * (pre_BF >= (keep.values[:, -1:] if activation == "topk" else keep.values[-1]))
    error_BD = codes_BF @ W_dec + b_dec - x_BD
    best = pre_BF[:, 40:60].relu().topk(K, dim=1)
    dead_BR = torch.zeros(64, 20).scatter(1, best.indices, best.values)
    missing = (dead_BR @ W_dec[40:60] + error_BD.detach()).square().sum() / error_BD.detach().square().sum()
    loss = error_BD.square().mean() + missing / 32
    loss.backward()
    values = state.step(x_BD)
    assert float(values["loss"]) == pytest.approx(float(loss.detach()), rel=1e-4)
    want_dec = W_dec.grad - (W_dec.grad * W_dec).sum(1, keepdim=True) * W_dec
    for got, want in zip(state.weights.tensors(), (W_enc.grad, b_enc.grad, want_dec, b_dec.grad), strict=True):
        assert got.grad is not None and torch.allclose(got.grad, want, atol=1e-5), (got.grad - want).abs().max()


def test_decoder_rows_stay_of_length_one_and_steps_lower_the_loss() -> None:
    state = trainer(rate=3e-3)
    x_BD = torch.randn(64, D, generator=torch.Generator().manual_seed(0))
    losses = [float(state.step(x_BD)["loss"]) for _ in range(30)]
    assert torch.allclose(state.weights.W_dec_FD.norm(dim=1), torch.ones(F), atol=1e-5)
    assert losses[-1] < 0.5 * losses[0]


def test_rows_that_do_not_vary_have_no_share_unexplained() -> None:
    assert trainer().unexplained(torch.ones(8, D)) is None


def test_clipping_bounds_the_gradient() -> None:
    state = trainer(clip=1e-3)
    state.step(torch.randn(64, D))
    norm = torch.cat([t.grad.flatten() for t in state.weights.tensors() if t.grad is not None]).norm()
    assert float(norm) <= 1.01e-3


def test_the_schedule_rises_stays_and_falls_to_zero() -> None:
    factors = [schedule(i, 100, 0.1, 0.2) for i in range(101)]
    assert factors[0] == pytest.approx(0.1) and factors[10] == factors[79] == 1.0 and factors[90] == pytest.approx(0.5)
    assert factors[100] == 0.0


def test_folded_weights_do_on_raw_rows_what_training_does_on_normalised_ones() -> None:
    state = trainer(activation="topk")
    x_ND = 7 * torch.randn(300, D) + 20
    normaliser = Normaliser.of(x_ND)
    assert float(normaliser(x_ND).square().mean()) == pytest.approx(1.0, rel=1e-4)
    codes, want_ND = state.forward(normaliser(x_ND))
    tensors = fold(state.weights, normaliser)
    pre_NF = x_ND @ tensors["W_enc"] + tensors["b_enc"]
    best = pre_NF.topk(K, dim=1)
    codes_NF = torch.zeros_like(pre_NF).scatter(1, best.indices, best.values.relu())
    assert torch.allclose(
        codes_NF.sum(1), torch.zeros(300).index_add(0, codes.tokens_N, codes.values_N / normaliser.scale), atol=1e-2
    )
    got_ND = codes_NF @ tensors["W_dec"] + tensors["b_dec"]
    assert torch.allclose(normaliser(got_ND), want_ND, atol=1e-3)


def test_geometric_median_hardly_minds_outliers() -> None:
    x_ND = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    x_ND[:50] += 1000
    assert float(geometric_median(x_ND).norm()) < 0.2 < 10 < float(x_ND.mean(0).norm())


@pytest.mark.parametrize(
    "given", [{"activation": "softmax"}, {"k": 0}, {"features": 2, "k": 8}, {"tokens": 10, "batch": 64}]
)
def test_settings_that_cannot_be_are_refused_in_one_line(given: dict[str, object]) -> None:
    with pytest.raises(UserError) as caught:
        LearnConfig(**given)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value) and "expected" in str(caught.value)
