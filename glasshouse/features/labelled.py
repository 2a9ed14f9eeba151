"""Text whose spans are labelled with concepts, read by a model: activations beside what holds at each token.

    labelled = read(model, dictionary.site, corpus, spans, tokens=200_000)      # spans: of each document of the corpus

A concept is a path: `entity/town` holds at the spans of `entity/town/veden` too. Where the tokenizer cuts characters,
`half/first` and `half/last` hold at the tokens that end and begin inside of one; nobody has to label them.

Legend: P positions that were read, T tokens of a document, D width of the site, C concepts, V vocabulary.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glasshouse.activations.pooling import candidates, median_norms, norm_BT, read_batch
from glasshouse.activations.reading import batches, choose
from glasshouse.text import Corpus, Document, token_bytes, token_halves, token_ranges, tokenise, windows
from glasshouse.types import Site, UserError

Span = tuple[int, int, str]  # first character, past the last, concept
HALVES = ("half/last", "half/first")  # of characters, in the order of `token_halves`
OUTLIER = 10.0  # positions over this many typical norms are left out, as in a harvest


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Positions of text with the concepts that hold there. x_PD: activations, float32. truth_PC: bool. doc_P: number of
    the document. making_P: the side on which detectors are chosen. others: activations at other sites. left_out:
    positions over 10 typical norms at the site, which are not here."""

    concepts: tuple[str, ...]
    x_PD: Tensor
    truth_PC: NDArray[np.bool_]
    doc_P: NDArray[np.int64]
    making_P: NDArray[np.bool_]
    others: dict[str, Tensor]
    left_out: int = 0

    @functools.cached_property
    def scored_documents(self) -> NDArray[np.int64]:
        """Of each position of the side that is not `making_P`: its document, counted from 0 among those there."""
        return np.unique(self.doc_P[~self.making_P], return_inverse=True)[1]


def read(
    model: Any,
    site: Site | str,
    corpus: Corpus,
    spans: Sequence[Sequence[Span]],
    *,
    tokens: int = 200_000,
    context: int | None = None,
    others: Sequence[Site | str] = (),
    typical_norm: float | None = None,
    seed: int = 0,
    batch_tokens: int = 8192,
) -> Labelled:
    """Read about `tokens` positions of the corpus at the site. spans[d]: (first character, past the last, concept) of
    document d. `others` are sites to read beside it, such as neurons at `mlp_act.2`. typical_norm: the dictionary's
    (None: the median over a first sample); positions over 10 times that are left out, as in a harvest.

    Raises `UserError` for spans of another number of documents, or outside of their text.
    """
    if len(spans) != len(corpus.documents):
        raise UserError(f"expected spans of {len(corpus.documents)} documents of {corpus.source}, got {len(spans)}")
    tokenised = tokenise(corpus, model.tokenizer, max_tokens=2 * tokens)
    text = windows(
        tokenised, context=min(context or 256, model.context), bos_id=model.bos_id, pad_id=model.pad_id, min_length=2
    )
    reading = choose(text, tokens, seed)
    labelled = {name for own in spans for *_, concept in own for name in above(concept)}
    concepts = tuple(sorted(labelled | {name for half in HALVES for name in above(half)}))
    number = {concept: i for i, concept in enumerate(concepts)}
    sites = [str(model.site(str(one))) for one in (site, *others)]
    if typical_norm is None:
        typical_norm = median_norms(model, reading, sites[:1], skip_bos=True, batch_tokens=batch_tokens)[sites[0]]
    bytes_V, left_out = _bytes_of(model.tokenizer, corpus), 0
    taken: dict[str, list[Tensor]] = {one: [] for one in sites}
    truth, doc = [], []
    of_document: dict[int, NDArray[np.bool_]] = {}
    for windows_B in batches(reading, np.arange(len(reading)), batch_tokens):
        values, mask_BT = read_batch(model, reading, windows_B, sites)
        candidate_BT = candidates(mask_BT, drop_bos=reading.bos)
        kept_BT = candidate_BT & (norm_BT(values[sites[0]]).cpu() <= OUTLIER * typical_norm)
        left_out += int(candidate_BT.sum() - kept_BT.sum())
        for one in sites:
            taken[one].append(values[one].flatten(0, 1)[kept_BT.flatten().to(values[one].device)].float().cpu())
        for window, kept_T in zip(windows_B.tolist(), kept_BT.numpy(), strict=True):
            d = int(reading.doc_W[window])
            own = slice(int(tokenised.doc_start[d]), int(tokenised.doc_start[d + 1]))
            start_T, ids_T = tokenised.start_char[own].astype(np.int64), tokenised.ids[own]
            if d not in of_document:
                document = corpus.documents[d]
                bytes_T = None if bytes_V is None else bytes_V[ids_T]
                of_document[d] = _truth(document, spans[d], number, start_T, bytes_T)
            first = int(np.searchsorted(start_T, int(reading.char_W[window])))
            length = int(reading.length_W[window]) - reading.bos
            ids = reading.ids_WT[window, reading.bos : reading.bos + length]
            while not np.array_equal(ids_T[first : first + length], ids):  # it begins inside a character
                first += 1
            kept = kept_T[reading.bos : reading.bos + length]
            truth.append(of_document[d][first : first + length][kept])
            doc.append(np.full(int(kept.sum()), d, np.int64))
    doc_P = np.concatenate(doc)
    making = {d: _making(corpus.documents[d].name, seed) for d in of_document}
    x = {one: torch.cat(parts) for one, parts in taken.items()}
    truth_PC = np.concatenate(truth)
    told = [c for c, name in enumerate(concepts) if name in labelled or truth_PC[:, c].any()]  # no halves, no concept
    assert len(x[sites[0]]) == len(doc_P), (len(x[sites[0]]), len(doc_P))
    return Labelled(
        concepts=tuple(concepts[c] for c in told), x_PD=x[sites[0]], truth_PC=truth_PC[:, told], doc_P=doc_P,
        making_P=np.array([making[d] for d in doc_P.tolist()]), others={one: x[one] for one in sites[1:]},
        left_out=left_out,
    )  # fmt: skip


