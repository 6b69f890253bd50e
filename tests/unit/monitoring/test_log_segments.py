import os

import pytest
from unit.monitoring.log_files import NOON, Open, batch, head, raw_schema, row, segment, stream

from ekiben.monitoring.log_folder import LogFolder, is_finished
from ekiben.monitoring.log_segments import DamagedSegment, read_segment

HEAD = head()
FIRST, SECOND = [row("a", temp=1.0), row("b", who="ann")], [row("c")]
SCHEMA = raw_schema(HEAD).serialize().to_pybytes()
ONE = batch(FIRST, HEAD).serialize().to_pybytes()
TWO = batch(SECOND, HEAD).serialize().to_pybytes()
END = b"\xff\xff\xff\xff" + bytes(4)


@pytest.fixture
def read(tmp_path):
    def read(content, **more):
        file = tmp_path / "s.arrows"
        file.write_bytes(content)
        return read_segment(file, **more)

    return read


def ids(found):
    return [] if found.raw is None else found.raw["request_id"].to_pylist()


def test_rows_are_read_with_what_they_mean(read):
    found = read(stream([FIRST, SECOND], HEAD))
    assert (found.head, ids(found), found.torn_bytes, found.name) == (HEAD, ["a", "b", "c"], 0, "s.arrows")
    assert found.size_bytes == len(SCHEMA + ONE + TWO)


def test_the_end_of_a_stream_may_be_said_or_not(read):
    assert ids(read(SCHEMA + ONE + END)) == ["a", "b"]
    assert ids(read(SCHEMA + ONE)) == ["a", "b"]


def test_whatever_the_tear_the_batches_before_are_read(read):
    whole = SCHEMA + ONE + TWO
    for size in range(len(whole)):
        found = read(whole[:size])
        expected = ["a", "b"] if size >= len(SCHEMA + ONE) else []
        assert ids(found) == expected, size
        assert (found.head is None) == (size < len(SCHEMA)), size
        end = len(SCHEMA + ONE) if expected else len(SCHEMA) if found.head else 0
        assert found.torn_bytes == size - end


@pytest.mark.parametrize("zeros", [1, 7, 8, 5000])
def test_a_file_that_grew_before_its_bytes_came_ends_there(read, zeros):
    assert ids(read(SCHEMA + ONE + bytes(zeros))) == ["a", "b"]
    assert read(bytes(zeros)).head is None
    assert ids(read(SCHEMA + ONE + TWO[:8] + bytes(len(TWO)))) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"garbage", "no message"),
        (b"\xff\xffxx", "no message"),
        (SCHEMA + ONE + b"GARBAGEGARBAGE", "no message"),
        (SCHEMA + END + ONE, "something more"),
        (SCHEMA + ONE + b"\xff\xff\xff\xff\x10\0\0\0" + b"\x99" * 40, "no metadata"),
        (SCHEMA + ONE + b"\xff\xff\xff\xff\xff\xff\xff\xff" + b"\x99" * 40, "no metadata"),
        (ONE + TWO, "damaged"),
        (raw_schema(HEAD).remove_metadata().serialize().to_pybytes(), "no rows of an inference log"),
    ],
)
def test_what_no_interrupted_write_explains_is_an_error(read, content, why):
    with pytest.raises(DamagedSegment, match=why):
        read(content)


def test_values_that_were_overwritten_are_an_error_and_no_crash(read):
    at = ONE.rindex(b"ab")  # the text of the request ids; their offsets are before
    offsets = ONE.rindex((1).to_bytes(4, "little") + (2).to_bytes(4, "little"), 0, at)
    with pytest.raises(DamagedSegment, match=r"s.arrows is damaged"):
        read(SCHEMA + ONE[:offsets] + b"\xff\xff\xff\x7f" + ONE[offsets + 4 :])


def test_some_columns_alone(read):
    found = read(stream([FIRST], HEAD), fields=("time", "arm"))
    assert found.raw.column_names == ["time", "arm"]


def test_a_segment_is_finished_when_nobody_holds_its_lock(tmp_path):
    folder = LogFolder(tmp_path)
    file = segment(folder, "w-1", FIRST)
    writer = Open(file)
    assert not is_finished(file, now=NOON)
    writer.close()
    assert is_finished(file, now=NOON)
    assert not is_finished(file.with_name("gone.arrows"), now=NOON)


def test_an_empty_file_may_be_about_to_be_locked(tmp_path):
    file = tmp_path / "s.arrows"
    file.touch()
    os.utime(file, (NOON, NOON))
    assert not is_finished(file, now=NOON + 59)
    assert is_finished(file, now=NOON + 60)
