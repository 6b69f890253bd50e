"""PyTorch: exported programs (``.pt2``): a graph and weights. Their reader can run code: see `ekiben.model.code_on_load`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.utils import _pytree

from ekiben.errors import ArtifactError, PredictionFailed
from ekiben.model.runtimes.base import Runtime, TensorInfo

Array = npt.NDArray[Any]

_DTYPES: Final = {
    torch.bool: "bool", torch.uint8: "uint8", torch.int8: "int8", torch.int16: "int16", torch.int32: "int32", torch.int64: "int64",
    torch.float16: "float16", torch.float32: "float32", torch.float64: "float64",
    torch.bfloat16: "float32",  # numpy has no bfloat16: carried as float32, cast at the edge
}  # fmt: skip


class TorchRuntime(Runtime):
    """A program saved with ``torch.export.save``, on the CPU and on one thread.

    Inputs have the names of the exported ``forward``'s arguments, outputs the keys of the dict it returns, else
    ``output_0``, ``output_1`` …. A dimension exported as dynamic varies.

    Args:
        file: A ``.pt2`` file.

    Raises:
        ArtifactError: It is none, or takes or gives something that is no tensor.
    """

    def __init__(self, file: Path) -> None:
        # One thread a worker: the workers are the parallelism.
        torch.set_num_threads(1)
        try:
            program = torch.export.load(file)
            self._forward = program.module()
        except Exception as e:  # NOTE: a broken zip file or schema, an operator that is not registered here
            raise ArtifactError(
                f"{file.name}: torch {torch.__version__} cannot load it as an exported program: {type(e).__name__}: {e}; "
                "save the model with torch.export.save(torch.export.export(model.eval(), …))"
            ) from e
        signature = program.graph_signature
        values = {node.name: node.meta.get("val") for node in program.graph.nodes}
        self.inputs = tuple(_info(name, values.get(name), file) for name in map(str, signature.user_inputs))
        ends = [str(name) for name in signature.user_outputs]
        names = _output_names(program.call_spec.out_spec, len(ends))
        self.outputs = tuple(_info(name, values.get(end), file) for name, end in zip(names, ends, strict=True))
        self._order = {info.name: index for index, info in enumerate(self.outputs)}
        self._casts = [values[name].dtype for name in map(str, signature.user_inputs)]
        self._in_spec = program.call_spec.in_spec

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Runs the program.

        Raises:
            PredictionFailed: torch could not compute the feeds.
        """
        try:
            with torch.inference_mode():
                tensors = [_tensor(feeds[info.name], dtype) for info, dtype in zip(self.inputs, self._casts, strict=True)]
                args, kwargs = _pytree.tree_unflatten(tensors, self._in_spec)
                given = _pytree.tree_leaves(self._forward(*args, **kwargs))
            return {name: _array(given[self._order[name]]) for name in outputs}
        except Exception as e:  # NOTE: guards, shapes, operators: torch raises all sorts
            raise PredictionFailed(f"torch failed: {type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}") from e


def _info(name: str, value: Any, file: Path) -> TensorInfo:
    if not isinstance(value, torch.Tensor) or value.dtype not in _DTYPES:
        what = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise ArtifactError(f"{file.name}: {name!r} is a {what}; an exported program must take and give tensors of numbers or bools")
    # A dynamic dimension is symbolic.
    return TensorInfo(name, _DTYPES[value.dtype], tuple(d if isinstance(d, int) else None for d in value.shape))


def _output_names(spec: Any, n: int) -> list[str]:
    """The keys of a flat dict, else ``output_0`` …."""
    if spec is not None and spec.type is dict and spec.num_leaves == len(spec.context) == n:
        return [str(key) for key in spec.context]
    return [f"output_{index}" for index in range(n)]


def _tensor(array: Array, dtype: torch.dtype) -> torch.Tensor:
    # NOTE: torch warns of arrays it may not write to, as those of requests often are; and it reads no negative strides.
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()
    return torch.from_numpy(np.asarray(array)).to(dtype)


def _array(tensor: torch.Tensor) -> Array:
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
