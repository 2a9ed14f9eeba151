"""Are the features meaningful to a stranger? A blind sheet of features and controls, and the count of the answers.

    python benchmarks/read_features.py sheet glasshouse-workspace/features/NAME --out sheet.md --key key.json
    python benchmarks/read_features.py score a.json b.json --key key.json --out benchmarks/results/read_features.json

The sheet holds `--features` live features drawn at `--seed` from all live ones, and `--controls` made of random tokens
from the same contexts, in random order under plain numbers: no label, no promoted token, no rate. Each item shows its
top examples and one from each quantile bin of peak activation; the peak stands in ⟦…⟧, other active tokens in ‹…›.
A control marks as many tokens as a real feature's examples do, at random places. The reader answers each number with
`clear`, `partly` or `unclear` (JSON object) without seeing the key.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from glasshouse.features import features
from glasshouse.features.table import Features

ANSWERS = ("clear", "partly", "unclear")
TOP, AROUND = 8, 14


def passage(example: dict[str, Any]) -> str:
    """Tokens about the peak, with the peak in ⟦⟧ and other tokens of at least a fifth of it in ‹›."""
    peak = example["position"] - example["start"]
    parts = []
    for place, (token, value) in enumerate(zip(example["tokens"], example["activations"], strict=True)):
        if abs(place - peak) > AROUND:
            continue
        shown = token.replace("\n", "⏎").replace("\t", "⇥")
        if place == peak:
            shown = f"⟦{shown}⟧"
        elif value >= example["peak"] / 5:
            shown = f"‹{shown}›"
        parts.append(shown)
    return "".join(parts)


def shown_examples(evidence: dict[str, Any]) -> list[dict[str, Any]]:
    """The top examples, then the first of each quantile bin, strongest bin first."""
    bins = [b["examples"][0] for b in reversed(evidence["examples"]["bins"]) if b["examples"]]
    return evidence["examples"]["top"][:TOP] + bins


def control(like: dict[str, Any], pool: list[dict[str, Any]], rng: random.Random) -> list[dict[str, Any]]:
    """As many examples as `like` has, with as many marked tokens each, on random tokens of random contexts."""
    made = []
    for example in shown_examples(like):
        place = dict(rng.choice(pool))
        marked = sum(1 for a in example["activations"] if a >= example["peak"] / 5) - 1
        length = len(place["tokens"])
        peak, *others = rng.sample(range(length), min(length, marked + 1))
        activations = [0.0] * length
        for other in others:
            activations[other] = 1.0
        activations[peak] = 1.0
        made.append(place | {"peak": 1.0, "position": place["start"] + peak, "activations": activations})
    return made


def sheet(table: Features, n_features: int, n_controls: int, seed: int) -> tuple[str, dict[str, Any]]:
    rng = random.Random(seed)
    live = sorted(row["index"] for row in table.query(flag="live", limit=len(table))["rows"])
    chosen = rng.sample(live, n_features)
    evidence = [table.feature(index) for index in rng.sample(live, min(len(live), 200))]
    pool = [example for one in evidence for example in one["examples"]["top"][:1]]
    items = [(str(index), shown_examples(table.feature(index))) for index in chosen]
    items += [("control", control(rng.choice(evidence), pool, rng)) for _ in range(n_controls)]
    rng.shuffle(items)
    lines = []
    for number, (_, examples) in enumerate(items, 1):
        lines.append(f"## {number}")
        lines += [f"{i}. [{e['kind']}] {passage(e)}" for i, e in enumerate(examples, 1)]
        lines.append("")
    key = {str(number): name for number, (name, _) in enumerate(items, 1)}
    return "\n".join(lines), {"dictionary": table.name, "seed": seed, "items": key}


def score(answers: dict[str, str], key: dict[str, Any]) -> dict[str, Any]:
    wrong = {n: a for n, a in answers.items() if a not in ANSWERS} or set(key["items"]) ^ set(answers)
    assert not wrong, f"expected one of {ANSWERS} for every item, got {wrong}"
    counts: dict[str, Counter[str]] = {"features": Counter(), "controls": Counter()}
    for number, answer in answers.items():
        counts["controls" if key["items"][number] == "control" else "features"][answer] += 1
    return {
        **{group: {answer: count[answer] for answer in ANSWERS} for group, count in counts.items()},
        "answers": [{"feature": key["items"][n], "answer": answers[n]} for n in key["items"]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("sheet")
    make.add_argument("features", type=Path)
    make.add_argument("--features", dest="n", type=int, default=50)
    make.add_argument("--controls", type=int, default=10)
    make.add_argument("--seed", type=int, default=0)
    count = commands.add_parser("score")
    count.add_argument("answers", type=Path, nargs="+", help="one file a reader")
    for one in (make, count):
        one.add_argument("--out", type=Path, required=True)
        one.add_argument("--key", type=Path, required=True)
    args = parser.parse_args()
    if args.command == "sheet":
        text, key = sheet(features(args.features), args.n, args.controls, args.seed)
        args.out.write_text(text, encoding="utf-8")
        args.key.write_text(json.dumps(key, indent=1), encoding="utf-8")
        return
    key = json.loads(args.key.read_text())
    readers = [score(json.loads(one.read_text()), key) for one in args.answers]
    result = {"dictionary": key["dictionary"], "seed": key["seed"], "readers": readers}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for one in readers:
        print(json.dumps({k: v for k, v in one.items() if k != "answers"}))


if __name__ == "__main__":
    main()
