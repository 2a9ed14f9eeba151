"""Claim: a harvest runs at 0.9 × the speed of a bare `transformers` forward pass cut at the same block, or faster.

    python benchmarks/harvest.py                                  # random weights: the default grown shape, GPT-2
    python benchmarks/harvest.py --shape default --tokens 20000 --repetitions 1   # in seconds
    python benchmarks/harvest.py --model FOLDER --site resid.3    # a real one

Both sides see the same batches, in one process, by turns. The bare side is the model's own base module with the later
blocks, the final norm and the unembedding taken out, on ids that are tensors already, under `inference_mode`; it keeps
nothing. The harvest's side is the wall time of `harvest` to a synced manifest: reading sites, leaving out outliers,
shuffling, writing, syncing, hashing; what it spends on tokenising is measured and taken off.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import glasshouse
from glasshouse.activations import Reading, harvest, harvesting
from glasshouse.activations.reading import batches, pools, split_reading
from glasshouse.doctor import describe
from glasshouse.models.grow import train_tokenizer
from glasshouse.models.shapes import SHAPES, Shape, build
from glasshouse.text import Corpus, corpus
from glasshouse.types import Site
from glasshouse.workspace import Workspace, keep_memory

VOCABULARY = 4096
BAR = 0.9
GPT2 = Shape(layers=12, width=768, heads=12, inner=3072)  # its smallest
# Shape; what --tokens is divided by; one case of one site, as `open` takes it, and one of four.
MODELS = {
    "default": (SHAPES["default"], 1, (["resid.3"], ["resid.1", "resid.2", "z.2", "mlp_out.2"])),
    "gpt2": (GPT2, 20, (["resid.6"], ["resid.4", "resid.5", "z.5", "mlp_out.5"])),
}


def random_model(text: Corpus, context: int, shape: str) -> Any:
    """A shape with random weights: speed does not depend on them."""
    from transformers import PreTrainedTokenizerFast

    some = Corpus(text.source, text.documents[: max(1, len(text.documents) // 10)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(some, VOCABULARY), eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    module = build(MODELS[shape][0], VOCABULARY, context, 0, seed=0)
    return glasshouse.load(module.eval(), tokenizer=tokenizer, name=f"random-{shape}", device="cpu")


@contextlib.contextmanager
def cut(model: Any, blocks: int) -> Iterator[torch.nn.Module]:
    """The base module with its first `blocks` blocks and no final norm."""
    taken = {}
    for path, new in ((model.family.blocks, None), (model.family.final_norm, torch.nn.Identity())):
        parent, _, name = path.rpartition(".")
        holder = model.module.get_submodule(parent)
        taken[path] = holder, name, getattr(holder, name)
        setattr(holder, name, getattr(holder, name)[:blocks] if new is None else new)
    try:
        yield model.module.base_model
    finally:
        for holder, name, old in taken.values():
            setattr(holder, name, old)


def bare(model: Any, blocks: int, ids: list[torch.Tensor]) -> float:
    with cut(model, blocks) as base, torch.inference_mode():
        started = time.perf_counter()
        for ids_BT in ids:
            base(input_ids=ids_BT.to(model.device), use_cache=False)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started


def harvested(model: Any, text: Corpus, sites: list[str], settings: dict[str, Any], folder: Path) -> dict[str, float]:
    """Seconds of one harvest without tokenising, and what it was spent on beside."""
    tokenising = 0.0

    def timed(*args: Any, **kwargs: Any) -> Any:
        nonlocal tokenising
        started = time.perf_counter()
        try:
            return split_reading(*args, **kwargs)
        finally:
            tokenising += time.perf_counter() - started

    harvesting.split_reading = timed
    with tempfile.TemporaryDirectory(dir=folder) as root:
        ws = Workspace.open(Path(root) / "ws")
        started = time.perf_counter()
        made = harvest(model, text, sites, name="acts", ws=ws, **settings)
        seconds = time.perf_counter() - started
    return {"seconds": seconds - tokenising, "tokenising": tokenising, "rows": made.rows + made.held_out_rows}


def same_batches(readings: tuple[Reading, Reading], settings: dict[str, Any]) -> list[torch.Tensor]:
    """Ids of the harvest's batches, in its order."""
    made = []
    for reading in readings:
        for pool in pools(reading, settings["buffer_rows"], skip_bos=True):
            for windows_B in batches(reading, pool, settings["batch_tokens"]):
                longest = int(reading.length_W[windows_B].max())
                made.append(torch.from_numpy(reading.ids_WT[windows_B, :longest]).long())
    return made


