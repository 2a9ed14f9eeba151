"""What is being done in a workspace, as the page shows it: runs with their time left, curves, samples of a model."""

from __future__ import annotations

import time
from typing import Any

from glasshouse.workspace import KINDS, Workspace

MAX_POINTS = 300  # of a curve: more than the page has pixels to spare for
MAX_SAMPLES = 40


def status(ws: Workspace, *, now: float | None = None) -> dict[str, Any]:
    """`{"busy", "runs"}`: the latest run of every artefact, in the order in which they were begun; of behaviours,
    dozens on a version, those that are not done."""
    latest: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in ws.runs():
        key = (row["command"], row["kind"], row["name"])
        latest.pop(key, None)
        latest[key] = row
    shown = [row for row in latest.values() if row["command"] != "test" or row["state"] != "done"]
    runs = [_run(row, time.time() if now is None else now) for row in shown]
    return {"busy": any(run["state"] == "running" for run in runs), "runs": runs}


def _run(row: dict[str, Any], now: float) -> dict[str, Any]:
    """A run with its seconds, rate and time left. `first_done` is where this process took the job up."""
    end = row["ended"] or (now if row["state"] == "running" else row["updated"])
    seconds = max(0.0, end - row["started"])
    measured = row["updated"] - row["started"]
    rate = (row["done"] - row["first_done"]) / measured if measured > 0 else 0.0
    left = None
    if row["state"] == "running" and row["total"] and rate > 0:
        left = max(0.0, (row["total"] - row["done"]) / rate - (now - row["updated"]))
    keys = ("id", "command", "kind", "name", "state", "started", "ended", "done", "total", "unit", "note")
    return {**{key: row[key] for key in keys}, "seconds": seconds, "rate": rate, "left": left}


def metrics(ws: Workspace, kind: str, name: str) -> dict[str, Any]:
    """`{"curve", "held_out", "samples", "last"}` of an artefact, finished or still being written.

    `curve` holds the lines of metrics.jsonl that are neither, thinned evenly to `MAX_POINTS` with the last one kept.
    """
    assert kind in KINDS, kind
    lines = ws.metrics(kind, name)
    samples = [line for line in lines if "sample" in line]
    held_out = [line for line in lines if any(key.startswith("held_out") for key in line)]
    curve = [line for line in lines if "sample" not in line and "loss" in line]
    return {
        "curve": thinned(curve, MAX_POINTS),
        "held_out": thinned(held_out, MAX_POINTS),
        "samples": thinned(samples, MAX_SAMPLES),
        "last": lines[-1] if lines else None,
    }


def thinned(lines: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most `most` of the lines, evenly spaced, first and last among them."""
    if len(lines) <= most:
        return lines
    step = (len(lines) - 1) / (most - 1)
    return [lines[round(i * step)] for i in range(most)]
