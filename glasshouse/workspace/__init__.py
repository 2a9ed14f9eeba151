"""A workspace on disk: artefacts, files written whole, the log of runs. No torch until a checkpoint is saved."""

from __future__ import annotations

from glasshouse.workspace.artefacts import DEFAULT_ROOT, KINDS, MARKER, Stopped, Workspace
from glasshouse.workspace.drafts import CHECKPOINTS, Draft, version_of
from glasshouse.workspace.files import FORMAT, hash_file, read_manifest, refusal, whole, write_atomically
from glasshouse.workspace.memory import keep_memory
from glasshouse.workspace.progress import Expectation, Progress, human_bytes, human_seconds

__all__ = [
    "CHECKPOINTS", "DEFAULT_ROOT", "FORMAT", "KINDS", "MARKER", "Draft", "Expectation", "Progress", "Stopped",
    "Workspace", "hash_file", "human_bytes", "human_seconds", "keep_memory", "read_manifest", "refusal",
    "version_of", "whole", "write_atomically",
]  # fmt: skip
