"""How far a run is: its row in the log, its bar; and what it takes, told before it starts."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glasshouse.workspace.artefacts import Workspace

CLOCKS_APART = 5.0  # seconds by which a clock that was set meanwhile may make a process look younger than its run


class Progress:
    """A run in the log, and its bar. `advance(done, note)` as often as you like; it writes twice a second at most."""

    def __init__(
        self, ws: Workspace, command: str, kind: str, name: str, total: float | None, unit: str, done: float
    ) -> None:
        self._total, self._first, self._done, self._unit = total, done, done, unit
        self._started = self._written = time.time()
        self._db = ws.index()
        self._label = f"{command} {name}"
        self._spoken = 0.0
        with self._db:
            self._id = self._db.execute(
                "INSERT INTO runs"
                " (command, kind, name, state, pid, started, updated, done, total, unit, first_done, note)"
                " VALUES (?, ?, ?, 'running', ?, ?, ?, ?, ?, ?, ?, '')",
                (command, kind, name, os.getpid(), self._started, self._started, done, total, unit, done),
            ).lastrowid
        self._bar = _bar(self._label, total, done, unit) if sys.stderr.isatty() else None

    def advance(self, done: float, note: str = "") -> None:
        """`done` counts in `unit` from the start of the whole job, not of this process."""
        self._done = done
        now = time.time()
        if now - self._written < 0.5:
            return
        self._written = now
        with self._db:
            self._db.execute("UPDATE runs SET done=?, note=?, updated=? WHERE id=?", (done, note, now, self._id))
        rate = (done - self._first) / max(now - self._started, 1e-9)
        left = (self._total - done) / rate if self._total and rate > 0 else None
        if self._bar is not None:
            self._bar[0].update(self._bar[1], completed=done, note=note)
        elif now - self._spoken > 15:
            self._spoken = now
            share = f" {done / self._total:4.0%}" if self._total else ""
            ahead = f", {human_seconds(left)} left" if left is not None else ""
            print(
                f"{self._label}:{share} {rate:,.0f} {self._unit}/s{ahead} {note}".rstrip(), file=sys.stderr, flush=True
            )

    def close(self, state: str) -> None:
        now = time.time()
        with self._db:
            self._db.execute(
                "UPDATE runs SET state=?, done=?, updated=?, ended=? WHERE id=?",
                (state, self._done, now, now, self._id),
            )
        self._db.close()
        if self._bar is not None:
            self._bar[0].update(self._bar[1], completed=self._done)
            self._bar[0].stop()


def _bar(label: str, total: float | None, done: float, unit: str) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    class Rate(TextColumn):
        def render(self, task: Any) -> Any:
            from rich.text import Text

            return Text(f"{task.speed or 0:,.0f} {unit}/s")

    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), Rate(""),
        TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=Console(stderr=True),
    )  # fmt: skip
    progress.start()
    return progress, progress.add_task(label, total=total, completed=int(done), note="")


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What a long command says before it starts: seconds, and bytes of memory and disk."""

    seconds: float
    memory: int
    disk: int

    def __add__(self, other: Expectation) -> Expectation:
        return Expectation(
            seconds=self.seconds + other.seconds, memory=max(self.memory, other.memory), disk=self.disk + other.disk
        )

    def __str__(self) -> str:
        return f"about {human_seconds(self.seconds)}, {human_bytes(self.memory)} memory, {human_bytes(self.disk)} disk"


def human_bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def human_seconds(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def alive(pid: int, since: float) -> bool:
    """Whether the process that was `pid` at `since` (Unix time, s) still runs. Where the system tells when a process
    began, one that began later is another with a number used again, as of a container whose every command is 1."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    began = _began(pid)
    return began is None or began < since + CLOCKS_APART


def _began(pid: int) -> float | None:
    """When a process began (Unix time, s), from /proc; None where that is not told. proc_pid_stat(5), field 22."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    return time.time() - age
