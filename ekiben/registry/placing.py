"""Putting a folder in its place in one step, so that a killed process leaves no half version."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from ekiben.errors import VersionExists
from ekiben.model.artifact import MANIFEST, Artifact


def copy_artifact(artifact: Artifact, target: Path) -> None:
    """Copies the files of an artifact, and no other, into a folder; the manifest last."""
    for name in (*artifact.manifest.checksums, MANIFEST):
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.path / name, file)


def move_into_place(made: Path, target: Path) -> None:
    """Renames a finished folder to its place, on the same file system.

    Raises:
        VersionExists: Another process was first.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        made.rename(target)
    except OSError as e:
        if target.exists():
            raise VersionExists(f"{target.parent.name}:{target.name} exists already; a version never changes, give another tag") from e
        raise


def version_of_time(now: datetime, taken: Collection[str]) -> str:
    """A version from the time, ``20260131-235959``, with a number behind it where that is taken."""
    base = now.strftime("%Y%m%d-%H%M%S")
    return next(v for n in range(1, len(taken) + 2) if (v := base if n == 1 else f"{base}-{n}") not in taken)
