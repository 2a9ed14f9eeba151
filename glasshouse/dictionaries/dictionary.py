"""A dictionary: the activations at one site of a model, to sparse codes and back.

    d = gh.dictionary("resid6")
    codes = d.encode(x)                  # (N, D) raw activations -> (N, F) codes, mostly zero
    x_hat = d.decode(codes)              # (N, D); x - x_hat is the dictionary's error

Legend: N rows (tokens), D width of the site, F features, K pairs kept of a row.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from glasshouse.types import Site, UserError

ENCODE_ROWS = 2048  # rows encoded at once, which bounds the memory of dense pre-activations


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Which pre-activations become codes. Values above are kept unchanged, the others are 0.

    `relu`: > 0. `jumprelu`: > threshold of the feature (and > 0). `topk`: the k largest of the row that are > 0.
    """

    kind: Literal["relu", "jumprelu", "topk"]
    k: int | None = None
    threshold_F: Tensor | None = None

    def __call__(self, pre_NF: Tensor) -> Tensor:
        if self.kind == "relu":
            return pre_NF.relu()
        if self.kind == "jumprelu":
            assert self.threshold_F is not None
            return pre_NF * ((pre_NF > self.threshold_F) & (pre_NF > 0))
        assert self.k is not None
        best = pre_NF.topk(min(self.k, pre_NF.shape[1]), dim=-1, sorted=False)
        return torch.zeros_like(pre_NF).scatter_(-1, best.indices, best.values.relu())


@dataclass(kw_only=True)
class Dictionary:
    """A trained dictionary. `encode` takes raw activations: centring and scale are folded into the weights.

    `W_enc` (D, F), `b_enc` (F,), `W_dec` (F, D), `b_dec` (D,), float32. Codes are in the units of the activations:
    `decode(codes) = codes @ W_dec + b_dec`; ours have decoder rows of length 1.
    `max_activation` (F,) is each feature's largest code over the rows stated in the report; None for an imported
    dictionary that came without, until it is measured (`with_statistics`). `typical_norm` is the median norm of the
    site's activations; None likewise.
    """

    name: str
    site: Site
    model_name: str | None
    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    activation: Threshold
    max_activation: Tensor | None = None
    typical_norm: float | None = None
    report: dict[str, Any] = field(default_factory=dict)
    origin: str = "glasshouse"

    def __post_init__(self) -> None:
        D, F = self.W_enc.shape
        assert self.W_dec.shape == (F, D) and self.b_enc.shape == (F,) and self.b_dec.shape == (D,), self

    @property
    def width(self) -> int:
        """D, the width of the site."""
        return self.W_enc.shape[0]

    @property
    def n_features(self) -> int:
        """F."""
        return self.W_enc.shape[1]

    @property
    def hash(self) -> str:
        """Of what it computes: SHA-256 of its weights and activation function."""
        digest = hashlib.sha256(f"{self.activation.kind} {self.activation.k}".encode())
        for tensor in (self.W_enc, self.b_enc, self.W_dec, self.b_dec, self.activation.threshold_F):
            if tensor is not None:
                digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def device(self) -> torch.device:
        return self.W_enc.device

    def __repr__(self) -> str:
        kind = self.activation.kind + (f" k={self.activation.k}" if self.activation.kind == "topk" else "")
        return (
            f"Dictionary({self.name}: {self.n_features} features of {self.model_name or '?'} {self.site}, "
            f"width {self.width}, {kind})"
        )

    def pre_activations(self, x_ND: Tensor) -> Tensor:
        """x @ W_enc + b_enc in float32, before the activation function: (…, F)."""
        self.check_width(x_ND.shape[-1])
        return x_ND.to(self.device, torch.float32) @ self.W_enc + self.b_enc

    def encode(self, x_ND: Tensor) -> Tensor:
        """Codes of raw activations, dense and float32: (…, D) -> (…, F). Raises `UserError` for another width."""
        return self.activation(self.pre_activations(x_ND))

    def encode_sparse(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """(values_NK, indices_NK): the active codes of each row, largest first, padded with value 0 at index 0.

        K is the largest number of active features in a row (at least 1). Rows are encoded in chunks, so that memory
        stays bounded by `ENCODE_ROWS` × F floats.
        """
        parts = [self._sparse_chunk(chunk) for chunk in x_ND.split(ENCODE_ROWS)]
        width = max([part[0].shape[1] for part in parts], default=1)
        values = [torch.nn.functional.pad(part[0], (0, width - part[0].shape[1])) for part in parts]
        indices = [torch.nn.functional.pad(part[1], (0, width - part[1].shape[1])) for part in parts]
        if not parts:
            return torch.zeros(0, 1), torch.zeros(0, 1, dtype=torch.int64)
        return torch.cat(values), torch.cat(indices)

    def _sparse_chunk(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        pre_NF = self.pre_activations(x_ND)
        if self.activation.kind == "topk":
            assert self.activation.k is not None
            best = pre_NF.topk(min(self.activation.k, self.n_features), dim=1)
            values_NK = best.values.relu()
            return values_NK, best.indices * (values_NK > 0)
        active_NF = pre_NF > 0
        if self.activation.threshold_F is not None:
            active_NF &= pre_NF > self.activation.threshold_F
        rows, features = active_NF.nonzero(as_tuple=True)
        counts_N = torch.bincount(rows, minlength=len(x_ND))
        width = max(1, int(counts_N.max()) if len(counts_N) else 1)
        slots = torch.arange(len(rows), device=rows.device) - (counts_N.cumsum(0) - counts_N)[rows]
        values_NK = pre_NF.new_zeros(len(x_ND), width)
        indices_NK = torch.zeros(len(x_ND), width, dtype=torch.int64, device=rows.device)
        values_NK[rows, slots] = pre_NF[rows, features]
        indices_NK[rows, slots] = features
        values_NK, order_NK = values_NK.sort(dim=1, descending=True, stable=True)
        return values_NK, indices_NK.gather(1, order_NK)

    def decode(self, codes_NF: Tensor) -> Tensor:
        """codes @ W_dec + b_dec: (…, F) -> (…, D)."""
        return codes_NF @ self.W_dec + self.b_dec

    def error(self, x_ND: Tensor) -> Tensor:
        """What the dictionary leaves unexplained: x - decode(encode(x))."""
        return x_ND.to(self.device, torch.float32) - self.decode(self.encode(x_ND))

    def to(self, device: str | torch.device) -> Dictionary:
        """The same dictionary with its tensors on another device."""

        def move(tensor: Tensor | None) -> Any:
            return None if tensor is None else tensor.to(device)

        return replace(
            self,
            W_enc=move(self.W_enc),
            b_enc=move(self.b_enc),
            W_dec=move(self.W_dec),
            b_dec=move(self.b_dec),
            max_activation=move(self.max_activation),
            activation=replace(self.activation, threshold_F=move(self.activation.threshold_F)),
        )

    def with_statistics(self, max_activation: Tensor, typical_norm: float) -> Dictionary:
        """A copy that knows its features' largest activations (F,) and the site's typical norm."""
        assert max_activation.shape == (self.n_features,), max_activation.shape
        return replace(self, max_activation=max_activation, typical_norm=float(typical_norm))

    def check_width(self, width: int) -> None:
        if width != self.width:
            raise UserError(
                f"dictionary {self.name} expects activations of width {self.width}, got {width}; "
                f"choose a site of width {self.width}, or train a dictionary at that one"
            )
