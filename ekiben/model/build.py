"""Builds an artifact: a model's files become one folder that says all about itself.

Golden outputs and the reference profile are computed by the `Predictor` that will serve, so a model whose files, spec and
feature code do not fit together never becomes an artifact. Nothing appears at the target until everything is there: a
build that is killed leaves at most a hidden folder beside it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ekiben.errors import ArtifactError, InvalidRows
from ekiben.model.artifact import (
    CARD,
    FEATURES,
    FORMAT,
    GOLDEN,
    MANIFEST,
    PROFILE,
    Artifact,
    GoldenRows,
    Manifest,
    ModelFile,
    Provenance,
    is_signature,
    read_artifact,
    sha256_of,
)
from ekiben.model.features import fingerprint
from ekiben.model.outputs import Outputs
from ekiben.model.parity import ParityReport
from ekiben.model.predictor import Predictor
from ekiben.model.profile import empty_profile, profile_of
from ekiben.model.signature import Batch, Signature
from ekiben.model.spec import ModelSpec

Array = npt.NDArray[Any]

MIN_GOLDEN_ROWS = 32
_STORE_FILE = "model.yaml"  # BentoML writes it beside ours
_RESERVED = frozenset({MANIFEST, GOLDEN, PROFILE, FEATURES, CARD, _STORE_FILE})


def build_artifact(  # noqa: PLR0913  an artifact is made of this much
    target: Path,
    *,
    spec: ModelSpec,
    model: ModelFile,
    files: Mapping[str, Path],
    provenance: Provenance,
    golden_rows: Sequence[Any],
    reference: Sequence[Any] | Mapping[str, Array],
    features: Path | None = None,
    card: Path | None = None,
    metrics: Mapping[str, float] | None = None,
    threshold: float | None = None,
    parity: ParityReport | None = None,
    min_golden_rows: int = MIN_GOLDEN_ROWS,
) -> Artifact:
    """Builds an artifact.

    Args:
        target: The folder to make; it must not exist, or be empty.
        spec: What the model takes and gives.
        model: Which file is the model, and how its names map to the spec's.
        files: Name in the artifact → file to copy: the model and what it refers to.
        provenance: Where it comes from.
        golden_rows: Rows as a client would send them; NaN becomes null. `choose_golden_rows` picks some.
        reference: Training data for the profile: rows, or columns by name (``[n]`` a scalar input).
        features: The feature code it was trained with.
        card: The model card.
        metrics: Measured on held-out data.
        threshold: A binary classifier predicts its positive label from this probability on; None means 0.5.
        parity: How the export compares with the original; None when the model was given as it is.
        min_golden_rows: Lower it only for a model that came without a sample of its inputs.

    Raises:
        ArtifactError: The target is taken, files or golden rows are missing, or the parts do not fit together.
        InvalidRows: Golden rows or reference rows break the signature.
        GoldenRowsMismatch: The model is not deterministic, or a row's outputs depend on the rows beside it.
    """
    _check(target, spec, model, files, threshold)
    golden = [plain_row(row) for row in golden_rows]
    if len(golden) < min_golden_rows:
        raise ArtifactError(f"{spec.name}: {len(golden)} golden rows; an artifact needs {min_golden_rows} or more")
    target.parent.mkdir(parents=True, exist_ok=True)
    # NOTE: beside the target, because a rename is atomic on one file system only.
    folder = target.parent / f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}.building"
    folder.mkdir()
    try:
        for name, source in {**files, **({FEATURES: features} if features else {}), **({CARD: card} if card else {})}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / name)
        manifest = Manifest(
            format=FORMAT,
            spec=spec,
            model=model,
            provenance=provenance,
            checksums={},
            metrics={name: float(value) for name, value in (metrics or {}).items()},
            threshold=threshold,
            parity=msgspec.to_builtins(parity) if parity else None,
            features_fingerprint=fingerprint(features) if features else None,
        )
        _fill(Artifact(folder, manifest), golden, reference)
        folder.rename(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return read_artifact(target)


def choose_golden_rows(rows: Sequence[Any], n: int = 64, seed: int = 0) -> list[Any]:
    """Picks n of the rows, all where there are fewer, in their order; the same rows and seed give the same choice."""
    if len(rows) <= n:
        return [plain_row(row) for row in rows]
    chosen = np.sort(np.random.default_rng(seed).choice(len(rows), n, replace=False))
    return [plain_row(rows[int(index)]) for index in chosen]


def plain_row(value: Any) -> Any:
    """A row as JSON holds it: numpy values become Python's, tuples lists, and NaN becomes null."""
    if isinstance(value, Mapping):
        return {str(name): plain_row(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_row(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain_row(value.tolist())
    is_nan = isinstance(value, float) and value != value  # noqa: PLR0124  NaN
    return None if is_nan else value


def _check(target: Path, spec: ModelSpec, model: ModelFile, files: Mapping[str, Path], threshold: float | None) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ArtifactError(f"{target} exists and is not empty; an artifact is never changed, build another one")
    if model.file not in files:
        raise ArtifactError(f"{spec.name}: the model file {model.file!r} is not among the files {', '.join(files) or '(none)'}")
    for name, source in files.items():
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\\" in name:
            raise ArtifactError(f"{spec.name}: {name!r} is not a name inside the artifact's folder")
        if name in _RESERVED or is_signature(name):
            raise ArtifactError(f"{spec.name}: a file may not be called {name!r}; the artifact uses that name itself")
        if not source.is_file():
            raise ArtifactError(f"{spec.name}: {source} is not a file")
    if threshold is not None and (spec.task != "binary_classification" or not 0 <= threshold <= 1):
        raise ArtifactError(f"{spec.name}: threshold {threshold} must be from 0 to 1, and only a binary classifier has one")


def _fill(draft: Artifact, golden: list[Any], reference: Sequence[Any] | Mapping[str, Array]) -> None:
    """Computes what the artifact says about its model, and writes the manifest last."""
    predictor = Predictor.of(draft)
    # One row at a time here, all together in `replay`: outputs that depend on the rows beside them are noticed.
    outputs = [predictor.predict([row])[0] for row in golden]
    _write(draft.path / GOLDEN, GoldenRows(golden, outputs))
    _write(draft.path / PROFILE, _profile(predictor, reference))
    predictor.replay(draft)
    files = sorted(p for p in draft.path.rglob("*") if p.is_file())
    checksums = {p.relative_to(draft.path).as_posix(): sha256_of(p) for p in files}
    _write(draft.path / MANIFEST, msgspec.structs.replace(draft.manifest, checksums=checksums))


def _profile(predictor: Predictor, reference: Sequence[Any] | Mapping[str, Array]) -> dict[str, Any]:
    signature = predictor.signature
    if not len(reference):
        return empty_profile()
    if isinstance(reference, Mapping):
        batch = signature.from_columns(reference)
        return _checked_profile(predictor, batch) if batch.n else empty_profile()
    rows = [plain_row(row) for row in reference]
    if signature.fixed_shapes:
        return _checked_profile(predictor, signature.batch(signature.parse_rows(rows)))
    batches = [signature.batch(signature.parse_rows([row])) for row in rows]
    outputs = [_run(predictor, batch) for batch in batches]
    return profile_of(predictor.spec, _ragged(signature, batches), Outputs.join(outputs))


def _checked_profile(predictor: Predictor, batch: Batch) -> dict[str, Any]:
    return profile_of(predictor.spec, batch, _run(predictor, batch))


def _run(predictor: Predictor, batch: Batch) -> Outputs:
    faults = predictor.signature.check(batch)
    if faults:
        raise InvalidRows(faults)
    return predictor.run(batch)


def _ragged(signature: Signature, batches: Sequence[Batch]) -> Batch:
    """Joins batches of one row each whose tensors differ in shape; such columns become one array a row."""
    return Batch(len(batches), {name: _stacked([b.columns[name][0] for b in batches]) for name in signature.names})


def _stacked(rows: Sequence[Any]) -> Array:
    column = np.empty(len(rows), object)
    for index, row in enumerate(rows):
        column[index] = row
    if len({np.shape(row) for row in rows}) == 1 and np.shape(rows[0]) == ():
        return np.array(rows)
    return column


def _write(file: Path, content: Any) -> None:
    """Writes JSON; indented where people read it, which nobody does with 64 rows of an image model."""
    encoded = msgspec.json.encode(content)
    file.write_bytes(msgspec.json.format(encoded, indent=2) if isinstance(content, Manifest) else encoded)
