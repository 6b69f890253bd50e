import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from unit.monitoring.log_files import ALWAYS, DATE, NOON, TEMP, WHO, Open, head, ids, reader, row, segment, stream

from ekiben.errors import LogError
from ekiben.monitoring import compaction
from ekiben.monitoring.compaction import compact, segments_in, write_file
from ekiben.monitoring.kept import Compacted
from ekiben.monitoring.log_folder import LogFolder
from ekiben.monitoring.log_segments import read_segment
from ekiben.monitoring.log_table import head_of


@pytest.fixture
def folder(tmp_path):
    return LogFolder(tmp_path / "inference_log")


def run(folder, now=NOON):
    done = Compacted()
    compact(folder, "m", now=now, done=done)
    return done


def files(folder):
    return [folder.file(file) for file in folder.files("m")]


def test_finished_segments_of_a_date_become_one_file(folder):
    one = segment(folder, "w1-1", [row("c", NOON + 2, temp=1.5)], [row("d", NOON + 3)])
    two = segment(folder, "w2-1", [row("a", NOON), row("b", NOON + 2.5, who="ann")])
    assert run(folder) == Compacted(files=1, segments=2, rows=4)
    (file,) = files(folder)
    assert file.parent.name == f"date={DATE}"
    table = pq.ParquetFile(file).read()
    assert ids(table) == ["a", "c", "b", "d"]
    assert table["features"].to_pylist() == [
        {"temp": None, "who": None},
        {"temp": 1.5, "who": None},
        {"temp": None, "who": "ann"},
        {"temp": None, "who": None},
    ]
    assert table["key"].null_count == 4
    schema = pq.read_schema(file)
    assert segments_in(schema.metadata) == [one.name, two.name]
    assert head_of(schema) == head()
    assert pq.read_metadata(file).row_group(0).column(0).compression == "ZSTD"
    assert folder.segments("m") == []
    assert run(folder) == Compacted()


def test_rows_of_one_moment_stay_in_their_order(folder):
    segment(folder, "w-1", [row("a", n=n) for n in range(50)])
    run(folder)
    assert pq.ParquetFile(files(folder)[0]).read()["row"].to_pylist() == list(range(50))


def test_what_is_still_written_stays(folder):
    writer = Open(segment(folder, "w-1", [row("a")]))
    segment(folder, "w-2", [row("b")])
    assert run(folder).rows == 1
    assert len(folder.segments("m")) == 1
    writer.close()
    assert run(folder).rows == 1
    assert sorted(ids(reader(folder).read("m", **ALWAYS))) == ["a", "b"]


def test_dates_and_schemas_are_files_of_their_own(folder):
    segment(folder, "w-1", [row("a")])
    segment(folder, "w-2", [row("b")], described=head("2"))
    segment(folder, "w-3", [row("c", who="x")], described=head("3", inputs=(WHO,)))
    segment(folder, "w-1", [row("d", NOON + 86_400)], date="2024-10-05")
    assert run(folder) == Compacted(files=3, segments=4, rows=4)
    heads = {head_of(pq.read_schema(file)).version for file in files(folder)}
    assert heads == {"", "3", "1"}
    assert sorted(reader(folder).read("m", **ALWAYS)["version"].to_pylist()) == ["1", "1", "2", "3"]


def test_a_group_is_no_larger_than_memory_bears(folder, monkeypatch):
    for n in range(3):
        segment(folder, f"w-{n}", [row(str(n))])
    monkeypatch.setattr(compaction, "GROUP_BYTES", 1)
    assert run(folder) == Compacted(files=3, segments=3, rows=3)


def test_segments_without_rows_go(folder):
    segment(folder, "w-1", content=b"\xff\xff")
    segment(folder, "w-2")
    assert run(folder) == Compacted(torn_bytes=2)
    assert folder.segments("m") == []


def test_the_rows_before_a_tear_are_kept(folder):
    whole = stream([[row("a")], [row("b")]], head())
    segment(folder, "w-1", content=whole[:-3])
    done = run(folder)
    assert (done.rows, done.torn_bytes > 0) == (1, True)


def test_a_damaged_segment_is_moved_aside_and_keeps_nobody(folder, caplog):
    damaged = segment(folder, "w-1", content=b"garbage!" * 9)
    segment(folder, "w-2", [row("b")])
    assert run(folder) == Compacted(files=1, segments=1, rows=1, damaged=[damaged.name])
    assert damaged.with_name(f"{damaged.name}.damaged").read_bytes() == b"garbage!" * 9
    assert "is damaged" in caplog.text
    assert run(folder) == Compacted()


