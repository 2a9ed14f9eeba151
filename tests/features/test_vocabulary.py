"""Token texts: byte-level pieces are joined to what the document says, halves of characters are shown as bytes."""

from __future__ import annotations

from glasshouse.features.vocabulary import readable, token_texts


def test_byte_level_texts_join_to_the_document(tiny_model):
    texts = token_texts(tiny_model.tokenizer)
    sentence = "Ada walked to\n\tthe old mill: 3 + x"
    ids = tiny_model.tokenizer(sentence).input_ids
    assert "".join(texts[i] for i in ids) == sentence
    assert "".join(texts[i] for i in tiny_model.tokenizer("ä").input_ids) in ("ä", "‹C3›‹A4›")
    assert not any("�" in text for text in texts)


def test_wholes_and_halves():
    assert readable("语".encode()) == "语"
    assert readable("语".encode()[:2]) == "‹E8›‹AF›"
    assert readable(b"\x00\x1b[31m\n") == "␀␛[31m\n"
