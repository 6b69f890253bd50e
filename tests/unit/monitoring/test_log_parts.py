import pytest
from unit.monitoring.log_files import ALWAYS, DATE, DAY_S, NOON, row, segment

from ekiben.errors import LogError
from ekiben.monitoring.compaction import compact, write_file
from ekiben.monitoring.kept import Compacted
from ekiben.monitoring.log_folder import LogFile, LogFolder, TailSegment
from ekiben.monitoring.log_parts import LogParts
from ekiben.monitoring.log_segments import read_segment
from ekiben.monitoring.log_storage import LogStorage


@pytest.fixture
def folder(tmp_path):
    return LogFolder(tmp_path / "inference_log")


@pytest.fixture
def storage(tmp_path):
    return LogStorage(f"file://{tmp_path}/fleet")


def names(found):
    return [s.name for s in found.segments], [f.name for f in found.local], [f.name for f in found.remote]


def test_a_segment_whose_file_is_there_is_left_out(folder):
    one = segment(folder, "w-1", [row("a")])
    content = one.read_bytes()
    compact(folder, "m", now=NOON, done=Compacted())
    one.write_bytes(content)  # as after a crash before it was deleted
    two = segment(folder, "w-2", [row("b")])
    empty = segment(folder, "w-3")
    parts = LogParts(folder)
    (file,) = folder.files("m")
    for _ in range(2):
        assert names(parts.find("m", **ALWAYS)) == ([two.name], [file.name], []), empty.name


def test_a_file_here_and_there_is_one_here(folder, storage):
    segment(folder, "w-1", [row("a")])
    compact(folder, "m", now=NOON, done=Compacted())
    (file,) = folder.files("m")
    storage.upload(folder.file(file), file)
    parts = LogParts(folder, storage)
    assert names(parts.find("m", **ALWAYS)) == ([], [file.name], [])
    folder.remove(file)
    assert names(parts.find("m", **ALWAYS)) == ([], [], [file.name])
    assert parts.models() == ["m"]
    with parts.opened(file) as parquet:
        assert parquet.metadata.num_rows == 1


def test_a_file_that_is_nowhere(folder, storage):
    file = LogFile("m", "2024-10-04", "x.parquet")
    for parts in (LogParts(folder), LogParts(folder, storage)):
        with parts.opened(file) as parquet:
            assert parquet is None


def test_a_segment_that_cannot_be_read(folder):
    segment(folder, "w-1").unlink()
    (folder.path / "tail/model=m/2024-10-04-w-1.arrows").mkdir()
    with pytest.raises(LogError, match=r"w-1.arrows cannot be read"):
        LogParts(folder).find("m", **ALWAYS)


def shipped(folder, storage, *names):
    """Segments of a host without pyarrow, with a row each."""
    for name in names:
        path = segment(folder, name, [row(name)])
        storage.upload(path, TailSegment("m", path.name))
    return [f"2024-10-04-{name}.arrows" for name in names]


def test_segments_that_were_shipped_are_parts_where_no_file_has_them(folder, storage, tmp_path):
    there = shipped(folder, storage, "w-1", "w-2")
    other = LogFolder(tmp_path / "other")
    assert names(LogParts(other, storage).find("m", **ALWAYS)) == (there, [], [])
    assert LogParts(other, storage).models() == ["m"]
    assert names(LogParts(folder, storage).find("m", **ALWAYS)) == (there, [], []), "each once, though they are here as well"
    (one, *_) = [read_segment(path) for path in folder.segments("m")]
    file, _ = write_file(other, "m", DATE, [one])
    assert names(LogParts(other, storage).find("m", **ALWAYS)) == (there[1:], [file.name], [])
    storage.upload(other.file(file), file)
    for host in (folder, LogFolder(tmp_path / "third")):
        assert names(LogParts(host, storage).find("m", **ALWAYS)) == (there[1:], [], [file.name])
    assert names(LogParts(other, storage).find("m", since=NOON + 3 * DAY_S, until=NOON + 4 * DAY_S)) == ([], [], [])


def test_a_shipped_segment_that_goes_meanwhile(folder, storage, tmp_path, monkeypatch):
    shipped(folder, storage, "w-1")
    monkeypatch.setattr(storage, "read", lambda segment: None)
    assert names(LogParts(LogFolder(tmp_path / "other"), storage).find("m", **ALWAYS)) == ([], [], [])


def test_while_the_storage_is_away_what_is_here_is_left(folder, storage, monkeypatch):
    shipped(folder, storage, "w-1")
    asked = []

    def away(*_, **__):
        asked.append(1)
        raise ConnectionError("nobody there")

    monkeypatch.setattr(storage.fs, "ls", away)
    found = LogParts(folder, storage).find("m", **ALWAYS)
    assert [s.name for s in found.segments] == ["2024-10-04-w-1.arrows"]
    assert "nobody there" in found.problem
    assert len(asked) == 1, "nobody waits twice for what is away"


def test_files_that_cannot_be_listed_are_left_out_and_shipped_segments_are_not(folder, storage, tmp_path, monkeypatch):
    there = shipped(folder, storage, "w-1")

    def away(*_, **__):
        raise LogError("nobody there")

    monkeypatch.setattr(storage, "files", away)
    found = LogParts(LogFolder(tmp_path / "other"), storage).find("m", **ALWAYS)
    assert (names(found), found.problem) == ((there, [], []), "nobody there")
