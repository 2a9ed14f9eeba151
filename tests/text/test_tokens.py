"""Every token is traced to its document and to the character at which it begins, in any script and tokenizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from glasshouse.text import Corpus, Document, Tokens, token_bytes, tokenise
from glasshouse.types import UserError

SCRIPTS = (
    "The quick brown fox  jumps\n\n over 13 lazy dogs.\n",
    "Größe, naïve café — déjà vu; schön",
    "Съешь ещё этих мягких французских булок",
    "いろはにほへと ちりぬるを 漢字仮名交じり文",
    "שָׁלוֹם עולם مرحبا بالعالم",
    "🙂👩‍👩‍👧 and 𝔘𝔫𝔦 e\u0301 क्षत्रिय ไทย",
    " leading space, <|endoftext|> as text, [SEP] too",
)


def byte_level(vocabulary: int = 400, **settings: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=settings.pop("add_prefix_space", False))
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator(SCRIPTS, trainer)
    return tokenizer


def corpus_of(*texts: str) -> Corpus:
    return Corpus("made", tuple(Document(i, f"d{i}", "txt", text) for i, text in enumerate(texts)))


def check_round_trip(tokens: Tokens, tokenizer: Tokenizer) -> None:
    """The token's offset is the number of whole characters in the bytes of all tokens before it."""
    lengths = token_bytes(tokenizer)
    assert lengths is not None
    for document in tokens.corpus.documents:
        first, last = tokens.doc_start[document.index : document.index + 2]
        assert tokenizer.decode(tokens.ids[first:last].tolist(), skip_special_tokens=False) == document.text
        data, at = document.text.encode(), 0
        for token in range(first, last):
            whole = data[:at].decode("utf-8", "ignore")
            assert tokens.where(token) == (document, len(whole)), (document.text, token)
            at += int(lengths[tokens.ids[token]])
        assert at == len(data)


@pytest.mark.parametrize("vocabulary", [257, 300, 600])
def test_byte_level(vocabulary: int) -> None:
    """With 257 tokens every character of another script is split over tokens."""
    tokenizer = byte_level(vocabulary)
    check_round_trip(tokenise(corpus_of(*SCRIPTS), tokenizer), tokenizer)


def test_byte_level_with_trimmed_offsets() -> None:
    """The tokenizer's own offsets leave out the leading space here; ours do not."""
    tokenizer = byte_level()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    check_round_trip(tokenise(corpus_of(*SCRIPTS), tokenizer), tokenizer)


def test_split_character_shares_its_offset() -> None:
    tokens = tokenise(corpus_of("a🙂b"), byte_level(257))
    assert tokens.start_char.tolist() == [0, 1, 1, 1, 1, 2]


def test_prefix_space_falls_back_to_the_tokenizers_offsets() -> None:
    tokens = tokenise(corpus_of("the fox"), byte_level(add_prefix_space=True))
    assert tokens.start_char[0] == 0 and np.all(np.diff(tokens.start_char.astype(int)) >= 0)


def test_special_tokens_in_the_text_are_text() -> None:
    tokenizer = byte_level()
    end = tokenizer.token_to_id("<|endoftext|>")
    assert end in tokenizer.encode("a<|endoftext|>b").ids
    tokens = tokenise(corpus_of("a<|endoftext|>b"), tokenizer)
    assert end not in tokens.ids
    assert end in tokenizer.encode("a<|endoftext|>b").ids, "the caller's tokenizer is left as it was"


def test_word_pieces() -> None:
    """A tokenizer that is not byte-level: offsets from itself, marks not added, long texts not cut."""
    words = ["[UNK]", "[CLS]", "[SEP]", "play", "##ing", "café", "chess", ","]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.enable_truncation(4)
    tokens = tokenise(corpus_of("Playing café, chess", "chess"), tokenizer)
    assert tokens.ids.tolist() == [3, 4, 5, 7, 6, 6]
    assert tokens.start_char.tolist() == [0, 4, 8, 12, 14, 0] and tokens.doc_start.tolist() == [0, 5, 6]


def test_normalised_text_keeps_the_offsets_of_the_original() -> None:
    tokenizer = byte_level()
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(" +"), " ")])
    text = "e\u0301tude   fox"
    tokens = tokenise(corpus_of(text), tokenizer)
    at = {int(start) for start in tokens.start_char}
    assert text.index("t") in at and max(at) <= text.index("x")


def test_max_tokens_takes_a_sample_of_documents() -> None:
    texts = [f"text number {i} of many" for i in range(100)]
    tokenizer = byte_level()
    whole = tokenise(corpus_of(*texts), tokenizer)
    some = tokenise(corpus_of(*texts), tokenizer, max_tokens=len(whole) // 4)
    assert len(some) == len(whole) // 4
    used = np.flatnonzero(np.diff(some.doc_start))
    assert len(some.doc_start) == 101 and 20 <= len(used) <= 30 and used.max() > 60 and used.min() < 40
    for doc in used[:-1]:
        ours = some.ids[some.doc_start[doc] : some.doc_start[doc + 1]]
        assert np.array_equal(ours, whole.ids[whole.doc_start[doc] : whole.doc_start[doc] + len(ours)])
    assert some.where(len(some) - 1)[0].index == used[-1]


def test_slow_tokenizers_are_refused() -> None:
    with pytest.raises(UserError, match="expected a fast tokenizer"):
        tokenise(corpus_of("a"), object())
