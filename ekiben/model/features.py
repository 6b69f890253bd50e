"""The shared transform: a model's ``features.py``, run the same in training and in serving.

The file defines ``transform(columns) -> columns``: a pure function from the signature's arrays (``[n]`` a scalar input)
to the arrays the model takes, in the order the model takes them. It may import numpy and nothing heavier. An artifact
carries the very file its model was trained with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ekiben.errors import ChecksumMismatch, FeatureError

Columns = Mapping[str, npt.NDArray[Any]]
Transform = Callable[[Columns], dict[str, npt.NDArray[Any]]]


def load_transform(file: Path, *, sha256: str | None = None) -> Transform:
    """Loads ``transform`` from a features.py.

    Args:
        file: The file.
        sha256: Checksum that the code must have, hexadecimal; of the very bytes that are run, whatever the file is a moment later.

    Raises:
        FeatureError: The file is missing, does not run, or has no ``transform``.
        ChecksumMismatch: It is another than it must be. Nothing of it was run.
    """
    module = ModuleType(f"ekiben_features_{file.parent.name}")
    module.__file__ = str(file)
    try:
        source = file.read_bytes()
    except OSError as e:
        what = "there is no such file" if isinstance(e, FileNotFoundError) else f"cannot be read: {e.strerror}"
        raise FeatureError(f"{file}: {what}") from None
    if sha256 is not None and (found := _digest(source)) != sha256:
        raise ChecksumMismatch(
            f"{file}: the feature code has changed since the version was made (sha256 {found[:12]}…, recorded {sha256[:12]}…); "
            "register the version again from its training run or an export"
        )
    try:
        # NOTE: dont_inherit, or this file's own __future__ imports would change the meaning of the model's code.
        code = compile(source, str(file), "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102  the model's own code, checksummed
    except Exception as e:
        raise FeatureError(f"{file}: does not run: {type(e).__name__}: {e}") from e
    transform = getattr(module, "transform", None)
    if not callable(transform):
        raise FeatureError(f"{file}: defines no function transform(columns)")
    return _guarded(transform, file)


def fingerprint(file: Path) -> str:
    """The SHA-256 of the feature code, hexadecimal."""
    return _digest(file.read_bytes())


def _digest(source: bytes) -> str:
    from hashlib import sha256  # noqa: PLC0415  keeps `import ekiben.model` light

    return sha256(source).hexdigest()


def _guarded(transform: Any, file: Path) -> Transform:
    def checked(columns: Columns) -> dict[str, npt.NDArray[Any]]:
        try:
            made = transform(columns)
        except Exception as e:
            raise FeatureError(f"{file.name}: transform failed: {type(e).__name__}: {e}") from e
        n = len(next(iter(columns.values())))
        if not isinstance(made, dict) or not made or any(not isinstance(a, np.ndarray) or a.shape[:1] != (n,) for a in made.values()):
            raise FeatureError(f"{file.name}: transform must return a dict of arrays with {n} rows each, as many as it was given")
        return made

    return checked
