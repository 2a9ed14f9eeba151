"""Claim: what `glasshouse grow` does by default beats fused AdamW and gelu_new by 0.3 bits per byte at equal seconds.

    python benchmarks/grow.py --data DIR                             # about 25 minutes on two cores
    python benchmarks/grow.py --data DIR --seconds 10 --seeds 1 --rates 2e-3 --out grow.json

DIR holds the files named in `grow_corpus.json`, which lies beside this script. Both arms: the default shape, the same
tokenizer, rows, batch, precision, loss in pieces, weight decay, clipping and schedule (driven by the clock, so that
each arm's rates fall to 0 as its time ends), memory kept by glibc, all cores, one after the other by turns. The arms
differ in optimiser and activation only. AdamW's rate is the best of a grid, each rate tried at the full time on a seed
that is not used again; the default arm is run as it stands. Held out: the last twentieth of every file
(`Corpus.split`), scored in fp32 after the clock has stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from glasshouse.doctor import describe
from glasshouse.models.grow import END, train_tokenizer
from glasshouse.models.rows import HeldOut, Rows
from glasshouse.models.shapes import SHAPES, Shape, build
from glasshouse.models.training import Recipe, Trainer, precision_by_instruction_set
from glasshouse.text import Corpus, Document, token_bytes, tokenise
from glasshouse.text.readers import html_text
from glasshouse.types import UserError
from glasshouse.workspace import keep_memory

HERE = Path(__file__).parent
BAR = 0.3
VOCABULARY, CONTEXT, GRID_SEED = 4096, 256, 1000


def read_files(folder: Path) -> Corpus:
    """The committed list of files as a corpus; HTML as the text one reads."""
    documents = []
    for name in json.loads((HERE / "grow_corpus.json").read_text(encoding="utf-8")):
        file = folder / name
        if not file.is_file():
            raise UserError(f"expected {name} in {folder}, found no such file; give --data with the benchmark's texts")
        text = file.read_text(encoding="utf-8")
        text = html_text(text) if file.suffix == ".html" else text
        documents.append(Document(len(documents), name, name.split("/")[0], text))
    return Corpus("benchmark", tuple(documents))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What both arms share."""

    rows_by_seed: dict[int, Rows]
    held_out: HeldOut
    vocabulary: int
    end: int
    seconds: float
    precision: str


def run(arm: str, shape: Shape, recipe: Recipe, setting: Setting, seed: int) -> dict[str, Any]:
    """Train for the time given and score on all held-out text."""
    warm = Trainer(build(shape, setting.vocabulary, CONTEXT, setting.end, seed), recipe, setting.precision)
    for step in range(2):  # allocations and thread pools are ready for both arms
        warm.step(setting.rows_by_seed[seed].batch(step, recipe.batch), 0.5)
    del warm
    gc.collect()
    model = build(shape, setting.vocabulary, CONTEXT, setting.end, seed)
    trainer = Trainer(model, recipe, setting.precision)
    begun, step, losses = time.perf_counter(), 0, []
    while (elapsed := time.perf_counter() - begun) < setting.seconds:
        ids_BT = setting.rows_by_seed[seed].batch(step, recipe.batch)
        losses.append(trainer.step(ids_BT, elapsed / setting.seconds).text.item())
        step += 1
    elapsed = time.perf_counter() - begun
    score = setting.held_out.bits_per_byte(model.eval(), "fp32")
    found = {
        "arm": arm, "seed": seed, "rate": recipe.muon_rate if recipe.optimizer == "muon" else recipe.adamw_rate,
        "seconds": round(elapsed, 2), "steps": step, "tokens": step * recipe.batch * CONTEXT,
        "tokens_per_second": round(step * recipe.batch * CONTEXT / elapsed),
        "last_loss": round(statistics.mean(losses[-20:]), 4), "held_out_bits_per_byte": score.to_json(),
    }  # fmt: skip
    print(f"{arm:>8} seed {seed} rate {found['rate']:g}: {found['tokens_per_second']} tokens/s, {score}", flush=True)
    return found


def compare(options: argparse.Namespace) -> dict[str, Any]:
    text = read_files(options.data)
    train, held_out = text.split()
    tokenizer = train_tokenizer(train, VOCABULARY)
    end, lengths_V = tokenizer.token_to_id(END), token_bytes(tokenizer)
    assert lengths_V is not None
    tokens = tokenise(train, tokenizer)
    setting = Setting(
        rows_by_seed={seed: Rows(tokens, CONTEXT, end, seed) for seed in [*range(options.seeds), GRID_SEED]},
        held_out=HeldOut(tokenise(held_out, tokenizer, max_tokens=200_000), lengths_V, CONTEXT, end),
        vocabulary=tokenizer.get_vocab_size(), end=end, seconds=options.seconds,
        precision=options.precision or precision_by_instruction_set(),
    )  # fmt: skip
    ours = (SHAPES["default"], Recipe())
    theirs = dataclasses.replace(SHAPES["default"], activation="gelu_new")
    plain = [dataclasses.replace(Recipe(), optimizer="adamw", adamw_rate=rate) for rate in options.rates]
    grid = [run("adamw", theirs, recipe, setting, GRID_SEED) for recipe in plain]
    best = min(zip(grid, plain, strict=True), key=lambda pair: pair[0]["held_out_bits_per_byte"]["value"])[1]
    runs = []
    for seed in range(options.seeds):
        arms = [("default", *ours), ("adamw", theirs, best)]
        for arm, shape, recipe in arms if seed % 2 == 0 else arms[::-1]:
            runs.append(run(arm, shape, recipe, setting, seed))
    gains = [_score(runs, "adamw", seed) - _score(runs, "default", seed) for seed in range(options.seeds)]
    return {
        "claim": "bits per byte less than the same shape with fused AdamW and gelu_new at equal seconds",
        "bar": BAR, "gains": gains, "mean_gain": statistics.mean(gains), "holds": min(gains) >= BAR,
        "text": {"files": len(text.documents), "bytes": text.bytes, "hash": text.hash},
        "shape": dataclasses.asdict(ours[0]), "recipe": dataclasses.asdict(ours[1]), "vocabulary": VOCABULARY,
        "context": CONTEXT, "precision": setting.precision, "seconds": options.seconds,
        "threads": torch.get_num_threads(),
        "grid": grid, "runs": runs,
    }  # fmt: skip


def _score(runs: list[dict[str, Any]], arm: str, seed: int) -> float:
    (found,) = [run for run in runs if run["arm"] == arm and run["seed"] == seed]
    return float(found["held_out_bits_per_byte"]["value"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=150.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-4, 1e-3, 2e-3, 4e-3], help="AdamW's grid")
    parser.add_argument("--precision", choices=("fp32", "bf16"))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "grow.json")
    options = parser.parse_args()
    keep_memory()
    result = compare(options)
    result["machine"] = describe(HERE)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"gain {result['mean_gain']:.3f} bits/byte (bar {BAR}): {'holds' if result['holds'] else 'does not hold'}")


if __name__ == "__main__":
    main()
