"""Learning a dictionary on a GPU: speed and quality beside a plain dense loop in bf16, on the same rows.

    python benchmarks/train_dictionary_cuda.py
    python benchmarks/train_dictionary_cuda.py --device cpu --cases 64x512x256 --tokens 40960 --seeds 1   # a quick look

The plain loop is what one writes first: pre-activations, `topk`, codes as a dense matrix, `autograd` and fused Adam
under bf16 autocast. It has our normalisation, start, rate, schedule and clipping, and no loss on dead features. Rows
are made of planted directions, as many as features, a few to a row by Zipf's law, and noise; they lie in the host's
memory in bf16 and are sent by the same thread for both. Seconds are those of the training loop, ours with its metrics
and looks at held-out rows; quality is the unexplained variance of held-out rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from train_dictionary import FileRows

from glasshouse.dictionaries import LearnConfig, learn
from glasshouse.dictionaries.learning import SAMPLE_ROWS, held_out_rows, sample, sent
from glasshouse.dictionaries.training import Normaliser, Weights, schedule
from glasshouse.doctor import describe
from glasshouse.workspace import Workspace

ACTIVE, NOISE = 24, 0.02  # planted directions in a row; noise in units of a coefficient
HELD_OUT_ROWS = 16_384


class Rows(FileRows):
    """Rows of planted directions, bf16 (N, D) in the host's memory."""

    name = "planted"

    def __init__(self, width: int, directions: int, rows: int, held_out: int, device: str) -> None:
        draw = torch.Generator(device).manual_seed(0)
        truth_FD = torch.randn(directions, width, generator=draw, device=device)
        truth_FD /= truth_FD.norm(dim=1, keepdim=True)
        often_F = 1 / torch.arange(10, 10 + directions, device=device)
        parts = []
        for _ in range(0, rows + held_out, 8192):
            chosen = torch.multinomial(often_F, 8192 * ACTIVE, replacement=True, generator=draw)
            size = 1 + torch.rand(8192 * ACTIVE, generator=draw, device=device)
            x_ND = (truth_FD[chosen] * size[:, None]).view(8192, ACTIVE, width).sum(1)
            x_ND += NOISE * torch.randn(x_ND.shape, generator=draw, device=device)
            parts.append(x_ND.bfloat16().cpu())
        every_ND = torch.cat(parts)
        self.train_ND, self.held_ND = every_ND[:rows], every_ND[rows : rows + held_out]
        self.rows = rows


def ours(rows: Rows, config: LearnConfig, device: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        ws = Workspace.open(Path(folder) / "ws")
        found = learn(rows, "resid.0", name="d", ws=ws, config=config, device=device)
        seconds = [line["seconds"] for line in ws.metrics("dictionaries", "d") if "seconds" in line][-1]
    return {"seconds": seconds, "unexplained": found.report["unexplained"]["value"], "dead": found.report["dead"]}


def plain(rows: Rows, config: LearnConfig, device: str) -> dict[str, float]:
    width = rows.width("resid.0")
    config = config.resolved(width)
    assert config.features is not None and config.rate is not None
    place, steps = torch.device(device), config.tokens // config.batch
    normaliser = Normaliser.of(sample(rows, "resid.0", min(SAMPLE_ROWS, config.tokens), 0).to(place))
    start = Weights.initial(config.features, width, config.seed, place)
    weights = [tensor.requires_grad_() for tensor in start.tensors()]
    W_enc_FD, b_enc_F, W_dec_FD, b_dec_D = weights
    adam = torch.optim.Adam(weights, lr=config.rate, fused=True)

    def forward(x_BD: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(place.type, torch.bfloat16):
            best = linear(x_BD, W_enc_FD, b_enc_F).topk(config.k, dim=1)
            codes_BF = best.values.new_zeros(len(x_BD), len(b_enc_F)).scatter(1, best.indices, best.values.relu())
            return codes_BF, (codes_BF @ W_dec_FD).float() + b_dec_D

    wait = torch.cuda.synchronize if place.type == "cuda" else lambda: None
    wait()
    begun = time.perf_counter()
    coming = sent(rows, "resid.0", config.batch, 0, 0, place)
    for step in range(steps):
        x_BD = normaliser(next(coming))
        loss = (forward(x_BD)[1] - x_BD).square().mean()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, config.clip, foreach=True)
        adam.param_groups[0]["lr"] = config.rate * schedule(step, steps, config.warmup, config.decay)
        adam.step()
        with torch.no_grad():
            W_dec_FD.div_(W_dec_FD.norm(dim=1, keepdim=True))
    wait()
    seconds = time.perf_counter() - begun
    held_ND = normaliser(held_out_rows(rows, "resid.0", config.held_out_rows))
    fired_F, missed = torch.zeros(config.features, dtype=torch.bool, device=place), 0.0
    with torch.no_grad():
        for x_BD in held_ND.split(2048):
            codes_BF, x_hat_BD = forward(x_BD)
            fired_F |= (codes_BF > 0).any(0)
            missed += float((x_hat_BD - x_BD).square().sum())
    variance = float((held_ND - held_ND.mean(0)).square().sum())
    return {"seconds": seconds, "unexplained": missed / variance, "dead": float((~fired_F).double().mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--cases", nargs="*", default=["768x24576x1024", "768x24576x4096", "2304x65536x4096"],
        help="width x features x tokens a step",
    )  # fmt: skip
    parser.add_argument("--tokens", type=int, default=1 << 20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/train_dictionary_cuda.json"))
    args = parser.parse_args()
    cases: list[dict[str, Any]] = []
    for case in args.cases:
        width, features, batch = map(int, case.split("x"))
        rows = Rows(width, features, args.tokens, HELD_OUT_ROWS, args.device)
        sides: dict[str, list[dict[str, float]]] = {"batchtopk": [], "topk": [], "plain": []}
        for seed in range(-1, args.seeds):  # the first, a short one, sets up the device and is thrown away
            for side in sides:
                config = LearnConfig(
                    features=features, batch=batch, tokens=args.tokens if seed >= 0 else 16 * batch, seed=max(seed, 0),
                    activation="batchtopk" if side == "batchtopk" else "topk", held_out_rows=HELD_OUT_ROWS,
                    statistics_rows=HELD_OUT_ROWS, checkpoint_seconds=1e9,
                )  # fmt: skip
                found = (plain if side == "plain" else ours)(rows, config, args.device)
                if seed >= 0:
                    sides[side].append(found)
        medians = {
            side: {key: statistics.median(one[key] for one in found) for key in found[0]}
            for side, found in sides.items()
        }
        for one in medians.values():
            one["tokens_per_second"] = args.tokens / one["seconds"]
        told = ", ".join(f"{s} {m['tokens_per_second']:,.0f}/s {m['unexplained']:.4f}" for s, m in medians.items())
        print(f"{case}: {told}", flush=True)
        ratio = {side: medians["plain"]["seconds"] / medians[side]["seconds"] for side in ("batchtopk", "topk")}
        cases.append({"case": case, "ratio_of_medians": ratio, "medians": medians, "runs": sides})
        machine = {key: value for key, value in describe(Path()).items() if key != "disk_free_bytes"}
        result = {
            "claim": (__doc__ or "").splitlines()[0], "device": args.device, "tokens": args.tokens, "k": config.k,
            "cases": cases, "machine": machine,
        }  # fmt: skip
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
