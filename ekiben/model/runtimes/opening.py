"""Which runtime opens which file."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final

from ekiben.errors import ArtifactError, RuntimeUnavailable
from ekiben.model.runtimes.base import Runtime

FRAMEWORKS: Final = {"onnx": "OnnxRuntime", "sklearn": "SklearnRuntime", "torch": "TorchRuntime"}
_PACKAGES: Final = {"onnx": "onnxruntime", "sklearn": "scikit-learn", "torch": "torch"}


def open_runtime(framework: str, file: Path, *, providers: tuple[str, ...] = ()) -> Runtime:
    """Loads a model file with its framework.

    Args:
        framework: ``onnx``, ``sklearn`` or ``torch``.
        file: The model file.
        providers: ONNX Runtime's execution providers to prefer, first the best; empty chooses by what is there.

    Raises:
        RuntimeUnavailable: The framework is not installed.
        ArtifactError: The framework is unknown, or refuses the file.
    """
    if framework not in FRAMEWORKS:
        raise ArtifactError(f"{file.name}: no runtime for framework {framework!r}; there are {', '.join(FRAMEWORKS)}")
    try:
        runtime_class = getattr(import_module(f"ekiben.model.runtimes.{framework}"), FRAMEWORKS[framework])
    except ImportError as e:
        raise RuntimeUnavailable(f"{file.name} needs {_PACKAGES[framework]}, which cannot be imported here ({e}); install it") from e
    runtime: Runtime = runtime_class(file, providers) if framework == "onnx" else runtime_class(file)
    return runtime
