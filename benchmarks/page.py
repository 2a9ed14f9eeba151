"""Server time of the page at 16,384 features: a feature under 100 ms, a list query under 200 ms.

    python benchmarks/page.py            # writes benchmarks/results/page.json
    python benchmarks/page.py --features 1024 --repeats 5 --out -

Evidence is generated in the layout that `gather` writes (docs/formats.md): every feature has its row with all columns
filled, 8 top examples and 5 bins of 4, contexts of 256 tokens. Requests go through the whole server (guard, routing,
DuckDB, JSON) in one process, each feature asked for once, so nothing is answered from a cache of answers.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from glasshouse.features.schema import SCHEMAS, TOP, write_table
from glasshouse.web import create_app
from glasshouse.workspace import Workspace, write_atomically

RESULTS = Path(__file__).parent / "results" / "page.json"
NAME, CONTEXT, CONTEXTS, VOCABULARY, DOCUMENTS = "large", 256, 20_000, 8192, 500
BINS, PER_BIN, TOPS = 5, 4, 8
LISTS = {
    "first page by rate": "sort=rate&limit=100",
    "search labels and promoted tokens": "search=w12&sort=score&limit=100",
    "search that finds nothing": "search=nothing+at+all&limit=100",
    "filtered by kind, flag and rate": "kind=code&flag=labelled&min_rate=0.001&max_rate=0.02&sort=label&limit=100",
    "last page": "sort=index&order=asc&limit=100&offset=16000",
}
BARS = {"feature_ms": 100.0, "list_ms": 200.0}


def write_evidence(ws: Workspace, n: int, rng: np.random.Generator) -> None:
    """features/large: n features of random numbers over random text, as big as real evidence is."""
    with ws.writing("features", NAME, config={"n": n}, command="features") as draft:
        words = [f" w{i}" for i in range(VOCABULARY)]
        write_table(draft.path, "vocabulary", {"token": list(range(VOCABULARY)), "text": words})
        documents = list(range(DOCUMENTS))
        kinds = [("code", "help", "docstring")[d % 3] for d in documents]
        names = [f"lib/{d}.py" for d in documents]
        write_table(draft.path, "documents", {"document": documents, "name": names, "kind": kinds})
        tokens = rng.zipf(1.3, (CONTEXTS, CONTEXT)) % VOCABULARY
        columns: dict[str, object] = {
            "context": list(range(CONTEXTS)),
            "document": (np.arange(CONTEXTS) % DOCUMENTS).tolist(),
            "char": (np.arange(CONTEXTS) * 900).tolist(),
            "tokens": tokens.tolist(),
        }
        write_table(draft.path, "contexts", columns)
        rows = [feature(f, n, rng) for f in range(n)]
        write_table(draft.path, "features", {key: [row[key] for row in rows] for key in SCHEMAS["features"].names})
        write_table(draft.path, "examples", examples(n, rng))
        summary = {
            "name": NAME, "model": "made-up", "site": "resid.4", "n_features": n, "tokens": CONTEXTS * CONTEXT,
            "documents": DOCUMENTS, "contexts": CONTEXTS, "dead": 0, "dense": 0, "clear": n // 2, "unclear": n // 2,
            "kinds": ["code", "docstring", "help"], "position_edges": [0, 1, 2, 4, 8, 16, 32, 64, 128, 256],
            "position_tokens": [CONTEXTS] * 9, "coverage": {},
        }  # fmt: skip
        (draft.path / "summary.json").write_text(json.dumps(summary))
        draft.finish()


def feature(f: int, n: int, rng: np.random.Generator) -> dict[str, Any]:
    rate, top = float(rng.lognormal(-6, 1)), float(rng.gamma(4, 2))
    some = rng.integers(0, VOCABULARY, 30).tolist()
    near = rng.integers(0, n, 20).tolist()
    label = f'token " w{some[0]}" in code' if f % 2 else None
    score = float(rng.uniform(0.3, 1))
    numbers = {
        "firings": int(rate * CONTEXTS * CONTEXT), "contexts": 900, "documents": 200, "rate": rate,
        "rate_low": rate * 0.9, "rate_high": rate * 1.1, "max_activation": top, "measured_loss": 0.01,
        "auroc": 0.9, "auroc_low": 0.8, "auroc_high": 0.95, "f1": score, "f1_low": score - 0.1, "f1_high": score + 0.1,
        "precision": 0.8, "recall": 0.9, "baseline_f1": 0.05, "label_documents": 60,
    }  # fmt: skip
    lists = {
        "kinds": [{"kind": k, "share": 1 / 3} for k in ("code", "help", "docstring")],
        "histogram": rng.integers(0, 1000, 20).tolist(),
        "positions": rng.integers(0, 1000, 9).tolist(),
        "tokens": [{"token": t, "count": 100, "mean": 1.0} for t in some[:20]],
        "promotes": [{"token": t, "logit": 1.0} for t in some[:10]],
        "suppresses": [{"token": t, "logit": -1.0} for t in some[10:20]],
        "measured": [{"token": t, "change": -0.1} for t in some[20:]],
        "near_decoder": [{"feature": i, "cosine": 0.5} for i in near[:10]],
        "near_cofiring": [{"feature": i, "jaccard": 0.2} for i in near[10:]],
        "bins": [{"low": top * b / BINS, "high": top * (b + 1) / BINS, "count": 180} for b in range(BINS)],
    }
    words = {"feature": f, "flag": "live", "kind": ("code", "help")[f % 2], "label": label, "best_guess": label}
    return {**words, **numbers, **lists}


def examples(n: int, rng: np.random.Generator) -> dict[str, object]:
    bins = [TOP] * TOPS + [b for b in range(BINS) for _ in range(PER_BIN)]
    ranks = [*range(TOPS), *(r for _ in range(BINS) for r in range(PER_BIN))]
    count = n * len(bins)
    position = rng.integers(0, CONTEXT, count)
    return {
        "feature": np.repeat(np.arange(n), len(bins)).tolist(),
        "bin": bins * n,
        "rank": ranks * n,
        "context": rng.integers(0, CONTEXTS, count).tolist(),
        "position": position.tolist(),
        "peak": rng.gamma(4, 1, count).tolist(),
        "fires_at": [[int(p)] for p in position],
        "activations": [[1.0]] * count,
    }


def timed(client: TestClient, path: str) -> float:
    """Milliseconds from request to whole answer."""
    start = time.perf_counter()
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return 1000 * (time.perf_counter() - start)


def described(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "median": round(statistics.median(ordered), 1),
        "p95": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 1),
        "worst": round(ordered[-1], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=16_384)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--out", default=str(RESULTS), help="a file, or - for standard output only")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        ws = Workspace.open(Path(folder) / "ws")
        write_evidence(ws, given.features, rng)
        with TestClient(create_app(ws), base_url="http://127.0.0.1:8421") as client:
            root = f"/api/v1/features/{NAME}"
            opening = timed(client, f"{root}?limit=1")
            asked = rng.permutation(given.features)[: given.repeats]
            feature_ms = [timed(client, f"{root}/{index}") for index in asked]
            lists = {word: [timed(client, f"{root}?{q}") for _ in range(given.repeats)] for word, q in LISTS.items()}
    results = {
        "features": given.features,
        "repeats": given.repeats,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "open_table_ms": round(opening, 1),
        "feature_ms": described(feature_ms),
        "list_ms": {word: described(times) for word, times in lists.items()},
        "bars": BARS,
    }
    held = results["feature_ms"]["p95"] < BARS["feature_ms"] and all(
        one["p95"] < BARS["list_ms"] for one in results["list_ms"].values()
    )
    results["held"] = held
    print(json.dumps(results, indent=1))
    if given.out != "-":
        Path(given.out).parent.mkdir(exist_ok=True)
        write_atomically(Path(given.out), json.dumps(results, indent=1) + "\n")
    raise SystemExit(0 if held else 1)


if __name__ == "__main__":
    main()
