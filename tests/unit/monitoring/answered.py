"""Tables of the inference log as tests make them, and a log that holds one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ekiben.model import CardSpec, InputSpec, ModelSpec, OutputSpec
from ekiben.model.monitor_spec import MonitorSpec
from ekiben.monitoring.log_table import COMMON

INPUTS = (InputSpec(name="temp", type="float", nullable=True), InputSpec(name="carrier", type="string"))
CARD = CardSpec(owner="tests")
TIME = pa.timestamp("us", tz="UTC")


def classifier(*labels, **fields):
    task = "binary_classification" if len(labels) == 2 else "multiclass_classification"
    return ModelSpec(name="m", task=task, labels=labels, inputs=INPUTS, card=CARD, **{"monitor": MonitorSpec(min_rows=20), **fields})


def regressor(**fields):
    return ModelSpec(name="m", task="regression", inputs=INPUTS, card=CARD, **{"monitor": MonitorSpec(min_rows=20), **fields})


TENSOR = ModelSpec(
    name="m", task="tensor", inputs=INPUTS, outputs=(OutputSpec(name="y", dtype="float32"),), card=CARD, monitor=MonitorSpec(min_rows=20)
)


def logged(outputs, *, ids=None, rows=0, times=0.0, version="1", arm="champion", features=None):
    """Rows whose ids are r0, r1, … and times a second apart, unless they are given."""
    n = len(outputs)
    given = {
        "request_id": [f"r{i}" for i in range(n)] if ids is None else ids,
        "row": np.broadcast_to(rows, n),
        "time": pa.array((np.arange(n) + np.asarray(times)) * 1_000_000, pa.int64()).cast(TIME),
        "version": [version] * n if isinstance(version, str) else version,
        "arm": [arm] * n if isinstance(arm, str) else arm,
        "key": [None] * n,
        "latency_s": [0.01] * n,
        "cached": [False] * n,
    }
    columns = {field.name: pa.array(given[field.name], field.type) if field.name != "time" else given["time"] for field in COMMON}
    if features is not None:
        columns["features"] = features
    return pa.table({**columns, "outputs": outputs})


def binary_outputs(scores, threshold=0.5):
    scores = np.asarray(scores, np.float32)
    prediction = np.where(scores >= threshold, "yes", "no")
    return pa.StructArray.from_arrays([pa.array(prediction), pa.array(scores)], names=["prediction", "score"])


def class_outputs(probabilities, labels):
    probabilities = np.asarray(probabilities, np.float32)
    by_label = pa.StructArray.from_arrays([pa.array(np.ascontiguousarray(column)) for column in probabilities.T], names=list(labels))
    prediction = pa.array(np.array(labels)[probabilities.argmax(axis=1)])
    score = pa.array(probabilities.max(axis=1))
    return pa.StructArray.from_arrays([prediction, score, by_label], names=["prediction", "score", "probabilities"])


def number_outputs(values):
    return pa.StructArray.from_arrays([pa.array(np.asarray(values, np.float64))], names=["prediction"])


class MemoryLog:
    """A log that is a table, and reads as the real one does."""

    def __init__(self, table):
        self.table = table
        self.asked = []
        self.problem = ""

    def read(self, model, *, since, until, columns=None, version=None, shadows=False):
        self.asked.append((model, columns))
        times = pc.cast(self.table["time"], pa.int64()).to_numpy()
        mask = (times >= since * 1_000_000) & (times < until * 1_000_000)
        if version is not None:
            mask &= pc.equal(self.table["version"], version).to_numpy()
        if not shadows:
            mask &= pc.not_equal(self.table["arm"], "shadow").to_numpy()
        table = self.table.filter(pa.array(mask))
        return table if columns is None else table.select(list(dict.fromkeys(name.partition(".")[0] for name in columns)))
