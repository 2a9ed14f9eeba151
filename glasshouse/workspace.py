"""A workspace on disk: artefact folders, manifests, atomic writes, locks, checkpoints, and the log of runs.

    ws = Workspace.open("glasshouse-workspace")
    with ws.writing("dictionaries", "resid6", config={"k": 32}, command="learn") as draft:
        draft.choose("precision", measure)          # measured once, stored, never measured again
        ...
        draft.save_checkpoint(step, tensors, state)
        draft.finish(made_from=[...])               # hash, manifest, fsync, rename

An artefact is written in a hidden folder beside its place (`.NAME.partial`) and renamed when whole. A killed writer
leaves that folder; the same command finds it and goes on. Needs no torch until a checkpoint is saved or loaded.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from glasshouse.types import ArtifactRef, UserError, check_name

FORMAT = 1
KINDS = ("models", "activations", "dictionaries", "features", "evals", "versions", "discoveries")
MARKER = "glasshouse.toml"
DEFAULT_ROOT = "glasshouse-workspace"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, command TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
    state TEXT NOT NULL, pid INTEGER NOT NULL, started REAL NOT NULL, updated REAL NOT NULL, ended REAL,
    done REAL NOT NULL, total REAL, unit TEXT NOT NULL, first_done REAL NOT NULL, note TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS pairs (
    id TEXT PRIMARY KEY, base TEXT NOT NULL, new TEXT NOT NULL, base_name TEXT NOT NULL, new_name TEXT NOT NULL,
    behaviour TEXT NOT NULL, family TEXT NOT NULL, prompt INTEGER NOT NULL, turns TEXT NOT NULL,
    base_reply TEXT NOT NULL, new_reply TEXT NOT NULL, prepared REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS ratings (
    pair TEXT NOT NULL, who TEXT NOT NULL, new_left INTEGER NOT NULL, shown REAL NOT NULL, skipped REAL, rated REAL,
    rating INTEGER, PRIMARY KEY (pair, who)
);
CREATE TABLE IF NOT EXISTS chats (
    id TEXT PRIMARY KEY, begun REAL NOT NULL, version TEXT NOT NULL, card TEXT NOT NULL, base TEXT NOT NULL,
    new TEXT NOT NULL, share REAL
);
CREATE TABLE IF NOT EXISTS thumbs (
    chat TEXT NOT NULL, turn INTEGER NOT NULL, who TEXT NOT NULL, given REAL NOT NULL, up INTEGER NOT NULL,
    note TEXT NOT NULL, turns TEXT NOT NULL, PRIMARY KEY (chat, turn)
);
"""


class Stopped(Exception):
    """Raised in a long run by whoever asked for it and wants it no more; asked for again, it goes on."""


