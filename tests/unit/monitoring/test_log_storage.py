from pathlib import Path

import fsspec
import pytest
from unit.monitoring.log_files import NOON, row, segment

from ekiben.errors import LogError
from ekiben.monitoring.compaction import compact
from ekiben.monitoring.kept import Compacted
from ekiben.monitoring.log_folder import LogFile, LogFolder
from ekiben.monitoring.log_storage import LogStorage, open_storage


@pytest.fixture
def folder(tmp_path):
    folder = LogFolder(tmp_path / "inference_log")
    segment(folder, "w-1", [row("a")])
    segment(folder, "w-1", [row("b", NOON + 86_400)], date="2024-10-05")
    compact(folder, "m", now=NOON, done=Compacted())
    segment(folder, "w-2", [row("c")])
    return folder


@pytest.fixture(params=["file", "memory"])
def storage(request, tmp_path):
    yield LogStorage(f"{request.param}://{tmp_path}/fleet")
    fsspec.filesystem("memory").store.clear()


def away(*_, **__):
    raise ConnectionError("nobody there")


def uploaded(folder, storage):
    """Both files and the segment."""
    files = folder.files("m")
    (tail,) = folder.finished("m", now=NOON)
    for part, path in [*((f, folder.file(f)) for f in files), (tail, folder.segment(tail))]:
        storage.upload(path, part)
    return *files, tail


def test_the_place_of_the_settings(tmp_path):
    assert open_storage("") is None
    found = open_storage(f"file://{tmp_path}")
    assert found is not None
    assert found.models() == []
    assert found.files("m") == []


def test_a_place_whose_library_is_missing(monkeypatch):
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda *_, **__: (_ for _ in ()).throw(ImportError("Please install gcsfs")))
    with pytest.raises(LogError, match=r"gs://b/l cannot be used: Please install gcsfs"):
        LogStorage("gs://b/l")


def test_a_half_upload_is_replaced(folder, storage):
    first, _ = folder.files("m")
    whole = folder.file(first).read_bytes()
    for wrong in (b"half", whole[:-1] + b"x"):
        storage.fs.makedirs(storage.path(first).rpartition("/")[0], exist_ok=True)
        storage.fs.pipe_file(storage.path(first), wrong)
        storage.upload(folder.file(first), first)
        assert storage.fs.cat_file(storage.path(first)) == whole


def test_deleting(folder, storage, monkeypatch):
    first, second, _ = uploaded(folder, storage)
    storage.remove(first)
    storage.remove(first)
    assert storage.files("m") == [second]
    monkeypatch.setattr(storage.fs, "rm_file", away)
    with pytest.raises(LogError, match="deleting model=m"):
        storage.remove(second)


def test_what_others_put_there_is_left_out(folder, storage):
    uploaded(folder, storage)
    here = storage.files("m"), storage.segments("m")
    for name in (
        "model=m/date=2024-10-04/x.parquet.tmp",
        "model=m/README",
        "notes/a.txt",
        "tail/model=m/x.arrows.tmp",
        "tail/model=m/.x.arrows",
    ):
        storage.fs.makedirs(f"{storage._root}/{name}".rpartition("/")[0], exist_ok=True)
        storage.fs.pipe_file(f"{storage._root}/{name}", b"x")
    assert (storage.files("m"), storage.segments("m")) == here
    assert storage.models() == ["m"]


def test_no_answer_is_an_error_of_ours(storage, monkeypatch):
    monkeypatch.setattr(storage.fs, "ls", away)
    for ask in (storage.models, lambda: storage.files("m"), lambda: storage.segments("m")):
        with pytest.raises(LogError, match=r"does not work, listing it: nobody there"):
            ask()
    with pytest.raises(LogError, match=r"uploading"):
        storage.upload(Path("/nowhere"), LogFile("m", "2024-10-04", "x.parquet"))


def test_segments_are_listed_read_and_deleted(folder, storage, monkeypatch):
    *_, tail = uploaded(folder, storage)
    (found,) = storage.segments("m")
    assert (found.relative, found.size_bytes, found.date) == (tail.relative, tail.size_bytes, "2024-10-04")
    assert storage.read(found) == folder.segment(tail).read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(storage.fs, "cat_file", away)
        with pytest.raises(LogError, match="reading tail/model=m"):
            storage.read(found)
    storage.remove(found)
    assert (storage.read(found), storage.segments("m")) == (None, [])


def test_a_model_is_known_by_its_segments_alone(folder, storage):
    (tail,) = folder.finished("m", now=NOON)
    storage.upload(folder.segment(tail), tail)
    assert (storage.models(), storage.files("m")) == (["m"], [])


def test_an_upload_to_a_disk_that_fails_leaves_nothing_behind(folder, tmp_path, monkeypatch):
    storage = LogStorage(f"file://{tmp_path}/fleet")
    (tail,) = folder.finished("m", now=NOON)
    put = storage.fs.put_file

    def half(local, target):
        put(local, target)
        raise OSError("full")

    monkeypatch.setattr(storage.fs, "put_file", half)
    with pytest.raises(LogError, match="full"):
        storage.upload(folder.segment(tail), tail)
    assert [path for path in (tmp_path / "fleet").rglob("*") if path.is_file()] == []
