"""What each of the odd ONNX files must be served as, and what to ask it.

A case's ``feeds`` are what ONNX Runtime itself takes. The test asks the server for the same and compares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from integration.onnx_graphs import ODD_NAMES, TYPES
from onnx import TensorProto, helper

Feeds = dict[str, np.ndarray]
OIP = {"FLOAT16": "FP16", "FLOAT": "FP32", "DOUBLE": "FP64", "STRING": "BYTES"}
ROWS = "rows"
WHOLE = "whole"


class Case(NamedTuple):
    """One model.

    Attributes:
        name: That of its graph.
        inputs, outputs: What ``GET /v2/models/{name}`` must say: (name, datatype, shape).
        feeds: Makes what ONNX Runtime takes, of so many rows.
        unit: What one instance of V1 is: one of the rows, or the tensors whole.
        group: Rows that the graph takes at a time, where that is fixed.
        sizes: Numbers of rows to ask for.
        sample: Rows to add it with.
    """

    name: str
    inputs: list[tuple[str, str, list[int]]]
    outputs: list[tuple[str, str, list[int]]]
    feeds: Callable[[np.random.Generator, int], Feeds]
    unit: str = ROWS
    group: int | None = None
    sizes: tuple[int, ...] = (1, 2, 5, 19)
    sample: list[Any] | None = None


def floats(**shapes: tuple[int, ...]) -> Callable[[np.random.Generator, int], Feeds]:
    """Feeds of float32; the rows' dimension goes before the shape given."""
    return lambda rng, n: {name: rng.normal(size=(n, *shape)).astype(np.float32) for name, shape in shapes.items()}


def typed(rng: np.random.Generator, n: int) -> Feeds:
    """Two values of each type a row, the largest and smallest among them."""
    feeds: Feeds = {}
    for kind in TYPES:
        name = f"in_{kind}"
        if kind == "STRING":
            feeds[name] = rng.choice(np.array(["", "é", "日本 🍱", "nul\0inside", 'quote"\\'], object), (n, 2))
        elif kind == "BOOL":
            feeds[name] = rng.random((n, 2)) < 0.5
        elif "INT" in kind:
            bounds = np.iinfo(kind.lower())
            feeds[name] = rng.choice(np.array([bounds.min, 0, bounds.max], kind.lower()), (n, 2))
        else:
            dtype = helper.tensor_dtype_to_np_dtype(getattr(TensorProto, kind))
            feeds[name] = (rng.normal(size=(n, 2)) * 100).astype(dtype)
    return feeds


def strings(*names: str) -> Callable[[np.random.Generator, int], Feeds]:
    words = np.array(["a", "", "ö", "日本"], object)
    return lambda rng, n: {name: rng.choice(words, n) for name in names}


def with_factor(rng: np.random.Generator, n: int) -> Feeds:
    return {**floats(x=(3,))(rng, n), "factor": np.asarray(rng.normal(), np.float32)}


def images(rng: np.random.Generator, n: int) -> Feeds:
    height, width = rng.integers(1, 4, 2)
    return floats(x=(int(height), int(width)))(rng, n)