class Workspace:
    """One workspace folder. Open it with `Workspace.open`; everything in it is reached by kind and name."""

    def __init__(self, root: Path) -> None:
        self.root = root

    # -- finding and opening ---------------------------------------------------------------------------------------

    @staticmethod
    def find(explicit: str | Path | None = None) -> Path:
        """`explicit`, else the nearest folder upwards with a glasshouse.toml, else ./glasshouse-workspace."""
        if explicit is not None:
            return Path(explicit)
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / MARKER).is_file():
                return folder
        return here / DEFAULT_ROOT

    @classmethod
    def open(cls, root: str | Path | None = None, *, create: bool = True) -> Workspace:
        """Open the workspace at `root` (found as in `find` if None), made first if `create`.

        Raises `UserError` for a folder that is something else, is missing (`create=False`), or was made by a newer
        version.
        """
        path = cls.find(root)
        marker = path / MARKER
        if marker.is_file():
            cls._check_marker(marker)
        elif not create:
            raise UserError(f"expected a workspace at {path}, found no {MARKER} there; make one with `glasshouse demo`")
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(
                f"expected a workspace or an empty folder at {path}, found other files; give --workspace DIR"
            )
        else:
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(marker, f'format = {FORMAT}\nmade_by = "glasshouse {_version("glasshouse")}"\n')
        return cls(path)

    @staticmethod
    def _check_marker(marker: Path) -> None:
        try:
            found = tomllib.loads(marker.read_text(encoding="utf-8")).get("format")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"expected TOML in {marker}, found a file that does not parse ({error})") from None
        if not isinstance(found, int):
            raise UserError(f"expected `format = {FORMAT}` in {marker}, found {found!r}")
        if found > FORMAT:
            raise UserError(
                f"workspace {marker.parent} has format {found}, this glasshouse reads up to {FORMAT}; "
                "upgrade glasshouse"
            )

    # -- artefacts -------------------------------------------------------------------------------------------------

    def path(self, kind: str, name: str) -> Path:
        """The artefact's folder, whether it exists or not. The name is checked, so it cannot leave the workspace."""
        assert kind in KINDS, kind
        return self.root / kind / check_name(name)

    def partial(self, kind: str, name: str) -> Path:
        """Where the artefact is while it is being written."""
        return self.path(kind, name).with_name(f".{name}.partial")

    def exists(self, kind: str, name: str) -> bool:
        return (self.path(kind, name) / "manifest.json").is_file()

    def names(self, kind: str) -> list[str]:
        """Finished artefacts of a kind, sorted."""
        folder = self.root / kind
        if not folder.is_dir():
            return []
        return sorted(
            p.name for p in folder.iterdir() if not p.name.startswith(".") and (p / "manifest.json").is_file()
        )

    def done(self, kind: str, name: str, config: Mapping[str, Any]) -> bool:
        """Whether the artefact stands finished with this configuration. Raises `UserError` if with another."""
        if not self.exists(kind, name):
            return False
        have, want = self.manifest(kind, name)["config"], json.loads(json.dumps(dict(config)))
        keys = sorted(k for k in have.keys() | want.keys() if have.get(k) != want.get(k))
        if keys:
            raise UserError(
                f"{kind}/{name} exists with other settings ({', '.join(_difference(have, want, keys))}); "
                f"give another --name, or delete {self.path(kind, name)}"
            )
        return True

    def manifest(self, kind: str, name: str, *, verify: bool = False) -> dict[str, Any]:
        """The manifest of a finished artefact, checked: format, its own hash, and every file's size (and with
        `verify`, content hash). Raises `UserError` if it is missing, edited, truncated or newer."""
        folder = self.path(kind, name)
        if not (folder / "manifest.json").is_file():
            have = ", ".join(self.names(kind)) or "none"
            raise UserError(f"expected {kind}/{name} in {self.root}, found {have}; check the name or make it first")
        return read_manifest(folder, verify=verify)

    def ref(self, kind: str, name: str) -> ArtifactRef:
        return ArtifactRef(kind, name, self.manifest(kind, name)["hash"])

    @contextlib.contextmanager
    def writing(self, kind: str, name: str, *, config: Mapping[str, Any], command: str) -> Iterator[Draft]:
        """Lock the artefact and open its draft, new or left by a killed run of the same configuration.

        Raises `UserError` if another process is writing it, if it exists already, or if the draft found there was
        begun with another configuration.
        """
        folder = self.path(kind, name)
        with self._lock(kind, name):
            if folder.exists():
                raise UserError(
                    f"{kind}/{name} exists already in {self.root}; give another --name or delete the folder"
                )
            draft = Draft(self, kind, name, json.loads(json.dumps(dict(config))), command)
            try:
                yield draft
            except UserError:
                if not draft.resumed:  # what the user asked for cannot be: leave nothing of it behind
                    shutil.rmtree(draft.path, ignore_errors=True)
                raise

    @contextlib.contextmanager
    def _lock(self, kind: str, name: str) -> Iterator[None]:
        folder = self.root / "locks"
        folder.mkdir(exist_ok=True)
        with open(folder / f"{kind}.{name}", "a+", encoding="utf-8") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.seek(0)
                raise UserError(
                    f"{kind}/{name} is being written by process {handle.read().strip() or '?'}; "
                    "wait for it, or give another --name"
                ) from None
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
            yield

    def metrics(self, kind: str, name: str) -> list[dict[str, Any]]:
        """The lines of the artefact's metrics.jsonl, finished or still being written."""
        for folder in (self.path(kind, name), self.partial(kind, name)):
            file = folder / "metrics.jsonl"
            if file.is_file():
                return list(_read_lines(file))
        return []

    def require_disk(self, needed: int) -> None:
        """Raises `UserError` before anything starts if fewer than `needed` bytes (plus 2%) are free."""
        free = shutil.disk_usage(self.root).free
        if free < needed * 1.02:
            raise UserError(
                f"expected {human_bytes(needed)} of free disk at {self.root}, found {human_bytes(free)}; "
                "free some, ask for fewer tokens, or give --workspace on another disk"
            )

    # -- the log of runs -------------------------------------------------------------------------------------------

    def index(self) -> sqlite3.Connection:
        """A connection to index.sqlite (WAL), with the schema in place. The caller closes it."""
        connection = sqlite3.connect(self.root / "index.sqlite", timeout=30)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(_SCHEMA)
        return connection

    @contextlib.contextmanager
    def running(
        self, command: str, kind: str, name: str, *, total: float | None, unit: str, done: float = 0
    ) -> Iterator[Progress]:
        """Log a run in index.sqlite and show a progress bar with rate and time left on standard error."""
        progress = Progress(self, command, kind, name, total, unit, done)
        try:
            yield progress
        except BaseException as error:
            progress.close("stopped" if isinstance(error, KeyboardInterrupt | Stopped) else "failed")
            raise
        progress.close("done")

    def runs(self) -> list[dict[str, Any]]:
        """All runs, oldest first. One that says `running` though its process is gone is shown as `killed`."""
        if not (self.root / "index.sqlite").is_file():
            return []
        with contextlib.closing(self.index()) as db:
            rows = [dict(row) for row in db.execute("SELECT * FROM runs ORDER BY id")]
        for row in rows:
            if row["state"] == "running" and not _alive(row["pid"]):
                row["state"] = "killed"
        return rows


