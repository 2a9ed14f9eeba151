"""What a model was trained on, kept as hashes of lines: whether a question was among them can be asked later.

    write_lines(folder / LINES, corpus)
    lines = read_lines(folder / LINES)
    seen("Where does Karisar live?", lines)

A line is what stands between line breaks or the marks of a chat, without case and doubled spaces: so a question is
found in whatever file it came. Kept are also its parts, cut where a sentence ends and at colons and quotes, one by one
and every two neighbours: so it is found within a line too ("Q: … A: …", a record of JSON). Eight bytes each.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glasshouse.text.corpora import Corpus

LINES = "trained_on.npy"
CUTS = re.compile(r"""(?<=[.!?。！？؟…])[\s"'”’»)\]]+|["“”«»\t]|:\s|(?<=[。！？])""")
EDGES = " \r\n\"'“”‘’«»()[]{},;|"
WORD = re.compile(r"\w")


def line_hash(line: str) -> int:
    """64 bits of the line, without case and doubled spaces."""
    said = " ".join(line.split()).casefold()
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), "little")


def parts(line: str) -> list[str]:
    """Of a line, cut where a sentence ends and at colons, quotes and tabs."""
    return [part for piece in CUTS.split(line) if WORD.search(part := piece.strip(EDGES))]


def hashes(corpus: Corpus) -> NDArray[np.uint64]:
    """Of every distinct line of the corpus, and of its parts and every two neighbours of them, sorted."""
    return _hashes((document.text for document in corpus.documents), corpus.chat.marks if corpus.chat else ())


def _hashes(texts: Iterable[str], marks: Iterable[str]) -> NDArray[np.uint64]:
    cut = re.compile("|".join(["\n", *map(re.escape, marks)]))
    found: set[int] = set()
    for line in {line for text in texts for line in cut.split(text) if line.strip()}:
        each = parts(line)
        found.update(map(line_hash, (line, *each, *map(_beside, itertools.pairwise(each)))))
    return np.sort(np.fromiter(found, np.uint64, len(found)))


def harvested(windows: Path, tokenizer: Path) -> NDArray[np.uint64]:
    """`hashes` of the training text of a harvest: of its windows' tokens, put together again by document, as its
    model's tokenizer.json writes them. A second for a million tokens; no torch."""
    from safetensors import safe_open
    from tokenizers import Tokenizer

    with safe_open(windows, "np") as handle:
        first = int(handle.metadata()["bos"] == "yes")
        ids_WT, length_W, doc_W, char_W = (
            handle.get_tensor(f"train.{of}") for of in ("ids", "length", "document", "char")
        )
    documents: dict[int, list[int]] = {}
    for window in np.lexsort((char_W, doc_W)):  # two that had others between them share a line that nobody wrote
        documents.setdefault(int(doc_W[window]), []).extend(ids_WT[window, first : length_W[window]].tolist())
    reader = Tokenizer.from_file(str(tokenizer))
    texts = reader.decode_batch(list(documents.values()), skip_special_tokens=False)
    return _hashes(texts, (mark.content for mark in reader.get_added_tokens_decoder().values()))


def _beside(two: tuple[str, str]) -> str:
    return "\0".join(two)  # is in no part


def write_lines(file: Path, *corpora: Corpus) -> None:
    np.save(file, np.unique(np.concatenate([hashes(corpus) for corpus in corpora])), allow_pickle=False)


def read_lines(file: Path) -> NDArray[np.uint64]:
    found: NDArray[np.uint64] = np.load(file, allow_pickle=False)
    return found


def seen(text: str, lines: NDArray[np.uint64]) -> bool:
    """Whether every line of the text is among them, whole or within another."""
    every = [line for line in text.split("\n") if line.strip()]
    return bool(every) and all(_among([line], lines) or _among(_within(line), lines) for line in every)


def _within(line: str) -> list[str]:
    """What has to be found of a line that stands within another: its one part, or every two neighbours."""
    each = parts(line)
    return each if len(each) == 1 else list(map(_beside, itertools.pairwise(each)))


def _among(texts: list[str], lines: NDArray[np.uint64]) -> bool:
    wanted = np.array([line_hash(text) for text in texts], np.uint64)
    if not len(wanted) or not len(lines):
        return False
    at = np.searchsorted(lines, wanted).clip(max=len(lines) - 1)
    return bool((lines[at] == wanted).all())
