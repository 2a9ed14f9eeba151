"""The whole job of making a dictionary: sample, train with checkpoints, calibrate, measure, report, save.

    learn(store, "resid.6", name="resid6", ws=ws, config=LearnConfig(k=32, tokens=2_000_000))

Legend: B tokens of a batch, N rows, D width, F features.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, Protocol

import torch
from torch import Tensor

from glasshouse.dictionaries.dictionary import Dictionary, Threshold
from glasshouse.dictionaries.folders import read_folder, write_folder
from glasshouse.dictionaries.kernels import ACTIVATIONS, Encoder
from glasshouse.dictionaries.reports import held_out_report, held_out_rows
from glasshouse.dictionaries.training import (
    LearnConfig,
    LossTerm,
    Normaliser,
    Trainer,
    dead_features,
    fold,
    schedule,
    squared_error,
)
from glasshouse.types import ArtifactRef, Site, UserError
from glasshouse.workspace import Draft, Expectation, Workspace

SAMPLE_ROWS = 16_384  # rows from which centre, scale and typical norm are estimated
METRIC_STEPS = 20  # steps between two lines of metrics.jsonl
REPORTS = 10  # times in a run that held-out rows are looked at
REPORT_ROWS = 4096  # rows looked at each time
AHEAD = 8  # batches sent to a GPU at once; one at a time costs a small step a millisecond for Python's lock


class Source(Protocol):
    """Where rows come from: an activations store, or a live stream.

    `batches` goes through the training rows without end (held-out rows once); the batch begun at a row is the same
    whatever was read before it. A source that has a `hash` is known by it, one without by its name alone.
    """

    def batches(
        self, site: str, batch_rows: int, *, start_row: int = 0, seed: int = 0, held_out: bool = False
    ) -> Iterator[Tensor]: ...

    def width(self, site: str) -> int: ...


# -- rows ------------------------------------------------------------------------------------------------------------


def batches(source: Source, site: str, batch: int, start_row: int, seed: int) -> Iterator[Tensor]:
    """Whole raw batches of the source's endless sequence from a row on."""
    for x_BD in source.batches(site, batch, start_row=start_row, seed=seed):
        if len(x_BD) < batch:
            break
        yield x_BD
    raise UserError(f"expected batches of {batch} rows of {site} without end, the source ended; lower --tokens")


def sent(source: Source, site: str, batch: int, start_row: int, seed: int, device: torch.device) -> Iterator[Tensor]:
    """`batches`; for CUDA on the device, AHEAD of them read and sent by another thread while others are used."""
    if device.type != "cuda":
        yield from batches(source, site, batch, start_row, seed)
        return
    rows = batches(source, site, AHEAD * batch, start_row, seed)
    send = lambda: next(rows).pin_memory().to(device, non_blocking=True)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(send)
        while True:
            several_ND = coming.result()
            coming = pool.submit(send)
            yield from several_ND.split(batch)


