"""One pool of rows: windows go through the model, the rows of all sites are kept, and taken in one random order.

Legend: B windows of a batch, T positions, D width of a site, N rows, M rows of one batch.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from glasshouse.activations.reading import Reading, batches
from glasshouse.types import UserError

MOST_WAITING = 2  # batches whose rows are not in their pool yet
SAMPLE_WINDOWS = 8  # two thousand positions: a few percent of error in a yardstick that is then taken ten times


@dataclass(frozen=True)
class Pool:
    """Rows, and the random order in which they are taken: `rows[site]` bf16 (M, D) are as they were read, row i of the
    pool is `rows[site][order_N[i]]`; window_N, position_N int32 say where it was read.

    sums[site]: float64 (D,), of the rows as kept in bf16. outliers[site]: positions over the site's threshold;
    `left_out`: positions over any site's, so that all sites keep the same rows. bos: BOS positions left out.
    """

    rows: dict[str, torch.Tensor]
    order_N: torch.Tensor
    window_N: torch.Tensor
    position_N: torch.Tensor
    sums: dict[str, torch.Tensor]
    outliers: dict[str, int]
    left_out: int
    bos: int
    tokens: int

    def pieces(self, site: str, size: int, *, start: int = 0) -> Iterator[torch.Tensor]:
        """The pool's rows from `start` on, `size` at a time."""
        for order_B in self.order_N[start:].split(size):
            yield self.rows[site].index_select(0, order_B)


def site_widths(model: Any, sites: Sequence[str]) -> dict[str, int]:
    """{site in its own spelling: values per position}; heads × head width are laid side by side (`z`).

    Raises `UserError` for a site that the model lacks or that has no row for each position.
    """
    if not sites:
        raise UserError("expected at least one site such as resid.3, got none; give --site")
    widths: dict[str, int] = {}
    for text in sites:
        site = model.site(text)
        if site.kind in ("pattern", "logits"):
            raise UserError(
                f"expected a site with one row of activations for each token, got {site}; "
                "take resid, resid_mid, attn_out, mlp_in, mlp_act, mlp_out, z or embed"
            )
        widths[str(site)] = 0
    ids_BT, mask_BT = torch.zeros(1, 2, dtype=torch.long), torch.ones(1, 2, dtype=torch.bool)
    run = _run(model, ids_BT, mask_BT, list(widths))
    return {site: run[site].values[0, 0].numel() for site in widths}


def _run(model: Any, ids_BT: torch.Tensor, mask_BT: torch.Tensor, sites: list[str]) -> Any:
    from glasshouse.models import Batch

    return model.run(Batch(ids_BT=ids_BT, mask_BT=mask_BT), get=sites, stop=True)


