"""One training run by one peer, in the peer's own process and trainer; `train_dictionary.py` calls it.

    python benchmarks/dictionary_peers.py saelens rows.safetensors out/ --tokens 20480 --batch 1024 --rate 1e-3

Needs torch, safetensors and the peer (sae-lens 6.54.12, dictionary_learning 0.1.0 or eai-sparsify 1.3.3), not
glasshouse. Reads `train` (N, D) of the file, trains, and writes a folder in SAELens' form and `run.json` with the
seconds of training (importing, reading the file and saving not counted). What had to be changed for a peer to run
here at all, or in bf16 on a CPU, is listed in `patches`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

PATCHES = {
    "saelens": [],
    "dictionary_learning": [
        "dead_feature_threshold, fixed at 10 M tokens, set to a tenth of the budget",
        "autocast, off for every CPU, entered around trainSAE when bf16 is asked for",
    ],
    "sparsify": [
        "rows of a file through a module that looks them up, as it only reads activations of a model",
        "autocast, on for CUDA only, entered around fit when bf16 is asked for",
    ],
}


class Rows:
    """Batches of the file's rows in order, float32, again and again. Can be iterated more than once."""

    def __init__(self, train_ND: Tensor, batch: int) -> None:
        self.train_ND, self.batch = train_ND, batch

    def __iter__(self) -> Iterator[Tensor]:
        whole = len(self.train_ND) // self.batch
        index = 0
        while True:
            yield self.train_ND[index * self.batch : (index + 1) * self.batch].float()
            index = (index + 1) % whole


def autocast(bf16: bool) -> Any:
    return torch.autocast("cpu", dtype=torch.bfloat16) if bf16 else nullcontext()


def saelens(rows: Rows, args: argparse.Namespace) -> tuple[float, dict[str, Tensor], dict[str, Any]]:
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.training.sae_trainer import SAETrainer

    steps = args.tokens // args.batch
    sae = BatchTopKTrainingSAE(
        BatchTopKTrainingSAEConfig(
            d_in=rows.train_ND.shape[1], d_sae=args.features, k=args.k,
            normalize_activations="expected_average_only_in",
        )
    )  # fmt: skip
    trainer = SAETrainer(
        SAETrainerConfig(
            total_training_samples=steps * args.batch, train_batch_size_samples=args.batch, lr=args.rate, lr_end=0.0,
            lr_warm_up_steps=steps // 50, lr_decay_steps=steps // 5, autocast=args.bf16,
            dead_feature_window=max(10, steps // 10), n_batches_for_norm_estimate=16,
            logger=LoggingConfig(log_to_wandb=False),
        ),
        sae, iter(rows),
    )  # fmt: skip
    start = time.perf_counter()
    trainer.fit()
    seconds = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        sae.save_inference_model(folder)
        config = json.loads((Path(folder) / "cfg.json").read_text())
        return seconds, load_file(Path(folder) / "sae_weights.safetensors"), config


def dictionary_learning(rows: Rows, args: argparse.Namespace) -> tuple[float, dict[str, Tensor], dict[str, Any]]:
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.training import trainSAE

    class Trainer(BatchTopKTrainer):  # type: ignore[misc]
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            self.dead_feature_threshold = args.tokens // 10

    steps = args.tokens // args.batch
    given = {
        "trainer": Trainer, "steps": steps, "activation_dim": rows.train_ND.shape[1], "dict_size": args.features,
        "k": args.k, "layer": 0, "lm_name": "file", "lr": args.rate, "warmup_steps": steps // 50,
        "decay_start": int(0.8 * steps), "threshold_start_step": steps // 2, "seed": args.seed, "device": "cpu",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with autocast(args.bf16):
            trainSAE(rows, [given], steps, save_dir=folder, normalize_activations=True, device="cpu")
        seconds = time.perf_counter() - start
        state = torch.load(Path(folder) / "trainer_0" / "ae.pt", weights_only=True)
    tensors = {
        "W_enc": state["encoder.weight"].T, "b_enc": state["encoder.bias"], "W_dec": state["decoder.weight"].T,
        "b_dec": state["b_dec"], "threshold": state["threshold"].clamp(min=0).expand(args.features),
    }  # fmt: skip
    return seconds, tensors, {"architecture": "jumprelu", "apply_b_dec_to_input": True}


class FileModel(torch.nn.Module):
    """A "model" whose one site holds rows of the file: input ids are row numbers."""

    def __init__(self, train_ND: Tensor) -> None:
        super().__init__()
        self.rows = train_ND
        self.site = torch.nn.Identity()
        self.device = torch.device("cpu")
        self.dummy_inputs = {"input_ids": torch.zeros(1, 2, dtype=torch.long)}

    @property
    def base_model(self) -> torch.nn.Module:
        return self

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.site(self.rows[input_ids].float())


class RowNumbers(torch.utils.data.Dataset[dict[str, Tensor]]):
    """ "Texts" of 256 row numbers each."""

    LENGTH = 256

    def __init__(self, tokens: int, rows: int) -> None:
        self.tokens, self.rows = tokens, rows

    def __len__(self) -> int:
        return self.tokens // self.LENGTH

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index >= len(self):
            raise IndexError(index)
        return {"input_ids": torch.arange(index * self.LENGTH, (index + 1) * self.LENGTH) % self.rows}


def sparsify(rows: Rows, args: argparse.Namespace) -> tuple[float, dict[str, Tensor], dict[str, Any]]:
    from sparsify import SaeConfig, TrainConfig, Trainer

    tokens = args.tokens // args.batch * args.batch
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(
            SaeConfig(num_latents=args.features, k=args.k), batch_size=args.batch // RowNumbers.LENGTH,
            hookpoints=["site"], lr=args.rate, init_seeds=[args.seed], save_every=10**9, log_to_wandb=False,
            run_name="run", save_dir=folder,
        )  # fmt: skip
        trainer = Trainer(config, RowNumbers(tokens, len(rows.train_ND)), FileModel(rows.train_ND))
        start = time.perf_counter()
        with autocast(args.bf16):
            trainer.fit()
        seconds = time.perf_counter() - start
        state = load_file(Path(folder) / "run" / "site" / "sae.safetensors")
    tensors = {
        "W_enc": state["encoder.weight"].T, "b_enc": state["encoder.bias"], "W_dec": state["W_dec"],
        "b_dec": state["b_dec"],
    }  # fmt: skip
    return seconds, tensors, {"architecture": "topk", "k": args.k, "apply_b_dec_to_input": True}


PEERS = {"saelens": saelens, "dictionary_learning": dictionary_learning, "sparsify": sparsify}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("rows", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--features", type=int, default=8192)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    seconds, tensors, config = PEERS[args.peer](Rows(load_file(args.rows)["train"], args.batch), args)
    args.out.mkdir(parents=True, exist_ok=True)
    tensors = {key: tensor.detach().float().contiguous().clone() for key, tensor in tensors.items()}
    save_file(tensors, args.out / "sae_weights.safetensors")
    config["metadata"] = {"hook_name": "blocks.0.hook_resid_pre", "model_name": args.peer}
    (args.out / "cfg.json").write_text(json.dumps(config))
    patches = [p for p in PATCHES[args.peer] if args.bf16 or not p.startswith("autocast")]
    (args.out / "run.json").write_text(json.dumps({"seconds": seconds, "patches": patches}))


if __name__ == "__main__":
    main()
