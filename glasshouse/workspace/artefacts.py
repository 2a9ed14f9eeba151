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
import fcntl
import json
import os
import shutil
import sqlite3
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from glasshouse.types import ArtifactRef, UserError, check_name
from glasshouse.workspace.drafts import CHECKPOINTS, MANIFEST, Draft, begun, differences, settle, version_of
from glasshouse.workspace.files import (
    FORMAT,
    read_lines,
    read_manifest,
    write_atomically,
)
from glasshouse.workspace.progress import Progress, alive, human_bytes

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
    note TEXT NOT NULL, turns TEXT NOT NULL, PRIMARY KEY (chat, turn, who)
);
"""
# Of an index whose thumbs are kept one a reply, whoever gave it. Done again it does no harm.
_ONE_THUMB_A_PERSON = f"""
BEGIN IMMEDIATE; ALTER TABLE thumbs RENAME TO thumbs_of_replies; {_SCHEMA}
INSERT INTO thumbs SELECT chat, turn, who, given, up, note, turns FROM thumbs_of_replies;
DROP TABLE thumbs_of_replies; COMMIT;
"""


class _Index(sqlite3.Connection):
    def execute(self, *words: Any) -> sqlite3.Cursor:
        try:
            return super().execute(*words)
        except sqlite3.Error as error:
            raise _refused(error) from None


def _refused(error: sqlite3.Error) -> UserError:
    return UserError(
        f"expected to read and write index.sqlite of the workspace, got {error}; see that you may write there, and "
        "that nothing else holds it"
    )


def _copied(file: Path) -> sqlite3.Connection:
    """The index in memory, for reading only. `immutable`: where what SQLite keeps beside it cannot be made."""
    copy = sqlite3.connect(":memory:", factory=_Index)
    for how in ("mode=ro", "immutable=1") if file.is_file() else ():
        try:
            with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?{how}", uri=True)) as found:
                found.backup(copy)
            break
        except sqlite3.Error as error:
            if how == "immutable=1":
                raise _refused(error) from None
    copy.executescript(_SCHEMA)
    copy.execute("PRAGMA query_only=1")
    return copy


class Stopped(Exception):
    """Raised in a long run by whoever asked for it and wants it no more; asked for again, it goes on."""


def _holds_other(folder: Path) -> bool:
    """Whether there is more than the beginning of a marker, which a kill may have left."""
    return any(not file.name.startswith(f".{MARKER}.") for file in folder.iterdir())


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

        Raises `UserError` for a folder that is something else, is missing (`create=False`), may not be read or written,
        or was made by a newer version.
        """
        path = cls.find(root)
        try:
            cls._open(path, create=create)
        except OSError as error:
            raise UserError(
                f"expected a workspace, or a place to make one, at {path}, got {error.strerror or error}; "
                "give --workspace DIR"
            ) from None
        return cls(path)

    @classmethod
    def _open(cls, path: Path, *, create: bool) -> None:
        marker = path / MARKER
        if marker.is_file():
            cls._check_marker(marker)
        elif not create:
            raise UserError(f"expected a workspace at {path}, found no {MARKER} there; make one with `glasshouse demo`")
        elif path.exists() and (not path.is_dir() or _holds_other(path)):
            if not marker.is_file():  # another process may have made it since
                raise UserError(
                    f"expected a workspace or an empty folder at {path}, found other files; give --workspace DIR"
                )
            cls._check_marker(marker)
        else:
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(marker, f'format = {FORMAT}\nmade_by = "glasshouse {version_of("glasshouse")}"\n')

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

    def begun(self, kind: str, name: str) -> dict[str, Any]:
        """The configuration of an artefact that is finished, or was left half-written; {} where there is none."""
        if self.exists(kind, name):
            return dict(self.manifest(kind, name)["config"])
        try:
            return dict((begun(self.partial(kind, name)) or {})["config"])
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def done(self, kind: str, name: str, config: Mapping[str, Any]) -> bool:
        """Whether the artefact stands finished with this configuration. One that was whole when its writer was killed
        is put in its place now. Raises `UserError` if it was made with another."""
        want = json.loads(json.dumps(dict(config)))
        if not self.exists(kind, name) and not self._ended(kind, name, want):
            return False
        have = self.manifest(kind, name)["config"]
        keys = sorted(k for k in have.keys() | want.keys() if have.get(k) != want.get(k))
        if keys:
            raise UserError(
                f"{kind}/{name} exists with other settings ({', '.join(differences(have, want, keys))}); "
                f"delete {self.path(kind, name)}, or give another --name where the command takes one"
            )
        return True

    def _ended(self, kind: str, name: str, config: dict[str, Any]) -> bool:
        """End what a writer of this configuration was killed at, if all that was left to do was the renaming."""
        partial = self.partial(kind, name)
        if not (partial / MANIFEST).is_file():
            return False
        with self._lock(kind, name):
            if self.exists(kind, name):  # its writer was not killed, and is done now
                return True
            try:
                whole = read_manifest(partial, verify=True)["config"] == config
            except UserError:
                return False
            if whole:
                settle(partial, self.path(kind, name))
            return whole

    def manifest(self, kind: str, name: str, *, verify: bool = False) -> dict[str, Any]:
        """The manifest of a finished artefact, checked: format, its own hash, and every file's size (and with
        `verify`, content hash). Of a model the weights may be missing, as verdicts on it need them as little as its
        tests' samples do: their hash is part of its own. Raises `UserError` if it is missing, edited, truncated or
        newer."""
        folder = self.path(kind, name)
        if not (folder / "manifest.json").is_file():
            have = ", ".join(self.names(kind)) or "none"
            raise UserError(f"expected {kind}/{name} in {self.root}, found {have}; check the name or make it first")
        return read_manifest(folder, verify=verify, whole=kind != "models")

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
                raise UserError(f"{kind}/{name} exists already in {self.root}; give another name or delete the folder")
            draft = Draft(self, kind, name, json.loads(json.dumps(dict(config))), command)
            try:
                yield draft
            except UserError:
                left = self.partial(kind, name)
                if not draft.resumed and not (left / CHECKPOINTS).is_dir():  # it cannot be: leave nothing of it behind
                    shutil.rmtree(left, ignore_errors=True)
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
                    "wait for it, or give another name"
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
                return list(read_lines(file))
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
        """A connection to index.sqlite (WAL), with the schema in place; where that cannot be written, to a copy of it
        that can only be read. Mistakes of SQLite are `UserError`. The caller closes it."""
        file = self.root / "index.sqlite"
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(file, timeout=30, factory=_Index)
            connection.executescript(f"PRAGMA journal_mode=WAL; {_SCHEMA}")
            (who,) = connection.execute("SELECT pk FROM pragma_table_info('thumbs') WHERE name = 'who'").fetchone()
            if not who:  # no part of the key
                connection.executescript(_ONE_THUMB_A_PERSON)
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
                raise _refused(error) from None
            connection = _copied(file)
        connection.row_factory = sqlite3.Row
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
            if row["state"] == "running" and not alive(row["pid"], row["started"]):
                row["state"] = "killed"
        return rows