def sample(source: Source, site: str, rows: int, seed: int) -> Tensor:
    """The first `rows` training rows of the source's order, as float32."""
    return torch.cat(
        [part.float() for part in itertools.islice(batches(source, site, 1024, 0, seed), -(-rows // 1024))]
    )


# -- the job ---------------------------------------------------------------------------------------------------------


def learn(
    source: Source,
    site: str,
    *,
    name: str,
    ws: Workspace,
    config: LearnConfig | None = None,
    model: Any = None,
    threads: int | None = None,
    precision: str | None = None,
    device: str = "cpu",
    terms: Sequence[LossTerm] = (squared_error, dead_features),
) -> Dictionary:
    """Train a dictionary of the activations at `site` and store it as dictionaries/NAME.

    `source` is an activations store or a live stream. A run that was killed goes on where its last checkpoint stood
    and ends, with the same threads and on the same machine, in the same weights bit for bit; the number of threads
    and the precision in which features are chosen ("bf16" or "fp32"; None: the faster, measured) are decided once and
    stored with the run. With `model` the report has the cross-entropy with the
    dictionary spliced in. Raises `UserError` for too few rows or too small a disk.
    """
    if precision not in (None, "bf16", "fp32"):
        raise UserError(f"expected precision bf16 or fp32, got {precision!r}")
    site = str(Site.parse(site))
    config = (config or LearnConfig()).resolved(source.width(site))
    settings = {**asdict(config), "site": site, "source": getattr(source, "name", type(source).__name__)}
    settings["source_hash"] = getattr(source, "hash", None)
    settings["device"], settings["terms"] = device, [term.__name__ for term in terms]
    if ws.done("dictionaries", name, settings):
        return read_folder(ws.path("dictionaries", name), name=name)
    ws.require_disk(expect(config, source.width(site)).disk)
    with ws.writing("dictionaries", name, config=settings, command="learn") as draft:
        with draft.threads(threads):
            trainer = _trainer(draft, config, source.width(site), terms, precision, torch.device(device))
            normaliser, typical_norm = _restore(draft, trainer, source, site)
            _train(draft, source, site, trainer, normaliser, typical_norm)
            learned = _finished(name, site, source, model, trainer, normaliser)
            maxima_F, rows = largest_activations(learned, source, config)
            learned = learned.with_statistics(maxima_F, typical_norm)
            learned.report = held_out_report(learned, source, model=model, rows=config.held_out_rows)
            learned.report |= {"max_activation_rows": rows, "trained_tokens": trainer.steps * config.batch}
            # Rare features need more than held-out rows.
            learned.report["dead"] = float((maxima_F == 0).double().mean())
            learned = learned.to("cpu")
            write_folder(learned, draft.path)
            draft.finish(made_from=_refs(ws, source), site=site, model=learned.model_name)
    return learned


def _trainer(
    draft: Draft,
    config: LearnConfig,
    width: int,
    terms: Sequence[LossTerm],
    precision: str | None,
    device: torch.device,
) -> Trainer:
    def measure() -> str:
        if precision is not None:
            return precision
        return "bf16" if device.type == "cuda" else faster_precision(config, width)

    return Trainer(
        config,
        width,
        activation=ACTIVATIONS[config.activation],
        terms=terms,
        precision=draft.choose("precision", measure),
        device=device,
    )


def faster_precision(config: LearnConfig, width: int) -> str:
    """`bf16` where the encoder's product is faster in it on this processor, else `fp32`. Measured, best of three."""
    assert config.features is not None
    seconds = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        encoder = Encoder(config.features, config.k)
        x_BD = torch.ones(min(config.batch, 1024), width, dtype=dtype)
        W_FD, b_F = torch.ones(config.features, width, dtype=dtype), torch.zeros(config.features, dtype=dtype)
        times = []
        for _ in range(4):
            start = time.perf_counter()
            encoder(x_BD, W_FD, b_F)
            times.append(time.perf_counter() - start)
        seconds[name] = min(times)
    return min(seconds, key=lambda key: seconds[key])


def _restore(draft: Draft, trainer: Trainer, source: Source, site: str) -> tuple[Normaliser, float]:
    """The normaliser and the typical norm; from the newest checkpoint, with the trainer's state, if there is one."""
    config, device = trainer.config, trainer.silent_F.device
    if (found := draft.load_checkpoint(str(device))) is not None:
        step, tensors, state = found
        trainer.restore(step, tensors)
        return Normaliser(tensors["centre"], state["scale"]), state["typical_norm"]
    rows_ND = sample(source, site, min(SAMPLE_ROWS, config.tokens), config.seed).to(device)
    typical = getattr(source, "typical_norm", None)  # a store has it from all its shards
    return Normaliser.of(rows_ND), float(typical(site) if typical else rows_ND.norm(dim=1).median())


def _train(
    draft: Draft, source: Source, site: str, trainer: Trainer, normaliser: Normaliser, typical_norm: float
) -> None:
    config, steps = trainer.config, trainer.steps
    total = steps * config.batch
    held_out_ND = normaliser(held_out_rows(source, site, min(REPORT_ROWS, config.held_out_rows)))

    def save() -> None:
        state = {"scale": normaliser.scale, "typical_norm": typical_norm}
        draft.save_checkpoint(trainer.step_index, {**trainer.tensors(), "centre": normaliser.centre_D}, state)

    done = trainer.step_index * config.batch
    with draft.ws.running("learn", "dictionaries", draft.name, total=total, unit="tokens", done=done) as progress:
        saved = started = time.monotonic()
        rows = sent(source, site, config.batch, trainer.step_index * config.batch, config.seed, trainer.silent_F.device)
        while trainer.step_index < steps:
            x_BD = next(rows)
            values = trainer.step(normaliser(x_BD))
            step = trainer.step_index
            progress.advance(step * config.batch)
            if step % METRIC_STEPS == 0 or step == steps:
                _log(draft, trainer, values, time.monotonic() - started)
            if step % max(1, steps // REPORTS) == 0 or step == steps:
                unexplained = trainer.unexplained(held_out_ND)
                draft.log(step=step, tokens=step * config.batch, held_out_unexplained=unexplained)
            if time.monotonic() - saved > config.checkpoint_seconds:
                save()
                saved = time.monotonic()
            if step == steps:
                save()


def _log(draft: Draft, trainer: Trainer, values: dict[str, Tensor], seconds: float) -> None:
    config, step = trainer.config, trainer.step_index
    assert config.rate is not None
    numbers = {key: float(value) for key, value in values.items()}
    if not numbers["loss"] < float("inf"):
        raise UserError(f"the loss became {numbers['loss']} at step {step}; lower --rate and give another name")
    draft.log(
        step=step,
        tokens=step * config.batch,
        loss=numbers["loss"],
        unexplained=numbers.get("squared_error"),
        l0=numbers["l0"],
        dead=numbers["dead"],
        norm=numbers["norm"],
        lr=config.rate * schedule(step - 1, trainer.steps, config.warmup, config.decay),
        seconds=round(seconds, 3),
    )


# -- after training --------------------------------------------------------------------------------------------------


def _finished(name: str, site: str, source: Source, model: Any, trainer: Trainer, normaliser: Normaliser) -> Dictionary:
    """The dictionary in raw units, its threshold calibrated if it was trained with BatchTopK."""
    config, folded = trainer.config, fold(trainer.weights, normaliser)
    model_name = getattr(model, "name", None) or getattr(source, "model_name", None)
    learned = Dictionary(
        name=name,
        site=Site.parse(site),
        model_name=model_name,
        activation=Threshold(kind="topk", k=config.k),
        W_enc=folded["W_enc"],
        b_enc=folded["b_enc"],
        W_dec=folded["W_dec"],
        b_dec=folded["b_dec"],
    )
    if config.activation == "batchtopk":
        rows_ND = held_out_rows(source, site, config.held_out_rows)
        value = calibrated_threshold(learned, rows_ND, config.k)
        learned.activation = Threshold(kind="jumprelu", threshold_F=torch.full_like(learned.b_enc, value))
    return learned


def calibrated_threshold(dictionary: Dictionary, x_ND: Tensor, k: int) -> float:
    """The threshold at which k codes a row are active on average over these rows, with the float32 encoder.

    It lies between the (N × k)-th largest pre-activation and the next; where k is all features, it is 0. Of each chunk
    at most 4 × k a row are held; a chunk with more above the threshold than that would bias it, and none was seen.
    """
    if k >= dictionary.n_features:
        return 0.0
    kept, wanted = [], len(x_ND) * k
    for chunk in x_ND.split(1024):
        pre = dictionary.pre_activations(chunk).view(-1)
        kept.append(pre.topk(min(len(chunk) * 4 * k, len(pre)), sorted=False).values)
    values = torch.cat(kept).topk(wanted + 1).values
    return max(0.0, float((values[-1].double() + values[-2].double()) / 2))


def largest_activations(dictionary: Dictionary, source: Source, config: LearnConfig) -> tuple[Tensor, int]:
    """(max_activation_F, rows looked at): each feature's largest code over the first `statistics_rows` rows, of an
    epoch at most."""
    maxima_F, seen = torch.zeros(dictionary.n_features, device=dictionary.device), 0
    wanted = min(config.statistics_rows, config.tokens, getattr(source, "rows", config.tokens))
    for x_BD in source.batches(str(dictionary.site), 2048, seed=config.seed):
        maxima_F = torch.maximum(maxima_F, dictionary.encode(x_BD).amax(0))
        seen += len(x_BD)
        if seen >= wanted:
            break
    return maxima_F.cpu(), seen


def _refs(ws: Workspace, source: Source) -> list[ArtifactRef]:
    """The store, or the model of a live stream, where the workspace has it."""
    made_from = (("activations", getattr(source, "name", None)), ("models", getattr(source, "model_name", None)))
    return next(
        ([ws.ref(kind, name)] for kind, name in made_from if isinstance(name, str) and ws.exists(kind, name)), []
    )


# Operations and bytes a second of a step, and seconds to ask for it: two cores of 2023 in bf16; an H100.
SPEED = {"cpu": (150e9, 10e9, 0.0), "cuda": (200e12, 1.5e12, 3e-3)}


def expect(
    config: LearnConfig, width: int, *, tokens_per_second: float | None = None, device: str = "cpu"
) -> Expectation:
    """Seconds, peak memory and disk of `learn`, before it starts; the rate is by `SPEED` unless it is given."""
    config = config.resolved(width)
    assert config.features is not None
    parameters = 2 * config.features * width
    if tokens_per_second is None:
        operations, moved, asking = SPEED["cuda" if device.startswith("cuda") else "cpu"]
        tokens_per_second = 1 / (2 * parameters / operations + (40 * parameters / moved + asking) / config.batch)
    rows = config.tokens + 4 * (config.statistics_rows + config.held_out_rows)
    return Expectation(
        seconds=rows / tokens_per_second,
        memory=7 * 4 * parameters + 4 * config.batch * config.features + (300 << 20),
        disk=3 * 3 * 4 * parameters,
    )
