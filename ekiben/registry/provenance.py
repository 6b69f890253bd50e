"""Where a version comes from: the time, the commit, the packages."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_GIT_S = 10


def now() -> str:
    """The time, UTC, ISO 8601 with microseconds, so that versions made one after the other sort in that order."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def git_commit(path: Path) -> str | None:
    """The commit of the working tree that a path is in, with ``+changes`` when it differs from it; None outside git."""
    git = shutil.which("git")
    if git is None:
        return None
    folder = path if path.is_dir() else path.parent
    try:
        commit = _git(git, folder, "rev-parse", "HEAD")
        changes = _git(git, folder, "status", "--porcelain")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changes else commit


def framework_versions(*packages: str) -> dict[str, str]:
    """Package → installed version; what is not installed is left out."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _git(git: str, folder: Path, *arguments: str) -> str:
    done = subprocess.run(  # noqa: S603  git itself, with our own arguments
        [git, "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=_GIT_S
    )
    return done.stdout.strip()
