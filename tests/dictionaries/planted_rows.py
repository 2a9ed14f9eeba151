"""A source with known insides: sparse sums of planted directions, the same rows for the same seed and index."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor


class Planted:
    """`count` unit directions in `width` dimensions, `active` of them on in a row, around a centre that is not 0."""

    name = "planted"
    hash: str | None = None

    def __init__(self, *, width: int = 32, count: int = 64, active: int = 4, rows: int = 65_536, seed: int = 0) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.directions_FD = torch.nn.functional.normalize(torch.randn(count, width, generator=draw), dim=1)
        self.centre_D = 3 * torch.randn(width, generator=draw)
        self.rows, self.active, self._width, self._seed = rows, active, width, seed

    def width(self, site: str) -> int:
        return self._width

    def batches(
        self, site: str, batch_rows: int, *, start_row: int = 0, seed: int = 0, held_out: bool = False
    ) -> Iterator[Tensor]:
        for start in range(start_row, 4096, batch_rows) if held_out else itertools.count(start_row, batch_rows):
            draw = torch.Generator().manual_seed(hash((self._seed, seed, start, held_out)) % (1 << 62))
            on = torch.rand(batch_rows, len(self.directions_FD), generator=draw).topk(self.active, dim=1).indices
            values = 5 * (0.5 + torch.rand(batch_rows, self.active, generator=draw))
            codes = torch.zeros(batch_rows, len(self.directions_FD)).scatter_(1, on, values)
            yield codes @ self.directions_FD + self.centre_D