CASES = [
    Case("several", [("a", "FP32", [-1, 3]), ("b", "FP32", [-1]), ("k", "INT64", [-1])],
         [("y", "FP32", [-1, 3]), ("z", "INT64", [-1])],
         lambda rng, n: {**floats(a=(3,), b=(1,))(rng, n), "k": rng.integers(-9, 9, n)}),
    Case("odd_names", [(name, "FP32", [-1]) for name in ODD_NAMES], [("out:0", "FP32", [-1]), ("the sum/1", "FP32", [-1])],
         floats(**dict.fromkeys(ODD_NAMES, ()))),
    Case("one_row", [("x", "FP32", [-1, 3])], [("y", "FP32", [-1, 2])], floats(x=(3,)), group=1),
    Case("eight_rows", [("x", "FP32", [-1, 3])], [("y", "FP32", [-1, 2])], floats(x=(3,)), group=8, sizes=(1, 7, 8, 9, 130)),
    Case("eight_mixed", [("x", "FP32", [8, 3])], [("y", "FP32", [8, 3])], floats(x=(3,)), unit=WHOLE, sizes=(8,)),
    Case("parameter", [("x", "FP32", [-1, 3]), ("factor", "FP32", [])], [("y", "FP32", [-1, 3])], with_factor, unit=WHOLE, sizes=(0, 1, 7)),
    Case("scalars", [("a", "FP32", []), ("s", "BYTES", [])], [("y", "FP32", []), ("t", "BYTES", [])],
         lambda rng, _: {"a": np.asarray(rng.normal(), np.float32), "s": np.array("nul\0é", object)}, unit=WHOLE, sizes=(1,)),
    Case("nonzero", [("x", "FP32", [-1, 3])], [("y", "INT64", [2, -1])],
         lambda rng, n: {"x": (rng.random((n, 3)) < 0.4).astype(np.float32)}, unit=WHOLE, sizes=(0, 1, 6)),
    Case("suppression", [("boxes", "FP32", [-1, 4]), ("scores", "FP32", [-1])], [("kept", "FP32", [-1, 4]), ("count", "INT64", [])],
         floats(boxes=(4,), scores=()), unit=WHOLE, sizes=(1, 2, 9)),
    Case("over_rows", [("x", "FP32", [-1, 3])], [("y", "FP32", [-1, 3])], floats(x=(3,)), unit=WHOLE, sizes=(1, 2, 9)),
    Case("sequence", [("x", "FP32", [-1, 3])], [("y", "FP32", [2, -1, 3])], floats(x=(3,)), unit=WHOLE, sizes=(1, 4)),
    Case("row_sequence", [("x", "FP32", [-1, 3])], [("y", "FP32", [-1, 3])], floats(x=(3,))),
    Case("texts", [("a", "BYTES", [-1]), ("b", "BYTES", [-1])], [("y", "BYTES", [-1]), ("n", "INT64", [-1])], strings("a", "b")),
    Case("square", [("x", "FP32", [4, 4])], [("y", "FP32", [4, 4])], floats(x=(4,)), unit=WHOLE, sizes=(4,)),
    Case("images", [("x", "FP32", [-1, -1, -1])], [("y", "FP32", [-1, -1, -1]), ("m", "FP32", [-1])], images),
    Case("all_types", [(f"in_{k}", OIP.get(k, k), [-1, 2]) for k in TYPES], [(f"out_{k}", OIP.get(k, k), [-1, 4]) for k in TYPES], typed),
    Case("bfloat16_inside", [("x", "FP32", [-1, 3])], [("y", "FP32", [-1, 3])], floats(x=(3,))),
    Case("wrong_shapes", [("x", "FP32", [-1, 3])], [("y", "FP32", [-1, 2]), ("z", "FP32", [-1])], floats(x=(3,))),
    Case("unused", [("x", "FP32", [-1, 3]), ("u", "FP32", [-1])], [("y", "FP32", [-1, 3])], floats(x=(3,), u=())),
    Case("passed_on", [("x", "FP32", [-1, 3])], [("x", "FP32", [-1, 3]), ("y", "FP32", [-1, 3])], floats(x=(3,))),
    Case("old", [("x", "FP32", [-1, 3])], [("y", "FP32", [-1, 3])], floats(x=(3,))),
    Case("weights_beside", [("x", "FP32", [-1, 3])], [("y", "FP32", [-1, 4])], floats(x=(3,))),
    Case("nothing", [("x", "FP32", [-1, 3])], [("y", "FP32", [-1, 0]), ("z", "FP32", [-1, 3])], floats(x=(3,))),
    Case("undeclared", [("x", "FP32", [-1, -1])], [("y", "FP32", [-1, -1])], floats(x=(3,)), sample=[[1.0, 2.0], [0.5, -1.0]]),
    Case("baked_one", [("x", "FP32", [-1, 3])], [("y", "FP32", [-1, 3])], floats(x=(3,)), group=1),
    Case("quantized", [("x", "FP32", [-1, 4])], [("y", "FP32", [-1, 2])], floats(x=(4,)), group=1),
    Case("anomaly", [("X", "FP32", [-1, 3])], [("label", "INT64", [-1, 1]), ("scores", "FP32", [-1, 1])], floats(X=(3,))),
    Case("margin", [("X", "FP32", [-1, 3])], [("label", "BYTES", [-1]), ("probabilities", "FP32", [-1, 1])], floats(X=(3,))),
    Case("exported", [("x", "FP32", [-1, 4])], [("y", "FP32", [-1, 2]), ("total", "FP32", [-1])], floats(x=(4,))),
]  # fmt: skip
