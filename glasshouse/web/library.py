"""What the workspace holds, opened once and kept: features tables, reports, lists of artefacts."""

from __future__ import annotations

import json
import threading
from typing import Any

from glasshouse.behaviours.discoveries import discoveries
from glasshouse.behaviours.evaluation import read_evaluation
from glasshouse.behaviours.frontier import plane
from glasshouse.behaviours.history import history_of, wordings
from glasshouse.behaviours.matrix import compared, counterparts, newest, tested
from glasshouse.behaviours.versions import version
from glasshouse.features.table import Features, features
from glasshouse.types import NAME_PATTERN, UserError
from glasshouse.web.answers import fail
from glasshouse.web.progress import metrics
from glasshouse.workspace import KINDS, Workspace


class Library:
    """Reads one workspace for the page. Safe to use from several threads."""

    def __init__(self, ws: Workspace) -> None:
        self.ws = ws
        self._lock = threading.Lock()
        self._tables: dict[str, tuple[str, Features]] = {}
        self._compared: dict[tuple[str, ...], dict[str, Any]] = {}
        self._planes: dict[tuple[str, ...], dict[str, Any]] = {}
        self._briefs: dict[str, tuple[Features, dict[int, dict[str, Any]]]] = {}

    def require(self, kind: str, name: str) -> None:
        """404 unless the workspace holds the finished artefact; a name that could leave its folder is never one."""
        if kind not in KINDS or not NAME_PATTERN.fullmatch(name) or not self.ws.exists(kind, name):
            have = ", ".join(self.ws.names(kind)) if kind in KINDS else ""
            raise fail(404, f"expected one of {kind}: {have or 'none yet'}; got {name[:80]!r}")

    def table(self, name: str) -> Features:
        """The features of a dictionary, opened the first time, and again when the artefact was made anew."""
        self.require("features", name)
        stamp = str((self.ws.path("features", name) / "manifest.json").stat().st_mtime_ns)
        with self._lock:
            held = self._tables.get(name)
            if held is None or held[0] != stamp:
                try:
                    held = (stamp, features(name, ws=self.ws))
                except UserError as error:  # truncated or edited: a fault of the artefact, not of the request
                    raise fail(500, str(error)) from error
                self._tables[name] = held
            return held[1]

    def briefs(self, name: str) -> dict[int, dict[str, Any]]:
        """What a list says of each feature in passing: label, flag, largest activation, rate."""
        table = self.table(name)
        held = self._briefs.get(name)
        if held is None or held[0] is not table:
            rows = table.query(sort="index", descending=False, limit=len(table))["rows"]
            keys = ("label", "flag", "max_activation", "rate")
            held = self._briefs[name] = (table, {row["index"]: {key: row[key] for key in keys} for row in rows})
        return held[1]

    def versions(self) -> list[dict[str, Any]]:
        """Versions that something was run on: each with the names of its behaviours, and of the versions that what
        differs from it was sought in."""
        every = tested(self.ws)
        return [
            {
                **one.to_json(), "behaviours": sorted(newest(self.ws, one)),
                "discovered": [other.name for other in every if discoveries(self.ws, one, other)],
            }
            for one in every
        ]  # fmt: skip

    def compared(self, base: str, new: str) -> dict[str, Any]:
        """What moved between two versions, judged; done again when a behaviour was run since."""
        try:
            before, after = version(base, self.ws), version(new, self.ws)
        except UserError as error:
            raise fail(404, str(error)) from error
        runs = tuple(sorted({*newest(self.ws, before).values(), *newest(self.ws, after).values()}))
        key = (before.hash, after.hash, *runs)
        with self._lock:
            if key not in self._compared:
                try:
                    self._compared[key] = compared(self.ws, before, after)
                except UserError as error:  # damaged, or nothing was run on the base
                    raise fail(500 if newest(self.ws, before) else 404, str(error)) from error
            return self._compared[key]

    def history(self, behaviour: str) -> dict[str, Any]:
        """Every evaluation of a behaviour, oldest first."""
        try:
            return history_of(self.ws, behaviour)
        except UserError as error:
            raise fail(404, str(error)) from error

    def wordings(self, base: str, new: str, behaviour: str) -> dict[str, Any]:
        """What the wording decides on two versions, of a behaviour that was run on both."""
        try:
            pair = counterparts(self.ws, version(base, self.ws), version(new, self.ws)).get(behaviour)
            if pair is None or not self.ws.exists("evals", pair[1]):
                raise UserError(f"expected a behaviour that was run on {base} and {new} alike, got {behaviour[:80]!r}")
        except UserError as error:
            raise fail(404, str(error)) from error
        try:
            return wordings(*(read_evaluation(self.ws, name) for name in pair))
        except UserError as error:  # damaged
            raise fail(500, str(error)) from error

    def plane(self, x: str | None, y: str | None, of: str | None) -> dict[str, Any]:
        """Versions by two measures; done again when a behaviour was run, or a version saved, since."""
        key = (
            x or "",
            y or "",
            of or "",
            *self.ws.names("models"),
            *self.ws.names("versions"),
            *self.ws.names("evals"),
        )
        with self._lock:
            if key not in self._planes:
                self._planes[key] = plane(self.ws, x, y, of=of)
            return self._planes[key]

    def contents(self) -> dict[str, Any]:
        """Finished artefacts by kind; for features their summaries. One that does not read says so in `error`."""
        return {
            "name": self.ws.root.resolve().name,
            "models": self.ws.names("models"),
            "versions": self.ws.names("versions"),
            "activations": self.ws.names("activations"),
            "dictionaries": self.ws.names("dictionaries"),
            "features": [self._summary(name) for name in self.ws.names("features")],
        }

    def _summary(self, name: str) -> dict[str, Any]:
        try:
            return self._read(name)
        except (UserError, OSError, ValueError) as error:
            return {"name": name, "error": " ".join(str(error).split())}

    def _read(self, name: str) -> dict[str, Any]:
        summary = json.loads((self.ws.path("features", name) / "summary.json").read_text(encoding="utf-8"))
        if not isinstance(summary, dict):
            raise UserError(f"expected a summary of {name}, got {str(summary)[:40]}; gather its features again")
        return {key: value for key, value in summary.items() if not key.startswith("position_")}

    def report(self, name: str) -> dict[str, Any]:
        """The held-out report of a dictionary with its training curve, or what there is of it while it is learnt."""
        if not NAME_PATTERN.fullmatch(name):
            raise fail(404, f"expected the name of a dictionary, got {name[:80]!r}")
        curve = metrics(self.ws, "dictionaries", name)
        if not self.ws.exists("dictionaries", name):
            if not curve["curve"]:
                self.require("dictionaries", name)
            return {"name": name, "finished": False, "report": None, "config": {}, "metrics": curve}
        manifest = self.ws.manifest("dictionaries", name)
        folder = self.ws.path("dictionaries", name)
        return {
            "name": name,
            "finished": True,
            "created": manifest.get("created"),
            "config": manifest.get("config", {}),
            "made_from": manifest.get("made_from", []),
            "report": _json(folder / "report.json"),
            "metrics": curve,
        }


def _json(file: Any) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
