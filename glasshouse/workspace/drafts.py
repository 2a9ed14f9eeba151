"""An artefact while it is written: choices, metrics, checkpoints, and the manifest at the end."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glasshouse.types import ArtifactRef, UserError
from glasshouse.workspace.files import (
    FORMAT,
    content_hash,
    hash_files,
    hash_json,
    read_lines,
    sync_file,
    sync_folder,
    write_atomically,
)

if TYPE_CHECKING:
    from glasshouse.workspace.artefacts import Workspace

MANIFEST, RECORD, CHECKPOINTS = "manifest.json", "draft.json", "checkpoints"
LEFT = re.compile(r"\..+\.\d+")  # what a kill in the middle of `write_atomically` leaves
LIBRARIES = ("glasshouse", "torch", "transformers", "tokenizers", "safetensors")
VECTOR_FUNCTIONS = (  # what torch gives to MKL's vector mathematics on a CPU
    "acos", "asin", "atan", "cos", "cosh", "erf", "erfc", "exp", "expm1", "log", "log10", "log1p", "log2", "sin",
    "sinh", "sqrt", "tan", "tanh",
)  # fmt: skip


class Draft:
    """An artefact being written: its folder, its recorded choices, its checkpoints and metrics."""

    def __init__(self, ws: Workspace, kind: str, name: str, config: dict[str, Any], command: str) -> None:
        self.ws, self.kind, self.name, self.config, self.command = ws, kind, name, config, command
        self.path = ws.partial(kind, name)
        self._record = self.path / RECORD
        self.hashes: dict[str, str] = {}  # SHA-256 of files that were hashed as they were written, by name
        record = begun(self.path)
        self.resumed = record is not None
        if record is not None:
            if record["config"] != config:
                keys = sorted(
                    k for k in config.keys() | record["config"].keys() if config.get(k) != record["config"].get(k)
                )
                raise UserError(
                    f"{kind}/{name} was begun with other settings "
                    f"({', '.join(differences(record['config'], config, keys))}); "
                    f"run the first command again to go on, give another name, or delete {self.path}"
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

    @contextlib.contextmanager
    def threads(self, count: int | None = None) -> Iterator[None]:
        """Compute with the recorded number of threads, so that a resumed run rounds as one that nobody touched.

        Sums are split by thread, so another number of them is another last bit. And each function of MKL's vector
        mathematics chooses its code path at its first call: made by two threads at once, one of them may compute its
        share by another path, which rounds otherwise. So each is called on one element first, by one thread.
        """
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(self.choose("threads", lambda: count or before))
        for dtype in (torch.float32, torch.float64):
            for name in VECTOR_FUNCTIONS:
                getattr(torch, name)(torch.ones(1, dtype=dtype))
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def log(self, **values: Any) -> None:
        """Append one line to metrics.jsonl."""
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as handle:
            handle.write(json.dumps(values) + "\n")

    def save_checkpoint(self, step: int, tensors: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        """Write tensors (safetensors) and JSON state under checkpoints/, whole or not at all; keep the newest two."""
        from safetensors.torch import save_file

        folder = self.path / CHECKPOINTS
        folder.mkdir(exist_ok=True)
        temporary = folder / ".writing"
        save_file(
            {k: v.contiguous() for k, v in tensors.items()}, temporary, metadata={"state": json.dumps(dict(state))}
        )
        sync_file(temporary)
        os.replace(temporary, folder / f"{step:012d}.safetensors")
        sync_folder(folder)
        for old in sorted(folder.glob("*.safetensors"))[:-2]:
            old.unlink()

    def load_checkpoint(self, device: str = "cpu") -> tuple[int, dict[str, Any], dict[str, Any]] | None:
        """(step, tensors, state) of the newest checkpoint, with metrics.jsonl cut back to lines with `step` ≤ it."""
        from safetensors import safe_open

        files = sorted((self.path / CHECKPOINTS).glob("*.safetensors"))
        if not files:
            (self.path / "metrics.jsonl").unlink(missing_ok=True)
            return None
        step = int(files[-1].stem)
        with safe_open(files[-1], "pt", device=device) as handle:
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118  (not a dict)
            state = json.loads(handle.metadata()["state"])
        metrics = self.path / "metrics.jsonl"
        if metrics.is_file():
            kept = [line for line in read_lines(metrics) if line.get("step", 0) <= step]
            write_atomically(metrics, "".join(json.dumps(line) + "\n" for line in kept))
        return step, tensors, state

    def finish(self, *, made_from: Iterable[ArtifactRef] = (), **fields: Any) -> dict[str, Any]:
        """Write manifest.json over all files, sync, drop checkpoints, and rename the folder into its place.

        A kill before the manifest leaves a draft with its newest checkpoint; one after it, what `Workspace.done` ends.
        """
        for left in [p for p in self.path.rglob(".*") if LEFT.fullmatch(p.name) and p.is_file()]:
            left.unlink()
        checkpoints = self.path / CHECKPOINTS
        files = sorted(
            p
            for p in self.path.rglob("*")
            if p.is_file() and p != self._record and p.name != MANIFEST and not p.is_relative_to(checkpoints)
        )
        names = [str(p.relative_to(self.path)) for p in files]
        unhashed = [name for name in names if name not in self.hashes]
        hashes = self.hashes | dict(zip(unhashed, hash_files([self.path / name for name in unhashed]), strict=True))
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "kind": self.kind,
            "name": self.name,
            "command": self.command,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            "config": self.config,
            "choices": self.choices,
            "made_from": [asdict(ref) for ref in made_from],
            "libraries": {p: version_of(p) for p in LIBRARIES},
            "files": {name: {"sha256": hashes[name], "bytes": (self.path / name).stat().st_size} for name in names},
            **fields,
        }
        manifest["hash"] = content_hash(manifest)
        manifest["self"] = hash_json(manifest)
        for file in files:
            sync_file(file)
        write_atomically(self.path / MANIFEST, json.dumps(manifest, indent=1))
        place = self.ws.path(self.kind, self.name)
        settle(self.path, place)
        self.path = place
        return manifest


def begun(partial: Path) -> dict[str, Any] | None:
    """The `config` and `choices` that a draft's folder was begun with, from its record or else its manifest; None where
    no draft is."""
    for file in (partial / RECORD, partial / MANIFEST):
        if file.is_file():
            return dict(json.loads(file.read_text(encoding="utf-8")))
    return None


def settle(partial: Path, place: Path) -> None:
    """Drop what only a draft needs, and rename its folder, which has its manifest, into its place."""
    shutil.rmtree(partial / CHECKPOINTS, ignore_errors=True)
    (partial / RECORD).unlink(missing_ok=True)
    sync_folder(partial)
    os.replace(partial, place)
    sync_folder(place.parent)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], keys: list[str]) -> list[str]:
    return [f"{key}: {old.get(key)!r} then, {new.get(key)!r} now" for key in keys[:3]]


def version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
