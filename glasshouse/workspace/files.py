"""Files written whole, their hashes, and manifests."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import mmap
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from glasshouse.types import UserError

FORMAT = 1  # of manifests and of the workspace
WEIGHTS = ".safetensors"
# What a place on disk refuses, whatever was asked of it; any other OSError is a bug.
REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG)
SHOWN = 200  # characters of a place that a line has room for
BLOCK, SECTOR = 8 << 20, 4096  # bytes written at once; what the page cache is passed in multiples of


def refusal(error: Exception) -> str | None:
    """What a person is told of a place that cannot be read or written; None of any other error."""
    if not isinstance(error, OSError) or error.errno not in REFUSALS:
        return None
    named = str(error.filename or "")
    place = f" at {named if len(named) <= SHOWN else named[:SHOWN] + '…'}" if named else ""
    return f"expected to read and write{place}, got {error.strerror}; mend that, or give another place"


def write_atomically(path: Path, data: str | bytes) -> None:
    """Readers see the old file or the new one, whole; see `whole`."""
    with whole(path) as place:
        place.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what is to stand at `path`: under a temporary name, which is synced and renamed at the end.

    A link stays one, and the file that it points to is written. A pipe or a device is written straight to: a file in
    its place would end it for everybody.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        yield temporary
        sync_file(temporary)
        os.replace(temporary, target)
    except FileNotFoundError as error:  # what /proc says of every new file
        if error.filename == str(temporary) and target.parent.is_dir():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(target.parent)


def write_past_cache(path: Path, parts: Iterable[memoryview]) -> str:
    """Write bytes one after the other into a new file and sync it; their SHA-256.

    Past the page cache where the file system can: of large files that are read later it would hold what others need,
    and the first touch of its memory can cost more than the disk (docs/log.md). One block is filled while the
    one before is hashed and written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        file = os.open(path, flags | getattr(os, "O_DIRECT", 0), 0o666)
    except OSError:  # a file system without it
        file = os.open(path, flags, 0o666)
    digest, size = hashlib.sha256(), 0
    try:
        with ThreadPoolExecutor(2) as pool:
            before: list[Future[None]] = []
            for block, used in _blocks(parts):
                for done in before:
                    done.result()
                written = block[: -(-used // SECTOR) * SECTOR]
                before = [pool.submit(_write, file, written), pool.submit(digest.update, block[:used])]
                size += used
            for done in before:
                done.result()
        os.ftruncate(file, size)  # the last sector was written whole
        os.fsync(file)
    finally:
        os.close(file)
    return digest.hexdigest()


def _blocks(parts: Iterable[memoryview]) -> Iterator[tuple[memoryview, int]]:
    """The bytes in blocks, and how many bytes of the block they fill; a block holds until the next but one is asked
    for. Its memory begins at a page, as writing past the cache wants."""
    halves = [memoryview(mmap.mmap(-1, BLOCK)) for _ in range(2)]
    used = 0
    for part in parts:
        while len(part):
            room = min(len(part), BLOCK - used)
            halves[0][used : used + room] = part[:room]
            used, part = used + room, part[room:]
            if used == BLOCK:
                yield halves[0], used
                halves.reverse()
                used = 0
    if used:
        yield halves[0], used


def _write(file: int, block: memoryview) -> None:
    while len(block):
        try:
            block = block[os.write(file, block) :]
        except OSError as error:  # a file system that opens a file so and does not write to it so
            flags, past = fcntl.fcntl(file, fcntl.F_GETFL), getattr(os, "O_DIRECT", 0)
            if error.errno != errno.EINVAL or not flags & past:
                raise
            fcntl.fcntl(file, fcntl.F_SETFL, flags & ~past)


def hash_file(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def hash_files(paths: Sequence[Path]) -> list[str]:
    """Several at once: hashing lets other threads compute."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(hash_file, paths))


def read_manifest(folder: Path, *, verify: bool = False, whole: bool = True) -> dict[str, Any]:
    """As `Workspace.manifest`, for any artefact folder, such as one copied from another machine. Unless it has to be
    `whole`, weights (.safetensors) may have been left out of the copy; those that are there are checked."""
    file = folder / "manifest.json"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        found, own = manifest["format"], manifest.pop("self")
        entries = {str(k): (str(v["sha256"]), int(v["bytes"])) for k, v in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"expected a glasshouse manifest at {file}, found one that does not read ({error!r})") from None
    if not isinstance(found, int):
        raise UserError(f"expected a format such as {FORMAT} in {file}, found {found!r}; make the artefact again")
    if found > FORMAT:
        raise UserError(f"{file} has format {found}, this glasshouse reads up to {FORMAT}; upgrade glasshouse")
    if hash_json(manifest) != own:
        raise UserError(f"{file} does not match its own hash: it was edited; restore it or make the artefact again")
    if manifest.get("hash") not in {content_hash(manifest), content_hash({**manifest, "choices": {}})}:
        raise UserError(f"{file} does not match the hash of what it holds: it was edited; make the artefact again")
    absent: set[str] = set()
    for name, (_, size) in entries.items():
        target = folder / name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{file} names {name!r}, which lies outside its folder; do not trust this artefact")
        have = target.stat().st_size if target.is_file() else -1
        if have < 0 and not whole and target.suffix == WEIGHTS:
            absent.add(name)
        elif have != size:
            came = "no such file" if have < 0 else f"{have} bytes"
            raise UserError(f"expected {size} bytes in {target}, found {came}; copy it again or make it again")
    if verify:
        there = [name for name in entries if name not in absent]
        for name, digest in zip(there, hash_files([folder / name for name in there]), strict=True):
            if digest != entries[name][0]:
                raise UserError(
                    f"{folder / name} does not match the hash in its manifest; copy it again or make the artefact again"
                )
    return manifest


def content_hash(manifest: Mapping[str, Any]) -> str:
    """An artefact's own hash: of what it is, not of when or where it was made. Tokens that a budget of minutes came to
    are part of that (manifests of before lack them)."""
    content = {key: manifest[key] for key in ("kind", "config", "made_from")}
    content["files"] = {k: v for k, v in manifest["files"].items() if k != "metrics.jsonl"}  # holds wall-clock rates
    if "tokens" in manifest["choices"]:
        content["tokens"] = manifest["choices"]["tokens"]
    return hash_json(content)


def hash_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sync_file(path: Path) -> None:
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())


def sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_lines(file: Path) -> Iterator[dict[str, Any]]:
    """Whole JSON lines; a last line cut short by a kill is left out."""
    for line in file.read_bytes().split(b"\n"):
        with contextlib.suppress(ValueError):
            yield json.loads(line)
