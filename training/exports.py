"""From a fitted estimator or network to model files, none of them a pickle.

What converters print and warn of stays here: whether an export is right is not their say but the parity check's.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ekiben.model import ModelFile

if TYPE_CHECKING:
    import torch

NATIVE_SKLEARN: Final = "model.skops"
NATIVE_TORCH: Final = "model.pt2"
ONNX: Final = "model.onnx"
_OPSETS: Final = {"": 20, "ai.onnx.ml": 3}


def save_sklearn(estimator: Any, folder: Path) -> ModelFile:
    """Saves an estimator with skops."""
    import skops.io  # noqa: PLC0415  each framework is imported by the model that needs it

    skops.io.dump(estimator, folder / NATIVE_SKLEARN)
    return ModelFile(framework="sklearn", file=NATIVE_SKLEARN)


def sklearn_to_onnx(estimator: Any, folder: Path, *, name: str, columns: int) -> ModelFile:
    """Converts an estimator that takes one float32 matrix.

    Args:
        estimator: Fitted on ``[n, columns]``.
        folder: Where the file goes.
        name: The input's name in the graph.
        columns: Columns of the matrix.
    """
    from skl2onnx import to_onnx  # noqa: PLC0415
    from skl2onnx.common.data_types import FloatTensorType  # noqa: PLC0415

    with _quiet():
        graph = to_onnx(
            estimator,
            initial_types=[(name, FloatTensorType([None, columns]))],
            # Probabilities as one matrix, not as a map a row.
            options={"zipmap": False},
            target_opset=_OPSETS,
        )
    (folder / ONNX).write_bytes(graph.SerializeToString())
    return ModelFile(framework="onnx", file=ONNX)


def save_torch(module: torch.nn.Module, folder: Path, *, example: torch.Tensor) -> ModelFile:
    """Exports a module with one input as a program of any number of rows.

    Args:
        module: Gives one tensor for one tensor, rows first.
        folder: Where the file goes.
        example: An input of two rows or more.
    """
    import torch  # noqa: PLC0415

    with _quiet():
        torch.export.save(_program(module, example), folder / NATIVE_TORCH)
    return ModelFile(framework="torch", file=NATIVE_TORCH)


def torch_to_onnx(module: torch.nn.Module, folder: Path, *, example: torch.Tensor, name: str, output: str) -> ModelFile:
    """Converts a module with one input and one output.

    Args:
        module: Gives one tensor for one tensor, rows first.
        folder: Where the file goes.
        example: An input of two rows or more.
        name: The input's name in the graph. It must not be that of an operator: ONNX Runtime rejects a graph in which
            an input is called like an inner node.
        output: The output's name in the graph.
    """
    import torch  # noqa: PLC0415

    with _quiet():
        torch.onnx.export(
            _program(module, example),
            f=folder / ONNX,
            input_names=[name],
            output_names=[output],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return ModelFile(framework="onnx", file=ONNX)


def _program(module: torch.nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    import torch  # noqa: PLC0415

    assert len(example) > 1, "torch takes a dimension of size one for a constant"
    return torch.export.export(module.eval(), (example,), dynamic_shapes=({0: torch.export.Dim("rows")},))


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir", "skl2onnx")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
