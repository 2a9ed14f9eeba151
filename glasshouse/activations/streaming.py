"""Activations as they are computed, with nothing on disk: the same `batches` as a store.

Legend: N rows, D width of a site.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from glasshouse.activations.harvesting import HarvestConfig, buffer_rows_for
from glasshouse.activations.pooling import Pool, fill_pool, median_norms, rebatch, site_widths
from glasshouse.activations.reading import HELD_OUT, Reading, pools, split_reading
from glasshouse.text import Corpus
from glasshouse.types import Site, UserError
from glasshouse.workspace.files import hash_json

STREAM_ROWS = 1 << 16  # a pool must be full before its first row comes: smaller than a store's, whose reader waits once


class Stream:
    """Rows of one or more sites, computed when asked for. Has a store's `batches`, `rows`, `width`, `mean`,
    `typical_norm`, `outlier_threshold`, `reading` and `windows`. `hash`: of model, text and settings.

    So that row i is the same whatever was read before it, the number of rows is fixed by the windows alone: the place
    of a row left out for its norm is taken by a copy of another row of its pool. Asking for two sites at once costs
    two passes; a store costs one.
    """

    def __init__(self, model: Any, corpus: Corpus, config: HarvestConfig) -> None:
        self.model, self.config = model, config
        self.name, self.model_name = f"{model.name}-stream", model.name
        self.hash = hash_json({**asdict(config), "model_version": model.version, "corpus": corpus.hash})
        self._widths = site_widths(model, config.sites)
        self.sites = tuple(self._widths)
        self._sides = split_reading(
            corpus, model, tokens=config.tokens, context=config.context, seed=config.seed, held_out=config.held_out
        )
        medians = median_norms(
            model, self._sides[0], self.sites, skip_bos=config.skip_bos, batch_tokens=config.batch_tokens
        )
        self._thresholds = {site: config.outlier * median for site, median in medians.items()}
        self._statistics: dict[str, tuple[torch.Tensor, float]] = {}
        self.rows, self.held_out_rows = (int(side.rows(config.skip_bos).sum()) for side in self._sides)

    def __repr__(self) -> str:
        return f"<Stream of {self.model_name}: {self.rows:,} rows an epoch, at {', '.join(self.sites)}>"

    def site(self, text: str | Site) -> str:
        name = str(text if isinstance(text, Site) else Site.parse(text))
        if name not in self.sites:
            raise UserError(f"expected one of {', '.join(self.sites)} in this stream, got {name}; name it when opening")
        return name

    def width(self, site: str | Site) -> int:
        return self._widths[self.site(site)]

    def typical_norm(self, site: str | Site) -> float:
        """Median norm of a first sample of rows (64 windows or more)."""
        return self._sampled(self.site(site))[1]

    def outlier_threshold(self, site: str | Site) -> float:
        """The norm above which a position is left out."""
        return self._thresholds[self.site(site)]

    def mean(self, site: str | Site) -> torch.Tensor:
        """Mean of a first sample of rows, float32 (D,)."""
        return self._sampled(self.site(site))[0]

    def _sampled(self, site: str) -> tuple[torch.Tensor, float]:
        if site not in self._statistics:
            enough = np.arange(min(len(self._sides[0]), max(64, (1 << 15) // self.config.context)))
            pool = self._pool(site, self._sides[0], enough, [self.config.seed, 0])
            rows_ND = pool.rows[site][pool.order_N].float()
            self._statistics[site] = rows_ND.mean(0), float(rows_ND.norm(dim=1).median())
        return self._statistics[site]

    def _pool(self, site: str, reading: Reading, windows_W: np.ndarray, seed: Sequence[int]) -> Pool:
        return fill_pool(
            self.model, reading, windows_W, {site: self._widths[site]},
            thresholds=self._thresholds, batch_tokens=self.config.batch_tokens, skip_bos=self.config.skip_bos,
            seed=seed, refill=True,
        ).result()  # fmt: skip

    def batches(
        self,
        site: str | Site,
        batch_rows: int,
        *,
        start_row: int = 0,
        seed: int = 0,
        held_out: bool = False,
        epochs: int | None = None,
    ) -> Iterator[torch.Tensor]:
        """As `Store.batches`: bf16 (`batch_rows`, D), endless for training rows, the same rows from any `start_row`.

        Each epoch reads the windows in another order, drawn from `seed` and its number.
        """
        name = self.site(site)
        assert batch_rows > 0 and start_row >= 0, (batch_rows, start_row)
        epochs = 1 if held_out else epochs
        yield from rebatch(self._pieces(name, batch_rows, start_row, seed, held_out, epochs), batch_rows)

    def _pieces(
        self, site: str, batch_rows: int, start_row: int, seed: int, held_out: bool, epochs: int | None
    ) -> Iterator[torch.Tensor]:
        """The rows from `start_row` on; pools before the one that holds it are not computed."""
        side, skip_bos = self._sides[held_out], self.config.skip_bos
        epoch, skip = divmod(start_row, int(side.rows(skip_bos).sum()))
        while epochs is None or epoch < epochs:
            order = np.random.default_rng([seed, epoch]).permutation(len(side))
            reading = side.take(order)
            rows_W = reading.rows(skip_bos)
            for index, windows_W in enumerate(pools(reading, self.config.buffer_rows, skip_bos=skip_bos)):
                rows = int(rows_W[windows_W].sum())
                if skip >= rows:
                    skip -= rows
                    continue
                pool = self._pool(site, reading, windows_W, [seed, 1 + held_out, epoch, index])
                yield from pool.pieces(site, batch_rows, start=skip)
                skip = 0
            epoch += 1

    def reading(self, held_out: bool = False) -> Reading:
        """The windows of one side."""
        return self._sides[held_out]

    def windows(self, held_out: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """(ids_WT int64, mask_WT bool) of one side."""
        return self._sides[held_out].tensors()


def stream(
    model: Any,
    corpus: Corpus,
    sites: str | Sequence[str],
    *,
    tokens: int,
    context: int = 256,
    batch_tokens: int = 8192,
    buffer_rows: int | None = None,
    seed: int = 0,
    skip_bos: bool = True,
    outlier: float = 10.0,
    held_out: float = HELD_OUT,
) -> Stream:
    """A live stream of the activations at `sites`; settings and errors as in `harvest`. Nothing is written.

    `tokens` bounds the text that one epoch reads. Pools are of 65,536 rows at most unless told otherwise.
    """
    widths = site_widths(model, [sites] if isinstance(sites, str) else sites)
    config = HarvestConfig(
        sites=tuple(widths), tokens=tokens, context=context, batch_tokens=batch_tokens,
        buffer_rows=min(STREAM_ROWS, buffer_rows_for(widths)) if buffer_rows is None else buffer_rows,
        seed=seed, skip_bos=skip_bos, outlier=outlier, held_out=held_out,
    )  # fmt: skip
    return Stream(model, corpus, config)
