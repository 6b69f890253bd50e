"""Logs a version of an Ekiben model as an MLflow model, for Databricks Model Serving or ``mlflow models serve``.

python deploy/databricks/log_model.py FOLDER [--name main.models.flight_delay]
"""

from __future__ import annotations

import argparse
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType

import ekiben
from ekiben.model import Predictor
from ekiben.model.spec import InputSpec, ModelSpec

# MLflow's integers and booleans cannot be missing.
_TYPES = {"float": "double", "int": "long", "bool": "boolean", "string": "string"}
_NULLABLE_TYPES = {**_TYPES, "int": "double", "bool": "double"}
_MODEL = Path(__file__).with_name("pyfunc_model.py")
_REQUIREMENTS = ("msgspec", "numpy", "onnxruntime")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Logs a version of an Ekiben model as an MLflow model.")
    parser.add_argument("folder", type=Path, help="the version's folder: bentoml models get flight_delay:VERSION -o path")
    parser.add_argument("--name", help="name to register it under")
    arguments = parser.parse_args()
    info = log_model(arguments.folder, arguments.name)
    print(f"logged {info.model_uri}" + (f", registered as {arguments.name}" if arguments.name else ""))  # noqa: T201  it is a script


def log_model(folder: Path, name: str | None = None) -> Any:
    """Logs a version.

    Args:
        folder: Its folder in the model store.
        name: Name to register it under; None registers nothing.

    Returns:
        MLflow's ``ModelInfo``.

    Raises:
        ArtifactError: The version's files are not those it was made with, or it does not give its golden rows' outputs.
        SystemExit: MLflow has no schema for its inputs.
    """
    spec = Predictor.open(folder).spec
    return mlflow.pyfunc.log_model(
        name=spec.name,
        python_model=str(_MODEL),
        artifacts={"version": str(folder)},
        code_paths=[str(Path(ekiben.__file__).parent)],
        pip_requirements=[f"{package}=={version(package)}" for package in _REQUIREMENTS],
        # MLflow has no type for a classifier's probabilities by label.
        signature=ModelSignature(inputs=Schema(_inputs(spec)), outputs=Schema([ColSpec(AnyType())])),
        registered_model_name=name,
        metadata={"ekiben_version": str(folder.name)},
    )


def _inputs(spec: ModelSpec) -> list[ColSpec | TensorSpec]:
    tensors = [item for item in spec.inputs if item.type == "tensor"]
    if not tensors:
        return [_column(item) for item in spec.inputs]
    if len(spec.inputs) > 1 or tensors[0].dtype == "string":
        raise SystemExit(f"{spec.name}: MLflow's schemas do not mix tensors with other inputs, nor hold tensors of strings")
    return [TensorSpec(np.dtype(str(tensors[0].dtype)), (-1, *(tensors[0].shape or ())), tensors[0].name)]


def _column(item: InputSpec) -> ColSpec:
    return ColSpec((_NULLABLE_TYPES if item.nullable else _TYPES)[item.type], item.name, required=not item.nullable)


if __name__ == "__main__":
    main()