class Killed(BaseException):
    """Nobody catches it, as nobody catches SIGKILL."""


STEPS = [(Path, "open"), (Path, "mkdir"), (os, "fsync"), (Path, "rename"), (Path, "unlink")]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[1])
def test_a_crash_at_any_step_loses_and_doubles_nothing(folder, monkeypatch, step, when):
    owner, name = step
    crashes = 0
    for turn in range(20):
        for n in range(2):
            segment(folder, f"w{turn}-{n}", [row(f"{turn}-{n}-{i}", NOON + i) for i in range(2)])
        expected = sorted(f"{t}-{n}-{i}" for t in range(turn + 1) for n in range(2) for i in range(2))
        real, left = getattr(owner, name), [turn]

        def dying(*args, real=real, left=left, **kwargs):
            left[0] -= 1
            if left[0] < 0 and when == "before":
                raise Killed
            answer = real(*args, **kwargs)
            if left[0] < 0:
                if name == "open":
                    answer.close()  # as the kernel does
                raise Killed
            return answer

        with monkeypatch.context() as patched:
            patched.setattr(owner, name, dying)
            try:
                run(folder)
                finished = True
            except Killed:
                finished = False
                crashes += 1
        assert sorted(ids(reader(folder).read("m", **ALWAYS))) == expected, (turn, name)
        run(folder)
        assert sorted(ids(reader(folder).read("m", **ALWAYS))) == expected, (turn, name)
        assert folder.temporaries("m") == []
        assert folder.segments("m") == []
        if finished:
            break
    assert crashes >= 1
    assert finished


def test_a_temporary_of_a_killed_writer_goes(folder):
    segment(folder, "w-1", [row("a")])
    run(folder)
    leftover = files(folder)[0].with_name(".x.parquet.tmp")
    leftover.write_bytes(b"half")
    run(folder)
    assert not leftover.exists()


def test_inputs_that_are_tensors_keep_their_shape(folder):
    image = type(TEMP)("image", "tensor", "float32", (2, 3))
    segment(folder, "w-1", [row("a", image=[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])], described=head(inputs=(image,)))
    run(folder)
    field = reader(folder).read("m", **ALWAYS).schema.field("features").type.field("image")
    assert (field.type.list_size, field.metadata) == (6, {b"shape": b"2,3"})


def test_a_file_that_cannot_be_read_is_an_error_that_names_it(folder):
    segment(folder, "w-1", [row("a")])
    compact(folder, "m", now=NOON, done=Compacted())
    (file,) = folder.files("m")
    folder.file(file).write_bytes(b"garbage")
    left = segment(folder, "w-2", [row("b")])
    with pytest.raises(LogError, match=rf"{file.name} cannot be read: .*; move it away"):
        compact(folder, "m", now=NOON, done=Compacted())
    assert left.exists()


def test_rows_that_cannot_become_parquet_stay_where_they_are(folder, monkeypatch):
    left = segment(folder, "w-1", [row("a")])

    def failing(*_, **__):
        raise pa.ArrowNotImplementedError("no such type")

    monkeypatch.setattr("ekiben.monitoring.compaction.pq.write_table", failing)
    with pytest.raises(LogError, match=rf"{left.name} cannot become Parquet: no such type"):
        compact(folder, "m", now=NOON, done=Compacted())
    assert left.exists()
    assert folder.files("m") == []


def test_segments_that_are_to_be_left_are_left(folder):
    first, second = segment(folder, "w-1", [row("a")]), segment(folder, "w-2", [row("b")])
    compact(folder, "m", now=NOON, done=Compacted(), leave={first.name})
    assert (first.exists(), second.exists()) == (True, False)


def test_whoever_makes_a_file_of_the_same_segment_makes_the_same_file(folder, tmp_path):
    path = segment(folder, "w-1", [row("a", NOON + 5), row("b")])
    other = LogFolder(tmp_path / "other")
    made = [write_file(where, "m", DATE, [read_segment(path)]) for where in (folder, other)]
    assert made[0] == made[1]
    assert folder.file(made[0][0]).read_bytes() == other.file(made[1][0]).read_bytes()
    assert made[0][1] == 2
