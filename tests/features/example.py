"""A realistic features artefact without a model: real text, and features that fire on tokens, for tests of readers.

from tests.features.example import write_example_features
write_example_features(ws, "tiny-resid.2", 64)
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from pathlib import Path

import numpy as np

from glasshouse.features.schema import TOP, write_table
from glasshouse.features.table import visible
from glasshouse.workspace import Workspace

CONTEXT = 64
MODULES = (argparse, json, textwrap, re)


def write_example_features(ws: Workspace, name: str, n_features: int = 64, *, seed: int = 0) -> Path:
    """Write features/<name> as `gather` would. Feature 0 is dead, 1 dense, 2 has a hostile label."""
    rng = np.random.default_rng(seed)
    documents = [("<script>.py", "code", "print('<img src=x onerror=alert(1)>')\n" * 40)]
    documents += [(Path(m.__file__).name, "code", Path(m.__file__).read_text("utf-8")) for m in MODULES]
    documents += [(f"help/{m.__name__}", "help", (m.__doc__ or m.__name__) * 4) for m in MODULES]
    pieces = [re.findall(r" ?\w+|\n *|[^\w\s]| +", text) for _, _, text in documents]
    words, counts = np.unique([p for part in pieces for p in part], return_counts=True)
    words = [str(word) for word in words[np.argsort(-counts, kind="stable")]]
    number = {word: i for i, word in enumerate(words)}
    contexts = []
    for d, part in enumerate(pieces):
        char = 0
        for start in range(0, len(part), CONTEXT):
            piece = part[start : start + CONTEXT]
            contexts.append((d, char, [number[p] for p in piece]))
            char += sum(map(len, piece))
    with ws.writing("features", name, config={"example": True, "n": n_features}, command="features") as draft:
        write_table(draft.path, "vocabulary", {"token": list(range(len(words))), "text": words})
        write_table(
            draft.path,
            "documents",
            {
                "document": list(range(len(documents))),
                "name": [n for n, _, _ in documents],
                "kind": [k for _, k, _ in documents],
            },
        )
        write_table(
            draft.path,
            "contexts",
            {
                "context": list(range(len(contexts))),
                "document": [c[0] for c in contexts],
                "char": [c[1] for c in contexts],
                "tokens": [c[2] for c in contexts],
            },
        )
        rows, examples = [], []
        for f in range(n_features):
            row, found = _feature(f, n_features, words, contexts, documents, rng)
            rows.append(row)
            examples += found
        write_table(draft.path, "features", {key: [row[key] for row in rows] for key in rows[0]})
        keys = ("feature", "bin", "rank", "context", "position", "peak", "fires_at", "activations")
        write_table(draft.path, "examples", {k: [e[i] for e in examples] for i, k in enumerate(keys)})
        (draft.path / "summary.json").write_text(json.dumps(_summary(name, rows, contexts, documents)))
        draft.finish()
    return ws.path("features", name)


def _feature(f, n, words, contexts, documents, rng):
    """Feature f fires on token f (feature 1 on everything, feature 0 on nothing)."""
    firing = []  # (context, positions, activations)
    for c, (_, _, tokens) in enumerate(contexts):
        at = [i for i, t in enumerate(tokens) if f == 1 or (f > 1 and t == f % len(words))]
        if at:
            firing.append((c, at, np.round(rng.gamma(3.0, 1.0, len(at)), 3).tolist()))
    total = sum(len(tokens) for *_, tokens in contexts)
    count = sum(len(at) for _, at, _ in firing)
    top = max((max(a) for *_, a in firing), default=0.0)
    values = np.concatenate([a for *_, a in firing]) if firing else np.zeros(0)
    ranked = sorted(firing, key=lambda e: -max(e[2]))
    flag = "dead" if not count else "dense" if count > 0.1 * total else "live"
    label = None if flag != "live" or f % 5 == 0 else f'token "{visible(words[f % len(words)])}"'
    if f == 2:
        label = '<img src=x onerror="alert(1)">'
    kinds = {}
    for c, at, _ in firing:
        kind = documents[contexts[c][0]][1]
        kinds[kind] = kinds.get(kind, 0) + len(at) / max(count, 1)
    bins = [part for part in np.array_split(np.array(ranked[::-1], dtype=object), 4) if len(part)] if firing else []
    examples = [(TOP, r, e) for r, e in enumerate(ranked[:8])]
    examples += [(b, r, tuple(e)) for b, part in enumerate(bins) for r, e in enumerate(part[:3])]
    half = 1.96 * (count / total * (1 - count / total) / total) ** 0.5
    row = {
        "feature": f,
        "flag": flag,
        "firings": count,
        "contexts": len(firing),
        "documents": len({contexts[c][0] for c, *_ in firing}),
        "rate": count / total,
        "rate_low": max(0.0, count / total - half),
        "rate_high": count / total + half,
        "max_activation": top,
        "kind": max(kinds, key=kinds.get) if kinds else "",
        "kinds": [{"kind": k, "share": s} for k, s in kinds.items()],
        "histogram": np.histogram(values, bins=20, range=(0, top or 1))[0].tolist() if count else [0] * 20,
        "positions": np.histogram([p for _, at, _ in firing for p in at], bins=_EDGES)[0].tolist(),
        "tokens": [{"token": f % len(words), "count": count, "mean": float(values.mean())}] if count else [],
        "promotes": [{"token": (f + i) % len(words), "logit": 2.0 - 0.1 * i} for i in range(10)],
        "suppresses": [{"token": (f + 50 + i) % len(words), "logit": -1.0 + 0.05 * i} for i in range(10)],
        "measured": [{"token": (f + i) % len(words), "change": -0.5 + 0.05 * i} for i in range(8)] if f % 4 else None,
        "measured_loss": 0.02 if f % 4 else None,
        "near_decoder": [{"feature": (f + i) % n, "cosine": 0.9 - 0.1 * i} for i in range(1, 6)],
        "near_cofiring": [{"feature": (f + 2 * i) % n, "jaccard": 0.5 - 0.05 * i} for i in range(1, 6)],
        "bins": [
            {"low": float(max(p[0][2])), "high": float(max(p[-1][2])), "count": len(p)} for p in bins
        ],
        "label": label,
        "best_guess": label,
        "auroc": 0.95 if label else None,
        "auroc_low": 0.9 if label else None,
        "auroc_high": 0.99 if label else None,
        "f1": 0.9 - 0.3 * (f % 7) / 7 if label else None,
        "f1_low": 0.5 if label else None,
        "f1_high": 0.95 if label else None,
        "precision": 0.8 if label else None,
        "recall": 0.9 if label else None,
        "baseline_f1": 0.02 if label else None,
        "label_documents": 4 if label else None,
    }  # fmt: skip
    found = [(f, b, r, e[0], e[1][int(np.argmax(e[2]))], max(e[2]), e[1], e[2]) for b, r, e in examples]
    return row, found


_EDGES = [0, 1, 2, 4, 8, 16, 32, 64]


def _summary(name, rows, contexts, documents):
    flags = [row["flag"] for row in rows]
    tokens = sum(len(c[2]) for c in contexts)
    clear = sum(row["label"] is not None for row in rows)
    return {
        "name": name,
        "model": "tiny",
        "site": "resid.2",
        "n_features": len(rows),
        "tokens": tokens,
        "documents": len(documents),
        "contexts": len(contexts),
        "dead": flags.count("dead"),
        "dense": flags.count("dense"),
        "clear": clear,
        "unclear": len(rows) - clear - flags.count("dead"),
        "coverage": {"cofiring": {"exact": True, "tokens": tokens}, "measured": {"features": 48}},
        "kinds": sorted({kind for _, kind, _ in documents}),
        "position_edges": _EDGES,
        "position_tokens": np.histogram(
            [p for *_, t in contexts for p in range(len(t))], bins=_EDGES
        )[0].tolist(),
    }  # fmt: skip
