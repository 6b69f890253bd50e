import csv

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from unit.monitoring.log_files import ALWAYS, DAY_S, NOON, WHO, head, reader, row, segment

from ekiben.errors import LogError
from ekiben.monitoring.compaction import compact
from ekiben.monitoring.kept import Compacted
from ekiben.monitoring.log_export import export
from ekiben.monitoring.log_folder import LogFolder
from ekiben.monitoring.log_schema import LoggedField

IMAGE = LoggedField("image", "tensor", "float32", (2,))


@pytest.fixture
def folder(tmp_path):
    folder = LogFolder(tmp_path / "inference_log")
    segment(folder, "w-1", [row("a", who="ann", image=[0.5, 1.0])], described=head(inputs=(WHO, IMAGE)))
    compact(folder, "m", now=NOON, done=Compacted())
    later = NOON + 2 * DAY_S
    segment(folder, "w-2", [row("b", later, temp=1.5), row("b", later, arm="shadow")], described=head("2"), date="2024-10-06")
    return folder


def read(file):
    if file.suffix == ".parquet":
        return pq.ParquetFile(file).read()
    with pa.ipc.open_file(str(file)) as opened:
        return opened.read_all()


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_all_days_are_in_one_file_of_one_schema(folder, tmp_path, suffix):
    file = tmp_path / f"out{suffix}"
    file.write_text("former")
    assert export(reader(folder), "m", file, **ALWAYS) == 2
    table = read(file)
    assert table["request_id"].to_pylist() == ["a", "b"]
    assert table["features"].to_pylist() == [
        {"who": "ann", "image": [0.5, 1.0], "temp": None},
        {"who": None, "image": None, "temp": 1.5},
    ]
    assert list(tmp_path.glob(".out*")) == []


def test_csv_has_plain_columns(folder, tmp_path):
    file = tmp_path / "out.csv"
    assert export(reader(folder), "m", file, **ALWAYS) == 2
    with file.open(newline="") as f:
        first, second = csv.DictReader(f)
    assert (first["features.who"], first["features.image"], first["features.temp"]) == ("ann", "[0.5,1.0]", "")
    assert (second["outputs.probabilities.yes"], second["features.temp"], second["time"]) == ("0.75", "1.5", "2024-10-06 12:00:00.000000Z")


def test_a_time_and_shadows(folder, tmp_path):
    file = tmp_path / "out.parquet"
    assert export(reader(folder), "m", file, since=NOON + 1, until=float("inf"), shadows=True) == 2
    assert read(file)["arm"].to_pylist() == ["champion", "shadow"]
    assert export(reader(folder), "m", file, since=float("-inf"), until=NOON) == 0
    assert read(file).num_rows == 0


def test_a_model_of_which_there_is_nothing(folder, tmp_path):
    file = tmp_path / "out.csv"
    assert export(reader(folder), "gone", file, **ALWAYS) == 0
    assert file.read_text() == '"request_id","row","time","version","arm","key","latency_s","cached"\n'


@pytest.mark.parametrize(
    ("name", "message"),
    [("out.xls", r"ends in .parquet, .arrow, .csv"), ("gone/out.csv", "cannot be written: No such file")],
)
def test_files_that_cannot_be(folder, tmp_path, name, message):
    with pytest.raises(LogError, match=message):
        export(reader(folder), "m", tmp_path / name, **ALWAYS)


def test_what_breaks_off_leaves_no_file(folder, tmp_path, monkeypatch):
    log = reader(folder)
    monkeypatch.setattr(log, "read", lambda *_, **__: (_ for _ in ()).throw(LogError("damaged")))
    with pytest.raises(LogError, match="damaged"):
        export(log, "m", tmp_path / "out.csv", **ALWAYS)
    assert [p.name for p in tmp_path.iterdir()] == ["inference_log"]
