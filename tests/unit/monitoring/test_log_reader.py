import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from unit.monitoring.log_files import ALWAYS, DAY_S, NOON, TEMP, WHO, head, ids, reader, row, segment

from ekiben.errors import LogError
from ekiben.monitoring.compaction import compact
from ekiben.monitoring.kept import Compacted
from ekiben.monitoring.log_folder import LogFile, LogFolder
from ekiben.monitoring.log_reader import LogReader, open_log
from ekiben.monitoring.log_schema import HEAD_KEY, LoggedField
from ekiben.monitoring.log_storage import LogStorage
from ekiben.monitoring.log_table import COMMON, head_of
from ekiben.settings import load_settings


@pytest.fixture
def folder(tmp_path):
    return LogFolder(tmp_path / "inference_log")


@pytest.fixture
def storage(tmp_path):
    return LogStorage(f"file://{tmp_path}/fleet")


def to_parquet(folder):
    compact(folder, "m", now=NOON, done=Compacted())
    return folder.files("m")[-1]


def test_the_log_of_the_settings(tmp_path):
    found = open_log(load_settings({"EKIBEN_HOME": str(tmp_path), "EKIBEN_LOG_URI": f"file://{tmp_path}/fleet"}))
    assert isinstance(found, LogReader)
    assert found.models() == []


def test_an_empty_log_has_the_columns_of_every_log(folder):
    table = reader(folder).read("m", **ALWAYS)
    assert table.schema == pa.schema(list(COMMON))
    assert table.num_rows == 0
    some = reader(folder).read("m", columns=("request_id", "features.temp", "outputs"), **ALWAYS)
    assert some.column_names == ["request_id", "features", "outputs"]
    assert some.num_rows == 0


def test_files_and_segments_are_one_table_by_time(folder):
    segment(folder, "w-1", [row("b", NOON + 1, temp=1.0), row("d", NOON + 3)])
    to_parquet(folder)
    segment(folder, "w-2", [row("a", NOON, who="ann"), row("c", NOON + 2)])
    table = reader(folder).read("m", **ALWAYS)
    assert ids(table) == ["a", "b", "c", "d"]
    assert table["features"].to_pylist()[:2] == [{"temp": None, "who": "ann"}, {"temp": 1.0, "who": None}]
    assert table["outputs"].to_pylist()[0] == {"prediction": "yes", "score": 0.75, "probabilities": {"no": 0.25, "yes": 0.75}}
    assert reader(folder).models() == ["m"]


@pytest.mark.parametrize("compacted", [False, True])
def test_a_time_begins_with_its_first_moment_and_ends_before_its_last(folder, compacted):
    times = [NOON, NOON + 0.1, NOON + 0.2, NOON + 0.3]
    segment(folder, "w-1", [row(str(n), time) for n, time in enumerate(times)])
    if compacted:
        to_parquet(folder)
    log = reader(folder)
    assert ids(log.read("m", since=times[1], until=times[3])) == ["1", "2"]
    assert log.count("m", since=times[1], until=times[3]) == 2
    assert log.read("m", since=times[3] + 1, until=times[3] + 2).num_rows == 0
    assert log.count("m", since=times[0], until=float("inf")) == 4


def test_rows_are_found_beside_the_date_of_their_partition(folder):
    midnight = NOON + DAY_S / 2
    segment(folder, "w-1", [row("late", midnight + 0.5)])
    assert ids(reader(folder).read("m", since=midnight, until=midnight + 1)) == ["late"]


def test_other_dates_are_not_even_opened(folder):
    segment(folder, "w-1", content=b"garbage!" * 9)
    assert reader(folder).read("m", since=NOON + 3 * DAY_S, until=NOON + 4 * DAY_S).num_rows == 0


def test_shadows_come_when_asked_for(folder):
    segment(folder, "w-1", [row("a"), row("a", NOON + 1, arm="shadow")])
    log = reader(folder)
    assert log.count("m", **ALWAYS) == 1
    assert log.read("m", **ALWAYS)["arm"].to_pylist() == ["champion"]
    with_shadows = log.read("m", shadows=True, **ALWAYS)
    assert with_shadows["arm"].to_pylist() == ["champion", "shadow"]
    assert with_shadows["latency_s"].to_pylist() == [0.25, None]


def test_a_version_alone(folder):
    segment(folder, "w-1", [row("a")])
    segment(folder, "w-2", [row("b")], described=head("2"))
    to_parquet(folder)
    segment(folder, "w-3", [row("c", NOON + 1)], described=head("2"))
    assert ids(reader(folder).read("m", version="2", **ALWAYS)) == ["b", "c"]


