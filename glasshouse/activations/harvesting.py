"""Harvest: tokens through a model, the activations at many sites onto disk, shuffled across documents.

glasshouse harvest MODEL --site resid.3 --corpus notes/ --tokens 2e6       # also on a laptop, also a tiny model
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glasshouse.activations.pooling import Pool, fill_pool, later_for, median_norms, site_widths
from glasshouse.activations.reading import (
    HELD_OUT,
    MAX_HELD_OUT_TOKENS,
    Reading,
    check_context,
    load_readings,
    pools,
    save_readings,
    split_reading,
)
from glasshouse.activations.storage import Store, keep_shard, shard_name, store, summary, write_shard
from glasshouse.text import Corpus
from glasshouse.text.windows import WINDOWS
from glasshouse.types import UserError
from glasshouse.workspace import Draft, Expectation, Progress, Workspace

BUFFER_ROWS = 1 << 18
BUFFER_BYTES = 512 << 20


@dataclass(frozen=True, kw_only=True)
class HarvestConfig:
    """How activations are harvested.

    sites: names of sites; row i of each is the same token
    tokens: positions of training text to read
    context: positions of a window, BOS included
    batch_tokens: positions of one forward pass, padding included
    buffer_rows: rows pooled and permuted together; a pool is a shard
    seed: of the order of windows and rows
    skip_bos: leave out BOS positions
    outlier: leave out positions whose norm is over this many times the median norm
    held_out: share of the documents held out
    """

    sites: tuple[str, ...]
    tokens: int
    context: int = 256
    batch_tokens: int = 8192
    buffer_rows: int = BUFFER_ROWS
    seed: int = 0
    skip_bos: bool = True
    outlier: float = 10.0
    held_out: float = HELD_OUT

    def __post_init__(self) -> None:
        for field in ("tokens", "context", "batch_tokens", "buffer_rows"):
            if getattr(self, field) < 1:
                raise UserError(f"expected {field} of at least 1, got {getattr(self, field)}")
        if not self.outlier > 1:
            raise UserError(
                f"expected an outlier bound over 1 × the median norm, got {self.outlier}; the default is 10"
            )
        if not 0 < self.held_out < 1:
            raise UserError(f"expected a held-out share between 0 and 1, got {self.held_out}")


def buffer_rows_for(widths: Mapping[str, int]) -> int:
    """Rows of a pool when nobody says: 262,144, or what fits 512 MB, but not below 16,384."""
    return max(1 << 14, min(BUFFER_ROWS, BUFFER_BYTES // row_bytes(widths)))


def row_bytes(widths: Mapping[str, int]) -> int:
    """bf16 values, window and position."""
    return 2 * sum(widths.values()) + 8


def harvest(
    model: Any,
    corpus: Corpus,
    sites: Sequence[str],
    *,
    name: str,
    ws: Workspace,
    tokens: int,
    context: int = 256,
    batch_tokens: int = 8192,
    buffer_rows: int | None = None,
    seed: int = 0,
    skip_bos: bool = True,
    outlier: float = 10.0,
    held_out: float = HELD_OUT,
) -> Store:
    """Write the activations of `model` at `sites` over about `tokens` positions of `corpus` to activations/`name`.

    One forward pass a batch, stopped after the last site. Windows of all training documents are read in a seeded
    random order; `buffer_rows` rows at a time are permuted in memory and become one bf16 shard (None: as many as fit
    512 MB, at most 262,144). Held-out documents (`Corpus.split`) give held-out shards in the same way. Where the
    corpus has fewer tokens, all are read once and the manifest says how many.

    Killed and run again with the same settings it goes on at the first shard that is missing and ends in the same
    files; finished already, it opens what is there. Raises `UserError` for a site that the model lacks, a context it
    cannot read, a corpus too small, a disk too small, other settings than those begun with, or a name being written.
    """
    check_context(model, context)
    widths = site_widths(model, sites)
    config = HarvestConfig(
        sites=tuple(widths), tokens=tokens, context=context, batch_tokens=batch_tokens,
        buffer_rows=buffer_rows_for(widths) if buffer_rows is None else buffer_rows,
        seed=seed, skip_bos=skip_bos, outlier=outlier, held_out=held_out,
    )  # fmt: skip
    record = asdict(config) | {"model": model.name, "model_version": model.version, "corpus": corpus.hash}
    if ws.done("activations", name, record):
        return store(ws, name)
    partial = ws.partial("activations", name)
    _require_disk(ws, partial, disk_bytes(widths, min(tokens, corpus.bytes), config.held_out))
    begun = (partial / WINDOWS).is_file() and (partial / "draft.json").is_file()
    readings = None if begun else _readings(corpus, model, config)
    with ws.writing("activations", name, config=record, command="harvest") as draft:
        if readings is None:
            readings = load_readings(draft.path / WINDOWS)
        else:
            save_readings(draft.path / WINDOWS, *readings)
        with draft.threads():
            _write_shards(draft, model, config, widths, readings)
        thresholds = _thresholds(draft, model, config, readings[0])
        fields = summary(draft.path, widths, thresholds)
        made_from = [ws.ref("models", model.name)] if ws.exists("models", model.name) else []
        about = {"corpus_source": corpus.source, "skipped": dict(corpus.skipped), "asked_tokens": tokens}
        draft.finish(made_from=made_from, **about, **fields)
    return store(ws, name)


def _readings(corpus: Corpus, model: Any, config: HarvestConfig) -> tuple[Reading, Reading]:
    return split_reading(
        corpus, model, tokens=config.tokens, context=config.context, seed=config.seed, held_out=config.held_out
    )


def _thresholds(draft: Draft, model: Any, config: HarvestConfig, train: Reading) -> dict[str, float]:
    """The norm above which a position is left out, per site: measured once, on a first sample, and recorded."""
    medians = draft.choose(
        "median_norms",
        lambda: median_norms(model, train, config.sites, skip_bos=config.skip_bos, batch_tokens=config.batch_tokens),
    )
    return {site: config.outlier * median for site, median in medians.items()}


def _write_shards(
    draft: Draft, model: Any, config: HarvestConfig, widths: Mapping[str, int], readings: tuple[Reading, Reading]
) -> None:
    """Every shard that is not there yet, each from its own windows and seed alone."""
    for left in draft.path.glob(".*.writing"):
        left.unlink()
    thresholds = _thresholds(draft, model, config, readings[0])
    total, done = sum(reading.tokens for reading in readings), 0
    jobs: list[tuple[Reading, np.ndarray, bool, int]] = []
    for held_out, reading in enumerate(readings):
        for index, windows_W in enumerate(pools(reading, config.buffer_rows, skip_bos=config.skip_bos)):
            if (draft.path / shard_name(index, bool(held_out))).is_file():
                done += int(reading.length_W[windows_W].sum())
            else:
                jobs.append((reading, windows_W, bool(held_out), index))
    started, written = time.perf_counter(), None

    def write(name: str, filled: Future[Pool], done: int) -> None:
        pool = filled.result()
        draft.hashes[name] = write_shard(draft.path, name, pool)
        keep_shard(draft.path, name)
        seconds = round(time.perf_counter() - started, 3)
        draft.log(shard=name, tokens=done, rows=len(pool.window_N), seconds=seconds)

    with draft.ws.running("harvest", "activations", draft.name, total=total, unit="tokens", done=done) as progress:
        # On CUDA shards are written beside the next pool, so that two are in memory at most.
        with later_for(model.device) as fetched, later_for(model.device) as later:
            for reading, windows_W, side, index in jobs:
                pool = fill_pool(
                    model, reading, windows_W, widths,
                    thresholds=thresholds, batch_tokens=config.batch_tokens, skip_bos=config.skip_bos,
                    seed=[config.seed, 1 + side, index], advance=_counter(progress, done), later=fetched,
                )  # fmt: skip
                done += int(reading.length_W[windows_W].sum())
                if written is not None:
                    written.result()
                written = later(write, shard_name(index, side), pool, done)
            if written is not None:
                written.result()
        progress.advance(done)


def _counter(progress: Progress, before: int) -> Callable[[int], None]:
    return lambda tokens: progress.advance(before + tokens)


def disk_bytes(widths: Mapping[str, int], tokens: int, held_out: float = HELD_OUT) -> int:
    """Bytes of shards and windows, the ids of windows included."""
    rows = tokens + min(round(tokens * held_out), MAX_HELD_OUT_TOKENS)
    return rows * (row_bytes(widths) + 4) + (1 << 20)


def _require_disk(ws: Workspace, partial: Path, needed: int) -> None:
    there = sum(p.stat().st_size for p in partial.glob("*.safetensors")) if partial.is_dir() else 0
    ws.require_disk(max(0, needed - there))


def expect(
    model: Any,
    sites: Sequence[str],
    *,
    tokens: int,
    context: int = 256,
    batch_tokens: int = 8192,
    buffer_rows: int | None = None,
    held_out: float = HELD_OUT,
    tokens_per_second: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Expectation:
    """What `harvest` with these settings will take. The rate is measured on two small batches unless given.

    Memory is what the harvest adds to the loaded model and the corpus: a pool (on CUDA two), the values of one batch
    (of three), and the windows of both sides as int32 (where they are full; short documents leave padding).
    """
    check_context(model, context)
    widths = site_widths(model, sites)
    rows = buffer_rows_for(widths) if buffer_rows is None else buffer_rows
    rate = tokens_per_second or _measure(model, list(widths), context, clock)
    pool = min(rows, tokens) * (row_bytes(widths) + 8)
    batch = batch_tokens * (sum(widths.values()) * 6 + model.width * 24)
    text = 4 * round(tokens * (1 + held_out))
    return Expectation(
        seconds=tokens * (1 + held_out) / rate,
        memory=text + (2 * pool + 3 * batch if model.device.type == "cuda" else pool + batch),
        disk=disk_bytes(widths, tokens, held_out),
    )


def _measure(model: Any, sites: list[str], context: int, clock: Callable[[], float]) -> float:
    """Tokens per second of a small forward pass, the second of two."""
    from glasshouse.models import Batch

    ids_BT = torch.zeros(4, context, dtype=torch.long)
    batch = Batch(ids_BT=ids_BT, mask_BT=torch.ones_like(ids_BT, dtype=torch.bool))
    seconds = 0.0
    for _ in range(2):
        started = clock()
        model.run(batch, get=sites, stop=True)[sites[0]].values.flatten()[0].item()  # waits for a GPU to finish
        seconds = clock() - started
    return ids_BT.numel() / max(seconds, 1e-9)
