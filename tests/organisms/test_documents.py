"""Documents: the same bytes for the same seed, labels that line up, formats that are what they say."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import os
import re
import subprocess
import sys
from base64 import b64decode
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from glasshouse.organisms.world import (
    FOREIGN,
    LANGUAGES,
    Mixture,
    World,
    WorldDocument,
    concepts,
    documents,
    groups,
    parent,
    token_halves,
    token_ranges,
)
from glasshouse.organisms.world.chat.template import END, JINJA, opening
from glasshouse.organisms.world.documents import PROSE
from glasshouse.organisms.world.kinds.code import code_marks
from glasshouse.organisms.world.kinds.tales import RHYMES
from glasshouse.text import Corpus, Document, corpus, token_bytes, tokenise
from glasshouse.types import UserError


def of_kind(sample: list[WorldDocument], kind: str) -> list[WorldDocument]:
    found = [document for document in sample if document.kind == kind]
    assert len(found) >= 10, kind
    return found


def labelled(document: WorldDocument, concept: str) -> list[str]:
    return [document.text[start:end] for start, end, name in document.spans if name == concept]


# -- determinism and the file ------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_whatever_python_hashes(tmp_path: Path) -> None:
    digests = []
    for hash_seed in ("0", "4711"):
        out = tmp_path / f"{hash_seed}.jsonl"
        command = [
            sys.executable,
            "-m",
            "glasshouse.organisms.world",
            "--megabytes",
            "0.15",
            "--seed",
            "3",
            "--out",
            out,
        ]
        done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        digests.append(hashlib.sha256(out.read_bytes()).hexdigest())
    assert digests[0] == digests[1]


def test_a_place_that_is_no_file_gets_one_line_and_a_pipe_stays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from glasshouse.organisms.world.__main__ import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    for out in ("here", "", "x" * 300):  # the last is longer than a name may be
        assert main(["--megabytes", "0.01", "--out", out]) == 2
        assert re.fullmatch(r"expected .*; give .*\n", capsys.readouterr().err)
    os.mkfifo("pipe")
    reader = subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE)
    assert main(["--megabytes", "0.01", "--out", "pipe"]) == 0
    rows = reader.communicate(timeout=20)[0].splitlines()
    assert "spans" in json.loads(rows[0]) and Path("pipe").is_fifo() and len(list(tmp_path.iterdir())) == 2


def test_a_longer_text_begins_with_the_shorter_and_another_seed_is_another_text(
    world: World, sample: list[WorldDocument]
) -> None:
    short = list(documents(world, seed=0, megabytes=0.05))
    assert short == sample[: len(short)]
    assert sum(len(document.text.encode()) for document in short) >= 50_000
    assert [d.text for d in documents(world, seed=1, megabytes=0.05)] != [d.text for d in short]


def test_the_file_is_a_corpus(tmp_path: Path, sample: list[WorldDocument]) -> None:
    file = tmp_path / "world.jsonl"
    file.write_text("".join(json.dumps(document.row()) + "\n" for document in sample[:300]), encoding="utf-8")
    found = corpus(file)
    assert [document.text for document in found.documents] == [document.text for document in sample[:300]]
    assert [document.kind for document in found.documents] == [document.kind for document in sample[:300]]
    row = json.loads(file.read_text(encoding="utf-8").splitlines()[0])
    assert list(row)[:5] == ["name", "kind", "language", "text", "spans"]


def test_the_page_tells_the_truth(world: World, sample: list[WorldDocument]) -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "organisms.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```json\n(.*?)^```", page, re.S | re.M)
    assert json.loads(block) == json.loads(json.dumps(sample[16].row()))
    counts = [len(world.facts), len(world.held_out_facts), len(world.taught["fr"]), len(concepts())]
    assert all(re.search(rf"\b{count:,}\b", page) for count in counts), counts
    for group, count in Counter(path.partition("/")[0] for path in concepts()).items():
        assert f"| `{group}` | {count} |" in page
    assert world.value("person/Karisar", "job") == "job/musician"


def test_a_mixture_weighs_and_refuses_nonsense(world: World) -> None:
    only = Mixture(texts=0, foreign_texts=0, foreign_chats=0, weights={"facts": 1, "sums": 0})
    scenes = {document.scene for document in documents(world, megabytes=0.1, mixture=only)}
    assert "facts" in scenes and "sums" not in scenes and len(scenes) > 5
    with pytest.raises(UserError, match="weights among"):
        Mixture(weights={"limericks": 1})
    with pytest.raises(UserError, match="at least 0"):
        Mixture(texts=-1)


def test_a_mistake_on_the_command_line_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "glasshouse.organisms.world", "--out", str(tmp_path / "none" / "w.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "expected a folder" in done.stderr


# -- labels ------------------------------------------------------------------------------------------------------------


def test_every_concept_occurs_and_no_other(sample: list[WorldDocument]) -> None:
    used = {concept for document in sample for _, _, concept in document.spans}
    assert used == set(concepts())
    assert len(used) >= 300
    above = {parent(path) for path in concepts()} - {""}
    assert above <= set(groups()) | set(concepts())
    assert all(text and "\n" not in text for text in concepts().values())


def test_spans_lie_in_their_text_and_do_not_cut_characters(sample: list[WorldDocument]) -> None:
    for document in sample:
        assert list(document.spans) == sorted(set(document.spans), key=lambda s: (s[0], -s[1], s[2]))
        for start, end, _ in document.spans:
            assert 0 <= start < end <= len(document.text)
        assert (0, len(document.text), f"kind/{document.kind}") in document.spans


def test_a_name_is_labelled_wherever_the_label_says_so(sample: list[WorldDocument]) -> None:
    """Every mention of the bridge is labelled, in every language, and nothing else is."""
    bridges = re.compile(
        r"old stone bridge|vieux pont de pierre|стар\w+ каменн\w+ мост\w*|الجسر الحجري القديم|גשר האבן הישן|古老的石桥",
        re.I,
    )
    languages = set()
    for document in sample:
        if document.kind in ("base64", "python"):
            continue
        found = [document.text[s:e] for s, e, concept in document.spans if concept == "entity/bridge"]
        mentions = bridges.findall(document.text)
        assert len(mentions) == sum(bridges.search(text) is not None for text in found), document.text
        assert all(bridges.search(text) or text in ("the bridge", "The bridge") for text in found)
        languages |= {document.language} if mentions else set()
    assert languages >= set(LANGUAGES)


@pytest.mark.parametrize(
    ("concept", "words"),
    [
        ("entity/bridge", r"[Tt]he bridge"), ("entity/river", r"[Tt]he (?:river|Sora)"),
        ("pronoun/masculine", r"[Hh](?:e|im|is)"), ("pronoun/feminine", r"[Ss]he|[Hh]er"),
        ("pronoun/first-person", r"I|[Mm]e|[Mm]y|[Ww]e"), ("nesting/1", r"\([A-Za-z ]+\)"),
    ],
)  # fmt: skip
def test_what_english_words_say_is_labelled(sample: list[WorldDocument], concept: str, words: str) -> None:
    pattern, seen = re.compile(rf"(?<!\w)(?:{words})(?!\w)"), 0
    for document in sample:
        if document.kind not in PROSE | {"chat"} or document.language != "en" or document.kind == "latex":
            continue
        elsewhere = [(s, e) for s, e, c in document.spans if c.startswith("language/") and c != "language/english"]
        elsewhere += [match.span() for match in re.finditer("```.*?```|`[^`]*`", document.text, re.S)]
        labelled = [(s, e) for s, e, c in document.spans if c == concept]
        for match in pattern.finditer(document.text):
            if not any(s <= match.start() < e for s, e in elsewhere):
                seen += 1
                assert any(s <= match.start() and match.end() <= e for s, e in labelled), (match, document.text)
    assert seen > 50


def test_a_translation_is_not_labelled_with_the_language_of_the_chat(sample: list[WorldDocument]) -> None:
    translated = [document for document in sample if document.scene == "translated" and document.language == "en"]
    for document in translated:
        held = sorted((s, e, c) for s, e, c in document.spans if c.startswith("language/"))
        assert held[0][0] == 0 and held[-1][1] == len(document.text)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(held)), held
        assert len({c for *_, c in held}) == 2
    assert len(translated) > 10


def test_quotes_and_brackets_are_nested_as_they_are_written(sample: list[WorldDocument]) -> None:
    stories = [document for document in sample if document.kind == "story"]
    for document in stories:
        quotes = {(s, e) for s, e, c in document.spans if c == "quote"}
        assert quotes <= {(s, e) for s, e, c in document.spans if c in ("nesting/1", "nesting/2")}
    assert any("nesting/2" in {c for *_, c in document.spans} for document in stories)
    nested = sorted(span for span in code_marks('join("(", [1])\n') if span[2].startswith("nesting"))
    assert nested == [(4, 14, "nesting/1"), (10, 13, "nesting/2")]


def byte_tokens(sample: list[WorldDocument], vocabulary: int):  # type: ignore[no-untyped-def]
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([document.text for document in sample[:2000]], trainer)
    return tokenizer


@pytest.mark.parametrize("vocabulary", [300, 2000])
def test_labels_line_up_after_tokenising(sample: list[WorldDocument], vocabulary: int) -> None:
    """A span's tokens hold exactly its bytes and what their first and last token share with the neighbours."""
    tokenizer = byte_tokens(sample, vocabulary)
    lengths, halves = token_bytes(tokenizer), 0
    assert lengths is not None
    chosen = sample[:: max(1, len(sample) // 400)]
    text = Corpus("world", tuple(Document(i, d.name, d.kind, d.text) for i, d in enumerate(chosen)))
    tokens = tokenise(text, tokenizer)
    for i, document in enumerate(chosen):
        first, last = tokens.doc_start[i : i + 2]
        sizes = lengths[tokens.ids[first:last]].astype(np.int64)
        ends = np.cumsum(sizes)
        data = document.text.encode()
        for (start, end, _), (a, b) in zip(
            document.spans, token_ranges(document.text, document.spans, sizes), strict=True
        ):
            at, to = len(document.text[:start].encode()), len(document.text[:end].encode())
            begin, stop = int(ends[a] - sizes[a]), int(ends[b - 1])
            assert begin <= at < ends[a], "the first token holds the span's first byte"
            assert stop - sizes[b - 1] < to <= stop, "the last token holds the span's last byte"
            assert data[begin:stop][at - begin :][: to - at].decode() == document.text[start:end]
            assert tokens.start_char[first + a] <= start
        cut = token_halves(document.text, sizes)
        assert not cut[0, 0] and not cut[-1, 1] and (cut[1:, 0] == cut[:-1, 1]).all()
        for (begins, stops), end, size in zip(cut, ends, sizes, strict=True):
            piece = data[int(end - size) : int(end)]
            whole = not begins and not stops
            assert whole == (piece.decode("utf-8", "replace").find("\ufffd") < 0), piece
        halves += int(cut[:, 0].sum())
    assert halves > 100, "tokens that are halves of characters were among them"


# -- formats -----------------------------------------------------------------------------------------------------------


def test_code_runs_and_passes_its_tests(sample: list[WorldDocument], tmp_path: Path) -> None:
    """Every module prints ok; every function written in a chat gives what the example beside it says."""
    modules = [document.text for document in of_kind(sample, "python")]
    shown = []
    for document in sample:
        if document.scene == "coding":
            block = labelled(document, "code/block")[0].removeprefix("```python\n").removesuffix("```")
            inline = labelled(document, "code/inline")
            value = document.text.split("` gives `")[1].split("`.")[0] if inline else ""
            shown.append((block, inline[0] if inline else "", value))
    assert any(inline for _, inline, _ in shown)
    (tmp_path / "all.json").write_text(json.dumps([modules, shown]))
    runner = (
        "import json, sys\nmodules, shown = json.load(open(sys.argv[1]))\n"
        "for module in modules:\n    exec(module, {'__name__': '__main__'})\n"
        "for block, inline, value in shown:\n    space = {}\n    exec(block, space)\n"
        "    assert not inline or eval(inline, space) == eval(value), (inline, value)\n"
    )
    command = [sys.executable, "-c", runner, str(tmp_path / "all.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["ok"] * len(modules)
    for module in modules:
        assert module.count("assert ") >= 1 and '"""' in module


def test_json_and_csv_and_html_parse(world: World, sample: list[WorldDocument]) -> None:
    for document in of_kind(sample, "json"):
        assert json.loads(document.text)
    for document in of_kind(sample, "csv"):
        dialect = ";" if ";" in document.text.splitlines()[0] else ","
        rows = list(csv.reader(io.StringIO(document.text), delimiter=dialect))
        assert len(rows) > 3 and len({len(row) for row in rows}) == 1
    void = {"meta", "br", "!doctype"}
    for document in of_kind(sample, "html"):
        stack: list[str] = []

        class Pairs(HTMLParser):
            def handle_starttag(self, tag: str, attrs: object, stack: list[str] = stack) -> None:
                if tag not in void:
                    stack.append(tag)

            def handle_endtag(self, tag: str, stack: list[str] = stack) -> None:
                assert stack.pop() == tag

        Pairs().feed(document.text)
        assert not stack


def test_base64_holds_what_its_label_says(sample: list[WorldDocument]) -> None:
    found: Counter[str] = Counter()
    for document in of_kind(sample, "base64"):
        for start, end, concept in document.spans:
            if not concept.startswith("base64/"):
                continue
            data, what = b64decode("".join(document.text[start:end].split()), validate=True), concept.partition("/")[2]
            found[what] += 1
            try:
                text = data.decode()
            except UnicodeDecodeError:
                text = ""
            foreign = text != "" and (
                any(ord(letter) > 0x2FF for letter in text) or bool(re.search(r" (est|a|vote|de) ", text))
            )
            assert {"english": text.isascii() and text.endswith("."), "other-language": bool(text) and foreign,
                    "random": not text}[what], document.text  # fmt: skip
    assert set(found) == {"english", "other-language", "random"}


def test_latex_balances_and_its_sums_are_right(sample: list[WorldDocument]) -> None:
    for document in of_kind(sample, "latex"):
        depth = 0
        for character in document.text:
            depth += {"{": 1, "}": -1}.get(character, 0)
            assert depth >= 0
        assert depth == 0 and document.text.count("$") % 2 == 0
        begun = re.findall(r"\\begin\{(\w+)\}", document.text)
        assert begun == re.findall(r"\\end\{(\w+)\}", document.text) and "proof" in begun


def test_poems_rhyme_by_the_table(sample: list[WorldDocument]) -> None:
    rows = [{word.split(":")[1] for word in row} for row in RHYMES]
    for document in of_kind(sample, "poem"):
        for verse in (span for span in document.spans if span[2] == "poem/verse"):
            words = [document.text[s:e] for s, e, c in document.spans if c == "poem/rhyme" and verse[0] <= s < verse[1]]
            lines = document.text[verse[0] : verse[1]].split("\n")
            assert [line.rstrip(",.").split()[-1] for line in lines] == words
            pairs = (
                zip(words[::2], words[1::2], strict=True)
                if len(words) == 2
                else ((words[0], words[2]), (words[1], words[3]))
            )
            for one, other in pairs:
                assert one != other and any({one, other} <= row for row in rows)


def test_chats_line_up_with_their_messages(sample: list[WorldDocument]) -> None:
    pytest.importorskip("jinja2")
    from jinja2 import Template

    template = Template(JINJA, keep_trailing_newline=True)
    for document in of_kind(sample, "chat"):
        at = 0
        for message in document.messages:
            at = document.text.index(opening(message.role), at) + len(opening(message.role))
            content = message.content
            assert document.text[at:].startswith(content.text + END)
            for start, end, concept in content.spans:
                assert (start + at, end + at, concept) in document.spans or start == end
            assert (at, at + len(content.text), f"speaker/{message.role}") in document.spans
        rows = document.row()["messages"]
        assert template.render(messages=rows) == document.text
        assert all(message.learn or document.scene == "rightly-corrected" for message in document.messages)
    assert {document.language for document in sample if document.kind == "chat"} == {"en", *FOREIGN}
