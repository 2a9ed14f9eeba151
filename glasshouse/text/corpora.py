"""A corpus: documents from a folder, a file, or the standard library of the running Python, kept apart.

    text = corpus("notes/")                   # or a file, or "python"
    train, held_out = text.split(0.05)        # by hash, so the same wherever it is asked for

The whole text is held in memory, up to `max_unpacked` bytes (4 GiB unless told otherwise).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from glasshouse.text.readers import READERS, SUFFIXES, Budget, NoColumn, Piece, Skipped, read_file, suffix_of
from glasshouse.types import UserError

MAX_UNPACKED = 4 << 30
FEW, LONG_TAIL = 200, 2000  # documents; bytes


@dataclass(frozen=True)
class Document:
    """One text. `name` is its path within the source (`#row` for rows); `start` is the character of the named
    original at which `text` begins (0 unless a split cut the document); `index` is its place in its corpus.
    `unlearned`: stretches (first character, past the last) that are read in training but not learnt to write."""

    index: int
    name: str
    kind: str
    text: str
    start: int = 0
    unlearned: tuple[tuple[int, int], ...] = ()

    @functools.cached_property
    def digest(self) -> bytes:
        """Of name and text: decides the side of a split and the place in a sample."""
        return hashlib.blake2b(f"{self.name}\0{self.start}\0{self.text}".encode(), digest_size=16).digest()


@dataclass(frozen=True)
class Chat:
    """How the chats of a corpus are written: `marks` are tokens of their own, `end` is the mark that ends a turn, and
    `template` (Jinja) is how `transformers` writes messages the same way, `bos_token` first."""

    marks: tuple[str, ...]
    end: str
    template: str


@dataclass(frozen=True)
class Corpus:
    """Documents in a fixed order. `documents[i].index == i` always, also after a split or weighting.

    `skipped` counts what was left out when reading, by reason. `chat`: what the marks in the text mean; without it a
    special token's name in the text is text like any other. `split_from`: how many documents the corpus has of which
    this is a side; 0 for one that is whole.
    """

    source: str
    documents: Sequence[Document]
    skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)
    chat: Chat | None = None
    split_from: int = 0

    @functools.cached_property
    def hash(self) -> str:
        """Of every document's name, kind and text, in order; not of where the corpus lies on this machine."""
        digest = hashlib.sha256()
        for document in self.documents:
            digest.update(document.digest + document.kind.encode() + b"\0")
            digest.update(repr(document.unlearned).encode() if document.unlearned else b"")
        digest.update(repr(self.chat).encode() if self.chat else b"")
        return digest.hexdigest()

    @functools.cached_property
    def kinds(self) -> dict[str, int]:
        """Bytes of UTF-8 by kind of document, largest first."""
        sizes: Counter[str] = Counter()
        for document in self.documents:
            sizes[document.kind] += len(document.text.encode())
        return dict(sizes.most_common())

    @property
    def bytes(self) -> int:
        return sum(self.kinds.values())

    def split(self, held_out: float = 0.05, seed: int = 0) -> tuple[Corpus, Corpus]:
        """(train, held out): whole documents, chosen by the hash of name, text and seed.

        A document's side does not depend on the other documents, so grow, learn and features agree. Of few and long
        documents (fewer than 200, whose tails are 2 kB or more), or where whole documents miss the share asked for by
        a factor of four, the last `held_out` of every document is held out instead, cut at a line where one ends near.
        """
        assert 0 < held_out < 1, held_out
        if not self.documents:
            raise UserError(f"expected documents to split in {self.source}, found none")
        sides: tuple[list[Document], list[Document]] = ([], [])
        for document in self.documents:
            sides[_share(document, f"split {seed}") < held_out].append(document)
        share = sum(len(d.text.encode()) for d in sides[1]) / self.bytes
        few_and_long = len(self.documents) < FEW and self.bytes * held_out / len(self.documents) > LONG_TAIL
        if few_and_long or not held_out / 4 <= share <= min(0.5, held_out * 4):
            cuts = [_cut(document, 1 - held_out) for document in self.documents]
            sides = [head for head, _ in cuts], [tail for _, tail in cuts if tail is not None]
        train, held = (dataclasses.replace(self._of(side), split_from=len(self.documents)) for side in sides)
        return train, held

    def weighted(self, weights: Mapping[str, float], seed: int = 0) -> Corpus:
        """Each kind's documents `weights[kind]` times: 2.5 is twice each and once more for half of them, 0 leaves the
        kind out, 1 is the default. Copies follow the whole, so both sides of a later split stay apart.

        Raises `UserError` for a kind that the corpus lacks and for a weight below zero.
        """
        if unknown := sorted(weights.keys() - self.kinds.keys()):
            raise UserError(f"expected kinds among {', '.join(self.kinds)} in {self.source}, got {', '.join(unknown)}")
        if low := [kind for kind, weight in weights.items() if not 0 <= weight < 1000]:
            raise UserError(f"expected weights from 0 to 1000, got {weights[low[0]]} for {low[0]}")
        chosen: list[Document] = []
        left, turn = list(self.documents), 0
        while left:
            chosen += [d for d in left if _share(d, f"weight {seed}") < weights.get(d.kind, 1.0) - turn]
            turn += 1
            left = [d for d in left if weights.get(d.kind, 1.0) > turn]
        return self._of(chosen)

    def _of(self, documents: Iterable[Document]) -> Corpus:
        numbered = tuple(dataclasses.replace(document, index=i) for i, document in enumerate(documents))
        return dataclasses.replace(self, documents=numbered)

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {size / 1e6:.2f} MB" for kind, size in self.kinds.items())
        skipped = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items())
        return (
            f"{self.source}: {len(self.documents)} documents, {self.bytes / 1e6:.2f} MB ({kinds})"
            f"{'; skipped ' + skipped if skipped else ''}"
        )