@pytest.mark.parametrize("compacted", [False, True])
def test_columns_as_asked_for(folder, compacted):
    segment(folder, "w-1", [row("a", temp=1.5, who="ann"), row("b", NOON + 1, who="bob")])
    if compacted:
        to_parquet(folder)
    table = reader(folder).read("m", columns=("features.temp", "request_id", "outputs.score", "features.gone"), **ALWAYS)
    assert table.to_pydict() == {
        "features": [{"temp": 1.5, "gone": None}, {"temp": None, "gone": None}],
        "request_id": ["a", "b"],
        "outputs": [{"score": 0.75}, {"score": 0.75}],
    }
    assert reader(folder).read("m", columns=["features"], **ALWAYS).to_pylist()[1] == {"features": {"temp": None, "who": "bob"}}


def test_a_column_that_no_log_has(folder):
    with pytest.raises(LogError, match=r"no column 'temp'; there are request_id, .* features.NAME"):
        reader(folder).read("m", columns=["temp"], **ALWAYS)


def test_versions_may_differ_in_their_inputs_and_types(folder):
    whole = LoggedField("temp", "int", "int64")
    more = LoggedField("more", "tensor", "float16", (2,))
    segment(folder, "w-1", [row("a", temp=3)], described=head("1", inputs=(whole,)))
    to_parquet(folder)
    segment(folder, "w-2", [row("b", NOON + 1, temp=0.5, who="x")], described=head("2"))
    segment(folder, "w-3", [row("c", NOON + 2, who="y", more=[0.5, 1.0])], described=head("3", inputs=(WHO, more)))
    log = reader(folder)
    table = log.read("m", **ALWAYS)
    assert table["features"].to_pylist() == [
        {"temp": 3.0, "who": None, "more": None},
        {"temp": 0.5, "who": "x", "more": None},
        {"temp": None, "who": "y", "more": [0.5, 1.0]},
    ]
    assert table.schema.metadata is None
    assert {f.name: f.type for f in table.schema.field("features").type} == {
        f.name: f.type for f in log.schema("m", **ALWAYS).field("features").type
    }
    part = log.read("m", columns=["features.temp", "features.more"], **ALWAYS)
    assert part["features"].to_pylist()[0] == {"temp": 3.0, "more": None}


def test_a_version_that_keeps_no_inputs(folder):
    segment(folder, "w-1", [row("a")], described=head("1", inputs=()))
    assert "features" not in reader(folder).read("m", **ALWAYS).column_names
    segment(folder, "w-2", [row("b", NOON + 1, temp=0.5)], described=head("2"))
    to_parquet(folder)
    assert reader(folder).read("m", **ALWAYS)["features"].to_pylist() == [None, {"temp": 0.5, "who": None}]


def test_the_head_is_there_where_all_rows_have_the_same(folder):
    segment(folder, "w-1", [row("a")])
    segment(folder, "w-2", [row("b")])
    assert head_of(reader(folder).read("m", **ALWAYS).schema) == head()
    assert HEAD_KEY in reader(folder).read("m", columns=["arm"], **ALWAYS).schema.metadata


def test_a_segment_that_becomes_a_file_meanwhile_counts_once(folder, monkeypatch):
    segment(folder, "w-1", [row("a"), row("b")])
    real = LogFolder.files

    def compacting(self, model, **more):
        monkeypatch.setattr(LogFolder, "files", real)
        to_parquet(folder)
        return real(self, model, **more)

    log = reader(folder)
    monkeypatch.setattr(LogFolder, "files", compacting)
    assert ids(log.read("m", **ALWAYS)) == ["a", "b"]
    assert folder.segments("m") == []
    assert ids(log.read("m", **ALWAYS)) == ["a", "b"]


def test_a_segment_that_goes_while_it_is_listed_is_in_a_file(folder, monkeypatch):
    segment(folder, "w-1", [row("a")])
    real = LogFolder.segments

    def compacting(self, model):
        found = real(self, model)
        monkeypatch.setattr(LogFolder, "segments", real)
        to_parquet(folder)
        return found

    monkeypatch.setattr(LogFolder, "segments", compacting)
    assert ids(reader(folder).read("m", **ALWAYS)) == ["a"]


