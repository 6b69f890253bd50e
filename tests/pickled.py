"""A version whose pickle leaves a trace when somebody loads it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ekiben.model import InputSpec, Manifest, ModelFile, ModelSpec, Provenance
from ekiben.model.artifact import FORMAT, GOLDEN, MANIFEST, PROFILE, GoldenRows
from ekiben.model.spec import CardSpec


class Pickled(NamedTuple):
    """Where the version is, and the file that loading it makes."""

    path: Path
    trace: Path


class Tracing:
    """An estimator that, when it is read back, makes a file first."""

    def __init__(self, estimator: Any, trace: Path) -> None:
        self._estimator = estimator
        self._trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        source = f"(__import__('pathlib').Path({str(self._trace)!r}).write_text('was here'), found)[1]"
        return eval, (source, {"found": self._estimator})


def make_pickled(folder: Path, trace: Path, *, name: str = "line") -> Pickled:
    """Writes the folder of a version: y = 2x + 1, as a joblib file."""
    import joblib
    from sklearn.linear_model import LinearRegression

    folder.mkdir(parents=True)
    joblib.dump(Tracing(LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0]), trace), folder / "model.joblib")
    (folder / GOLDEN).write_bytes(msgspec.json.encode(GoldenRows([[2.0]], [{"prediction": 5.0}])))
    (folder / PROFILE).write_bytes(b"{}")
    files = ("model.joblib", GOLDEN, PROFILE)
    manifest = Manifest(
        format=FORMAT,
        spec=ModelSpec(name=name, task="regression", inputs=(InputSpec(name="x", type="float"),), card=CardSpec(owner="tests")),
        model=ModelFile(framework="sklearn", file="model.joblib"),
        provenance=Provenance(created="2026-01-01T00:00:00+00:00"),
        checksums={file: sha256((folder / file).read_bytes()).hexdigest() for file in files},
    )
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    return Pickled(folder, trace)
