"""A dictionary small enough to check by hand: ReLU codes, linear decoding."""

from __future__ import annotations

import torch
from torch import Tensor


class Sae:
    def __init__(self, name: str, site: str, width: int, n_features: int = 24, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.name, self.site, self.width, self.n_features = name, site, width, n_features
        self.W_dec = torch.randn(n_features, width, generator=generator)
        self.W_dec /= self.W_dec.norm(dim=-1, keepdim=True)
        self.b_dec = 0.1 * torch.randn(width, generator=generator)
        self.max_activation: Tensor | None = torch.linspace(1, 2, n_features)
        self.typical_norm: float | None = 3.0

    def encode(self, x_ND: Tensor) -> Tensor:
        return torch.relu((x_ND - self.b_dec) @ self.W_dec.T)

    def decode(self, codes_NF: Tensor) -> Tensor:
        return codes_NF @ self.W_dec + self.b_dec

    def to(self, device: str | torch.device) -> Sae:
        self.W_dec, self.b_dec = self.W_dec.to(device), self.b_dec.to(device)
        return self
