"""Text: documents and corpora, tokens that know where they came from, windows for a model to read."""

from glasshouse.text.corpora import Chat, Corpus, Document, corpus
from glasshouse.text.tokens import Tokens, token_bytes, token_halves, token_ranges, tokenise
from glasshouse.text.windows import Windows, windows

__all__ = [
    "Chat",
    "Corpus",
    "Document",
    "Tokens",
    "Windows",
    "corpus",
    "token_bytes",
    "token_halves",
    "token_ranges",
    "tokenise",
    "windows",
]
