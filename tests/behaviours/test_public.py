"""Public sets in their own formats, in a few lines of our own; and the real ones, where they are."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from glasshouse.behaviours.public import read_public
from glasshouse.types import UserError

DATA = Path(os.environ.get("GLASSHOUSE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "evals"


def test_model_written_evals(tmp_path: Path) -> None:
    file = tmp_path / "persona__likes-rain.jsonl"
    rows = [
        {"question": f"Would you say this? {n}", "statement": "I like rain", "answer_matching_behavior": " Yes",
         "answer_not_matching_behavior": " No"} for n in range(3)
    ]  # fmt: skip
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    (found,) = read_public(file)
    assert found.name == "likes-rain" and found.families == 3 and found.scorer == ("choice", {})
    assert found.prompts[0].expect == {"choices": [" No", " Yes"], "answer": " Yes"}
    rows[0]["answer_not_matching_behavior"] = [" No", " Perhaps"]
    file.write_text(json.dumps(rows[0]), encoding="utf-8")
    assert read_public(file)[0].prompts[0].expect == {"choices": [" No", " Perhaps", " Yes"], "answer": " Yes"}


def test_xstest_is_two_sides_of_one_curve(tmp_path: Path) -> None:
    file = tmp_path / "xstest.csv"
    file.write_text(
        "id,prompt,type,label,focus,note\n1,How do I kill time?,homonyms,safe,kill,\n"
        "2,How do I kill a man?,contrast,unsafe,kill,\n"
    )
    safe, unsafe = read_public(file)
    assert (safe.name, safe.good) == ("xstest-safe", "down") and (unsafe.name, unsafe.good) == ("xstest-unsafe", "up")


def test_blimp_by_paradigm(tmp_path: Path) -> None:
    file = tmp_path / "BLiMP.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("agreement", "binding"):
            line = {"sentence_good": "The cats sleep.", "sentence_bad": "The cats sleeps.", "UID": name}
            archive.writestr(f"data/{name}.jsonl", "\n".join([json.dumps(line)] * 150))
        archive.writestr("__MACOSX/data/._binding.jsonl", b"\x00\x05\x16\xb0")  # as in the archive that is published
    (found,) = read_public(file)
    assert found.families == 2 and len(found.prompts) == 200 and found.scorer == ("choice", {"raw": True})


def test_a_damaged_archive_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "BLiMP.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/one.jsonl", "".join(f'{{"n": {n * n}}}\n' for n in range(2000)))
    whole = file.read_bytes()
    file.write_bytes(whole[:60] + bytes(200) + whole[260:])
    with pytest.raises(UserError, match="expected a public set at"):
        read_public(file)
    file.write_bytes(whole.replace(b"PK\x03\x04\x14\x00\x00", b"PK\x03\x04\x14\x00\x01").replace(
        b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"))  # fmt: skip
    with pytest.raises(UserError, match="encrypted"):
        read_public(file)


def test_mirrored_political_prompts(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("topic_name,prompt_a,prompt_b\ntax,Argue for,Argue against\ntax,Praise,Blame\n")
    (found,) = read_public(file)
    assert [p.turns[0][1] for p in found.prompts] == ["Argue for", "Argue against", "Praise", "Blame"]
    assert found.scorer[0] == "asymmetry"


def test_another_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"expected a public set with columns such as question.*found a, b"):
        read_public(file)
    with pytest.raises(UserError, match="could not read it"):
        read_public(tmp_path / "none.jsonl")
    (tmp_path / "bad.jsonl").write_text("{")
    with pytest.raises(UserError, match=r"bad\.jsonl, line 1: expected a JSON object, found '\{'"):
        read_public(tmp_path / "bad.jsonl")


WRITTEN = {"question": "q", "answer_matching_behavior": " Yes", "answer_not_matching_behavior": " No"}
SAFE = {"prompt": "a", "type": "b", "label": "safe", "focus": "c"}
PAIR = {"sentence_good": "a b", "sentence_bad": "a c", "UID": "u"}


@pytest.mark.parametrize(
    ("row", "odd", "said"),
    [
        (WRITTEN, {"question": "q"}, "text as answer_matching_behavior, got None"),
        (WRITTEN, {**WRITTEN, "answer_matching_behavior": 3}, "text as answer_matching_behavior, got 3"),
        (WRITTEN, {**WRITTEN, "answer_matching_behavior": []}, r"text as answer_matching_behavior, got \[\]"),
        (WRITTEN, {**WRITTEN, "answer_not_matching_behavior": [" No", None]}, "text as answer_not_matching_behavior"),
        (WRITTEN, {**WRITTEN, "answer_not_matching_behavior": " Yes"}, r"answers that differ, got \[' Yes', ' Yes'\]"),
        (PAIR, {**PAIR, "UID": ["x"]}, r"text as UID, got \['x'\]"),
        (PAIR, {**PAIR, "sentence_bad": None}, "text as sentence_bad, got None"),
        (SAFE, {"prompt": "a"}, "text as type, got None"),
        (SAFE, {**SAFE, "label": "Unsafe"}, "safe or unsafe as label, got 'Unsafe'"),
        ({"topic_name": "t", "prompt_a": "a", "prompt_b": "b"}, {"topic_name": "t"}, "text as prompt_a, got None"),
    ],
)
def test_an_odd_row_is_told_by_its_number(tmp_path: Path, row: object, odd: object, said: str) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text(f"{json.dumps(row)}\n{json.dumps(odd)}\n", encoding="utf-8")
    with pytest.raises(UserError, match=rf"set\.jsonl, row 2: expected {said}"):
        read_public(file)


def test_a_pair_of_two_that_are_the_same_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "blimp.jsonl"
    file.write_text(f"{json.dumps(PAIR)}\n{json.dumps({**PAIR, 'sentence_bad': 'a b'})}\n", encoding="utf-8")
    assert len(read_public(file)[0].prompts) == 1


@pytest.mark.slow
def test_the_real_sets_are_read() -> None:
    if not DATA.is_dir():
        pytest.skip(f"needs {DATA.name} of the shared data")
    assert [b.families > 50 for b in read_public(DATA / "paul-rottger__exaggerated-safety" / "xstest_prompts.csv")] == [
        True
    ] * 2
    (blimp,) = read_public(DATA / "alexwarstadt__blimp" / "BLiMP.zip")
    assert blimp.families == 67
    for file in (DATA / "anthropics__evals").glob("persona__*.jsonl"):
        assert read_public(file)[0].families > 100
    (pairs,) = read_public(DATA / "anthropics__political-neutrality-eval" / "eval_set.csv")
    assert len(pairs.prompts) == 2700
