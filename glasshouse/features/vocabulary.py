"""The text of every token, readable (bytes that are no whole character as ‹E4›, control characters as pictures), and
words for it: its class, its quotation."""

from __future__ import annotations

import re
import unicodedata
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


SCRIPTS = {"CJK": "Chinese characters", "HIRAGANA": "Japanese letters", "KATAKANA": "Japanese letters"}


def token_class(text: str) -> str:
    """The class of a token, as a plural noun."""
    bare = text.strip()
    if not bare:
        return "newlines" if "\n" in text else "runs of spaces" if len(text) > 1 else "spaces" if text else "nothing"
    if "‹" in bare:
        return "bytes of rare characters"
    if bare.isdecimal():
        return "digits"
    if bare.isalpha():
        if not bare.isascii():
            script = unicodedata.name(bare[0], "OTHER").split()[0]
            if script == "LATIN" or bare[0].isascii():
                return "accented letters"
            return SCRIPTS.get(script, f"{script.capitalize()} letters")
        if len(bare) == 1:
            return "single capitals" if bare.isupper() else "single letters"
        if bare.isupper():
            return "words in capitals"
        if bare.istitle():
            return "capitalised words"
        return "words after a space" if text[0] == " " else "pieces of words"
    if any(c.isalnum() for c in bare):
        return "letters joined to signs or digits"
    for characters, name in SIGNS:
        if all(c in characters for c in bare):
            return name
    return "signs" if bare.isascii() else "symbols"


SIGNS = (
    ("([{", "opening brackets"),
    (")]}", "closing brackets"),
    ("\"'`", "quotation marks"),
    ("_", "underscores"),
    ("=+-*/<>%&|^~!@", "operators"),
    (".,;:?!", "punctuation"),
    ("()[]{}", "brackets"),
)


def quoted(text: str) -> str:
    """A token in words: quoted, or what it looks like where it is blank."""
    if text.strip():
        return f"'{text}'" if '"' in text else f'"{text}"'
    if not text:
        return "nothing"
    lines, _, rest = text.rpartition("\n")
    if "\n" not in text:
        return "a tab" if text == "\t" else "a space" if text == " " else f"{len(text)} spaces"
    blank = "a blank line" if "\n" in lines else "a newline"
    return f"{blank} and {len(rest)} spaces of indentation" if rest else blank


def listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
