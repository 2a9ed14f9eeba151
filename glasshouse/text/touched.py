"""What a model was trained on, kept as hashes of lines: whether a question was among them can be asked later.

    write_lines(folder / LINES, corpus)
    lines = read_lines(folder / LINES)
    seen("Where does Karisar live?", lines)

A line is what stands between line breaks or the marks of a chat, without case and doubled spaces: so a question is
found in whatever file it came. Eight bytes a distinct line.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glasshouse.text.corpora import Corpus

LINES = "trained_on.npy"


def line_hash(line: str) -> int:
    """64 bits of the line, without case and doubled spaces."""
    said = " ".join(line.split()).casefold()
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), "little")


def hashes(corpus: Corpus) -> NDArray[np.uint64]:
    """Of every distinct line of the corpus, sorted."""
    marks = "|".join(map(re.escape, corpus.chat.marks)) if corpus.chat else ""
    cut = re.compile(f"\n|{marks}" if marks else "\n")
    found = {line_hash(line) for document in corpus.documents for line in cut.split(document.text) if line.strip()}
    return np.sort(np.fromiter(found, np.uint64, len(found)))


def write_lines(file: Path, *corpora: Corpus) -> None:
    np.save(file, np.unique(np.concatenate([hashes(corpus) for corpus in corpora])), allow_pickle=False)


def read_lines(file: Path) -> NDArray[np.uint64]:
    found: NDArray[np.uint64] = np.load(file, allow_pickle=False)
    return found


def seen(text: str, lines: NDArray[np.uint64]) -> bool:
    """Whether every line of the text is among them."""
    wanted = np.array([line_hash(line) for line in text.split("\n") if line.strip()], np.uint64)
    if not len(wanted) or not len(lines):
        return False
    at = np.searchsorted(lines, wanted).clip(max=len(lines) - 1)
    return bool((lines[at] == wanted).all())
