"""The machine and the versions, for the JSON file: figures mean nothing without them."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

_PACKAGES: Final = ("bentoml", "onnxruntime", "numpy", "msgspec", "uvicorn", "uvloop", "httptools", "scikit-learn", "skl2onnx")


def describe(proc: Path = Path("/proc")) -> dict[str, Any]:
    """Processor, cores, memory, load before the run, system and versions."""
    return {
        "processor": _field(proc / "cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "memory": _field(proc / "meminfo", "MemTotal"),
        "load_average": list(os.getloadavg()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
    }


def _field(file: Path, name: str) -> str | None:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    values = (line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name)
    return next(values, None)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
