"""A small world for the monitor: a model with three versions, its log, ground truth and a clock, all in memory."""

from __future__ import annotations

from hashlib import sha256

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ekiben.model import CardSpec, InputSpec, Manifest, ModelFile, ModelSpec, Provenance
from ekiben.model.artifact import FORMAT, MANIFEST
from ekiben.model.monitor_spec import MonitorSpec
from ekiben.model.outputs import Outputs
from ekiben.model.profile import profile_of
from ekiben.model.rollout_spec import QualitySpec
from ekiben.model.signature import Batch
from ekiben.monitoring.alerts import Alerting
from ekiben.monitoring.checking import Checker
from ekiben.monitoring.watched import WatchedVersions
from ekiben.registry import FolderRegistry
from ekiben.state import memory_control
from ekiben.state.histogram import Histogram
from ekiben.state.truth import Truth
from ekiben.state.windows import Window, WindowKey

MODEL = "tiny"
START = 1_700_000_000.0
MONITOR = MonitorSpec(every_predictions=500, min_rows=100, truth_within="1h")
SPEC = ModelSpec(
    name=MODEL,
    task="binary_classification",
    labels=("no", "yes"),
    inputs=(InputSpec(name="a", type="float"), InputSpec(name="b", type="float")),
    quality=QualitySpec(metric="accuracy", threshold=0.8),
    card=CardSpec(owner="tests"),
    monitor=MONITOR,
)


def drawn(n, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    inputs = {"a": rng.normal(shift, 1, n).astype(np.float32), "b": rng.normal(0, 1, n).astype(np.float32)}
    return inputs, rng.uniform(0, 1, n).astype(np.float32)


def profile():
    inputs, score = drawn(4000, seed=1)
    probabilities = np.stack([1 - score, score], axis=1)
    outputs = Outputs(4000, {"probabilities": probabilities}, ("no", "yes"), (score > 0.5).astype(np.int64), 0.5)
    return profile_of(SPEC, Batch(4000, inputs), outputs)


class MemoryLog:
    """The inference log as tables in memory."""

    def __init__(self) -> None:
        self.tables: list[pa.Table] = []
        self.broken: Exception | None = None

    def add(self, version, first, last, n, *, arm="champion", shift=0.0):
        """Adds n rows that were answered in [first, last); returns their request ids and scores."""
        inputs, score = drawn(n, seed=len(self.tables) + 7, shift=shift)
        ids = [f"r{len(self.tables)}-{i}" for i in range(n)]
        yes = pa.array(score)
        probabilities = pa.StructArray.from_arrays([pa.array(1 - score), yes], names=["no", "yes"])
        outputs = pa.StructArray.from_arrays(
            [pa.array(np.where(score > 0.5, "yes", "no")), yes, probabilities], ["prediction", "score", "probabilities"]
        )
        times = pa.array((np.linspace(first, last, n, endpoint=False) * 1e6).astype(np.int64)).cast(pa.timestamp("us", tz="UTC"))
        columns = {
            "request_id": pa.array(ids),
            "row": pa.array(np.zeros(n, np.int32)),
            "time": times,
            "version": pa.array([version] * n),
            "arm": pa.array([arm] * n),
            "features": pa.StructArray.from_arrays([pa.array(v) for v in inputs.values()], names=list(inputs)),
            "outputs": outputs,
        }
        self.tables.append(pa.table(columns))
        return ids, score

    def read(self, model, *, since, until, columns=None, version=None, shadows=False):
        if self.broken is not None:
            raise self.broken
        tables = [t for t in self.tables if shadows or t["arm"][0].as_py() != "shadow"]
        if model != MODEL or not tables:
            tables = [self._empty()]
        table = pa.concat_tables(tables)
        seconds = pc.divide(pc.cast(table["time"], pa.int64()).cast(pa.float64()), 1e6)
        mask = pc.and_(pc.greater_equal(seconds, since), pc.less(seconds, until))
        if version is not None:
            mask = pc.and_(mask, pc.equal(table["version"], version))
        found = table.filter(mask).sort_by("time")
        wanted = None if columns is None else list(dict.fromkeys(c.partition(".")[0] for c in columns))
        return found if wanted is None else found.select(wanted)

    def count(self, model, *, since, until):
        return self.read(model, since=since, until=until, columns=["time"]).num_rows

    def _empty(self):
        other = MemoryLog()
        other.add("v1", 0, 1, 1)
        return other.tables[0].slice(0, 0)


class World:
    """All there is; v1 is the champion.

    Args:
        folder: Where the versions are kept.
        spec: That of all versions.
    """

    def __init__(self, folder, spec=SPEC) -> None:
        self.now = START
        self.folder = folder
        self.control = memory_control(self.wall)
        self.registry = FolderRegistry(folder / "store", self.control.aliases)
        self.models = folder / "models"
        self.log = MemoryLog()
        for version in ("v1", "v2", "v3"):
            self.register(version, spec)
        self.watched = WatchedVersions(self.control, self.registry, self.models)
        self.checker = Checker(self.log, self.control.checks, self.control.truths)
        self.alerting = Alerting(self.control, lambda model, since, until: self.log.count(model, since=since, until=until))

    def wall(self) -> float:
        return self.now

    def register(self, version, spec=SPEC) -> None:
        folder = self.folder / f"{spec.name}-{version}"
        folder.mkdir()
        files = {"model.onnx": b"a model", "golden.json": b'{"rows": [], "outputs": []}', "profile.json": msgspec.json.encode(profile())}
        for name, content in files.items():
            (folder / name).write_bytes(content)
        manifest = Manifest(
            format=FORMAT,
            spec=spec,
            model=ModelFile(framework="onnx", file="model.onnx"),
            provenance=Provenance(created=f"2026-01-01T00:00:00.{version[1:]}"),
            metrics={"accuracy": 0.9, "rows": 1000},
            checksums={name: sha256(content).hexdigest() for name, content in files.items()},
        )
        (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
        self.registry.register(folder, tag=f"{spec.name}:{version}")

    def answer(self, n=500, *, version="v1", arm="champion", shift=0.0, truth: float | None = None, seconds=60.0) -> None:
        """n rows are answered, evenly over so many seconds from now; of a share ``truth`` of them the answer turns out right."""
        ids, score = self.log.add(version, self.now, self.now + seconds, n, arm=arm, shift=shift)
        self.now += seconds + 3
        if truth is not None:
            right = np.random.default_rng(3).uniform(0, 1, n) < truth
            actual = np.where(right == (score > 0.5), "yes", "no").tolist()
            self.control.truths.report(
                [Truth(model=MODEL, request_id=i, row=0, time=self.now, actual=a) for i, a in zip(ids, actual, strict=True)]
            )

    def happen(self, *, ok=100, failed=0, latency_s=0.01, unlogged=0, arm="champion", fallbacks=0) -> None:
        """Requests end now, as workers report it."""
        window = Window(
            ok=ok,
            errors={"PredictionFailed": failed} if failed else {},
            fallbacks=fallbacks,
            latency=Histogram.of([latency_s] * ok),
            unlogged=unlogged,
        )
        self.control.windows.add("w", [(WindowKey(MODEL, "v1", arm, int(self.now) - 1), window)])

    def put_route(self, route) -> None:
        self.control.routes.put(MODEL, route)