def blocks_before(sites: list[str]) -> int:
    """Blocks that a pass must finish for the last of the sites."""
    return max((s.layer or 0) + (s.kind not in ("resid", "embed")) for s in map(Site.parse, sites))


def case(model: Any, text: Corpus, sites: list[str], args: argparse.Namespace) -> dict[str, Any]:
    settings = {
        "tokens": args.tokens, "context": args.context, "batch_tokens": args.batch_tokens,
        "buffer_rows": args.buffer_rows, "seed": 0,
    }  # fmt: skip
    readings = split_reading(text, model, tokens=args.tokens, context=args.context, seed=0)
    ids, blocks = same_batches(readings, settings), blocks_before(sites)
    tokens = sum(reading.tokens for reading in readings)
    bare(model, blocks, ids[:4])  # warm
    sides: dict[str, list[float]] = {"bare": [], "harvest": []}
    for repetition in range(args.repetitions):
        for side in ("bare", "harvest") if repetition % 2 == 0 else ("harvest", "bare"):
            if side == "bare":
                seconds = bare(model, blocks, ids)
            else:
                seconds = harvested(model, text, sites, settings, args.folder)["seconds"]
            sides[side].append(seconds)
            print(f"{model.name} {', '.join(sites)}: {side} {tokens / seconds:,.0f} tokens/s", flush=True)
    medians = {side: statistics.median(found) for side, found in sides.items()}
    ratios = [b / h for b, h in zip(sides["bare"], sides["harvest"], strict=True)]
    return {
        "model": model.name,
        "sites": sites,
        "blocks": blocks,
        "tokens": tokens,
        "batches": len(ids),
        "padding": 1 - tokens / sum(i.numel() for i in ids),
        "seconds": sides,
        "tokens_per_second": {side: tokens / found for side, found in medians.items()},
        "ratio_of_medians": medians["bare"] / medians["harvest"],
        "ratios": ratios,
        "settings": settings,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="name or folder; default: random weights of the default grown shape")
    parser.add_argument("--corpus", default="python")
    parser.add_argument("--site", action="append", help="sites of one case; default: two cases, one site and four")
    parser.add_argument("--shape", action="append", choices=[*MODELS], help="default: all")
    parser.add_argument("--tokens", type=int, default=2_000_000, help="of the default shape; a twentieth for GPT-2")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--batch-tokens", type=int, default=harvesting.HarvestConfig.batch_tokens)
    parser.add_argument("--buffer-rows", type=int, default=harvesting.BUFFER_ROWS)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, default=Path("."), help="where the harvests are written (and removed)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/harvest.json"))
    args = parser.parse_args()
    keep_memory()
    text = corpus(args.corpus)
    cases, whole = [], args.tokens
    for shape in [None] if args.model else args.shape or MODELS:
        model = random_model(text, args.context, shape) if shape else glasshouse.load(args.model, device=args.device)
        model.module.to(args.device)
        args.tokens = whole // MODELS[shape][1] if shape else whole
        sites = [args.site] if args.site else MODELS[shape or "default"][2]
        cases += [case(model, text, one, args) for one in sites]
    machine = {key: value for key, value in describe(args.folder).items() if key != "disk_free_bytes"}
    result = {
        "claim": f"a harvest runs at {BAR} × a bare forward pass cut at the same block, or faster",
        "random_weights": args.model is None,
        "device": args.device,
        "threads": torch.get_num_threads(),
        "cases": cases,
        "machine": machine,
    }
    result["holds"] = all(c["ratio_of_medians"] >= BAR for c in result["cases"])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    for found in result["cases"]:
        print(f"{found['model']} {', '.join(found['sites'])}: {found['ratio_of_medians']:.3f} × bare")


if __name__ == "__main__":
    main()
