"""A store of activations on disk: shards of permuted rows that can be read from any row on, in the same order again.

    activations/NAME/
        manifest.json
        windows.safetensors            the windows read: train.ids, train.length, train.document, train.char, held.…
        shard-00000.safetensors …      per site bf16 rows under the site's name; `window`, `position` int32 per row
        held-00000.safetensors …       the same, of held-out documents
        statistics.safetensors         mean.SITE float32 (D,)

Legend: N rows, D width of a site, B rows of a batch, S shards, W windows, T positions of the context.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from glasshouse.activations.pooling import Pool, rebatch
from glasshouse.activations.reading import Reading, load_readings
from glasshouse.text.windows import WINDOWS
from glasshouse.types import ArtifactRef, Site, UserError
from glasshouse.workspace import Workspace, read_manifest
from glasshouse.workspace.files import sync_folder, write_past_cache

STATISTICS = "statistics.safetensors"
AGAIN = 0xA6A1  # in the seed of a later epoch: by the seed that placed a shard's rows they would be put back in order
SIDES = {False: "shard", True: "held"}
PIECE_BYTES = 1 << 20  # of rows put in order at once: they are hashed while they are in the cache
DTYPES = {torch.bfloat16: "BF16", torch.int32: "I32", torch.float64: "F64"}  # as safetensors calls them


def shard_name(index: int, held_out: bool) -> str:
    return f"{SIDES[held_out]}-{index:05d}.safetensors"


def write_shard(folder: Path, name: str, pool: Pool) -> str:
    """One pool as one file, under a temporary name until `keep_shard`; its SHA-256."""
    tensors = {"window": pool.window_N, "position": pool.position_N}
    tensors |= {f"sum.{site}": sums for site, sums in pool.sums.items()}
    entries = {name: _Entry(tensor.dtype, tuple(tensor.shape), [tensor]) for name, tensor in tensors.items()}
    for site, rows_MD in pool.rows.items():
        width = rows_MD.shape[1]
        pieces = pool.pieces(site, max(1, PIECE_BYTES // (2 * width)))
        entries[site] = _Entry(rows_MD.dtype, (len(pool.order_N), width), pieces)
    counts = {"tokens": pool.tokens, "bos": pool.bos, "left_out": pool.left_out, "outliers": pool.outliers}
    parts = _safetensors(entries, {"counts": json.dumps(counts, sort_keys=True)})
    return write_past_cache(folder / f".{name}.writing", parts)


def keep_shard(folder: Path, name: str) -> None:
    """Give what was written its name, so that a shard that is there is whole."""
    os.replace(folder / f".{name}.writing", folder / name)
    sync_folder(folder)


class _Entry(NamedTuple):
    """A tensor to be written, in pieces that follow each other."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    pieces: Iterable[torch.Tensor]


