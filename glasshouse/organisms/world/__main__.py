"""Write the world to a file: `python -m glasshouse.organisms.world --megabytes 10 --seed 0 --out world.jsonl`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from glasshouse.organisms.world.base import build
from glasshouse.organisms.world.concepts import concepts
from glasshouse.organisms.world.documents import documents
from glasshouse.types import UserError
from glasshouse.workspace import whole


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m glasshouse.organisms.world", description=__doc__)
    parser.add_argument("--megabytes", type=float, default=10.0, help="of text, without its labels (10)")
    parser.add_argument("--seed", type=int, default=0, help="of the text (0)")
    parser.add_argument("--world-seed", type=int, default=0, help="of the world that it tells of (0)")
    parser.add_argument("--out", type=Path, help="file to write, one JSON object a line")
    parser.add_argument("--concepts", action="store_true", help="print the list of concepts instead")
    options = parser.parse_args(arguments)
    if options.concepts:
        print("\n".join(f"{path}: {meaning}" for path, meaning in concepts().items()))
        return 0
    try:
        if options.out is None:
            raise UserError("expected a file to write, got none; name one with --out")
        if not 0 < options.megabytes < 100_000:
            raise UserError(f"expected more than 0 megabytes, got {options.megabytes}; give a positive number")
        count = write(options.out, options.world_seed, options.seed, options.megabytes)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"expected to write to {options.out}, got {error.strerror or error}; give another --out", file=sys.stderr)
        return 2
    print(f"{count} documents in {options.out}")
    return 0


def write(path: Path, world_seed: int, seed: int, megabytes: float) -> int:
    """Write the documents to `path`, whole or not at all, and return how many there are."""
    if not path.parent.is_dir():
        raise UserError(f"expected a folder {path.parent} to write {path.name} in, found none; make it first")
    if path.is_dir():
        raise UserError(f"expected a file to write, got the folder {path}; give --out FILE.jsonl")
    world, count = build(world_seed), 0
    with whole(path) as place, place.open("w", encoding="utf-8", newline="\n") as file:
        for document in documents(world, seed=seed, megabytes=megabytes):
            file.write(json.dumps(document.row(), ensure_ascii=False, separators=(",", ":")) + "\n")
            count += 1
    return count


if __name__ == "__main__":
    sys.exit(main())
