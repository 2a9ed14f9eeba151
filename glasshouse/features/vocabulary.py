"""The text of every token, readable: bytes that are no whole character as ‹E4›, control characters as pictures."""

from __future__ import annotations

import re
from typing import Any

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def token_texts(tokenizer: Any) -> list[str]:
    """Text of each token id, as it stands in a document; spaces and newlines are kept, a WordPiece that begins a word
    gets a space before it."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    vocabulary = backend.get_vocab(with_added_tokens=True)
    special = {i for i, added in backend.get_added_tokens_decoder().items() if added.special}
    decoder = type(backend.decoder).__name__
    to_bytes = _byte_of_character() if decoder == "ByteLevel" else {}
    texts = [""] * (max(vocabulary.values()) + 1)
    for token, i in vocabulary.items():
        if i in special:
            texts[i] = token
        elif to_bytes and all(c in to_bytes for c in token):
            texts[i] = readable(bytes(to_bytes[c] for c in token))
        elif decoder == "WordPiece":
            texts[i] = token[2:] if token.startswith("##") else f" {token}"
        elif match := _BYTE.fullmatch(token):
            texts[i] = readable(bytes([int(match[1], 16)]))
        else:
            texts[i] = readable(token.replace("▁", " ").encode("utf-8", "replace"))
    return texts


def readable(data: bytes) -> str:
    """UTF-8 as text; bytes that are no whole character as ‹E4›, control characters as ␀ ␁ … (but newline and tab)."""
    text = data.decode("utf-8", "surrogateescape")
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    point = ord(character)
    if 0xDC80 <= point <= 0xDCFF:  # surrogateescape's stand-in for byte point - 0xDC00
        return f"‹{point - 0xDC00:02X}›"
    if point < 32 and character not in "\n\t":
        return chr(0x2400 + point)
    return "␡" if point == 127 else character


def _byte_of_character() -> dict[str, int]:
    """Byte-level BPE writes each byte as a printable character: itself where it is one in Latin-1, else the next from
    U+0100 (Radford et al. 2019, the GPT-2 tokenizer)."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(others)}
