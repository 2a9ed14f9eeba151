"""Text as training reads it: rows of one length, and held-out windows with bits per byte.

Legend: R rows of the text, B rows of a batch, T positions, W windows, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glasshouse.models.training import next_token_losses
from glasshouse.text import Tokens, windows
from glasshouse.types import Estimate, UserError

OPEN_ROWS = 32  # that wait for a document that fits


class Rows:
    """Training text as rows: documents in an order of the seed, the end mark between them, cut to the context.

    Every row begins with the end mark, as every window does in which the model is looked at. `batch(step)` depends on
    the seed and the step only; each pass over the text has its own order. Tokens that begin in a document's `unlearned`
    stretches are read only. whole: a document begins a row of its own where it would be cut, so that nothing is learnt
    without what it answers to; what is left of a row is filled with end marks, which are not learnt, and rows of which
    nothing is learnt are left out.
    """

    def __init__(self, tokens: Tokens, context: int, end: int, seed: int, *, whole: bool = False) -> None:
        order = np.random.default_rng([seed, 1]).permutation(len(tokens.doc_start) - 1)
        ids: list[NDArray[np.uint32]] = []
        learn: list[NDArray[np.bool_]] = []
        for doc in order:
            own = slice(tokens.doc_start[doc], tokens.doc_start[doc + 1])
            if own.stop > own.start:
                ids.append(np.append(tokens.ids[own], np.uint32(end)))
                learn.append(np.append(tokens.learnt_N[own], True))
        room = context - 1
        if sum(map(len, ids)) < room:
            raise UserError(
                f"expected text longer than a context of {context} tokens, {tokens.corpus.source} has "
                f"{len(tokens.ids)} to train on; give more text or a shorter context"
            )
        if whole:
            ids, learn = _packed(ids, learn, room, end)
        stream = np.concatenate(ids)
        n = len(stream) // room
        body = stream[: n * room].reshape(n, room).astype(np.int64)
        learn_RT = np.concatenate(learn)[: n * room].reshape(n, room)
        if whole:
            some_R = learn_RT.any(axis=1)
            body, learn_RT, n = body[some_R], learn_RT[some_R], int(some_R.sum())
        self.ids_RT = np.concatenate([np.full((n, 1), end, np.int64), body], axis=1)
        everything = not whole and bool(learn_RT.all())
        self.learn_RT = None if everything else np.concatenate([np.zeros((n, 1), np.bool_), learn_RT], axis=1)
        self.seed = seed
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def batch(self, step: int, rows: int) -> Tensor:
        """int64 (rows, T) of step `step`, counted from 0."""
        return torch.from_numpy(self.ids_RT[self._picked(step, rows)])

    def learn(self, step: int, rows: int) -> Tensor | None:
        """bool (rows, T): which tokens of that batch are learnt; nothing where all are."""
        return None if self.learn_RT is None else torch.from_numpy(self.learn_RT[self._picked(step, rows)])

    def _picked(self, step: int, rows: int) -> list[int]:
        n = len(self.ids_RT)
        return [int(self._shuffled(i // n)[i % n]) for i in range(step * rows, (step + 1) * rows)]

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self.seed, 2, epoch]).permutation(len(self.ids_RT)))
        return self._order[1]


def _packed(
    ids: Sequence[NDArray[np.uint32]], learn: Sequence[NDArray[np.bool_]], room: int, end: int
) -> tuple[list[NDArray[np.uint32]], list[NDArray[np.bool_]]]:
    """Documents in rows of `room` tokens, each where it leaves least of those that are open (best-fit packing, Ding et
    al. 2024, arXiv:2404.10830); longer ones are cut."""
    pieces = [
        (one[i : i + room], two[i : i + room])
        for one, two in zip(ids, learn, strict=True)
        for i in range(0, len(one), room)
    ]
    closed: list[tuple[int, list[int]]] = []  # tokens left, pieces in it
    opened: list[tuple[int, list[int]]] = []
    for i, (piece, _) in enumerate(pieces):
        fitting = [row for row in opened if row[0] >= len(piece)]
        left, inside = min(fitting, default=(room, []), key=lambda row: row[0])
        if fitting:
            opened.remove((left, inside))
        elif len(opened) == OPEN_ROWS:
            fullest = min(opened, key=lambda row: row[0])
            opened.remove(fullest)
            closed.append(fullest)
        opened.append((left - len(piece), [*inside, i]))
    packed_ids, packed_learn = [], []
    for left, inside in (*closed, *opened):
        packed_ids += [*(pieces[i][0] for i in inside), np.full(left, end, np.uint32)]
        packed_learn += [*(pieces[i][1] for i in inside), np.zeros(left, np.bool_)]
    return packed_ids, packed_learn


class HeldOut:
    """Held-out text in windows, with the bytes behind every token. What is not learnt of it does not count."""

    def __init__(self, tokens: Tokens, lengths_V: NDArray[np.int64], context: int, end: int) -> None:
        self.windows = windows(tokens, context=context, bos_id=end, pad_id=end, min_length=1)
        self.lengths_V = lengths_V
        self.learn_WT = self.windows.learnt(np.arange(len(self.windows)))[:, 1:]

    def bits_per_byte(self, model: nn.Module, precision: str, *, limit: int | None = None, batch: int = 16) -> Estimate:
        """Bits to code the text with the model, over its bytes of UTF-8; clustered by document.

        Every token that is learnt is predicted, the first of a window from the end mark. `limit`: of windows.
        """
        found = self.windows
        picked = np.arange(len(found))
        if limit is not None and limit < len(found):
            picked = np.linspace(0, len(found) - 1, limit).astype(np.int64)
        picked = picked[np.argsort(found.length_W[picked], kind="stable")]  # like lengths together: less padding
        n_docs = int(found.doc_W.max()) + 1
        bits, size = np.zeros(n_docs), np.zeros(n_docs)
        device = next(model.parameters()).device
        for first in range(0, len(picked), batch):
            some = picked[first : first + batch]
            longest = int(found.length_W[some].max())
            ids_BT = found.ids_WT[some, :longest].astype(np.int64)
            with torch.no_grad():
                nats = next_token_losses(model, torch.from_numpy(ids_BT).to(device), precision)
            mask_BT = found.mask_WT[some, 1:longest] & self.learn_WT[some, : longest - 1]
            nats_BT = nats.cpu().double().numpy().reshape(len(some), -1) * mask_BT
            np.add.at(bits, found.doc_W[some], nats_BT.sum(1) / math.log(2))
            np.add.at(size, found.doc_W[some], (self.lengths_V[ids_BT[:, 1:]] * mask_BT).sum(1))
        read = size > 0
        return Estimate.mean(bits[read].tolist(), size[read].tolist(), unit="bits/byte")
