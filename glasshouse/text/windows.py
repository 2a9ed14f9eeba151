"""Windows: what a model reads at once. One document a window, never two; padded on the right.

Legend: W windows, T positions of the context.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glasshouse.text.tokens import Tokens
from glasshouse.types import UserError

WINDOWS = "windows.safetensors"  # of a harvest, in activations/NAME: what it read


@dataclass(frozen=True)
class Windows:
    """Consecutive pieces of documents.

    ids_WT: int32, padded with `pad_id`. length_W: int32, positions that are not padding, BOS included. doc_W: int32,
    index of the document in the corpus. first_W: int64, index into `tokens.ids` of the first token of the text; it
    stands at column 1 where `bos` (column 0 is then the BOS token), else at column 0.
    """

    tokens: Tokens
    ids_WT: NDArray[np.int32]
    length_W: NDArray[np.int32]
    doc_W: NDArray[np.int32]
    first_W: NDArray[np.int64]
    bos: bool

    def __len__(self) -> int:
        return len(self.length_W)

    @property
    def context(self) -> int:
        return int(self.ids_WT.shape[1])

    @property
    def mask_WT(self) -> NDArray[np.bool_]:
        return np.arange(self.context)[None, :] < self.length_W[:, None]

    def learnt(self, some: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which tokens of these windows the text teaches to write (`Tokens.learnt_N`), (windows, T); not BOS, not the
        padding."""
        at_WT = self.first_W[some, None] + np.arange(self.context) - self.bos
        inside_WT = self.mask_WT[some] & (np.arange(self.context) >= self.bos)
        return inside_WT & self.tokens.learnt_N[np.where(inside_WT, at_WT, 0)]

    def char(self, window: int, column: int) -> int:
        """Character of the document's text at which the token in this column begins (0 for BOS)."""
        assert 0 <= column < self.length_W[window], (column, int(self.length_W[window]))
        if self.bos and column == 0:
            return 0
        return int(self.tokens.start_char[self.first_W[window] + column - self.bos])


def windows(tokens: Tokens, *, context: int, bos_id: int | None, pad_id: int, min_length: int = 8) -> Windows:
    """Cut every document into consecutive windows of `context` positions, the first of them BOS if there is one.

    Pieces with fewer than `min_length` tokens of text are left out. Raises `UserError` if the corpus, not only
    this side of it, is one document shorter than a context, or no piece is long enough.
    """
    room = context - (bos_id is not None)
    assert room >= 1, context
    lengths = np.diff(tokens.doc_start)
    alone = len(lengths) == 1 and tokens.corpus.split_from <= 1  # not one of several that a split has held out
    if alone and lengths[0] < room and not tokens.corpus.documents[0].start:  # not the tail of one that it has cut
        raise UserError(
            f"expected text longer than a context of {context} tokens, {tokens.corpus.source} is one document of "
            f"{int(lengths[0])}; give more text or a shorter context"
        )
    pieces = -(-lengths // room)
    doc = np.repeat(np.arange(len(lengths)), pieces)
    number = np.arange(len(doc)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    first = tokens.doc_start[doc] + number * room
    length = np.minimum(tokens.doc_start[doc + 1] - first, room)
    kept = length >= min(min_length, room)
    if not kept.any():
        raise UserError(
            f"expected documents of {min(min_length, room)} tokens or more in {tokens.corpus.source}, found none; "
            "give longer texts"
        )
    doc, first, length = doc[kept], first[kept], length[kept]
    ids_WT = np.full((len(doc), context), pad_id, np.int32)
    at = np.arange(room)[None, :]
    inside = at < length[:, None]
    text_WT = ids_WT[:, context - room :]
    text_WT[inside] = tokens.ids[(first[:, None] + at)[inside]]
    if bos_id is not None:
        ids_WT[:, 0] = bos_id
    return Windows(
        tokens, ids_WT, (length + (context - room)).astype(np.int32), doc.astype(np.int32), first, bos_id is not None
    )