def _safetensors(entries: Mapping[str, _Entry], metadata: Mapping[str, str]) -> Iterator[memoryview]:
    """The bytes of a file that `safetensors` reads, of which a piece at a time is in memory: https://github.com/huggingface/safetensors#format."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end, ordered = 0, sorted(entries, key=lambda name: (-entries[name].dtype.itemsize, name))  # so that all are aligned
    for name in ordered:
        entry, start = entries[name], end
        end += math.prod(entry.shape) * entry.dtype.itemsize
        header[name] = {"dtype": DTYPES[entry.dtype], "shape": list(entry.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield memoryview(len(text).to_bytes(8, "little") + text)
    for name in ordered:
        for piece in entries[name].pieces:
            yield piece.contiguous().view(-1).view(torch.uint8).numpy().data


def read_counts(path: Path) -> dict[str, Any]:
    """What a shard says of itself: rows kept, positions read, BOS and outlier positions left out."""
    with _open(path) as handle:
        counts: dict[str, Any] = json.loads(handle.metadata()["counts"])
        counts["rows"] = handle.get_slice("window").get_shape()[0]
    return counts


def read_sums(path: Path, sites: Sequence[str]) -> dict[str, torch.Tensor]:
    with _open(path) as handle:
        return {site: handle.get_tensor(f"sum.{site}") for site in sites}


def read_first(path: Path, site: str, rows: int) -> torch.Tensor:
    """The first `rows` of a shard: a random sample of it, because shards are permuted."""
    with _open(path) as handle:
        return handle.get_slice(site)[:rows]


def _open(path: Path) -> Any:
    try:
        return safe_open(path, "pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"expected a whole shard at {path}, found one that does not read ({error}); harvest again"
        ) from None


class Store:
    """A finished harvest. Opening it checks the manifest and the size of every file (`UserError` if one is off).

    `rows` and `held_out_rows` count the rows of every site (all sites keep the same). `sites` are names as in
    `Site`. Nothing is read until asked for; shards are memory-mapped.
    """

    def __init__(self, folder: str | Path, *, verify: bool = False) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder, verify=verify)
        if self.manifest.get("kind") != "activations":
            raise UserError(f"expected activations in {self.folder}, found {self.manifest.get('kind')}")
        self.name: str = self.manifest["name"]
        self.model_name: str = self.manifest["config"]["model"]
        self.sites: tuple[str, ...] = tuple(self.manifest["sites"])
        self._shards = {side: [s for s in self.manifest["shards"] if s["held_out"] == side] for side in SIDES}
        self._starts = {
            side: [0, *itertools.accumulate(s["rows"] for s in shards)] for side, shards in self._shards.items()
        }
        self.rows: int = self._starts[False][-1]
        self.held_out_rows: int = self._starts[True][-1]
        self._readings: tuple[Reading, Reading] | None = None

    def __repr__(self) -> str:
        return f"<Store {self.name}: {self.rows:,} rows + {self.held_out_rows:,} held out, at {', '.join(self.sites)}>"

    @property
    def ref(self) -> ArtifactRef:
        return ArtifactRef("activations", self.name, self.manifest["hash"])

    @property
    def hash(self) -> str:
        """Of its settings and the bytes of its files: another harvest under the same name has another."""
        return self.ref.hash

    # -- sites -----------------------------------------------------------------------------------------------------

    def site(self, text: str | Site) -> str:
        """The site's own spelling; `UserError` naming what is here if it was not harvested."""
        name = str(text if isinstance(text, Site) else Site.parse(text))
        if name not in self.sites:
            raise UserError(
                f"expected one of {', '.join(self.sites)} in the activations {self.name}, got {name}; harvest it first"
            )
        return name

    def width(self, site: str | Site) -> int:
        return int(self.manifest["sites"][self.site(site)]["width"])

    def typical_norm(self, site: str | Site) -> float:
        """Median norm of the rows kept."""
        return float(self.manifest["sites"][self.site(site)]["typical_norm"])

    def outlier_threshold(self, site: str | Site) -> float:
        """The norm above which a position was left out."""
        return float(self.manifest["sites"][self.site(site)]["outlier_threshold"])

    def mean(self, site: str | Site) -> torch.Tensor:
        """Mean of the training rows, float32 (D,)."""
        with _open(self.folder / STATISTICS) as handle:
            return handle.get_tensor(f"mean.{self.site(site)}")

    # -- rows ------------------------------------------------------------------------------------------------------

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
        """Batches of bf16 rows (`batch_rows`, D), from row `start_row` of one fixed endless sequence of rows.

        Training rows: epoch after epoch without end, unless `epochs` says how many. Epoch 0 reads the shards as they
        lie; a later one visits them in an order, and their rows in a permutation, drawn from `seed` and its number.
        Batch i begun at row 0 holds the same rows as the first batch begun at row i × `batch_rows`. A batch may span
        two shards or epochs. Held-out rows: one epoch. Where the sequence ends, the last batch may be short.
        """
        name = self.site(site)
        assert batch_rows > 0 and start_row >= 0, (batch_rows, start_row)
        if held_out:
            epochs = 1
        if not (self.held_out_rows if held_out else self.rows):
            raise UserError(f"expected rows in the activations {self.name}, found none; harvest more tokens")
        yield from rebatch(self._blocks(name, batch_rows, start_row, seed, held_out, epochs), batch_rows)

    def _blocks(
        self, site: str, batch_rows: int, start_row: int, seed: int, held_out: bool, epochs: int | None
    ) -> Iterator[torch.Tensor]:
        """Consecutive pieces of the sequence of rows, each of at most `batch_rows`."""
        shards, total = self._shards[held_out], self._starts[held_out][-1]
        epoch, skip = divmod(start_row, total)
        while epochs is None or epoch < epochs:
            order = np.arange(len(shards))
            if epoch:
                order = np.random.default_rng([seed, epoch]).permutation(len(shards))
            for index in map(int, order):
                rows = shards[index]["rows"]
                if skip >= rows:
                    skip -= rows
                    continue
                permuted = None if epoch == 0 else np.random.default_rng([AGAIN, seed, epoch, index]).permutation(rows)
                yield from self._shard_blocks(site, shards[index]["file"], batch_rows, skip, permuted)
                skip = 0
            epoch += 1

    def _shard_blocks(
        self, site: str, file: str, batch_rows: int, skip: int, permuted: np.ndarray | None
    ) -> Iterator[torch.Tensor]:
        with self._shard(file, site) as handle:
            if permuted is None:
                rows = handle.get_slice(site)
                for start in range(skip, rows.get_shape()[0], batch_rows):
                    yield rows[start : start + batch_rows]
                return
            rows_ND = handle.get_tensor(site).clone()  # read once in order, so that the permutation costs no seeks
            for indices_B in torch.from_numpy(permuted)[skip:].split(batch_rows):
                yield rows_ND[indices_B]

    def _shard(self, file: str, site: str) -> Any:
        """The shard, open and of the shape that the manifest says."""
        handle = _open(self.folder / file)
        rows = next(s["rows"] for s in self.manifest["shards"] if s["file"] == file)
        expected = [rows, self.width(site)]
        found = handle.get_slice(site).get_shape() if site in handle.keys() else "no such tensor"  # noqa: SIM118
        if found != expected:
            raise UserError(
                f"expected {site} of shape {expected} in {self.folder / file}, found {found}; harvest again"
            )
        return handle

    def rows_of(
        self, site: str | Site, indices: Sequence[int] | torch.Tensor, *, held_out: bool = False
    ) -> torch.Tensor:
        """Rows by number, bf16 (len(indices), D), in the order given. Row i of every site is the same token."""
        name = self.site(site)
        taken = torch.empty(len(indices), self.width(name), dtype=torch.bfloat16)
        for file, local, where in self._locate(indices, held_out):
            with self._shard(file, name) as handle:
                taken[where] = handle.get_tensor(name)[local]
        return taken

    def origin(
        self, indices: Sequence[int] | torch.Tensor, *, held_out: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(window, position) of rows by number, int32 each: the window of `reading(held_out)` and the column in it."""
        window_N = torch.empty(len(indices), dtype=torch.int32)
        position_N = torch.empty(len(indices), dtype=torch.int32)
        for file, local, where in self._locate(indices, held_out):
            with _open(self.folder / file) as handle:
                window_N[where] = handle.get_tensor("window")[local]
                position_N[where] = handle.get_tensor("position")[local]
        return window_N, position_N

    def _locate(
        self, indices: Sequence[int] | torch.Tensor, held_out: bool
    ) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
        """(shard's file, rows within it, places among `indices`) for every shard that is needed."""
        row_N = torch.as_tensor(indices, dtype=torch.long)
        starts = self._starts[held_out]
        if len(row_N) and not 0 <= int(row_N.min()) <= int(row_N.max()) < starts[-1]:
            raise IndexError(f"rows {int(row_N.min())} to {int(row_N.max())} of {starts[-1]}")
        shard_N = torch.bucketize(row_N, torch.tensor(starts[1:]), right=True)
        for shard in shard_N.unique().tolist():
            where = (shard_N == shard).nonzero().squeeze(1)
            yield self._shards[held_out][shard]["file"], row_N[where] - starts[shard], where

    # -- text ------------------------------------------------------------------------------------------------------

    def reading(self, held_out: bool = False) -> Reading:
        """The windows that were read: ids, lengths, and the document and character at which each begins."""
        if self._readings is None:
            self._readings = load_readings(self.folder / WINDOWS)
        return self._readings[held_out]

    def windows(self, held_out: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """(ids_WT int64, mask_WT bool) of one side, in the order read: what a spliced cross-entropy is taken on."""
        return self.reading(held_out).tensors()


def store(ws: Workspace, name: str) -> Store:
    """Open the activations `name` of a workspace. Raises `UserError` if missing, edited, truncated or newer."""
    ws.manifest("activations", name)
    return Store(ws.path("activations", name))


def summary(folder: Path, widths: Mapping[str, int], thresholds: Mapping[str, float]) -> dict[str, Any]:
    """Manifest fields of the shards in `folder`, from the shards themselves; writes statistics.safetensors.

    The typical norm is the median over the first 4,096 rows of every training shard, a random sample of each.
    """
    shards: list[dict[str, Any]] = []
    totals: dict[str, Any] = {"tokens": 0, "bos": 0, "left_out": 0}
    outliers = dict.fromkeys(widths, 0)
    sums = {site: torch.zeros(width, dtype=torch.float64) for site, width in widths.items()}
    norms: dict[str, list[torch.Tensor]] = {site: [] for site in widths}
    for side, prefix in SIDES.items():
        for path in sorted(folder.glob(f"{prefix}-*.safetensors")):
            counts = read_counts(path)
            shards.append({"file": path.name, "rows": counts["rows"], "held_out": side})
            totals = {key: totals[key] + counts[key] for key in totals}
            for site in widths:
                outliers[site] += counts["outliers"][site]
                if not side:
                    sums[site] += read_sums(path, [site])[site]
                    norms[site].append(read_first(path, site, 4096).float().norm(dim=1))
    rows = sum(s["rows"] for s in shards if not s["held_out"])
    save_file({f"mean.{site}": (total / max(rows, 1)).float() for site, total in sums.items()}, folder / STATISTICS)
    sites = {
        site: {
            "width": width,
            "typical_norm": float(torch.cat(norms[site]).median()) if rows else 0.0,
            "outlier_threshold": thresholds[site],
            "outliers": outliers[site],
        }
        for site, width in widths.items()
    }
    held_out_rows = sum(s["rows"] for s in shards if s["held_out"])
    return {"sites": sites, "rows": rows, "held_out_rows": held_out_rows, "read": totals, "shards": shards}