def _share(document: Document, purpose: str) -> float:
    """A number in [0, 1) that depends on the document and the purpose only."""
    digest = hashlib.blake2b(document.digest + purpose.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _cut(document: Document, share: float) -> tuple[Document, Document | None]:
    """The first `share` of the document and the rest, cut after a newline if one lies within the last tenth before."""
    at = round(len(document.text) * share)
    line = document.text.rfind("\n", at - len(document.text) // 10, at) + 1
    at = line or at
    if not 0 < at < len(document.text):
        return document, None
    head = dataclasses.replace(document, text=document.text[:at])
    later = tuple((max(0, start - at), end - at) for start, end in document.unlearned if end > at)
    return head, dataclasses.replace(document, text=document.text[at:], start=document.start + at, unlearned=later)


def corpus(source: str | Path, *, text_column: str = "text", max_unpacked: int = MAX_UNPACKED) -> Corpus:
    """The documents of `source`: a folder, a file, or `"python"`, the standard library of the running Python.

    Folders are read in sorted order without hidden files; types read are those of `readers.SUFFIXES`. A row of a
    .jsonl, .parquet or .csv file is a document, from its column `text_column`; a column `kind` is used if there.
    Else a document's kind is the top folder it lies in, or its suffix. Binary and undecodable files and rows are
    skipped and counted in `skipped`.

    Raises `UserError` for a source that does not exist, holds no text, lacks the column, or unpacks to more than
    `max_unpacked` bytes.
    """
    if str(source) == "python":
        from glasshouse.text.library import read_library

        return _Reading("python", text_column, max_unpacked).collect(read_library())
    path = Path(source)
    if not path.exists():
        raise UserError(f"expected a folder, a file or `python` as the corpus, found nothing at {path}")
    reading = _Reading(path.name or str(path), text_column, max_unpacked)
    if path.is_file():
        return reading.collect(reading.file(path, path.name, suffix_of(path).lstrip(".") or "text", named=True))
    return reading.collect(reading.folder(path))


class _Reading:
    """One corpus being read: what was skipped so far, how much may still be unpacked."""

    def __init__(self, source: str, text_column: str, max_unpacked: int) -> None:
        self.source, self.text_column = source, text_column
        self.budget = Budget(max_unpacked, source)
        self.skipped: dict[str, int] = {}
        self.no_column: NoColumn | None = None

    def folder(self, folder: Path) -> Iterable[Piece]:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            inside = file.relative_to(folder)
            if any(part.startswith(".") for part in inside.parts):
                continue
            if not file.resolve().is_relative_to(folder.resolve()):
                self.skip("links out of the folder")
                continue
            kind = inside.parts[0] if len(inside.parts) > 1 else suffix_of(file).lstrip(".")
            yield from self.file(file, inside.as_posix(), kind)

    def file(self, file: Path, name: str, kind: str, *, named: bool = False) -> Iterable[Piece]:
        """The pieces of one file. A file named by the user is read as plain text whatever its suffix."""
        if suffix_of(file) not in READERS and not named:
            self.skip("of other types")
            return
        try:
            for found in read_file(file, name, kind, self.text_column, self.budget):
                if isinstance(found, Skipped):
                    self.skip(found.reason)
                else:
                    yield found
        except NoColumn as error:  # one table among other files is no mistake; it is if there is no other text
            self.no_column = self.no_column or error
            self.skip(f"tables without a column {self.text_column!r}")
        except OSError as error:
            self.skip(f"unreadable ({error.strerror or type(error).__name__})")

    def collect(self, pieces: Iterable[Piece]) -> Corpus:
        documents: list[Document] = []
        kinds: dict[str, str] = {}  # each held, and counted, once
        for piece in pieces:
            try:  # a lone surrogate, which JSON and the name of a file can hold, is nothing to hash or to read
                size = len(piece.text.encode()) + (len(piece.kind.encode()) if piece.kind not in kinds else 0)
                piece.name.encode()
            except UnicodeEncodeError:
                self.skip("undecodable")
                continue
            if not piece.text.strip():
                self.skip("empty")
                continue
            self.budget.keep(size)
            kind = kinds.setdefault(piece.kind, piece.kind)
            documents.append(Document(len(documents), piece.name, kind, piece.text))
        if documents:
            return Corpus(self.source, tuple(documents), self.skipped)
        if self.no_column is not None:
            raise self.no_column
        came = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items()) or "nothing"
        raise UserError(
            f"expected text in {self.source} ({' '.join(SUFFIXES)}), found none (skipped: {came}); "
            "give a corpus with text"
        )

    def skip(self, reason: str) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
