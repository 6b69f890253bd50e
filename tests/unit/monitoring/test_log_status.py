import pytest
from unit.monitoring.log_files import NOON, Open, reader, row, segment

from ekiben.monitoring.compaction import compact
from ekiben.monitoring.kept import Compacted
from ekiben.monitoring.log_folder import LogFolder
from ekiben.monitoring.log_status import LogStatus, status_of
from ekiben.monitoring.log_storage import LogStorage
from ekiben.monitoring.shipping import Shipping


@pytest.fixture
def folder(tmp_path):
    return LogFolder(tmp_path / "inference_log")


def test_nothing(folder):
    assert status_of(reader(folder), "m") == LogStatus("m", 0, 0, None, None, 0, 0, 0, None)


def test_files_and_segments(folder):
    segment(folder, "w-1", [row("a", NOON + 1), row("a", NOON + 5, arm="shadow")])
    compact(folder, "m", now=NOON, done=Compacted())
    file = segment(folder, "w-2", [row("b", NOON), row("c", NOON + 9.5)])
    writer = Open(file)
    found = status_of(reader(folder), "m")
    size = folder.files("m")[0].size_bytes + file.stat().st_size
    assert found == LogStatus("m", 4, size, NOON, NOON + 9.5, 1, 1, 0, None)
    writer.close()


def test_what_was_shipped(folder, tmp_path, monkeypatch):
    storage = LogStorage(f"file://{tmp_path}/fleet")
    for n in range(2):
        segment(folder, f"w-{n}", [row("a", NOON + n)])
        compact(folder, "m", now=NOON, done=Compacted())
    first, second = folder.files("m")
    Shipping(folder, storage).ship("m", now=NOON)
    folder.remove(first)
    folder.marker(second).unlink()
    found = status_of(reader(folder, storage), "m")
    assert (found.rows, found.oldest, found.newest) == (2, NOON, NOON + 1)
    assert (found.files, found.remote_files, found.unshipped_files, found.problem) == (1, 1, 1, "")


def test_a_file_that_goes_meanwhile(folder, monkeypatch):
    segment(folder, "w-1", [row("a")])
    compact(folder, "m", now=NOON, done=Compacted())
    listed = folder.files("m")
    folder.remove(listed[0])
    monkeypatch.setattr(LogFolder, "files", lambda self, model, **more: listed)
    assert status_of(reader(folder), "m").rows == 0
