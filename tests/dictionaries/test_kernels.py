"""The sparse kernels against dense arithmetic done the plain way."""

import pytest
import torch

from glasshouse.dictionaries.kernels import (
    Activation,
    ByFeature,
    Codes,
    Encoder,
    batch_topk,
    batch_topk_by_selection,
    decode,
    gather_dot,
    group_size,
    sum_by_feature,
    topk,
)

B, D, F, K = 96, 16, 512, 8


@pytest.fixture(params=[torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
def encoded(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    x_BD, W_FD = torch.randn(B, D, generator=draw), torch.randn(F, D, generator=draw)
    b_F = 0.1 * torch.randn(F, generator=draw)
    pre_BF, maxima_BG = Encoder(F, K)(x_BD, W_FD.to(request.param), b_F.to(request.param))
    assert torch.allclose(pre_BF.float(), x_BD @ W_FD.T + b_F, atol=0.2 if request.param == torch.bfloat16 else 1e-4)
    return pre_BF, maxima_BG


def dense(codes: Codes) -> torch.Tensor:
    return torch.zeros(B, F).index_put((codes.tokens_N, codes.features_N), codes.values_N)


def test_topk_equals_the_dense_one(encoded: tuple[torch.Tensor, torch.Tensor]) -> None:
    codes = topk(*encoded, K)
    found = codes.values_N.view(B, K).sort(dim=1, descending=True).values
    assert torch.equal(found, encoded[0].float().topk(K, dim=1).values)
    assert torch.equal(encoded[0].float()[codes.tokens_N, codes.features_N], codes.values_N)


def test_batch_topk_equals_sorting_the_whole_batch(encoded: tuple[torch.Tensor, torch.Tensor]) -> None:
    codes = batch_topk(*encoded, K)
    best = encoded[0].float().relu().flatten().topk(B * K).values
    assert torch.equal(codes.values_N.sort(descending=True).values, best)
    assert torch.equal(encoded[0].float()[codes.tokens_N, codes.features_N], codes.values_N)
    assert bool((codes.tokens_N.diff() >= 0).all()), "tokens ascend"
    assert torch.equal(codes.starts_B1.diff(), torch.bincount(codes.tokens_N, minlength=B))


def test_batch_topk_by_selections_of_a_fixed_size(encoded: tuple[torch.Tensor, torch.Tensor]) -> None:
    pre_BF, maxima_BG = encoded
    codes, want = batch_topk_by_selection(pre_BF, maxima_BG.view(pre_BF.dtype), K), batch_topk(pre_BF, maxima_BG, K)
    assert torch.equal(codes.values_N.sort().values, want.values_N.sort().values), "of equal ones any"
    assert torch.equal(pre_BF.float()[codes.tokens_N, codes.features_N], codes.values_N)
    assert bool((codes.tokens_N.diff() >= 0).all()), "tokens ascend"
    assert len(torch.unique(codes.tokens_N * F + codes.features_N)) == B * K, "each pair once"
    assert torch.equal(codes.starts_B1.diff(), torch.bincount(codes.tokens_N, minlength=B))


def test_batch_topk_keeps_no_more_than_are_positive() -> None:
    pre_BF = torch.full((4, 64), -1.0)
    pre_BF[1, 5] = pre_BF[3, 60] = 2.0
    for keys in (pre_BF, pre_BF.bfloat16().view(torch.int16)):
        codes = batch_topk(pre_BF if keys is pre_BF else pre_BF.bfloat16(), keys, 2)
        assert codes.tokens_N.tolist() == [1, 3] and codes.features_N.tolist() == [5, 60]


def test_batch_topk_breaks_ties_from_the_first_token_on() -> None:
    pre_BF = torch.ones(4, 64).bfloat16()
    codes = batch_topk(pre_BF, pre_BF.view(torch.int16), 3)
    assert len(codes.values_N) == 12 and codes.tokens_N.tolist() == [0] * 12


def test_sparse_products(encoded: tuple[torch.Tensor, torch.Tensor]) -> None:
    draw = torch.Generator().manual_seed(1)
    W_FD, y_BD = torch.randn(F, D, generator=draw), torch.randn(B, D, generator=draw)
    codes = batch_topk(*encoded, K)
    assert torch.allclose(decode(codes, W_FD), dense(codes) @ W_FD, atol=1e-3)
    products = (W_FD[codes.features_N] * y_BD[codes.tokens_N]).sum(1)
    assert torch.allclose(gather_dot(codes, W_FD, y_BD), products, atol=1e-4)
    pairs = ByFeature.of(codes, F)
    assert torch.allclose(pairs.scatter_rows(codes.values_N, y_BD), dense(codes).T @ y_BD, atol=1e-3)
    assert torch.allclose(sum_by_feature(codes, codes.values_N, F), dense(codes).sum(0), atol=1e-3)


@pytest.mark.parametrize(
    ("features", "k", "size"), [(8192, 32, 32), (512, 8, 16), (100, 4, 4), (99, 4, 1), (64, 32, 1)]
)
def test_group_size_divides_and_leaves_enough_groups(features: int, k: int, size: int) -> None:
    assert group_size(features, k) == size


@pytest.mark.gpu
@pytest.mark.parametrize("activation", [topk, batch_topk])
def test_kernels_on_cuda(activation: Activation) -> None:
    draw = torch.Generator().manual_seed(0)
    x_BD, W_FD, b_F = torch.randn(B, D, generator=draw), torch.randn(F, D, generator=draw), torch.zeros(F)
    made = []
    for device in ("cpu", "cuda"):
        x, W, b = (tensor.to(device) for tensor in (x_BD, W_FD, b_F))
        codes = activation(*Encoder(F, K)(x, W, b), K)
        pairs = ByFeature.of(codes, F)
        made.append(
            (
                decode(codes, W),
                torch.zeros(B, F, device=device).index_put((codes.tokens_N, codes.features_N), gather_dot(codes, W, x)),
                pairs.scatter_rows(codes.values_N, x),
                sum_by_feature(codes, codes.values_N, F),
            )
        )
    for want, got in zip(*made, strict=True):
        torch.testing.assert_close(got.cpu(), want, atol=1e-3, rtol=1e-3)
