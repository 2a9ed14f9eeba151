"""The few operations that a training step of a sparse dictionary is made of, fast on a CPU and right on CUDA.

Everything is dense where a dense product is cheapest (the encoder) and sparse everywhere else. The sparse operations
are `embedding_bag` in four roles, because it is the one sparse kernel of torch that is vectorised, threaded over
bags and sums each bag in order, so that its result does not depend on how threads were scheduled:

    decode            bag = token,    rows = decoder,   weights = codes
    gather_dot        its gradient with respect to the weights: <row of W, row of y> for each (token, feature) pair
    scatter_rows      bag = feature,  rows = tokens,    weights = codes or their gradients (the weights' gradients)

Legend of shape suffixes: B tokens of a batch, D width, F features, G groups of features, N pairs (token, feature).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

# A chunk of pre-activations of this many bytes stays in the second-level cache between the product that writes it and
# the maximum that reads it (a chunk of the whole batch made the maximum ten times slower on two Zen 4 cores).
CHUNK_BYTES = 2 << 20


@dataclass(frozen=True)
class Codes:
    """Sparse codes of a batch as pairs (token, feature), tokens ascending. Every feature of a pair is ≥ 0.

    `starts_B1[b]:starts_B1[b + 1]` are the pairs of token b (a last entry closes the last token).
    """

    starts_B1: Tensor
    tokens_N: Tensor
    features_N: Tensor
    values_N: Tensor

    def with_values(self, values_N: Tensor) -> Codes:
        return Codes(self.starts_B1, self.tokens_N, self.features_N, values_N)


def group_size(features: int, k: int) -> int:
    """Features per group: a power of two that divides `features`, at most 32, leaving at least 4 × k groups."""
    size = 1
    while size < 32 and features % (2 * size) == 0 and features // (2 * size) >= 4 * k:
        size *= 2
    return size


class Encoder:
    """Pre-activations of a batch and, while they are still in the cache, the largest of every group of features.

    Group g holds the features g, g + G, g + 2G, …, so that the maxima are taken between contiguous rows. Buffers are
    kept between calls: fresh ones would be mapped and faulted in anew on every step.
    """

    def __init__(self, features: int, k: int) -> None:
        self.features, self.size = features, group_size(features, k)
        self._pre_BF = torch.empty(0, features)

    def __call__(self, x_BD: Tensor, W_FD: Tensor, b_F: Tensor) -> tuple[Tensor, Tensor]:
        """(pre_BF, maxima_BG) in the dtype of `W_FD`. Maxima of groups without a positive member are unordered.

        On a CPU bf16 is compared as 16-bit integers, one instruction for 32 of them; that order is right from 0
        upwards, and codes are never below 0.
        """
        if self._pre_BF.shape[0] != len(x_BD) or self._pre_BF.dtype != W_FD.dtype or self._pre_BF.device != W_FD.device:
            self._pre_BF = torch.empty(len(x_BD), self.features, dtype=W_FD.dtype, device=W_FD.device)
            self._max_BG = torch.empty(
                len(x_BD), self.features // self.size, dtype=_order_dtype(W_FD), device=W_FD.device
            )
        x_BD, W_DF = x_BD.to(W_FD.dtype), W_FD.t()
        chunk = max(64, CHUNK_BYTES // (self.features * W_FD.element_size()))
        if W_FD.is_cuda:
            torch.addmm(b_F, x_BD, W_DF, out=self._pre_BF)
            torch.amax(self._pre_BF.view(len(x_BD), self.size, -1), dim=1, out=self._max_BG)
            return self._pre_BF, self._max_BG
        for start in range(0, len(x_BD), chunk):
            rows = slice(start, start + chunk)
            torch.addmm(b_F, x_BD[rows], W_DF, out=self._pre_BF[rows])
            _group_maxima(self._pre_BF[rows].view(self._max_BG.dtype), self.size, self._max_BG[rows])
        return self._pre_BF, self._max_BG


def _order_dtype(W_FD: Tensor) -> torch.dtype:
    return torch.int16 if W_FD.dtype == torch.bfloat16 and not W_FD.is_cuda else W_FD.dtype


def _group_maxima(keys_BF: Tensor, size: int, out_BG: Tensor) -> None:
    while size > 2:
        half = keys_BF.shape[1] // 2
        keys_BF, size = torch.maximum(keys_BF[:, :half], keys_BF[:, half:]), size // 2
    if size == 2:
        half = keys_BF.shape[1] // 2
        torch.maximum(keys_BF[:, :half], keys_BF[:, half:], out=out_BG)
    else:
        out_BG.copy_(keys_BF)


# -- activation functions --------------------------------------------------------------------------------------------

Activation = Callable[[Tensor, Tensor, int], Codes]
"""(pre_BF, maxima_BG, k) -> Codes: which pairs are active, with their pre-activations as values."""


def topk(pre_BF: Tensor, maxima_BG: Tensor, k: int) -> Codes:
    """The k largest of each token (Gao et al. 2024, arXiv 2406.04093).

    They lie in the k groups with the largest maxima: of any other group the largest member is beaten by k others.
    Exact up to ties.
    """
    B, G = maxima_BG.shape
    size = pre_BF.shape[1] // G
    k = min(k, pre_BF.shape[1])
    groups_Bk = maxima_BG.view(pre_BF.dtype).float().topk(k, dim=1, sorted=False).indices
    offsets = torch.arange(0, size * G, G, device=pre_BF.device)
    members_BC = (groups_Bk[:, :, None] + offsets).view(B, -1)
    best = pre_BF.gather(1, members_BC).float().topk(k, dim=1, sorted=False)
    tokens_N = torch.arange(B, device=pre_BF.device).repeat_interleave(k)
    starts_B1 = torch.arange(0, B * k + 1, k, device=pre_BF.device)
    return Codes(starts_B1, tokens_N, members_BC.gather(1, best.indices).view(-1), best.values.view(-1))


def batch_topk(pre_BF: Tensor, maxima_BG: Tensor, k: int) -> Codes:
    """The B × k largest positive ones of the whole batch (Bussmann, Leask, Nanda 2024, arXiv 2412.06410).

    The (B × k)-th largest group maximum is a lower bound of the threshold, since that many members reach it. Only
    groups that reach the bound are looked into; the exact threshold is found among their members above it. Ties at
    the threshold are kept from the first tokens on. On CUDA it is `batch_topk_by_selection`.
    """
    if pre_BF.is_cuda:
        return batch_topk_by_selection(pre_BF, maxima_BG, k)
    B, G = maxima_BG.shape
    F = pre_BF.shape[1]
    wanted, keys_BF = B * min(k, F), pre_BF.view(maxima_BG.dtype)
    bound = _kth_largest(maxima_BG, wanted)
    groups_C = (maxima_BG >= bound).view(-1).nonzero().view(-1)
    tokens_C, offsets = groups_C // G, torch.arange(0, F, G, device=pre_BF.device)
    members_CS = (tokens_C * F + groups_C % G)[:, None] + offsets
    keys_CS = keys_BF.view(-1)[members_CS]
    kept = (keys_CS >= bound).view(-1).nonzero().view(-1)
    keys_N, members_N = keys_CS.view(-1)[kept], members_CS.view(-1)[kept]
    if len(keys_N) > wanted:
        threshold = _kth_largest(keys_N, wanted)
        above, ties = keys_N > threshold, keys_N == threshold
        ties &= ties.cumsum(0) <= wanted - above.sum()
        kept = (above | ties).nonzero().view(-1)
        keys_N, members_N = keys_N[kept], members_N[kept]
    tokens_N = members_N // F
    starts_B1 = torch.searchsorted(tokens_N, torch.arange(B + 1, device=tokens_N.device))
    return Codes(starts_B1, tokens_N, members_N - tokens_N * F, keys_N.view(pre_BF.dtype).float())


def batch_topk_by_selection(pre_BF: Tensor, maxima_BG: Tensor, k: int) -> Codes:
    """The same by two selections of a fixed size, for a device that would have to stop to say how many there are.

    The B × k largest lie in the B × k groups with the largest maxima. Where fewer are positive the others fill up.
    """
    B, G = maxima_BG.shape
    F = pre_BF.shape[1]
    wanted = B * min(k, F)
    groups_C = maxima_BG.view(-1).topk(min(wanted, B * G), sorted=False).indices
    offsets = torch.arange(0, F, G, device=pre_BF.device)
    members_M = ((groups_C // G * F + groups_C % G)[:, None] + offsets).view(-1)
    best_N = pre_BF.view(-1)[members_M].topk(wanted, sorted=False).indices
    members_N = members_M[best_N].sort().values
    tokens_N = members_N // F
    starts_B1 = torch.searchsorted(tokens_N, torch.arange(B + 1, device=pre_BF.device))
    return Codes(starts_B1, tokens_N, members_N - tokens_N * F, pre_BF.view(-1)[members_N].float())


def _kth_largest(keys: Tensor, k: int) -> Tensor:
    """The k-th largest key, but never below the smallest positive one.

    16-bit keys are counted (32,768 bins hold every positive bf16), others selected.
    """
    keys = keys.reshape(-1)
    if keys.dtype == torch.int16:
        counts = torch.bincount(keys.clamp(min=0).int(), minlength=1 << 15)
        at_least = counts.flip(0).cumsum(0).flip(0)
        return ((at_least >= k).sum() - 1).clamp(min=1).to(torch.int16)
    smallest = torch.tensor(torch.finfo(keys.dtype).tiny, device=keys.device, dtype=keys.dtype)
    if k > len(keys):
        return smallest
    return torch.maximum(keys.kthvalue(len(keys) - k + 1).values, smallest)


ACTIVATIONS: dict[str, Activation] = {"topk": topk, "batchtopk": batch_topk}


# -- sparse products -------------------------------------------------------------------------------------------------


def decode(codes: Codes, W_FD: Tensor) -> Tensor:
    """Σ over a token's pairs of value × W[feature]: (B, D)."""
    return embedding_bag(
        codes.features_N,
        W_FD,
        codes.starts_B1,
        mode="sum",
        per_sample_weights=codes.values_N,
        include_last_offset=True,
    )


