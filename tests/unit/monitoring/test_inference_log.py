import fcntl
import json
import math
import os

import numpy as np
import pyarrow as pa
import pytest

from ekiben.model import CardSpec, InputSpec, ModelSpec, OutputSpec
from ekiben.model.monitor_spec import LogSpec
from ekiben.model.outputs import Outputs
from ekiben.model.signature import Batch, Signature
from ekiben.monitoring import inference_log
from ekiben.monitoring.inference_log import InferenceLog, Tally
from ekiben.monitoring.log_rows import LoggedRows
from ekiben.monitoring.log_table import head_of, table_of

DAY = 86_400.0
NOON = 20_000 * DAY + DAY / 2
SCALARS = (
    InputSpec(name="who", type="string"),
    InputSpec(name="note", type="string", nullable=True),
    InputSpec(name="n", type="int"),
    InputSpec(name="maybe", type="int", nullable=True),
    InputSpec(name="x", type="float", nullable=True),
    InputSpec(name="on", type="bool"),
    InputSpec(name="perhaps", type="bool", nullable=True),
)
ROWS = [
    {"who": "ann", "note": "é", "n": 1, "maybe": 7, "x": 0.5, "on": True, "perhaps": False},
    {"who": "bob", "note": None, "n": 2, "maybe": None, "x": None, "on": False, "perhaps": None},
    {"who": "cid", "note": "z", "n": 3, "maybe": 9, "x": 2.5, "on": True, "perhaps": True},
]


def spec(inputs=SCALARS, task="binary_classification", **more) -> ModelSpec:
    labels = {"binary_classification": ("no", "yes"), "multiclass_classification": ("a", "b", "c")}.get(task, ())
    return ModelSpec(name="m", task=task, inputs=inputs, labels=labels, card=CardSpec(owner="t"), **more)


def batch(inputs, rows) -> Batch:
    signature = Signature(inputs)
    made = signature.batch(signature.parse_rows(rows))
    assert not signature.check(made)
    return made


def binary(*positive: float) -> Outputs:
    p = np.array(positive, np.float32)
    return Outputs(len(p), {"probabilities": np.stack([1 - p, p], 1)}, ("no", "yes"), (p >= 0.5).astype(np.intp), 0.5)


def logged(made: Batch, outputs: Outputs, *, ids=None, arms=None, keys=None, latencies=None, rows=None, time=NOON) -> LoggedRows:
    n = len(rows) if rows else outputs.n
    return LoggedRows(
        made, outputs, ids or [f"r-{i}" for i in range(n)], arms or ["champion"] * n, keys or [""] * n, latencies or [0.25] * n, rows, time
    )


class World:
    def __init__(self, folder):
        self.now, self.clock_s = NOON, 1000.0
        self.log = InferenceLog(folder / "inference_log", "host:7:1", wall=lambda: self.now, clock=lambda: self.clock_s)

    def files(self):
        return sorted((self.log.folder / "tail").rglob("*.arrows"))

    def raw(self) -> list[pa.Table]:
        return [pa.ipc.open_stream(file.read_bytes()).read_all() for file in self.files()]

    def rows(self) -> list[dict]:
        return [row for raw in self.raw() for row in table_of(raw, head_of(raw.schema)).to_pylist()]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_rows_of_a_classifier(world):
    log = world.log.of(spec(), "3")
    log.append(
        logged(
            batch(SCALARS, ROWS), binary(0.25, 0.75, 0.5), ids=["r-1", "r-2"], arms=["champion", "challenger"], keys=["", "kéy"],
            latencies=[0.5, math.nan], rows=[2, 1],
        )
    )  # fmt: skip
    first, second, third = world.rows()
    assert first["time"].timestamp() == NOON
    assert [(r["request_id"], r["row"], r["arm"], r["key"], r["latency_s"]) for r in (first, second, third)] == [
        ("r-1", 0, "champion", None, 0.5),
        ("r-1", 1, "champion", None, 0.5),
        ("r-2", 0, "challenger", "kéy", None),
    ]
    assert [r["features"] for r in (first, second, third)] == ROWS
    assert first["outputs"] == {"prediction": "no", "score": 0.25, "probabilities": {"no": 0.75, "yes": 0.25}}
    assert third["outputs"]["prediction"] == "yes"
    assert {(r["version"], r["cached"]) for r in (first, second, third)} == {("3", False)}
    assert log.take() == Tally(kept=3, size_bytes=world.files()[0].stat().st_size - len(log._encoder.head))
    assert log.take() == Tally()
    assert [file.parent.name for file in world.files()] == ["model=m"]
    assert world.files()[0].name.startswith("2024-10-04-host-7-1-")


