"""What a harvest reads: windows in a seeded random order over all documents, cut into pools and batches.

Every choice here is a function of the windows' lengths and the seed, never of activations, so that pool k can be made
without pools 0 to k-1: a killed harvest goes on at the shard it lacks, a stream starts at any row.

Legend: W windows, T positions of the context.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.text import Corpus, Windows, tokenise, windows
from glasshouse.types import UserError

HELD_OUT = 0.05  # share of the documents held out: the default of `Corpus.split`, the same in grow, learn and features
MAX_HELD_OUT_TOKENS = 1 << 19


@dataclass(frozen=True)
class Reading:
    """Windows in the order in which they are read.

    ids_WT: int32, padded on the right. length_W: int32, positions that are not padding, BOS included. doc_W: int32,
    index of the document in its side of `Corpus.split`. char_W: int64, character of the document's text at which the
    window's text begins. bos: column 0 is the BOS token. learnt_WT: bool, tokens that the text teaches to write (see
    `Document.unlearned`), or None where it is all of them.
    """

    ids_WT: NDArray[np.int32]
    length_W: NDArray[np.int32]
    doc_W: NDArray[np.int32]
    char_W: NDArray[np.int64]
    bos: bool
    learnt_WT: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.length_W)

    @property
    def tokens(self) -> int:
        return int(self.length_W.sum())

    @property
    def mask_WT(self) -> NDArray[np.bool_]:
        """What is not padding."""
        return np.arange(self.ids_WT.shape[1])[None, :] < self.length_W[:, None]

    def rows(self, skip_bos: bool) -> NDArray[np.int64]:
        """Rows that each window can give, (W,), before any is left out for its norm."""
        return self.length_W.astype(np.int64) - (self.bos and skip_bos)

    def take(self, order: NDArray[np.int64]) -> Reading:
        learnt_WT = None if self.learnt_WT is None else self.learnt_WT[order]
        rows = self.ids_WT[order], self.length_W[order], self.doc_W[order], self.char_W[order]
        return Reading(*rows, self.bos, learnt_WT)

    def tensors(self) -> tuple[Any, Any]:
        """(ids_WT int64, mask_WT bool), what a model takes."""
        import torch

        return torch.from_numpy(self.ids_WT.astype(np.int64)), torch.from_numpy(self.mask_WT)

    def scored(self) -> Any:
        """bool (W, T - 1), a tensor: which next tokens a loss is of, those that the text teaches to write. Column 0 is
        of the token at column 1: a text's first token is not scored."""
        import torch

        scored_WT = self.mask_WT if self.learnt_WT is None else self.mask_WT & self.learnt_WT
        return torch.from_numpy(scored_WT[:, 1:])

    def arrays(self, side: str) -> dict[str, NDArray[Any]]:
        """For one safetensors file with both sides."""
        learnt = {} if self.learnt_WT is None else {f"{side}.learnt": np.ascontiguousarray(self.learnt_WT)}
        return learnt | {
            f"{side}.ids": np.ascontiguousarray(self.ids_WT),
            f"{side}.length": np.ascontiguousarray(self.length_W),
            f"{side}.document": np.ascontiguousarray(self.doc_W),
            f"{side}.char": np.ascontiguousarray(self.char_W),
        }


def split_reading(
    corpus: Corpus, model: Any, *, tokens: int, context: int, seed: int, held_out: float = HELD_OUT
) -> tuple[Reading, Reading]:
    """(train, held out): about `tokens` positions of training documents and `held_out` × as many of held-out ones.

    Fewer where the corpus has fewer: nothing is read twice. Raises `UserError` if either side has no window, or the
    model cannot read `context` positions.
    """
    check_context(model, context)
    sides = corpus.split(held_out)
    wanted = tokens, min(max(round(tokens * held_out), context), MAX_HELD_OUT_TOKENS)
    made = []
    for side, count, part in zip(("training", "held-out"), wanted, sides, strict=True):
        if not part.documents:
            raise UserError(
                f"expected at least two documents, or one much longer than a context of {context} tokens, in "
                f"{corpus.source}, found no {side} text; give more text or a shorter context"
            )
        # Twice the tokens wanted, so that the windows read are a sample of more documents than they fill.
        tokenised = tokenise(part, model.tokenizer, max_tokens=2 * count + context)
        made.append(choose(windows(tokenised, context=context, bos_id=model.bos_id, pad_id=model.pad_id), count, seed))
    return made[0], made[1]


def check_context(model: Any, context: int) -> None:
    if not 2 <= context <= model.context:
        raise UserError(
            f"expected a context from 2 to {model.context} tokens, which is what {model.name} reads, got {context}; "
            "give another --context"
        )


def choose(text: Windows, tokens: int, seed: int) -> Reading:
    """Windows in seeded random order until they hold `tokens` positions."""
    order = np.random.default_rng([seed, 0]).permutation(len(text))
    enough = int(np.searchsorted(np.cumsum(text.length_W[order]), tokens)) + 1
    order = order[:enough]
    char_W = text.tokens.start_char[text.first_W[order]].astype(np.int64)
    learnt_WT = text.learnt(order) if any(document.unlearned for document in text.tokens.corpus.documents) else None
    return Reading(text.ids_WT[order], text.length_W[order], text.doc_W[order], char_W, text.bos, learnt_WT)


def save_readings(path: Path, train: Reading, held_out: Reading) -> None:
    from safetensors.numpy import save

    from glasshouse.workspace import write_atomically

    write_atomically(
        path, save(train.arrays("train") | held_out.arrays("held"), metadata={"bos": "yes" if train.bos else "no"})
    )


def load_readings(path: Path) -> tuple[Reading, Reading]:
    from safetensors import safe_open

    with safe_open(path, "np") as handle:
        bos = handle.metadata()["bos"] == "yes"
        sides = []
        for side in ("train", "held"):
            ids, length, document, char = (
                handle.get_tensor(f"{side}.{k}") for k in ("ids", "length", "document", "char")
            )
            learnt = handle.get_tensor(f"{side}.learnt") if f"{side}.learnt" in set(handle.keys()) else None
            sides.append(Reading(ids, length, document, char, bos, learnt))
    return sides[0], sides[1]


def pools(reading: Reading, buffer_rows: int, *, skip_bos: bool) -> list[NDArray[np.int64]]:
    """Windows of each pool, in order: as many as can give `buffer_rows` rows. A pool is permuted and is one shard."""
    rows_W = reading.rows(skip_bos)
    cuts, have = [0], 0
    for window, rows in enumerate(rows_W):
        if have + rows > buffer_rows and have:
            cuts.append(window)
            have = 0
        have += rows
    return [np.arange(a, b) for a, b in zip(cuts, [*cuts[1:], len(reading)], strict=True)]


def batches(reading: Reading, pool: NDArray[np.int64], batch_tokens: int) -> list[NDArray[np.int64]]:
    """The pool's windows in batches of like lengths, each at most `batch_tokens` positions with its padding.

    The pool is permuted whole, so the order in which its windows are read shows nowhere.
    """
    order = pool[np.argsort(reading.length_W[pool], kind="stable")[::-1]]  # longest first: memory peaks at once
    made, start = [], 0
    while start < len(order):
        size = max(1, batch_tokens // int(reading.length_W[order[start]]))
        made.append(order[start : start + size])
        start += size
    return made
