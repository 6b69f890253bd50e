"""A registry over a plain folder: ``<root>/<model>/<version>/``. The twin of the BentoML store, for tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from ekiben.errors import RegistryError, VersionExists
from ekiben.model.artifact import MANIFEST, Artifact
from ekiben.registry.placing import copy_artifact, move_into_place, version_of_time
from ekiben.registry.store import Registry
from ekiben.registry.trust import LoadPolicy
from ekiben.state.aliases import Aliases
from ekiben.state.loads import Loads


class FolderRegistry(Registry):
    """Versions in a plain folder.

    Args:
        root: The folder; made when the first version is registered.
        aliases: Where aliases are kept.
        loads: See `Registry`.
        clock: Gives the time now, in UTC.
        policy: See `Registry`.
    """

    def __init__(
        self,
        root: Path,
        aliases: Aliases,
        *,
        loads: Loads | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        policy: LoadPolicy | None = None,
    ) -> None:
        super().__init__(aliases, loads, policy)
        self._root = root
        self._clock = clock

    def folder_of(self, tag: str) -> Path:
        """See `Registry`."""
        model, _, version = tag.partition(":")
        folder = self._root / model / version
        if not version or not folder.is_dir():
            raise RegistryError(f"{self._root} has no model {tag!r}")
        return folder

    def _models(self) -> list[str]:
        return sorted(p.name for p in self._root.iterdir() if not p.name.startswith(".")) if self._root.is_dir() else []

    def _folders(self, model: str) -> Iterator[tuple[str, Path]]:
        folder = self._root / model
        if folder.is_dir():
            yield from ((p.name, p) for p in sorted(folder.iterdir()) if (p / MANIFEST).is_file())

    def _new_version(self, model: str) -> str:
        return version_of_time(self._clock(), {version for version, _ in self._folders(model)})

    def _write(self, artifact: Artifact, version: str) -> None:
        target = self._root / artifact.spec.name / version
        if target.exists():
            raise VersionExists(f"{artifact.spec.name}:{version} exists already; a version never changes, give another tag")
        self._root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=self._root) as making:
            made = Path(making) / version
            copy_artifact(artifact, made)
            move_into_place(made, target)

    def _delete(self, model: str, version: str) -> None:
        shutil.rmtree(self._root / model / version)