class Draft:
    """An artefact being written: its folder, its recorded choices, its checkpoints and metrics."""

    def __init__(self, ws: Workspace, kind: str, name: str, config: dict[str, Any], command: str) -> None:
        self.ws, self.kind, self.name, self.config, self.command = ws, kind, name, config, command
        self.path = ws.partial(kind, name)
        self._record = self.path / "draft.json"
        self.resumed = self._record.is_file()
        if self.resumed:
            record = json.loads(self._record.read_text(encoding="utf-8"))
            if record["config"] != config:
                keys = sorted(
                    k for k in config.keys() | record["config"].keys() if config.get(k) != record["config"].get(k)
                )
                raise UserError(
                    f"{kind}/{name} was begun with other settings "
                    f"({', '.join(_difference(record['config'], config, keys))}); "
                    f"run the first command again to go on, give another --name, or delete {self.path}"
                )
            self.choices: dict[str, Any] = record["choices"]
        else:
            if self.path.exists():
                shutil.rmtree(self.path)
            self.path.mkdir(parents=True)
            self.choices = {}
            self._save()

    def _save(self) -> None:
        write_atomically(self._record, json.dumps({"config": self.config, "choices": self.choices}, indent=1))

    def choose(self, key: str, measure: Callable[[], Any]) -> Any:
        """The recorded choice `key`, measured and stored the first time only, so that a resumed run is the same run."""
        if key not in self.choices:
            self.choices[key] = json.loads(json.dumps(measure()))
            self._save()
        return self.choices[key]

    def log(self, **values: Any) -> None:
        """Append one line to metrics.jsonl."""
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as handle:
            handle.write(json.dumps(values) + "\n")

    def save_checkpoint(self, step: int, tensors: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Write tensors (safetensors) and JSON state under checkpoints/, whole or not at all; keep the newest two."""
        from safetensors.torch import save_file

        folder = self.path / "checkpoints"
        folder.mkdir(exist_ok=True)
        temporary = folder / ".writing"
        save_file(
            {k: v.contiguous() for k, v in tensors.items()}, temporary, metadata={"state": json.dumps(dict(state))}
        )
        _sync_file(temporary)
        os.replace(temporary, folder / f"{step:012d}.safetensors")
        _sync_folder(folder)
        for old in sorted(folder.glob("*.safetensors"))[:-2]:
            old.unlink()

    def load_checkpoint(self, device: str = "cpu") -> tuple[int, dict[str, Any], dict[str, Any]] | None:
        """(step, tensors, state) of the newest checkpoint, with metrics.jsonl cut back to lines with `step` ≤ it."""
        from safetensors import safe_open

        files = sorted((self.path / "checkpoints").glob("*.safetensors"))
        if not files:
            (self.path / "metrics.jsonl").unlink(missing_ok=True)
            return None
        step = int(files[-1].stem)
        with safe_open(files[-1], "pt", device=device) as handle:
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118  (not a dict)
            state = json.loads(handle.metadata()["state"])
        metrics = self.path / "metrics.jsonl"
        if metrics.is_file():
            kept = [line for line in _read_lines(metrics) if line.get("step", 0) <= step]
            write_atomically(metrics, "".join(json.dumps(line) + "\n" for line in kept))
        return step, tensors, state

    def finish(self, *, made_from: Iterable[ArtifactRef] = (), **fields: Any) -> dict[str, Any]:
        """Drop checkpoints, write manifest.json over all files, sync, and rename the folder into its place."""
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)
        files = sorted(
            p for p in self.path.rglob("*") if p.is_file() and p != self._record and p.name != "manifest.json"
        )
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "kind": self.kind,
            "name": self.name,
            "command": self.command,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "config": self.config,
            "choices": self.choices,
            "made_from": [asdict(ref) for ref in made_from],
            "libraries": {p: _version(p) for p in ("glasshouse", "torch", "transformers", "tokenizers", "safetensors")},
            "files": {
                str(p.relative_to(self.path)): {"sha256": hash_file(p), "bytes": p.stat().st_size} for p in files
            },
            **fields,
        }
        content = {k: manifest[k] for k in ("kind", "config", "made_from", "files")}
        content["files"] = {
            k: v for k, v in manifest["files"].items() if k != "metrics.jsonl"
        }  # holds wall-clock rates
        manifest["hash"] = _hash_json(content)
        manifest["self"] = _hash_json(manifest)
        for file in files:
            _sync_file(file)
        write_atomically(self.path / "manifest.json", json.dumps(manifest, indent=1))
        self._record.unlink()
        _sync_folder(self.path)
        os.replace(self.path, self.ws.path(self.kind, self.name))
        _sync_folder(self.path.parent)
        self.path = self.ws.path(self.kind, self.name)
        return manifest


class Progress:
    """A run in the log, and its bar. `advance(done, note)` as often as you like; it writes twice a second at most."""

    def __init__(
        self, ws: Workspace, command: str, kind: str, name: str, total: float | None, unit: str, done: float
    ) -> None:
        self._ws, self._total, self._first, self._done, self._unit = ws, total, done, done, unit
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


# -- files -----------------------------------------------------------------------------------------------------------


def write_atomically(path: Path, data: str | bytes) -> None:
    """Write under a temporary name, sync, rename: readers see the old file or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)
    _sync_file(temporary)
    os.replace(temporary, path)
    _sync_folder(path.parent)