def test_shipped_files_are_read_once(folder, storage):
    segment(folder, "w-1", [row("here")])
    file = to_parquet(folder)
    storage.upload(folder.file(file), file)
    segment(folder, "w-2", [row("there", NOON + 1, temp=2.0)])
    shipped = next(f for f in to_parquet_all(folder) if f != file)
    storage.upload(folder.file(shipped), shipped)
    folder.remove(shipped)
    log = reader(folder, storage)
    assert ids(log.read("m", **ALWAYS)) == ["here", "there"]
    assert log.count("m", **ALWAYS) == 2
    assert log.read("m", columns=["features.temp"], **ALWAYS)["features"].to_pylist() == [{"temp": None}, {"temp": 2.0}]
    assert ids(log.read("m", since=NOON + 5 * DAY_S, until=NOON + 6 * DAY_S)) == []


def to_parquet_all(folder):
    to_parquet(folder)
    return folder.files("m")


def test_a_file_that_leaves_for_the_storage_meanwhile_is_read_there(folder, storage, monkeypatch):
    segment(folder, "w-1", [row("a")])
    file = to_parquet(folder)
    storage.upload(folder.file(file), file)
    real = LogStorage.files

    def tidying(self, model, **more):
        folder.remove(file)
        return real(self, model, **more)

    monkeypatch.setattr(LogStorage, "files", tidying)
    assert ids(reader(folder, storage).read("m", **ALWAYS)) == ["a"]


def test_a_file_that_retention_takes_meanwhile_is_no_error(folder, storage, monkeypatch):
    segment(folder, "w-1", [row("a")])
    file = to_parquet(folder)
    listed = [file]
    monkeypatch.setattr(LogFolder, "files", lambda self, model, **more: listed)
    folder.remove(file)
    for log in (reader(folder), reader(folder, storage)):
        assert log.count("m", **ALWAYS) == log.read("m", **ALWAYS).num_rows == 0
        assert log.schema("m", **ALWAYS).names == [f.name for f in COMMON]


def test_while_the_storage_is_away_what_is_here_is_read(folder, storage, monkeypatch, caplog):
    segment(folder, "w-1", [row("a")])
    file = to_parquet(folder)
    storage.upload(folder.file(file), file)

    def away(*_, **__):
        raise ConnectionError("nobody there")

    monkeypatch.setattr(storage.fs, "ls", away)
    log = reader(folder, storage)
    assert log.models() == ["m"]
    assert ids(log.read("m", **ALWAYS)) == ["a"]
    assert "nobody there" in log.problem
    assert "left out" in caplog.text
    monkeypatch.undo()
    assert log.models() == ["m"]
    assert log.count("m", **ALWAYS) == 1
    assert log.problem == ""


def test_what_cannot_be_read_is_an_error(folder, storage, monkeypatch):
    damaged = segment(folder, "w-1", content=b"garbage!" * 9)
    with pytest.raises(LogError, match="is damaged"):
        reader(folder).read("m", **ALWAYS)
    damaged.unlink()
    damaged.mkdir()
    with pytest.raises(LogError, match="cannot be read: Is a directory"):
        reader(folder).count("m", **ALWAYS)
    damaged.rmdir()
    file = LogFile("m", "2024-10-04", "x.parquet", 4)
    folder.file(file).parent.mkdir(parents=True)
    folder.file(file).write_bytes(b"PAR1")
    with pytest.raises(LogError, match=r"x.parquet of the inference log cannot be read"):
        reader(folder).read("m", **ALWAYS)
    storage.upload(folder.file(file), file)
    folder.remove(file)

    def away(*_, **__):
        raise ConnectionError("nobody there")

    monkeypatch.setattr(storage.fs, "open", away)
    with pytest.raises(LogError, match=r"does not work, reading .*x.parquet: nobody there"):
        reader(folder, storage).count("m", **ALWAYS)


def test_row_groups_of_other_times_are_left_unread(folder, monkeypatch):
    monkeypatch.setattr("ekiben.monitoring.compaction.ROW_GROUP_ROWS", 10)
    segment(folder, "w-1", [row(str(n), NOON + n) for n in range(100)])
    to_parquet(folder)
    asked = []
    real = pq.ParquetFile.read_row_groups

    def read_row_groups(self, groups, **more):
        asked.append(groups)
        return real(self, groups, **more)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", read_row_groups)
    assert ids(reader(folder).read("m", since=NOON + 25, until=NOON + 40)) == [str(n) for n in range(25, 40)]
    assert asked == [[2, 3]]


def test_types_that_nothing_but_text_holds(folder):
    segment(folder, "w-1", [row("a", temp="cold")], described=head("1", inputs=(LoggedField("temp", "string", "object"),)))
    segment(folder, "w-2", [row("b", NOON + 1, temp=0.5)], described=head("2", inputs=(TEMP,)))
    assert reader(folder).read("m", **ALWAYS)["features"].to_pylist() == [{"temp": "cold"}, {"temp": "0.5"}]