def gather_dot(codes: Codes, W_FD: Tensor, y_BD: Tensor) -> Tensor:
    """<W[feature], y[token]> for each pair, (N,), without the dense product that a gather would read.

    It is the gradient of `decode` with respect to the codes, and is asked of autograd as that.
    """
    with torch.enable_grad():
        values_N = torch.zeros_like(codes.values_N, requires_grad=True)
        out_BD = decode(codes.with_values(values_N), W_FD)
        return torch.autograd.grad(out_BD, values_N, y_BD)[0]


@dataclass(frozen=True)
class ByFeature:
    """The pairs of a batch in order of features (stable, so tokens ascend within a feature)."""

    starts_F1: Tensor
    order_N: Tensor
    tokens_N: Tensor

    @classmethod
    def of(cls, codes: Codes, features: int) -> ByFeature:
        if codes.features_N.is_cuda:  # where counting would wait for the largest
            sorted_N, order_N = torch.sort(codes.features_N, stable=True)
            starts_F1 = torch.searchsorted(sorted_N, torch.arange(features + 1, device=sorted_N.device))
            return cls(starts_F1, order_N, codes.tokens_N[order_N])
        keys_N = codes.features_N.to(torch.int16) if features <= 1 << 15 else codes.features_N
        order_N = torch.sort(keys_N, stable=True).indices
        counts_F = torch.bincount(codes.features_N, minlength=features)
        starts_F1 = torch.zeros(features + 1, dtype=torch.int64)
        torch.cumsum(counts_F, 0, out=starts_F1[1:])
        return cls(starts_F1, order_N, codes.tokens_N[order_N])

    def scatter_rows(self, weights_N: Tensor, y_BD: Tensor) -> Tensor:
        """Σ over a feature's pairs of weight × y[token]: (F, D)."""
        return embedding_bag(
            self.tokens_N,
            y_BD,
            self.starts_F1,
            mode="sum",
            per_sample_weights=weights_N[self.order_N],
            include_last_offset=True,
        )


def sum_by_feature(codes: Codes, weights_N: Tensor, features: int) -> Tensor:
    """Σ over a feature's pairs of the weights: (F,) float32."""
    if weights_N.is_cuda:
        return weights_N.new_zeros(features).index_add_(0, codes.features_N, weights_N)
    return torch.bincount(codes.features_N, weights=weights_N, minlength=features).float()
