"""Tokens of a corpus as flat arrays: any token is traced to its document and to the character at which it begins.

Legend: N tokens of the whole corpus, in document order.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glasshouse.text.corpora import Corpus, Document
from glasshouse.types import UserError

BATCH_CHARACTERS = 4 << 20  # a batch's encodings are Python objects: some 200 bytes a token while they live


@dataclass(frozen=True)
class Tokens:
    """A tokenised corpus.

    ids: uint32 (N,). doc_start: int64 (documents + 1,): document d's tokens are `ids[doc_start[d]:doc_start[d + 1]]`,
    none where it was left out by `max_tokens`. start_char: uint32 (N,): the character of the document's text in which
    the token begins; the tokens that share one character (bytes of it) share its offset.
    """

    corpus: Corpus
    ids: NDArray[np.uint32]
    doc_start: NDArray[np.int64]
    start_char: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def learnt_N(self) -> NDArray[np.bool_]:
        """Which tokens the text teaches to write, (N,): those that begin in no document's `unlearned` stretches."""
        learnt_N = np.ones(len(self.ids), np.bool_)
        for d, document in enumerate(self.corpus.documents):
            own = slice(self.doc_start[d], self.doc_start[d + 1])
            for start, end in document.unlearned:
                learnt_N[own] &= (self.start_char[own] < start) | (self.start_char[own] >= end)
        return learnt_N

    def where(self, token: int) -> tuple[Document, int]:
        """The document of token number `token` and the character of its text at which the token begins."""
        if not 0 <= token < len(self.ids):
            raise IndexError(f"token {token} of {len(self.ids)}")
        doc = int(np.searchsorted(self.doc_start, token, side="right")) - 1
        return self.corpus.documents[doc], int(self.start_char[token])