def test_remembered_answers_are_told_apart(world):
    for sample, is_cached in ((1.0, True), (0.999999, True), (1.0, False)):
        rows = logged(batch(SCALARS, ROWS), binary(0.25, 0.75, 0.5), ids=["r-1"], rows=[3])
        rows.is_cached = is_cached
        world.log.of(spec(log=LogSpec(sample=sample)), "3").append(rows)
    assert [r["cached"] for r in world.rows()] == [True] * 6 + [False] * 3


def test_rows_of_several_classes(world):
    inputs = (InputSpec(name="x", type="float"),)
    outputs = Outputs(
        2, {"probabilities": np.array([[0.5, 0.25, 0.25], [0.125, math.nan, 0.75]], np.float32)}, ("a", "b", "c"), np.array([0, 2])
    )
    world.log.of(spec(inputs, "multiclass_classification"), "1").append(logged(batch(inputs, [{"x": 1.0}, {"x": 2.0}]), outputs))
    assert [r["outputs"] for r in world.rows()] == [
        {"prediction": "a", "score": 0.5, "probabilities": {"a": 0.5, "b": 0.25, "c": 0.25}},
        {"prediction": "c", "score": 0.75, "probabilities": {"a": 0.125, "b": None, "c": 0.75}},
    ]


@pytest.mark.parametrize(("prediction", "expected"), [([1.5, 2.5], [1.5, 2.5]), ([[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.0, 4.0]])])
def test_rows_of_a_regressor(world, prediction, expected):
    inputs = tuple(InputSpec(name=name, type="float") for name in ("a", "b", "c"))
    made = batch(inputs, [{"a": 1, "b": 2, "c": 3}, {"a": 4, "b": 5, "c": 6}])
    assert made.matrix is not None
    world.log.of(spec(inputs, "regression"), "1").append(logged(made, Outputs(2, {"prediction": np.array(prediction)})))
    assert [r["features"] for r in world.rows()] == [{"a": 1, "b": 2, "c": 3}, {"a": 4, "b": 5, "c": 6}]
    assert [r["outputs"]["prediction"] for r in world.rows()] == expected


TENSORS = (
    InputSpec(name="small", type="tensor", dtype="uint8", shape=(2, 2)),
    InputSpec(name="mask", type="tensor", dtype="bool", shape=(3,)),
    InputSpec(name="large", type="tensor", dtype="float32", shape=(64, 64)),
    InputSpec(name="varies", type="tensor", dtype="float32", shape=(-1,)),
    InputSpec(name="words", type="tensor", dtype="string", shape=(2,)),
)


def test_small_tensors_are_kept_and_others_are_not(world):
    made = batch(
        TENSORS,
        [{"small": [[1, 2], [3, 4]], "mask": [True, False, True], "large": np.ones((64, 64)).tolist(), "varies": [1], "words": ["a", "b"]}],
    )
    outputs = (OutputSpec(name="y", dtype="float32", shape=(2,)), OutputSpec(name="big", dtype="float64", shape=(999,)))
    model = spec(TENSORS, "tensor", outputs=outputs)
    world.log.of(model, "1").append(logged(made, Outputs(1, {"y": np.ones((1, 2), np.float32), "big": np.ones((1, 999))})))
    (row,) = world.rows()
    assert row["features"] == {"small": [1, 2, 3, 4], "mask": [True, False, True]}
    assert row["outputs"] == {"y": [1.0, 1.0]}
    (raw,) = world.raw()
    assert table_of(raw, head_of(raw.schema)).schema.field("features").type.field("small").metadata == {b"shape": b"2,2"}


def test_a_shape_that_the_spec_does_not_say_is_dropped_and_spoils_nothing(world, caplog):
    log = world.log.of(spec(TENSORS[:1], "tensor", outputs=(OutputSpec(name="y", dtype="float32", shape=(2,)),)), "1")
    made = batch(TENSORS[:1], [{"small": [[1, 2], [3, 4]]}])
    for shape in ((1, 3), (1, 2), (1, 3)):
        log.append(logged(made, Outputs(1, {"y": np.ones(shape, np.float32)})))
    assert len(world.rows()) == 1
    assert (log.take().dropped, caplog.text.count("rows cannot be logged")) == (2, 1)


def test_what_is_personal_is_hashed_or_left_out(world):
    model = spec(log=LogSpec(redact=("note", "x"), hash=("who", "maybe")))
    for version in ("1", "2"):
        world.log.of(model, version).append(logged(batch(SCALARS, ROWS), binary(0.25, 0.75, 0.5)))
    first, second = world.rows()[:3], world.rows()[3:]
    assert "note" not in first[0]["features"]
    assert "x" not in first[0]["features"]
    hashes = [r["features"]["who"] for r in first]
    assert len(set(hashes)) == 3
    assert all(len(h) == 32 and h not in ("ann", "bob", "cid") for h in hashes)
    assert [r["features"]["maybe"] is None for r in first] == [False, True, False]
    assert [r["features"] for r in first] == [r["features"] for r in second], "equal values stay equal"
    key = world.log.folder.parent / "log.key"
    assert (key.stat().st_mode & 0o777, len(key.read_bytes())) == (0o600, 32)
    other = InferenceLog(world.log.folder, "other")
    assert other.hash_key() == key.read_bytes()


