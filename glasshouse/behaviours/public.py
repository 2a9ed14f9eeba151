"""Public test sets in their own formats, as behaviours: given a path, nothing is fetched.

    read_public(Path("persona/risk-seeking.jsonl"))          # model-written evals (anthropics/evals)
    read_public(Path("xstest_prompts.csv"))                  # XSTest: two behaviours, safe and unsafe prompts
    read_public(Path("BLiMP.zip"))                           # BLiMP: minimal pairs by likelihood
    read_public(Path("eval_set.csv"))                        # paired political prompts
    (anthropics/political-neutrality-eval)

Which set it is, its columns say. Sources: Perez et al. 2022 (arXiv:2212.09251); Röttger et al. 2023 (arXiv:2308.01263);
Warstadt et al. 2020 (arXiv:1912.00582); Anthropic 2025, political even-handedness.
"""

from __future__ import annotations

import lzma
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from glasshouse.behaviours.behaviour import LONGEST_NAME, Behaviour, behaviour_from_json
from glasshouse.behaviours.tables import Row, read_table, rows_of_lines
from glasshouse.types import UserError

PER_PARADIGM = 100  # pairs of BLiMP's thousand
LARGEST = 100_000_000  # bytes of a file, unpacked


def read_public(path: Path) -> list[Behaviour]:
    """The behaviours of the set. Raises `UserError` for a file that is none of those known, and for a row that is not
    as the others are."""
    rows = _rows(path)
    columns = set(rows[0]) if rows else set()
    for wanted, make in KNOWN.items():
        if set(wanted) <= columns:
            _check(path, rows, wanted)
            return [behaviour_from_json(form, path.name) for form in make(path, rows)]
    known = "; ".join(", ".join(wanted) for wanted in KNOWN)
    raise UserError(
        f"expected a public set with columns such as {known} in {path}, found {', '.join(sorted(columns)) or 'none'}"
    )


def _check(path: Path, rows: list[Row], wanted: Iterable[str]) -> None:
    """Which set it is, the first row says; the others may lack a column, or have a number in it."""
    for number, row in enumerate(rows, 1):
        for column in wanted:
            value = row.get(column)
            texts = value if value and isinstance(value, list) and column.startswith("answer_") else [value]
            if not all(isinstance(text, str) for text in texts):
                raise UserError(f"{path.name}, row {number}: expected text as {column}, got {value!r:.60}")


def _rows(path: Path) -> list[Row]:
    if path.suffix != ".zip":
        return read_table(path, largest=LARGEST)
    try:
        with zipfile.ZipFile(path) as archive:
            # A Mac adds files of its own beside each, ._NAME; BLiMP's archive has one.
            names = sorted(name for name in archive.namelist() if re.search(r"(^|/)(?!\._)[^/]*\.jsonl$", name))
            if sum(archive.getinfo(name).file_size for name in names) > LARGEST:
                raise UserError(f"expected at most {LARGEST:,} bytes in {path}, found more; unpack what is wanted")
            return [row for name in names for row in rows_of_lines(name, archive.read(name).decode())]
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"expected a public set at {path}, could not read it ({error}); check the path") from None


def _form(name: str, about: str, good: str, scorer: Any, families: Iterable[Row], **more: Any) -> Row:
    return {
        "name": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST_NAME].strip("-"), "about": about,
        "tag": "neutral", "good": good, "margin": 0.05, "scorer": scorer, "families": list(families), **more,
    }  # fmt: skip


def _model_written(path: Path, rows: list[Row]) -> list[Row]:
    """The share of answers that match the behaviour, by log-probability of the two answers."""
    families = []
    for number, row in enumerate(rows):
        answers = [*_each(row["answer_matching_behavior"])[:1], *_each(row["answer_not_matching_behavior"])]
        if len(set(answers)) < len(answers):
            raise UserError(f"{path.name}, row {number + 1}: expected answers that differ, got {answers!r:.60}")
        expect = {"choices": sorted(answers), "answer": answers[0]}
        families.append({"family": str(number), "prompts": [row["question"]], "expect": expect})
    name = path.stem.rpartition("__")[2]
    about = f"Answers as the behaviour {name} would (model-written evals); whether that is good, the set does not say."
    return [_form(name, about, "down", "choice", families)]


def _each(answer: str | list[str]) -> list[str]:
    """One set has several answers that do not match."""
    return [answer] if isinstance(answer, str) else list(answer)


def _xstest(path: Path, rows: list[Row]) -> list[Row]:
    """Refusals of safe prompts, and of the unsafe ones that contrast with them, by focus."""
    for number, row in enumerate(rows, 1):
        if row["label"] not in ("safe", "unsafe"):
            raise UserError(f"{path.name}, row {number}: expected safe or unsafe as label, got {row['label']!r}")
    forms = []
    for label, good in (("safe", "down"), ("unsafe", "up")):
        by_focus: dict[str, list[str]] = defaultdict(list)
        for row in rows:
            if row["label"] == label:
                by_focus[f"{row['type']} {row['focus']}"].append(row["prompt"])
        families = [{"family": focus, "prompts": prompts} for focus, prompts in by_focus.items()]
        about = f"Refuses the {label} prompts of XSTest."
        forms.append(_form(f"xstest-{label}", about, good, "refusal", families, tag="guard"))
    return forms


def _blimp(path: Path, rows: list[Row]) -> list[Row]:
    """Whether the good sentence of a minimal pair is the likelier one; a family is a paradigm. Pairs that are the same
    (the published set has seven) are left out."""
    by_paradigm: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["sentence_good"] != row["sentence_bad"] and len(by_paradigm[row["UID"]]) < PER_PARADIGM:
            pair = sorted((row["sentence_good"], row["sentence_bad"]))
            expect = {"choices": pair, "answer": row["sentence_good"]}
            by_paradigm[row["UID"]].append({"turns": [{"user": ""}], "expect": expect})
    families = [{"family": name, "prompts": prompts} for name, prompts in by_paradigm.items()]
    about = f"Finds the grammatical sentence of a pair the likelier one (BLiMP, {PER_PARADIGM} pairs a paradigm)."
    return [_form("blimp", about, "up", {"choice": {"raw": True}}, families, tag="guard")]


def _political(path: Path, rows: list[Row]) -> list[Row]:
    """How unlike the help for two opposed stances is; a family is a topic, mirrored prompts stand side by side."""
    by_topic: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        by_topic[row["topic_name"]] += [row["prompt_a"], row["prompt_b"]]
    families = [{"family": topic, "prompts": prompts} for topic, prompts in by_topic.items()]
    about = "Helps one political side more than the other: refuses one of two mirrored prompts, or writes less for it."
    return [_form("political-asymmetry", about, "down", "asymmetry", families, tag="guard")]


KNOWN: dict[tuple[str, ...], Callable[[Path, list[Row]], list[Row]]] = {
    ("question", "answer_matching_behavior", "answer_not_matching_behavior"): _model_written,
    ("prompt", "type", "label", "focus"): _xstest,
    ("sentence_good", "sentence_bad", "UID"): _blimp,
    ("topic_name", "prompt_a", "prompt_b"): _political,
}
