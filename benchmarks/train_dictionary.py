"""Learning a dictionary: speed, and seconds to a given quality, beside SAELens, dictionary_learning and sparsify.

    python -m venv peers && peers/bin/pip install torch==2.13.0 && peers/bin/pip install --no-deps torch==2.13.0 \
        sae-lens==6.54.12 eai-sparsify==1.3.3 dictionary_learning==0.1.0   # with their other requirements
    python benchmarks/train_dictionary.py --peer-python peers/bin/python
    python benchmarks/train_dictionary.py --tokens 20480 --seeds 1 --tools ours     # a quick look

Protocol: all tools train on the same file of activations (`--activations STORE --site SITE`; without it those of a
small model grown on the `python` corpus). Every tool has the same grid of rates × batches, searched at the full budget
with seed 0, as a shorter run would choose rates that kill features later (at a quarter of it for tools under a quarter
of the fastest peer's speed, which would take hours); bf16 is used where a short run of the tool is faster with it and
ends no worse. Each tool's winner runs with every seed, one process a run, one after the other; ours also in separate
runs of other budgets, each with its full decay and a rate that moves weights as far (`TRAVEL` of
`dictionaries/training.py`); a budget above the file's rows reads some of them twice. Quality is the unexplained
variance of held-out rows at L0 = k: top-k tools with k a row, others with the threshold recalibrated in the same way
for all. Every run is appended to `--work`/runs.jsonl as it ends, so a killed benchmark goes on when it is run again.
Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from glasshouse.dictionaries import Dictionary, LearnConfig, Threshold, learn, read_folder, report
from glasshouse.dictionaries.learning import calibrated_threshold
from glasshouse.dictionaries.training import MOST_RATE
from glasshouse.workspace import Workspace, write_atomically

PEERS = ("saelens", "dictionary_learning", "sparsify")
HELD_OUT_ROWS = 32_768
MEASURED = ("tokens_per_second", "seconds", "unexplained", "l0", "dead")
# Peers get from glibc what our commands ask of it (`workspace.keep_memory`): half of their time would be page faults.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "2000000000"}
NOT_PROTOCOL = ("work", "out", "one", "peer_python")


class FileRows:
    """A file of rows as a source for `learn`: the same order as the peers read."""

    name = "file"

    def __init__(self, file: Path) -> None:
        tensors = load_file(file)
        self.train_ND, self.held_ND = tensors["train"], tensors["held"]
        self.rows = len(self.train_ND)

    def width(self, site: str) -> int:
        return self.train_ND.shape[1]

    def batches(
        self, site: str, batch_rows: int, *, start_row: int = 0, seed: int = 0, held_out: bool = False
    ) -> Iterator[Tensor]:
        if held_out:
            yield from self.held_ND[start_row:].split(batch_rows)
            return
        whole, index = self.rows // batch_rows, start_row // batch_rows
        while True:
            at = index % whole * batch_rows
            yield self.train_ND[at : at + batch_rows]
            index += 1


# -- one run ---------------------------------------------------------------------------------------------------------


def train(job: dict[str, Any], args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run one job in its own process: {"seconds", "patches"}; the dictionary is in `folder`/out."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = args.work / "rows.safetensors"
    if job["tool"] == "ours":
        command = [sys.executable, __file__, "--one", json.dumps(job), "--work", str(args.work), "--out", str(folder)]
    else:
        script = Path(__file__).with_name("dictionary_peers.py")
        command = [args.peer_python, str(script), job["tool"], str(rows), str(folder / "out")]
        for key in ("features", "k", "tokens", "batch", "rate", "seed", "threads"):
            command += [f"--{key}", str(job[key])]
        command += ["--bf16"] if job["bf16"] else []
    env = {**os.environ, "OMP_NUM_THREADS": str(job["threads"]), "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"}
    env |= KEEP_MEMORY
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"}
    return dict(json.loads((folder / "out" / "run.json").read_text()))


def train_ours(job: dict[str, Any], work: Path, folder: Path) -> None:
    """The child of `train` for our own tool: what `glasshouse learn` does, seconds counted around its training loop."""
    config = LearnConfig(
        features=job["features"], k=job["k"], tokens=job["tokens"], batch=job["batch"], rate=job["rate"],
        seed=job["seed"], held_out_rows=8192, statistics_rows=8192, checkpoint_seconds=1e9,
    )  # fmt: skip
    ws = Workspace.open(folder / "ws")
    learn(FileRows(work / "rows.safetensors"), "resid.0", name="out", ws=ws, config=config, threads=job["threads"])
    shutil.copytree(ws.path("dictionaries", "out"), folder / "out")
    seconds = [line["seconds"] for line in ws.metrics("dictionaries", "out") if "seconds" in line][-1]
    choices = ws.manifest("dictionaries", "out")["choices"]
    (folder / "out" / "run.json").write_text(json.dumps({"seconds": seconds, "patches": [], "choices": choices}))


def quality(folder: Path, rows: FileRows, k: int) -> dict[str, float]:
    """Unexplained variance, L0 and dead share on held-out rows, the threshold set to L0 = k on other held-out rows."""
    found = read_folder(folder)
    held_ND = rows.held_ND.float()
    if found.activation.kind == "jumprelu":
        value = calibrated_threshold(found, held_ND[: len(held_ND) // 4], k)
        found = Dictionary(
            **{
                **vars(found),
                "activation": Threshold(kind="jumprelu", threshold_F=torch.full((found.n_features,), value)),
            }
        )
    numbers = report(found, held_ND[len(held_ND) // 4 :])
    return {
        "unexplained": numbers["unexplained"]["value"], "l0": numbers["l0"]["value"], "dead": numbers["dead"],
        "dense": numbers["dense"],
    }  # fmt: skip


class Runs:
    """The runs that have ended, on disk line by line; a job that is among them is not run again."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.file = args, args.work / "runs.jsonl"
        self.rows = FileRows(args.work / "rows.safetensors")
        self.done = [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.is_file() else []

    def __call__(
        self, part: str, tool: str, *, tokens: int, batch: int, rate: float, seed: int, bf16: bool
    ) -> dict[str, Any]:
        args = self.args
        job: dict[str, Any] = {
            "tool": tool, "tokens": tokens // batch * batch, "batch": batch, "rate": rate, "seed": seed, "bf16": bf16,
            "features": args.features, "k": args.k, "threads": args.threads,
        }  # fmt: skip
        for run in self.done:
            if run["job"] == job:
                return dict(run)
        folder = args.work / "run"
        run = {"part": part, "job": job, **train(job, args, folder)}
        if "failed" not in run:
            run |= quality(folder / "out", self.rows, args.k)
            run["tokens_per_second"] = job["tokens"] / run["seconds"]
        run["load"] = os.getloadavg()[0]
        self.done.append(run)
        with open(self.file, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(run) + "\n")
        shown = {k: round(v, 4) for k, v in run.items() if isinstance(v, float)}
        print(
            part,
            tool,
            {k: job[k] for k in ("tokens", "batch", "rate", "seed", "bf16")},
            run.get("failed", shown),
            flush=True,
        )
        return run


# -- the protocol ----------------------------------------------------------------------------------------------------


def benchmark(args: argparse.Namespace) -> dict[str, Any]:
    runs = Runs(args)
    tools = [tool for tool in args.tools if tool == "ours" or args.peer_python]
    probe = max(args.batches)
    bf16: dict[str, bool] = {"ours": False}  # ours measures for itself
    speed: dict[str, float] = {}
    for tool in (t for t in tools if t != "ours"):
        pair = [
            runs("probe", tool, tokens=50 * probe, batch=probe, rate=args.rates[0], seed=0, bf16=b)
            for b in (False, True)
        ]
        bf16[tool] = "failed" not in pair[1] and all(
            pair[1][key] < slack * pair[0].get(key, float("inf"))
            for key, slack in (("seconds", 1), ("unexplained", 1.02))
        )
        speed[tool] = pair[bf16[tool]].get("tokens_per_second", 0.0)
    slow = {tool for tool in speed if speed[tool] < max(speed.values()) / 4}
    grid: dict[str, list[dict[str, Any]]] = {tool: [] for tool in tools}
    for rate in args.rates:
        for batch in args.batches:
            for tool in tools:
                run = runs(
                    "grid",
                    tool,
                    tokens=args.tokens // (4 if tool in slow else 1),
                    batch=batch,
                    rate=rate,
                    seed=0,
                    bf16=bf16[tool],
                )
                if "failed" not in run and run["unexplained"] == run["unexplained"]:
                    grid[tool].append(run)
    best = {tool: min(found, key=lambda run: run["unexplained"])["job"] for tool, found in grid.items() if found}
    finals: dict[str, list[dict[str, Any]]] = {tool: [] for tool in best}
    curve: dict[int, list[dict[str, Any]]] = {budget: [] for budget in args.budgets}
    for seed in range(args.seeds):
        for tool, job in best.items():
            given = {"batch": job["batch"], "rate": job["rate"], "seed": seed, "bf16": job["bf16"]}
            finals[tool].append(runs("final", tool, tokens=args.tokens, **given))
            if tool == "ours":
                for budget in args.budgets:
                    rate = min(MOST_RATE, job["rate"] * args.tokens / budget)
                    curve[budget].append(runs("curve", tool, tokens=budget, **{**given, "rate": rate}))
    return summary(args, best, finals, curve)


def summary(
    args: argparse.Namespace,
    best: dict[str, dict[str, Any]],
    finals: dict[str, list[dict[str, Any]]],
    curve: dict[int, list[dict[str, Any]]],
) -> dict[str, Any]:
    """Medians and ranges over seeds of every tool, our curve, and the three ratios of the bar."""
    tools = {
        tool: {
            "winner": {key: best[tool][key] for key in ("rate", "batch", "bf16", "tokens")},  # tokens it was found at
            **{key: _spread([r[key] for r in found]) for key in MEASURED},
            "patches": found[0].get("patches", []),
        }
        for tool, found in finals.items() if all("failed" not in r for r in found)
    }  # fmt: skip
    ours = [
        {"tokens": budget, **{key: _spread([r[key] for r in found]) for key in ("seconds", "unexplained")}}
        for budget, found in sorted(curve.items()) if found
    ]  # fmt: skip
    out: dict[str, Any] = {
        "protocol": {key: str(value) for key, value in vars(args).items() if key not in NOT_PROTOCOL},
        "held_out_rows": HELD_OUT_ROWS * 3 // 4, "tools": tools, "our_curve": ours,
        "machine": {
            "cores": os.cpu_count(), "instructions": torch.backends.cpu.get_cpu_capability(),
            "torch": torch.__version__,
        },
    }  # fmt: skip
    peers = {tool: row for tool, row in tools.items() if tool != "ours"}
    if peers and "ours" in tools:
        fastest = max(peers, key=lambda tool: peers[tool]["tokens_per_second"]["median"])
        finest = min(peers, key=lambda tool: peers[tool]["unexplained"]["median"])
        target = peers[finest]["unexplained"]["median"]
        points = [*ours, {"tokens": args.tokens, **{k: tools["ours"][k] for k in ("seconds", "unexplained")}}]
        points.sort(key=lambda point: point["tokens"])
        reached = [point for point in points if point["unexplained"]["median"] <= target]
        out["bar"] = {
            "fastest_peer": fastest,
            "speed_ratio": tools["ours"]["tokens_per_second"]["median"] / peers[fastest]["tokens_per_second"]["median"],
            "best_peer": finest, "its_unexplained": target, "its_seconds": peers[finest]["seconds"]["median"],
            "our_tokens_to_it": reached[0]["tokens"] if reached else None,
            "our_seconds_to_it": reached[0]["seconds"]["median"] if reached else None,
            "share_of_its_seconds": (
                reached[0]["seconds"]["median"] / peers[finest]["seconds"]["median"] if reached else None
            ),
            "our_dead_minus_its": tools["ours"]["dead"]["median"] - peers[finest]["dead"]["median"],
        }  # fmt: skip
    return out


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def prepare_rows(args: argparse.Namespace) -> None:
    """The common file of rows: of a store, or of a model grown for it (resumable, in `--work`)."""
    file = args.work / "rows.safetensors"
    if file.is_file():
        return
    from glasshouse.activations import Store, harvest
    from glasshouse.models import grow, load
    from glasshouse.text import corpus

    if args.activations:
        store, site = Store(args.activations), args.site
    else:
        ws = Workspace.open(args.work / "workspace")
        grow("python", name="grown", ws=ws, tokens=args.grow_tokens)
        model = load("grown", workspace=ws, device="cpu")
        site = f"resid.{model.n_layers // 2}"
        store = harvest(model, corpus("python"), [site], name="rows", ws=ws, tokens=args.tokens + 2 * HELD_OUT_ROWS)
    site = site or store.sites[0]
    parts = {"train": (False, min(args.tokens, store.rows)), "held": (True, min(HELD_OUT_ROWS, store.held_out_rows))}
    tensors = {}
    for key, (held_out, count) in parts.items():
        taken: list[Tensor] = []
        for part in store.batches(site, 4096, held_out=held_out):
            taken.append(part)
            if len(taken) * 4096 >= count:
                break
        tensors[key] = torch.cat(taken)[:count].contiguous()
    save_file(tensors, args.work / ".rows")
    os.replace(args.work / ".rows", file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--activations", type=Path, help="folder of a finished harvest")
    parser.add_argument("--site", help="site in it; its first without this")
    parser.add_argument("--grow-tokens", type=int, default=3_000_000, help="for the model grown without --activations")
    parser.add_argument("--peer-python", help="python of an environment with the peers; without it they are left out")
    parser.add_argument("--tools", nargs="+", default=["ours", *PEERS], choices=["ours", *PEERS])
    parser.add_argument("--features", type=int, default=8192)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=1_800_000)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-3, 8e-3])
    parser.add_argument("--batches", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument("--budgets", type=int, nargs="+", default=[300_000, 600_000, 900_000, 2_400_000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("bench-dictionary"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/train_dictionary.json"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        train_ours(json.loads(args.one), args.work, args.out)
        return
    args.work.mkdir(parents=True, exist_ok=True)
    prepare_rows(args)
    start = time.time()
    result = benchmark(args)
    result["seconds_of_this_call"] = round(time.time() - start)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(args.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result.get("bar", result["tools"]), indent=1))


if __name__ == "__main__":
    main()
