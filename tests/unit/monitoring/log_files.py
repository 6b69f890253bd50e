"""Segments of a log as workers write them, made with pyarrow."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pyarrow as pa

from ekiben.monitoring.log_folder import LogFolder, date_of
from ekiben.monitoring.log_parts import LogParts
from ekiben.monitoring.log_reader import LogReader
from ekiben.monitoring.log_schema import HEAD_KEY, LoggedField, SegmentHead

RAW_COMMON = [
    ("request_id", pa.string()),
    ("row", pa.int32()),
    ("time", pa.int64()),
    ("arm", pa.string()),
    ("key", pa.string()),
    ("latency_s", pa.float32()),
    ("cached", pa.uint8()),
]
DAY_S = 86_400
NOON = 20_000 * DAY_S + DAY_S / 2
DATE = date_of(NOON)
ALWAYS = {"since": float("-inf"), "until": float("inf")}
TEMP = LoggedField("temp", "float", "float32", nullable=True)
WHO = LoggedField("who", "string", "object", nullable=True)
NAN = float("nan")


def head(version="1", inputs=(TEMP, WHO), model="m", **more) -> SegmentHead:
    values = {"labels": ("no", "yes"), "is_binary": True, **more}
    return SegmentHead(model, version, tuple(inputs), **values)


def raw_schema(described) -> pa.Schema:
    """What `raw_columns` describes, in pyarrow's own words."""
    fields = [*RAW_COMMON]
    if described.inputs:
        fields.append(("features", pa.struct([(f.name, _raw_type(f)) for f in described.inputs])))
    if described.labels:
        classes = pa.list_(pa.float32(), len(described.labels))
        fields.append(("outputs", pa.struct([("class_index", pa.int16()), ("probabilities", classes)])))
    elif described.outputs:
        fields.append(("outputs", pa.struct([(f.name, _raw_type(f)) for f in described.outputs])))
    return pa.schema(fields, metadata={HEAD_KEY: described.encoded()})


def _raw_type(field: LoggedField) -> pa.DataType:
    if field.dtype == "object":
        return pa.string()
    element = pa.uint8() if field.dtype == "bool" else pa.from_numpy_dtype(field.dtype)
    return pa.list_(element, field.elements) if field.type == "tensor" else element


def row(request_id, time=NOON, *, arm="champion", key="", n=0, **features):
    """A raw row; features that are left out are missing."""
    return {
        "request_id": request_id,
        "row": n,
        "time": int(time * 1e6),
        "arm": arm,
        "key": key,
        "latency_s": NAN if arm == "shadow" else 0.25,
        "cached": 0,
        "features": features,
        "outputs": {"class_index": 1, "probabilities": [0.25, 0.75]},
    }


def batch(rows, described) -> pa.RecordBatch:
    missing = {f.name: "" if f.dtype == "object" else NAN if f.dtype.startswith("float") else 0 for f in described.inputs}
    filled = [{**r, "features": {**missing, **r["features"]}} for r in rows]
    return pa.RecordBatch.from_pylist(filled, schema=raw_schema(described))


def stream(batches, described) -> bytes:
    """A stream without an end, as a worker leaves it."""
    messages = [raw_schema(described).serialize(), *(batch(rows, described).serialize() for rows in batches)]
    return b"".join(message.to_pybytes() for message in messages)


def segment(folder: LogFolder, name, *batches, described=None, date=DATE, content=None) -> Path:
    """Writes a finished segment of some batches of rows."""
    described = described or head()
    file = folder.path / "tail" / f"model={described.model}" / f"{date}-{name}.arrows"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(stream(batches, described) if content is None else content)
    return file


class Open:
    """A segment that is still written: locked."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        os.close(self._file)


def reader(folder: LogFolder, storage=None) -> LogReader:
    return LogReader(LogParts(folder, storage))


def ids(table: pa.Table) -> list[str]:
    return table["request_id"].to_pylist()