def read_batch(
    model: Any, reading: Reading, windows_B: NDArray[np.int64], sites: list[str]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """({site: values (B, T, D) where the model computed them}, mask (B, T) on the CPU), cut to the longest window."""
    length_B = reading.length_W[windows_B]
    longest = int(length_B.max())
    ids_BT = torch.from_numpy(reading.ids_WT[windows_B, :longest].astype(np.int64))
    mask_BT = torch.arange(longest)[None, :] < torch.from_numpy(length_B)[:, None]
    run = _run(model, ids_BT, mask_BT, sites)
    return {site: run[site].values.flatten(2) for site in sites}, mask_BT


def norm_BT(values_BTD: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(values_BTD, dim=-1, dtype=torch.float32)


def candidates(mask_BT: torch.Tensor, *, drop_bos: bool) -> torch.Tensor:
    """Positions that may become rows: no padding and, with `drop_bos`, not column 0."""
    if not drop_bos:
        return mask_BT
    kept_BT = mask_BT.clone()
    kept_BT[:, 0] = False
    return kept_BT


def median_norms(
    model: Any, reading: Reading, sites: Sequence[str], *, skip_bos: bool, batch_tokens: int
) -> dict[str, float]:
    """Median norm of each site over the first 8 windows: the yardstick of an outlier. Measured once and recorded."""
    norms: dict[str, list[torch.Tensor]] = {site: [] for site in sites}
    for windows_B in batches(reading, np.arange(min(SAMPLE_WINDOWS, len(reading))), batch_tokens):
        values, mask_BT = read_batch(model, reading, windows_B, list(sites))
        kept_BT = candidates(mask_BT, drop_bos=reading.bos and skip_bos)
        for site, values_BTD in values.items():
            norms[site].append(norm_BT(values_BTD).cpu()[kept_BT])
    medians = {site: float(torch.cat(found).median()) for site, found in norms.items()}
    for site, median in medians.items():
        if not 0 < median < float("inf"):
            raise UserError(
                f"expected activations of finite, positive norm at {site} of {model.name}, got a median of {median}; "
                "load the model in another precision, or choose another site"
            )
    return medians


Later = Callable[..., Future[Any]]


class _Kept(NamedTuple):
    """Of some windows: tokens, positions left out, those over each site's threshold, and each site's sum of rows."""

    tokens: int
    left_out: int
    over: dict[str, int]
    sums: dict[str, torch.Tensor]


class _Filling:
    """A pool as it fills. Candidate j becomes row j, zero where it is left out; the order passes that over. Rows are
    moved once, when they are taken, so that no second copy of the pool is ever made."""

    def __init__(self, widths: Mapping[str, int], size: int) -> None:
        self.rows = {site: torch.empty(size, width, dtype=torch.bfloat16) for site, width in widths.items()}
        self.window_N = torch.full((size,), -1, dtype=torch.int32)
        self.position_N = torch.zeros(size, dtype=torch.int32)

    def add(
        self,
        values: Mapping[str, torch.Tensor],
        windows_B: NDArray[np.int64],
        first: int,
        candidate_BT: torch.Tensor,
        kept_BT: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Of some windows, whose first candidate is the pool's candidate `first`; their sums."""
        windows, context = candidate_BT.shape
        row_M = candidate_BT.flatten().nonzero().squeeze(1)
        kept_M = kept_BT.flatten()[row_M]
        mine = slice(first, first + len(row_M))
        self.window_N[mine] = torch.from_numpy(windows_B.astype(np.int32))[row_M // context].where(kept_M, -1)
        self.position_N[mine] = (row_M % context).to(torch.int32)
        skipped = int(not candidate_BT[0, 0])
        whole = len(row_M) == windows * (context - skipped)
        sums = {}
        for site, values_BTD in values.items():
            rows_MD, place = self.rows[site][mine], values_BTD.device
            made_MD = rows_MD if place == rows_MD.device else torch.empty_like(rows_MD, device=place)
            if whole:
                made_MD.view(windows, context - skipped, made_MD.shape[1]).copy_(values_BTD[:, skipped:])
            else:
                values_MD = values_BTD.flatten(0, 1).to(torch.bfloat16)
                made_MD.copy_(values_MD.index_select(0, row_M.to(place)))
            if not kept_M.all():
                made_MD[~kept_M.to(place)] = 0
            sums[site] = _sum(made_MD)
            if made_MD is not rows_MD:
                rows_MD.copy_(made_MD)
        return sums

    def order(self, seed: Sequence[int], *, refill: bool) -> torch.Tensor:
        """A permutation of the rows that are kept, int64; with `refill` of all, where others stand in for the rest."""
        order_N = torch.from_numpy(np.random.default_rng(seed).permutation(len(self.window_N)))
        kept_N = self.window_N[order_N] >= 0
        kept = order_N[kept_N]
        if not refill or not len(kept):
            return kept
        holes = (~kept_N).nonzero().squeeze(1)
        order_N[holes] = kept[torch.arange(len(holes)) % len(kept)]
        return order_N


def fill_pool(
    model: Any,
    reading: Reading,
    windows_W: NDArray[np.int64],
    widths: Mapping[str, int],
    *,
    thresholds: Mapping[str, float],
    batch_tokens: int,
    skip_bos: bool,
    seed: Sequence[int],
    refill: bool = False,
    advance: Callable[[int], None] = lambda tokens: None,
    later: Later | None = None,
) -> Future[Pool]:
    """Read the pool's windows, and order their rows by `seed`. With a `later` of the caller's the last batches are put
    in their places, and the order is made, beside what the model is asked for next.

    A position over the threshold at any of the sites is left out at all of them: one table of rows serves every site,
    and row i of two sites is the same token. With `refill` the places of the rows left out are taken by copies of
    others, so that the number of rows is known before anything is computed (a stream needs that to start anywhere).
    """
    from glasshouse.models.beside import side_by_side

    drop_bos = reading.bos and skip_bos
    rows_W = reading.rows(skip_bos)
    filling = _Filling(widths, int(rows_W[windows_W].sum()))

    def read(own: Any, part: tuple[NDArray[np.int64], int]) -> Future[_Kept]:
        windows_B, first = part
        values, mask_BT = read_batch(own, reading, windows_B, list(widths))
        over = {site: ~(norm_BT(x_BTD) <= thresholds[site]) for site, x_BTD in values.items()}  # NaN is over too
        return soon(keep, values, over, mask_BT, windows_B, first)

    def keep(
        values: Mapping[str, torch.Tensor], over: Mapping[str, torch.Tensor], mask_BT: torch.Tensor,
        windows_B: NDArray[np.int64], first: int,
    ) -> _Kept:  # fmt: skip
        candidate_BT = candidates(mask_BT, drop_bos=drop_bos)
        kept_BT, counts = candidate_BT.clone(), {}
        for site, any_BT in over.items():
            over_BT = any_BT.cpu() & candidate_BT
            counts[site] = int(over_BT.sum())
            kept_BT &= ~over_BT
        sums = filling.add(values, windows_B, first, candidate_BT, kept_BT)
        return _Kept(int(mask_BT.sum()), int(candidate_BT.sum() - kept_BT.sum()), counts, sums)

    outliers = dict.fromkeys(widths, 0)
    sums = {site: torch.zeros(width, dtype=torch.float64) for site, width in widths.items()}
    left_out = tokens = 0

    def count(found: _Kept) -> None:  # in the order of the batches, so that the sums are the same every time
        nonlocal left_out, tokens
        tokens += found.tokens
        left_out += found.left_out
        for site in widths:
            outliers[site] += found.over[site]
            sums[site] += found.sums[site]
        advance(tokens)

    waiting: deque[Future[_Kept]] = deque()

    def filled() -> Pool:
        for found in waiting:
            count(found.result())
        order_N = filling.order(seed, refill=refill)
        return Pool(
            rows=filling.rows,
            order_N=order_N,
            window_N=filling.window_N[order_N],
            position_N=filling.position_N[order_N],
            sums=sums,
            outliers=outliers,
            left_out=left_out,
            bos=len(windows_W) if drop_bos else 0,
            tokens=tokens,
        )

    parts = 2 if model.device.type == "cpu" else 1
    with contextlib.ExitStack() as stack:
        soon = later or stack.enter_context(later_for(model.device))
        with side_by_side(model) as apply:
            for found in apply(read, _parts(batches(reading, windows_W, batch_tokens), rows_W, parts)):
                waiting.append(found)
                if len(waiting) > MOST_WAITING:
                    count(waiting.popleft().result())
        return soon(filled)


@contextlib.contextmanager
def later_for(device: torch.device) -> Iterator[Later]:
    """`later(f, ...)` within: the future of f(...). On a CPU it is done at once; on CUDA in a thread and a stream of
    their own, after what the GPU was asked for before and beside what it is asked for next."""
    if device.type != "cuda":

        def at_once(f: Callable[..., Any], *args: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(f(*args))
            return future

        yield at_once
        return
    stream = torch.cuda.Stream(device)

    def after(asked: torch.cuda.Event, f: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        with torch.cuda.stream(stream):
            stream.wait_event(asked)
            return f(*args)

    with ThreadPoolExecutor(1) as pool:
        yield lambda f, *args: pool.submit(after, torch.cuda.current_stream(device).record_event(), f, args)


def _parts(
    made: Sequence[NDArray[np.int64]], rows_W: NDArray[np.int64], parts: int
) -> Iterator[tuple[NDArray[np.int64], int]]:
    """The batches cut into parts, so that two at a time hold no more than one; with the rows that come before them."""
    first = 0
    for windows_B in made:
        for part_B in np.array_split(windows_B, min(parts, len(windows_B))):
            yield part_B, first
            first += int(rows_W[part_B].sum())


def _sum(rows_ND: torch.Tensor) -> torch.Tensor:
    """float64 (D,), in blocks: an fp32 sum of each, so that no fp64 copy of the pool is made."""
    total_D = torch.zeros(rows_ND.shape[1], dtype=torch.float64, device=rows_ND.device)
    for block_ND in rows_ND.split(4096):
        total_D += block_ND.float().sum(0)
    return total_D.cpu()


def rebatch(blocks: Iterable[torch.Tensor], batch_rows: int) -> Iterator[torch.Tensor]:
    """The same rows in the same order, `batch_rows` at a time; the last batch may be short."""
    parts: list[torch.Tensor] = []
    have = 0
    for rest_ND in blocks:
        while have + len(rest_ND) >= batch_rows:
            cut = batch_rows - have
            yield torch.cat([*parts, rest_ND[:cut]])
            rest_ND, parts, have = rest_ND[cut:], [], 0
        if len(rest_ND):
            parts.append(rest_ND)
            have += len(rest_ND)
    if parts:
        yield torch.cat(parts)
