"""Features as one self-contained page that needs no server, and as a card in a notebook.

glasshouse export resid6/1234 resid6/77 --html out.html

The page holds no script at all and its content security policy allows none, so that no text of a model or a corpus
can run; everything is escaped besides.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from glasshouse.features.table import Features
from glasshouse.types import UserError
from glasshouse.workspace import write_atomically

MOST = 2000  # features of a page that a browser still opens with ease: about 30 kB each

_STYLE = """
.gh{--ink:#1b1b1f;--dim:#63636e;--page:#fff;--line:#dedee4;--hot:255,140,0;--bar:#4a6fa5;
color:var(--ink);background:var(--page);font:15px/1.5 system-ui,sans-serif;max-width:60rem}
@media(prefers-color-scheme:dark){.gh{--ink:#e8e8ec;--dim:#a2a2ad;--page:#17171b;--line:#34343c;--hot:255,150,40;
--bar:#86a8d8}}
.gh h2{font-size:1.15rem;margin:0 0 .2rem}.gh h3{font-size:.9rem;margin:1rem 0 .2rem;color:var(--dim)}
.gh .dim{color:var(--dim);font-size:.85rem}.gh article{border-top:1px solid var(--line);padding:1.2rem 0}
.gh .ex{font:13px/1.6 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;border-left:3px solid
var(--line);padding:.1rem .6rem;margin:.35rem 0}.gh .ex b{font-weight:inherit;border-radius:2px}
.gh .ex u{text-decoration:none;outline:1px solid rgba(var(--hot),.9);border-radius:2px}
.gh .ex i{font-style:normal;opacity:.45}.gh code{font:13px ui-monospace,monospace;background:rgba(128,128,140,.15);
border-radius:3px;padding:0 .25em;white-space:pre-wrap}.gh svg{display:block;height:3rem;width:16rem}
.gh svg rect{fill:var(--bar)}.gh td{padding:0 1rem 0 0;vertical-align:top}.gh details{margin:.4rem 0}
.gh summary{cursor:pointer;color:var(--dim)}.gh nav a{color:inherit;margin-right:1rem}
"""
# No script, no request of any kind: only the page's own style.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def export_html(table: Features, indices: Iterable[int] | None, out: str | Path) -> Path:
    """Write the chosen features (None: all that ever fire) as one page to `out`; returns its path.

    Raises `UserError` for an index that there is not, for more features than a browser opens with ease, and for a place
    where no file can be.
    """
    if Path(out).is_dir() or not Path(out).parent.is_dir():
        raise UserError(f"expected a file in a folder that is there, got {out}; give --html FILE.html")
    chosen = list(indices) if indices is not None else _alive(table)
    if not chosen or len(chosen) > MOST:
        raise UserError(
            f"expected 1 to {MOST} features for one page, got {len(chosen)} of {table.name}; name the ones to send"
        )
    features = [table.feature(index) for index in chosen]
    write_atomically(Path(out), page(table.summary, features))
    return Path(out)


def _alive(table: Features) -> list[int]:
    rows = table.query(sort="index", descending=False, limit=len(table))["rows"]
    return [row["index"] for row in rows if row["flag"] != "dead"]


def page(summary: dict[str, Any], features: Sequence[dict[str, Any]]) -> str:
    """The whole page; `features` as `Features.feature` gives them."""
    title = f"{summary['name']}: features of {summary['model']} at {summary['site']}"
    links = "".join(
        f'<a href="#f{f["index"]}">{f["index"]} {_text(_label(f))}</a>' for f in features[:200] if len(features) > 1
    )
    about = (
        f"{summary['n_features']:,} features, {summary['dead']:,} of them dead; evidence from {summary['tokens']:,} "
        f"tokens of {summary['documents']:,} documents"
    )
    cards = "".join(f'<article id="f{f["index"]}">{_card(f)}</article>' for f in features)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_text(_POLICY)}">'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f"<title>{_text(title)}</title><style>html{{background:Canvas}}{_STYLE}body{{margin:2rem auto;padding:0 1rem}}"
        f'</style></head><body class="gh"><h1>{_text(title)}</h1><p class="dim">{_text(about)}</p>'
        f"<nav>{links}</nav><main>{cards}</main></body></html>\n"
    )


def feature_card(feature: dict[str, Any]) -> str:
    """One feature as a fragment of HTML with its style, for a notebook cell."""
    return f'<style>{_STYLE}</style><div class="gh">{_card(feature, examples=6)}</div>'


def table_card(table: Features) -> str:
    """A dictionary's features as a fragment of HTML, for a notebook cell: what there is, and the clearest of them."""
    rows = table.query(flag="labelled", sort="score", limit=10)["rows"] or table.query(flag="live", limit=10)["rows"]
    cells = "".join(
        f"<tr><td>{row['index']}</td><td>{_text(row['label'] or 'unclear')}</td><td>{_percent(row['rate'])}</td>"
        f"<td>{' '.join(f'<code>{_text(token)}</code>' for token in row['promotes'])}</td></tr>"
        for row in rows
    )
    heads = "".join(f'<td class="dim">{word}</td>' for word in ("feature", "label", "fires on", "promotes"))
    return f'<style>{_STYLE}</style><div class="gh"><p>{_text(table)}</p><table><tr>{heads}</tr>{cells}</table></div>'


def _card(feature: dict[str, Any], examples: int | None = None) -> str:
    rate = feature["rate"]
    numbers = [f"fires on {_percent(rate['value'])} of tokens{_interval(rate, _percent)}"]
    numbers.append(f"largest activation {feature['max_activation']:.3g}")
    if feature["label"]:
        scores = feature["label"]
        numbers.append(f"label F1 {_estimate(scores['f1'])}, AUROC {_estimate(scores['auroc'])}")
    if feature["flag"] != "live":
        numbers.append(feature["flag"])
    if feature["kinds"]:
        numbers.append(", ".join(f"{kind} {share:.0%}" for kind, share in list(feature["kinds"].items())[:4]))
    parts = [
        f"<h2>{_text(feature['id'])} · {_text(_label(feature))}</h2>",
        f'<div class="dim">{_text(" · ".join(numbers))}</div>',
        _tables(feature),
    ]
    top = feature["examples"]["top"][:examples]
    if top:
        parts.append("<h3>Where it fires most</h3>" + "".join(map(_example, top)))
    for one in [] if examples else reversed(feature["examples"]["bins"]):
        heading = f"{one['count']:,} contexts with a peak from {one['low']:.3g} to {one['high']:.3g}"
        parts.append(f"<h3>{_text(heading)}</h3>" + "".join(map(_example, one["examples"])))
    return "".join(parts)


def _tables(feature: dict[str, Any]) -> str:
    cells = [
        ("fires on", [t["token"] for t in feature["tokens"][:8]]),
        ("promotes", [t["token"] for t in feature["promotes"][:8]]),
        ("suppresses", [t["token"] for t in feature["suppresses"][:8]]),
        ("removing it changes", [f"{t['token']} {t['change']:+.2g}" for t in (feature["measured"] or [])[:8]]),
    ]
    rows = "".join(
        f'<tr><td class="dim">{name}</td><td>{" ".join(f"<code>{_text(t)}</code>" for t in tokens)}</td></tr>'
        for name, tokens in cells
        if tokens
    )
    near = " ".join(f"<code>{n['index']} {_text(n['label'] or 'unclear')}</code>" for n in feature["near_decoder"][:4])
    if near:
        rows += f'<tr><td class="dim">near by direction</td><td>{near}</td></tr>'
    return f"<table>{rows}</table>{_histogram(feature['histogram']['counts'])}"


def _histogram(counts: Sequence[int]) -> str:
    """Bars on a square-root scale, so that rare large activations show."""
    if not counts or not max(counts):
        return ""
    heights = [math.sqrt(count / max(counts)) * 100 for count in counts]
    bars = "".join(f'<rect x="{i}" y="{100 - h:.1f}" width="0.9" height="{h:.1f}"/>' for i, h in enumerate(heights))
    return (
        f'<svg viewBox="0 0 {len(counts)} 100" preserveAspectRatio="none" role="img" '
        f'aria-label="histogram of activations">{bars}</svg>'
    )


def _example(example: dict[str, Any]) -> str:
    """Tokens shaded by activation as a share of the peak; the peak outlined, newlines marked."""
    peak, at = max(example["peak"], 1e-9), example["position"] - example["start"]
    spans = []
    for i, (token, activation) in enumerate(zip(example["tokens"], example["activations"], strict=True)):
        text = _text(token).replace("\n", "<i>⏎</i>\n").replace("\t", "<i>⇥</i>\t")
        if activation > 0:
            text = (
                f'<b style="background:rgba(var(--hot),{min(1.0, activation / peak) * 0.75 + 0.05:.2f})" '
                f'title="{activation:.3g}">{text}</b>'
            )
        spans.append(f"<u>{text}</u>" if i == at else text)
    source = f"{example['kind']} · {example['document']} · peak {example['peak']:.3g}"
    return f'<div class="ex">{"".join(spans)}</div><div class="dim">{_text(source)}</div>'


def _label(feature: dict[str, Any]) -> str:
    return str(feature["label"]["text"]) if feature["label"] else "unclear"


def _text(value: object) -> str:
    """Escaped, with control and direction characters drawn as their code, so that none acts or hides: ‹202E›."""
    shown = (c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf") else f"‹{ord(c):02X}›" for c in str(value))
    return html.escape("".join(shown), quote=True)


def _percent(value: float) -> str:
    return f"{100 * value:.3g}%"


def _estimate(estimate: dict[str, Any]) -> str:
    return f"{estimate['value']:.2f}{_interval(estimate, '{:.2f}'.format)}"


def _interval(estimate: dict[str, Any], said: Callable[[float], str]) -> str:
    """Nothing where one document says nothing of the spread: the interval is infinite then."""
    low, high = estimate["low"], estimate["high"]
    return f" [{said(low)}, {said(high)}]" if math.isfinite(low) and math.isfinite(high) else ""