def test_a_sample_of_the_requests(world):
    log = world.log.of(spec(log=LogSpec(sample=0.5)), "1")
    for n in range(50):
        log.append(logged(batch(SCALARS, ROWS), binary(0.25, 0.75, 0.5), ids=[f"a-{n}", f"b-{n}"], rows=[2, 1], latencies=[n, n]))
    kept = world.rows()
    tally = log.take()
    assert (tally.kept, tally.kept + tally.sampled_out, tally.dropped) == (len(kept), 150, 0)
    assert 40 < len(kept) < 110
    both = [r for r in kept if r["request_id"].startswith("a-")]
    assert [r["row"] for r in both] == [0, 1] * (len(both) // 2)
    assert all(r["features"]["who"] == ("cid" if r["request_id"][0] == "b" else ("ann", "bob")[r["row"]]) for r in kept)


def test_a_model_that_wants_no_log_has_none(world):
    assert world.log.of(spec(log=LogSpec(enabled=False)), "1") is None


def append(world, log, *, at=None):
    world.now = at or world.now
    log.append(logged(batch(SCALARS, ROWS), binary(0.25, 0.75, 0.5), time=world.now))


def is_locked(file) -> bool:
    with file.open("rb") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_a_segment_ends_when_it_is_old_or_large_or_of_another_day(world, monkeypatch):
    log = world.log.of(spec(), "1")
    append(world, log)
    append(world, log)
    assert [is_locked(file) for file in world.files()] == [True]
    world.clock_s += 301
    log.tick()
    assert [is_locked(file) for file in world.files()] == [False], "whoever compacts may have it"
    append(world, log)
    world.clock_s += 301
    append(world, log)
    append(world, log, at=NOON + DAY)
    append(world, log, at=NOON)  # a clock that was put back
    assert len(world.files()) == 5
    monkeypatch.setattr(inference_log, "SEGMENT_BYTES", 100)
    append(world, log)
    append(world, log)
    assert len(world.files()) == 7
    assert len(world.rows()) == 24
    log.close()
    log.close()
    assert not any(is_locked(file) for file in world.files())


def test_a_full_disk_stops_the_log_and_nothing_else(world, monkeypatch, caplog):
    log = world.log.of(spec(), "1")
    append(world, log)
    whole, write = os.write, {"room": 100}

    def limited(file, data):
        taken = whole(file, bytes(data[: write["room"]]))
        if not taken:
            raise OSError(28, "No space left on device")
        write["room"] -= taken
        return taken

    monkeypatch.setattr("os.write", limited)
    append(world, log)
    assert "No space left" in world.log.problem
    assert (log.take().kept, len(world.rows())) == (3, 3), "what was written in part is cut off"
    append(world, log)  # is not even tried
    assert log.take().dropped == 3
    world.clock_s += 11
    append(world, log)
    monkeypatch.undo()
    append(world, log)
    assert log.take().dropped == 6
    world.clock_s += 11
    append(world, log)
    assert (log.take(), world.log.problem) == (Tally(kept=3, size_bytes=world.files()[1].stat().st_size - len(log._encoder.head)), "")
    assert len(world.rows()) == 6
    assert [r.getMessage() for r in caplog.records] == [
        "the inference log cannot be written, rows are dropped until it can: [Errno 28] No space left on device",
        "the inference log is written again",
    ]


def test_a_folder_that_cannot_be_made(world):
    world.log.folder.parent.mkdir(exist_ok=True)
    world.log.folder.write_text("a file")
    log = world.log.of(spec(), "1")
    append(world, log)
    assert log.take().dropped == 3
    assert "Not a directory" in world.log.problem


def test_these_are_no_rows_of_a_log():
    with pytest.raises(ValueError, match="no rows of an inference log"):
        head_of(pa.schema([("a", pa.int32())]))


def test_an_empty_segment_is_an_empty_table(world):
    log = world.log.of(spec(), "1")
    append(world, log)
    (raw,) = world.raw()
    empty = table_of(raw.slice(0, 0), head_of(raw.schema))
    assert (empty.num_rows, empty.schema.names) == (0, table_of(raw, head_of(raw.schema)).schema.names)
    json.dumps(empty.to_pylist())
