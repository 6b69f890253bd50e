import pytest
from unit.monitoring.log_files import ALWAYS, NOON, row, segment

from ekiben.errors import LogError
from ekiben.monitoring.compaction import Compacted, compact
from ekiben.monitoring.log_folder import LogFile, LogFolder
from ekiben.monitoring.log_parts import LogParts
from ekiben.monitoring.shipping import LogStorage


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