def hash_file(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def read_manifest(folder: Path, *, verify: bool = False) -> dict[str, Any]:
    """As `Workspace.manifest`, for any artefact folder, such as one copied from another machine."""
    file = folder / "manifest.json"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        found, own = manifest["format"], manifest.pop("self")
        entries = {str(k): (str(v["sha256"]), int(v["bytes"])) for k, v in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"expected a glasshouse manifest at {file}, found one that does not read ({error!r})") from None
    if found > FORMAT:
        raise UserError(f"{file} has format {found}, this glasshouse reads up to {FORMAT}; upgrade glasshouse")
    if _hash_json(manifest) != own:
        raise UserError(f"{file} does not match its own hash: it was edited; restore it or make the artefact again")
    for name, (digest, size) in entries.items():
        target = folder / name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{file} names {name!r}, which lies outside its folder; do not trust this artefact")
        have = target.stat().st_size if target.is_file() else -1
        if have != size:
            came = "no such file" if have < 0 else f"{have} bytes"
            raise UserError(f"expected {size} bytes in {target}, found {came}; copy it again or make it again")
        if verify and hash_file(target) != digest:
            raise UserError(
                f"{target} does not match the hash in its manifest; copy it again or make the artefact again"
            )
    return manifest


def keep_memory() -> bool:
    """Tell glibc to keep freed memory instead of handing it back: a training step then faults in no page twice.

    Each tensor above 128 kB would else be mapped, faulted in page by page, and unmapped again at every step. Called by
    commands that train, never at import; says whether it took effect (Linux with glibc). mallopt(3).
    """
    import ctypes

    if not sys.platform.startswith("linux"):
        return False
    m_trim_threshold, m_mmap_threshold, m_mmap_max, huge = -1, -3, -4, 2**31 - 1
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    # The mmap threshold has a ceiling (32 MiB); no mapped blocks at all is what keeps the larger ones too.
    mallopt(m_mmap_threshold, huge)
    return bool(mallopt(m_mmap_max, 0)) and bool(mallopt(m_trim_threshold, huge))


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


def _hash_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _sync_file(path: Path) -> None:
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_lines(file: Path) -> Iterator[dict[str, Any]]:
    """Whole JSON lines; a last line cut short by a kill is left out."""
    for line in file.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line)


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], keys: list[str]) -> list[str]:
    return [f"{key}: {old.get(key)!r} then, {new.get(key)!r} now" for key in keys[:3]]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
