"""A verdict as a page that a person can read: Markdown, or HTML that needs nothing else."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glasshouse.policy.verdict import Decision, Reason
from glasshouse.types import UserError
from glasshouse.workspace import write_atomically

WORDS = {True: "holds", False: "does not hold", None: "cannot be told"}


def write_report(
    file: Path, decision: Decision, comparison: Mapping[str, Any] | None, head: str, *, evals: Path,
    hashes: Mapping[str, str],
) -> None:  # fmt: skip
    """evals: the folder in which evaluations lie, hashes: of those that the ledger has, by name. Raises `UserError` for
    a file that `check_report` refuses."""
    check_report(file)
    write = as_markdown if file.suffix == ".md" else as_html
    write_atomically(file, write(decision, comparison, head, evidence(decision, file.parent, evals, hashes)))


def evidence(
    decision: Decision, beside: Path, evals: Path, hashes: Mapping[str, str]
) -> list[tuple[str, str, str]]:  # fmt: skip
    """(evaluation, its hash in the ledger, its samples as seen from the report) of all that the verdict rests on."""
    names = dict.fromkeys(name for reason in decision.reasons for name in reason.sources)
    there = lambda name: Path(os.path.relpath(evals / name / "samples.jsonl", beside)).as_posix()
    return [(name, hashes.get(name, "not in the ledger"), there(name)) for name in names]


def check_report(file: Path) -> None:
    """Raises `UserError` for a suffix other than .md and .html, and for a folder that is not there."""
    if file.suffix not in (".md", ".html"):
        raise UserError(f"expected a report as .md or .html, got {file.name}")
    if not file.parent.is_dir() or file.is_dir():
        raise UserError(f"expected a file in a folder that is there, got {file}; make {file.parent}")


def rows(decision: Decision) -> list[tuple[str, str, str]]:
    """(rule, whether it holds, why with the evaluations it rests on), what does not hold first, then what cannot be
    told."""
    order = {False: 0, None: 1, True: 2}
    found = sorted(decision.reasons, key=lambda reason: (order[reason.holds], reason.rule))
    said = lambda reason: f"{WORDS[reason.holds]}, waived" if reason.waived else WORDS[reason.holds]
    return [(one.rule, said(one), one.text + "".join(f" ({more})" for more in _besides(one))) for one in found]


def _besides(reason: Reason) -> list[str]:
    """By whom it is waived, and the evaluations that it rests on."""
    return [text for text in (reason.waived, ", ".join(dict.fromkeys(reason.sources))) if text]


def matrix(comparison: Mapping[str, Any] | None) -> list[tuple[str, str, str, str, str]]:
    """(behaviour, base, new, change, verdict) of every cell."""
    if comparison is None:
        return []
    return [
        (
            cell["behaviour"], f"{cell['base']['value']:.3f}", f"{cell['new']['value']:.3f}",
            f"{cell['change']['value']:+.3f} [{cell['change']['low']:+.3f}, {cell['change']['high']:+.3f}]",
            cell["verdict"] + (f" ({cell['needed']} families would do)" if cell["needed"] else ""),
        )
        for cell in comparison["cells"]
    ]  # fmt: skip


def _facts(decision: Decision, head: str) -> list[tuple[str, str]]:
    version = decision.version
    return [
        ("version", f"{version['name']} ({version['hash'][:16]})"),
        ("policy", f"{decision.policy} ({decision.policy_hash[:16]})"),
        ("day", decision.today), ("level required", decision.level), ("ledger head", head),
    ]  # fmt: skip


def as_markdown(
    decision: Decision, comparison: Mapping[str, Any] | None, head: str, found_in: list[tuple[str, str, str]]
) -> str:  # fmt: skip
    lines = [f"# {decision.verdict}: {decision.version['name']}", ""]
    lines += [f"- {name}: {value}" for name, value in _facts(decision, head)]
    lines += ["", "| rule | | why |", "|---|---|---|"]
    lines += ["| " + " | ".join(_cell(part) for part in row) + " |" for row in rows(decision)]
    if found := matrix(comparison):
        lines += ["", "| behaviour | before | now | change | verdict |", "|---|---|---|---|---|"]
        lines += ["| " + " | ".join(_cell(part) for part in row) + " |" for row in found]
    if found_in:
        lines += ["", "| evidence | hash |", "|---|---|"]
        lines += [f"| [{name}]({there}) | {digits} |" for name, digits, there in found_in]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font: 500 1.7rem Georgia, serif; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { text-align: left; padding: 0.2rem 1rem 0.2rem 0; border-bottom: 1px solid #8884; vertical-align: top; }
.no { color: #c0392b; font-weight: 600; }
"""


def as_html(
    decision: Decision, comparison: Mapping[str, Any] | None, head: str, found_in: list[tuple[str, str, str]]
) -> str:  # fmt: skip
    title = f"{decision.verdict}: {decision.version['name']}"
    facts = "".join(f"<tr><th>{_safe(name)}</th><td>{_safe(value)}</td></tr>" for name, value in _facts(decision, head))
    ruled = _table(("rule", "", "why"), rows(decision), telling=1)
    for name, _, _ in found_in:
        ruled = ruled.replace(_safe(name), f'<a href="#{_safe(name)}">{_safe(name)}</a>')
    parts = [f"<h1>{_safe(title)}</h1><table>{facts}</table>", ruled]
    if found := matrix(comparison):
        parts.append(_table(("behaviour", "before", "now", "change", "verdict"), found, telling=4))
    if found_in:
        each = (
            f'<tr id="{_safe(name)}"><td><a href="{_safe(there)}">{_safe(name)}</a></td><td>{_safe(digits)}</td></tr>'
            for name, digits, there in found_in
        )
        parts.append(f"<table><tr><th>evidence</th><th>hash</th></tr>{''.join(each)}</table>")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_safe(title)}</title><style>{STYLE}</style>'
        f"{''.join(parts)}</html>\n"
    )


def _table(heads: tuple[str, ...], found: list[Any], *, telling: int) -> str:
    """telling: the column that says whether a row is bad."""

    def line(row: tuple[str, ...]) -> str:
        bad = row[telling].startswith((WORDS[False], "regressed")) and "waived" not in row[telling]
        return f"<tr{' class=no' if bad else ''}>" + "".join(f"<td>{_safe(part)}</td>" for part in row) + "</tr>"

    head = "".join(f"<th>{_safe(name)}</th>" for name in heads)
    return f"<table><tr>{head}</tr>{''.join(map(line, found))}</table>"


def _safe(text: str) -> str:
    return html.escape(text)