def above(concept: str) -> list[str]:
    """A path and all that stand above it, the highest first."""
    parts = concept.split("/")
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _bytes_of(tokenizer: Any, corpus: Corpus) -> NDArray[np.int64] | None:
    """`token_bytes` with the marks of the corpus's chats, which stand in its text."""
    bytes_V = token_bytes(tokenizer)
    if bytes_V is not None and corpus.chat:
        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        for mark in corpus.chat.marks:
            if (i := backend.token_to_id(mark)) is not None:
                bytes_V[i] = len(mark.encode())
    return bytes_V


def _truth(
    document: Document,
    spans: Sequence[Span],
    number: dict[str, int],
    start_T: NDArray[np.int64],
    bytes_T: NDArray[np.int64] | None,
) -> NDArray[np.bool_]:
    """(T, C): which concepts hold at each token: all tokens that hold a part of a span, and halves of characters.
    Where the bytes of the tokens are not known, or are not those of the text (it was normalised, or a space put before
    it), a token ends where the next one begins, and no half is known."""
    for start, end, concept in spans:
        if not 0 <= start < end <= len(document.text):
            raise UserError(
                f"expected a span within the {len(document.text)} characters of {document.name}, got {start} to {end} "
                f"{concept}"
            )
    if bytes_T is not None and _are_of(bytes_T, document.text, start_T):
        ranges = token_ranges(document.text, spans, bytes_T)
        halves_TH = token_halves(document.text, bytes_T)
    else:
        bounds = np.array([span[:2] for span in spans], np.int64).reshape(-1, 2)
        holding = np.maximum(np.searchsorted(start_T, bounds[:, 0], side="right") - 1, 0)
        first = np.searchsorted(start_T, start_T[holding])  # tokens that share a character begin at it together
        ranges = np.stack([first, np.searchsorted(start_T, bounds[:, 1], side="left")], axis=1)
        halves_TH = np.zeros((len(start_T), len(HALVES)), bool)
    held = [(concept, slice(*ends)) for (*_, concept), ends in zip(spans, ranges, strict=True)]
    held += [(half, half_T) for half, half_T in zip(HALVES, halves_TH.T, strict=True) if half_T.any()]
    truth_TC = np.zeros((len(start_T), len(number)), bool)
    for concept, where in held:
        for path in above(concept):
            truth_TC[where, number[path]] = True
    return truth_TC


def _are_of(bytes_T: NDArray[np.int64], text: str, start_T: NDArray[np.int64]) -> bool:
    """Whether tokens of so many bytes, one after the other, begin at these characters of the text."""
    data = np.frombuffer(text.encode(), np.uint8)
    begin_T = np.cumsum(bytes_T) - bytes_T
    if not len(begin_T) or begin_T[-1] >= len(data) or begin_T[-1] + bytes_T[-1] > len(data):
        return False
    character = np.cumsum((data & 0xC0) != 0x80) - 1  # of each byte: continuation bytes add none
    return np.array_equal(character[begin_T], start_T)


def _making(name: str, seed: int) -> bool:
    return hashlib.sha256(f"concepts {seed} {name}".encode()).digest()[0] < 128
