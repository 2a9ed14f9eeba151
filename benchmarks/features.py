"""Claim: what the evidence for every feature costs beside the forward pass and the encoding that it cannot do without.

    python benchmarks/features.py                                     # 8,192 features of the default grown shape
    python benchmarks/features.py --tokens 20000 --features 1024      # in seconds

Weights are random, which changes no speed: a TopK dictionary fires k features a token whatever its directions. The
bare side runs the same batches through the model to the site and `encode_sparse`, and keeps nothing. Both run in one
process, bare first. Reported: tokens a second of both, of the whole `gather` (tokenising included), the largest
resident memory beside what the process had before, and the server-side time of a feature page and of list queries.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import glasshouse
from glasshouse.activations.pooling import read_batch
from glasshouse.activations.reading import batches, choose
from glasshouse.dictionaries.dictionary import Dictionary, Threshold
from glasshouse.doctor import describe
from glasshouse.features.gathering import gather
from glasshouse.features.table import Features
from glasshouse.models.grow import train_tokenizer
from glasshouse.models.shapes import SHAPES, build
from glasshouse.text import Corpus, corpus, tokenise, windows
from glasshouse.types import Site
from glasshouse.workspace import Workspace, keep_memory

VOCABULARY = 4096
PAGE_BAR, LIST_BAR = 0.100, 0.200  # seconds


def random_model(text: Corpus, context: int) -> Any:
    """The default grown shape with random weights."""
    from transformers import PreTrainedTokenizerFast

    some = Corpus(text.source, text.documents[: max(1, len(text.documents) // 10)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(some, VOCABULARY), eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    module = build(SHAPES["default"], VOCABULARY, context, 0, seed=0)
    return glasshouse.load(module.eval(), tokenizer=tokenizer, name="random", device="cpu")


def random_dictionary(width: int, n_features: int, k: int, site: str) -> Dictionary:
    draw = torch.Generator().manual_seed(0)
    W_dec = torch.nn.functional.normalize(torch.randn(n_features, width, generator=draw), dim=1)
    return Dictionary(
        name="random", site=Site.parse(site), model_name="random", W_enc=W_dec.T.contiguous(),
        b_enc=torch.zeros(n_features), W_dec=W_dec, b_dec=torch.zeros(width),
        activation=Threshold(kind="topk", k=k), typical_norm=1e9,
    )  # fmt: skip


def bare(model: Any, dictionary: Dictionary, text: Corpus, args: argparse.Namespace) -> tuple[float, int]:
    """(seconds, tokens) of forward passes and encoding alone."""
    tokens = tokenise(text, model.tokenizer, max_tokens=4 * args.tokens + args.context)
    reading = choose(
        windows(tokens, context=args.context, bos_id=model.bos_id, pad_id=model.pad_id), args.tokens, seed=0
    )
    started = time.perf_counter()
    with torch.no_grad():
        for windows_B in batches(reading, np.arange(len(reading)), 8192):
            values, mask_BT = read_batch(model, reading, windows_B, [str(dictionary.site)])
            dictionary.encode_sparse(values[str(dictionary.site)].flatten(0, 1)[mask_BT.flatten()])
    return time.perf_counter() - started, reading.tokens


def latency(call: Callable[[int], Any], repetitions: int) -> dict[str, float]:
    """Median and 95th percentile, in seconds; every call asks for something else."""
    times = []
    for i in range(repetitions):
        started = time.perf_counter()
        call(i)
        times.append(time.perf_counter() - started)
    return {"median": statistics.median(times), "p95": sorted(times)[int(0.95 * (len(times) - 1))]}


def latencies(table: Features, repetitions: int) -> dict[str, Any]:
    order = np.random.default_rng(0).permutation(len(table)).tolist()
    sorts = ("rate", "score", "label", "max_activation", "index")
    searches = ("", "import", "in", "(", "line")
    page = latency(lambda i: json.dumps(table.feature(order[i])), repetitions)
    lists = latency(
        lambda i: json.dumps(table.query(search=searches[i % 5], sort=sorts[i // 5 % 5], offset=10 * i)), repetitions
    )
    holds = page["p95"] < PAGE_BAR and lists["p95"] < LIST_BAR
    return {"feature_page": page, "list_query": lists, "holds": bool(holds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=300_000)
    parser.add_argument("--features", type=int, default=8192)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--memory", type=int, default=1 << 30)
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "features.json")
    args = parser.parse_args()
    keep_memory()
    text = corpus("python")
    model = random_model(text, args.context)
    dictionary = random_dictionary(model.width, args.features, args.k, "resid.3")
    seconds, tokens = bare(model, dictionary, text, args)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with tempfile.TemporaryDirectory() as root:
        ws = Workspace.open(Path(root) / "ws")
        started = time.perf_counter()
        table = gather(
            model, dictionary, text, ws=ws, tokens=args.tokens, context=args.context, memory=args.memory
        )  # fmt: skip
        whole = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        size = sum(p.stat().st_size for p in table.folder.iterdir())
        result = {
            "tokens": tokens, "features": args.features, "k": args.k, "memory_asked": args.memory,
            "bare_tokens_per_second": tokens / seconds, "gather_tokens_per_second": tokens / whole,
            "gather_over_bare_seconds": whole / seconds, "memory_added": after - before, "bytes_on_disk": size,
            "coverage": table.summary["coverage"], **latencies(table, args.repetitions), "machine": describe(ws.root),
        }  # fmt: skip
    print(json.dumps(result, indent=1, default=str))
    args.out.write_text(json.dumps(result, indent=1, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