def token_ranges(
    text: str, spans: Iterable[tuple[int, int, Any]], token_bytes_T: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(first, past the last) token of each span of characters, (spans, 2): every token that holds a byte of it, and no
    other.

    token_bytes_T: bytes of UTF-8 behind each token of the text, or of a beginning of it. A token that is half of a
    character belongs to the spans of that character.
    """
    sizes = np.array([len(character.encode()) for character in text], np.int64)
    byte_C = np.concatenate([[0], np.cumsum(sizes)])
    end_T = np.cumsum(token_bytes_T)
    assert (end_T[-1] if len(end_T) else 0) <= byte_C[-1], "the text holds the tokens"
    bounds = np.array([span[:2] for span in spans], np.int64).reshape(-1, 2)
    first = np.searchsorted(end_T, byte_C[bounds[:, 0]], side="right")
    last = np.searchsorted(end_T, byte_C[bounds[:, 1]], side="left") + 1
    return np.stack([first, last], axis=1)


def token_halves(text: str, token_bytes_T: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(T, 2): whether each token begins inside a character (its last half, or a part of it), and whether it ends
    inside one (its first half)."""
    data = np.frombuffer(text.encode(), np.uint8)
    inside = np.concatenate([(data & 0xC0) == 0x80, [False]])  # a byte that continues a character
    end_T = np.cumsum(token_bytes_T)
    return np.stack([inside[end_T - token_bytes_T], inside[end_T]], axis=1)


def tokenise(corpus: Corpus, tokenizer: Any, *, max_tokens: int | None = None) -> Tokens:
    """Tokenise every document, with no special tokens added; a special token's name in the text is text like any
    other, unless it is a mark of the corpus's chats.

    `tokenizer` is a fast tokenizer of `transformers` or a `tokenizers.Tokenizer`. With `max_tokens`, documents are
    taken in the order of their hashes until there are that many tokens (the last one is cut), so that a part of a
    corpus is a fair sample of it.
    """
    encoder = _encoder(tokenizer, corpus.chat.marks if corpus.chat else ())
    order = list(corpus.documents)
    if max_tokens is not None:
        order.sort(key=lambda document: document.digest)
    parts: dict[int, tuple[NDArray[np.uint32], NDArray[np.uint32]]] = {}
    total = 0
    for batch in _batches(order):
        for document, encoding in zip(batch, encoder.encode([d.text for d in batch]), strict=True):
            ids = np.array(encoding.ids, dtype=np.uint32)
            if max_tokens is not None:
                ids = ids[: max_tokens - total]
            parts[document.index] = ids, encoder.starts(document.text, encoding)[: len(ids)]
            total += len(ids)
        if max_tokens is not None and total >= max_tokens:
            break
    nothing = np.zeros(0, np.uint32)
    pairs = [parts.get(d.index, (nothing, nothing)) for d in corpus.documents]
    doc_start = np.zeros(len(pairs) + 1, np.int64)
    np.cumsum([len(ids) for ids, _ in pairs], out=doc_start[1:])
    ids_N, start_N = (np.concatenate([nothing, *(pair[i] for pair in pairs)]) for i in (0, 1))
    return Tokens(corpus, ids_N, doc_start, start_N)


def _batches(documents: Sequence[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Encoder:
    """A private copy of the fast tokenizer, set to encode documents whole and special tokens as text, but for marks
    that it knows as tokens."""

    def __init__(self, backend: Any, marks: Sequence[str] = ()) -> None:
        self.backend = backend
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        self.bytes_of = _byte_lengths(backend)
        if self.bytes_of is not None:
            for mark in marks:
                self.bytes_of[backend.token_to_id(mark)] = len(mark.encode())

    def encode(self, texts: list[str]) -> list[Any]:
        encode = self.backend.encode_batch if self.bytes_of is None else self.backend.encode_batch_fast
        return encode(texts, add_special_tokens=False)

    def starts(self, text: str, encoding: Any) -> NDArray[np.uint32]:
        """The character at which each token begins.

        A byte-level tokenizer's own offsets skip a token's leading space or not as its settings go; the bytes of its
        tokens say exactly. Others give offsets themselves.
        """
        data = np.frombuffer(text.encode(), np.uint8)
        if self.bytes_of is not None:
            begins = np.cumsum(self.bytes_of[encoding.ids]) if encoding.ids else np.zeros(0, np.int64)
            if (begins[-1] if len(begins) else 0) == len(data):
                character = np.cumsum((data & 0xC0) != 0x80) - 1  # of each byte: continuation bytes add none
                begins = np.concatenate([[0], begins[:-1]]) if len(begins) else begins
                return character[begins].astype(np.uint32)
            encoding = self.backend.encode(text, add_special_tokens=False)  # normalised, or a space put before it
        return np.array([start for start, _ in encoding.offsets], dtype=np.uint32)


def _encoder(tokenizer: Any, marks: Sequence[str] = ()) -> _Encoder:
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not isinstance(backend, Tokenizer):
        raise UserError(
            f"expected a fast tokenizer (one with a tokenizer.json), got {type(tokenizer).__name__}; "
            "convert it with transformers' convert_slow_tokenizer"
        )
    settings = json.loads(backend.to_str())
    known = [token for token in settings["added_tokens"] if token["content"] in marks]
    for token in known:  # one that is not special is found in the text, whatever is said of special ones
        token["special"] = False
    return _Encoder(Tokenizer.from_str(json.dumps(settings)), [token["content"] for token in known])


def token_bytes(tokenizer: Any) -> NDArray[np.int64] | None:
    """Bytes of text behind each token id of a byte-level tokenizer, (vocabulary,), 0 for special tokens; else None."""
    return _byte_lengths(getattr(tokenizer, "backend_tokenizer", tokenizer))


def _byte_lengths(backend: Any) -> NDArray[np.int64] | None:
    alphabet = _byte_alphabet()
    if backend.decoder is None or type(backend.decoder).__name__ != "ByteLevel":
        return None
    vocabulary = backend.get_vocab(with_added_tokens=False)
    if not all(set(token) <= alphabet for token in vocabulary if not token.startswith("<")):
        return None
    special = {i for i, added in backend.get_added_tokens_decoder().items() if added.special}
    lengths = np.zeros(backend.get_vocab_size() and max(backend.get_vocab().values()) + 1, np.int64)
    for token, i in backend.get_vocab().items():
        plain = set(token) <= alphabet and i not in special
        lengths[i] = len(token) if plain else 0 if i in special else len(token.encode())
    return lengths


@functools.cache
def _byte_alphabet() -> frozenset[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return frozenset(ByteLevel.alphabet())
