"""Versions in the BentoML model store, as BentoML's own commands list, export, import and delete them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ekiben.errors import RegistryError, VersionExists
from ekiben.model.artifact import MANIFEST, Artifact
from ekiben.model.predictor import Predictor
from ekiben.registry.placing import copy_artifact, move_into_place, version_of_time
from ekiben.registry.store import Registry
from ekiben.registry.trust import LoadPolicy
from ekiben.settings import load_settings
from ekiben.state.aliases import Aliases
from ekiben.state.loads import Loads

_BENTO_MANIFEST = "model.yaml"


def load_model(model: Any) -> Predictor:
    """What ``bentoml.models.get(tag).load_model()`` gives for our versions: the checked predictor, where the settings let it be loaded.

    Raises:
        ArtifactError: It is refused; the message says why.
        SettingError: A setting cannot be used.
    """
    artifact = LoadPolicy.of(load_settings()).admit_folder(Path(model.path), str(model.tag))
    return Predictor.checked(artifact, trusted=True)


class BentoRegistry(Registry):
    """Versions in the BentoML model store.

    Args:
        aliases: Where aliases are kept.
        loads: See `Registry`.
        home: BentoML's home; None where BentoML keeps it (``BENTOML_HOME``, else ``~/bentoml``).
        clock: Gives the time now, in UTC.
        policy: See `Registry`.
    """

    def __init__(
        self,
        aliases: Aliases,
        *,
        loads: Loads | None = None,
        home: Path | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        policy: LoadPolicy | None = None,
    ) -> None:
        super().__init__(aliases, loads, policy)
        self._home = home
        self._clock = clock

    def folder_of(self, tag: str) -> Path:
        """See `Registry`."""
        import bentoml  # noqa: PLC0415  takes a second, and only some commands need it
        from bentoml.exceptions import BentoMLException  # noqa: PLC0415

        try:
            return Path(bentoml.models.get(tag, _model_store=self._bento_store()).path)
        except (BentoMLException, ValueError) as e:
            raise RegistryError(f"BentoML has no model {tag!r}: {e}; `bentoml models list` lists what it has") from e

    def _models(self) -> list[str]:
        root = self._root()
        return sorted(p.name for p in root.iterdir() if p.is_dir() and any(self._folders(p.name))) if root.is_dir() else []

    def _folders(self, model: str) -> Iterator[tuple[str, Path]]:
        # NOTE: not bentoml.models.list(): one broken folder makes it fail for all. The layout is the same in every BentoML 1.x.
        folder = self._root() / model
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                if (path / MANIFEST).is_file() and (path / _BENTO_MANIFEST).is_file():
                    yield path.name, path

    def _new_version(self, model: str) -> str:
        return version_of_time(self._clock(), {version for version, _ in self._folders(model)})

    def _write(self, artifact: Artifact, version: str) -> None:
        import bentoml  # noqa: PLC0415
        from bentoml.exceptions import BentoMLException  # noqa: PLC0415

        name = artifact.spec.name
        tag = f"{name}:{version}"
        target = self._root() / name / version
        if target.exists():
            raise VersionExists(f"{tag} exists already; a version never changes, give another tag")
        # BentoML copies into the version's place file by file: a process killed meanwhile leaves a half version, on which
        # `bentoml models list` fails. So it writes into a store beside its own, and the finished folder is moved.
        beside = self._root().parent / "tmp"
        beside.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="ekiben-", dir=beside) as making:
            try:
                with bentoml.models.create(
                    tag,
                    module="ekiben.registry.bento",
                    labels=_labels(artifact),
                    metadata=_metadata(artifact),
                    context=_context(artifact),
                    _model_store=_store_at(Path(making)),
                ) as model:
                    copy_artifact(artifact, Path(model.path))
            except (BentoMLException, ValueError) as e:
                raise RegistryError(f"BentoML refuses {tag}: {e}") from e
            move_into_place(Path(making) / name / version, target)
        self._refresh_latest(name)

    def _delete(self, model: str, version: str) -> None:
        import bentoml  # noqa: PLC0415

        bentoml.models.delete(f"{model}:{version}", _model_store=self._bento_store())

    def _refresh_latest(self, model: str) -> None:
        """Writes BentoML's own note of the latest version, whole or not at all."""
        folder = self._root() / model
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".latest-", delete=False) as made:
            made.write(self._latest(model))
        Path(made.name).chmod(0o644)
        Path(made.name).replace(folder / "latest")

    def _root(self) -> Path:
        if self._home is not None:
            return self._home / "models"
        from bentoml._internal.configuration.containers import BentoMLContainer  # noqa: PLC0415

        return Path(BentoMLContainer.model_store_dir.get())

    def _bento_store(self) -> Any:
        return _store_at(self._root())


def _store_at(root: Path) -> Any:
    from bentoml._internal.models import ModelStore  # noqa: PLC0415

    root.mkdir(parents=True, exist_ok=True)
    return ModelStore(root)


def _labels(artifact: Artifact) -> dict[str, str]:
    manifest = artifact.manifest
    labels = {"task": manifest.spec.task, "framework": manifest.model.framework, "owner": manifest.spec.card.owner}
    return {name: text for name, text in labels.items() if text}


def _metadata(artifact: Artifact) -> dict[str, Any]:
    """What people look for in ``bentoml models get``: plain values, a copy of parts of the manifest."""
    provenance = artifact.manifest.provenance
    metadata = {
        "created": provenance.created,
        "git_commit": provenance.git_commit,
        "metrics": dict(artifact.manifest.metrics),
        "data": dict(provenance.data),
        "inputs": [i.name for i in artifact.spec.inputs],
        "labels": list(artifact.spec.labels),
    }
    return {name: value for name, value in metadata.items() if value}


def _context(artifact: Artifact) -> Any:
    from bentoml.models import ModelContext  # noqa: PLC0415

    return ModelContext(framework_name=artifact.manifest.model.framework, framework_versions=dict(artifact.manifest.provenance.frameworks))
