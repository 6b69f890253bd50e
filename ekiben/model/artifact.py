"""One version of a model on disk: a folder that says all about itself.

    artifact.json   the manifest: spec, checksums of all other files, versions, provenance, metrics, parity
    model.onnx …    the model, and whatever files it refers to
    features.py     the feature code it was trained with (optional)
    golden.json     rows with the outputs they must give
    profile.json    distributions of the training inputs and scores
    README.md       the model card (optional)
    signatures/     who vouches for this version (optional); added later, and itself in no checksum

The manifest is written last: a folder without it is no artifact.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ekiben.errors import ArtifactError, ChecksumMismatch
from ekiben.model.spec import ModelSpec

MANIFEST = "artifact.json"
GOLDEN = "golden.json"
PROFILE = "profile.json"
FEATURES = "features.py"
CARD = "README.md"
SIGNATURES = "signatures"
SIGNATURE_SUFFIX = ".dsse.json"
FORMAT = 1
_CHUNK_BYTES = 1 << 20
T = TypeVar("T")


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The model inside the artifact.

    Attributes:
        framework: Which runtime opens it: ``onnx``, ``sklearn`` or ``torch``.
        file: Its file in the folder.
        inputs: Input of the spec, or column made by features.py → input of the graph, where names differ.
        outputs: Output of the spec → output of the graph, where the names do not say it.
    """

    framework: str
    file: str
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Where a version comes from.

    Attributes:
        created: UTC time, ISO 8601.
        git_commit: The commit of the working tree, with ``+changes`` when it was not clean; None outside git.
        frameworks: Package → version of what trained and exported it.
        data: Name, window, number of rows and SHA-256 fingerprint of the training data.
        parameters: Training parameters, the seed among them.
        training_s: Training time in seconds.
        recipe: Fingerprint of everything that decides the outcome (code, spec, data, parameters): equal recipes, equal models.
    """

    created: str
    git_commit: str | None = None
    frameworks: dict[str, str] = {}
    data: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    training_s: float | None = None
    recipe: str | None = None


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """``artifact.json``.

    Attributes:
        metrics: Measured on held-out data, name → value.
        threshold: A binary classifier predicts its positive label from this probability on.
        parity: How the export compares with the original; None when the model was given as it is.
        features_fingerprint: SHA-256 of features.py.
        checksums: File → SHA-256, for every file but this one.
    """

    format: int
    spec: ModelSpec
    model: ModelFile
    provenance: Provenance
    checksums: dict[str, str]
    metrics: dict[str, float] = {}
    threshold: float | None = None
    parity: dict[str, Any] | None = None
    features_fingerprint: str | None = None


class GoldenRows(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows as a client would send them, and the elements they must be answered with."""

    rows: list[Any]
    outputs: list[dict[str, Any]]


class Artifact(msgspec.Struct, frozen=True):
    """An artifact whose manifest was read; `verify` says whether its files are those it was made with.

    Attributes:
        path: Its folder.
        manifest: Its manifest.
        digest: SHA-256 of the very bytes that the manifest was read from, hexadecimal; empty while it is being built.
    """

    path: Path
    manifest: Manifest
    digest: str = ""

    @property
    def spec(self) -> ModelSpec:
        """What the model takes and gives."""
        return self.manifest.spec

    def verify(self) -> None:
        """Compares every file with its checksum.

        Raises:
            ChecksumMismatch: A file is missing, changed, or was added.
        """
        present = {p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
        expected = self.manifest.checksums
        # NOTE: BentoML adds model.yaml to every version in its store.
        signatures = {name for name in present if is_signature(name)}
        added = present - set(expected) - signatures - {MANIFEST, "model.yaml"}
        missing = set(expected) - present
        if missing or added:
            what = f"{min(missing)} is missing" if missing else f"{min(added)} does not belong to it"
            raise ChecksumMismatch(f"{self.spec.name}: {what}; register the version again from its training run or an export")
        for name, checksum in expected.items():
            found = sha256_of(self.path / name)
            if found != checksum:
                raise ChecksumMismatch(
                    f"{self.spec.name}: {name} has changed since the version was made (sha256 {found[:12]}…, recorded {checksum[:12]}…); "
                    "register the version again from its training run or an export"
                )

    def golden_rows(self) -> GoldenRows:
        """The rows with the outputs they must give."""
        return _read(self.path / GOLDEN, GoldenRows)

    def profile(self) -> dict[str, Any]:
        """The reference profile; `ekiben.model.profile` describes it."""
        return _read(self.path / PROFILE, dict[str, Any])


def read_artifact(path: Path) -> Artifact:
    """Reads an artifact's manifest, and nothing else.

    Raises:
        ArtifactError: There is none, it is unreadable, or of a format this version of Ekiben does not know.
    """
    from hashlib import sha256  # noqa: PLC0415  keeps `import ekiben.model` light

    file = path / MANIFEST
    if not file.is_file():
        raise ArtifactError(f"{path} is not an artifact: it has no {MANIFEST}")
    raw = _bytes(file)
    manifest = _decoded(raw, file, Manifest)
    if manifest.format != FORMAT:
        raise ArtifactError(f"{file} has format {manifest.format}; this Ekiben reads format {FORMAT}")
    return Artifact(path, manifest, sha256(raw).hexdigest())


def is_signature(name: str) -> bool:
    """Whether a file of an artifact's folder, by its name there, is a signature of it."""
    folder, _, file = name.partition("/")
    return folder == SIGNATURES and "/" not in file and file.endswith(SIGNATURE_SUFFIX)


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, hexadecimal, read in pieces."""
    from hashlib import sha256  # noqa: PLC0415  keeps `import ekiben.model` light

    digest = sha256()
    with file.open("rb") as f:
        while chunk := f.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _read(file: Path, kind: type[T]) -> T:
    return _decoded(_bytes(file), file, kind)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as e:
        raise ArtifactError(f"{file.name} of {file.parent} cannot be read: {e}") from e


def _decoded(raw: bytes, file: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError as e:
        raise ArtifactError(f"{file.name} of {file.parent} cannot be read: {e}") from e
