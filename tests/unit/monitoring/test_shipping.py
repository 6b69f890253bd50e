from pathlib import Path

import fsspec
import pytest
from unit.monitoring.log_files import NOON, row, segment

from ekiben.errors import LogError
from ekiben.monitoring.compaction import Compacted, compact
from ekiben.monitoring.log_folder import LogFile, LogFolder
from ekiben.monitoring.shipping import LOCAL_FOR_S, LogStorage, Shipping, open_storage


@pytest.fixture
def folder(tmp_path):
    folder = LogFolder(tmp_path / "inference_log")
    segment(folder, "w-1", [row("a")])
    segment(folder, "w-1", [row("b", NOON + 86_400)], date="2024-10-05")
    compact(folder, "m", now=NOON, done=Compacted())
    return folder


@pytest.fixture(params=["file", "memory"])
def storage(request, tmp_path):
    yield LogStorage(f"{request.param}://{tmp_path}/fleet")
    fsspec.filesystem("memory").store.clear()


def shipping(folder, storage):
    return Shipping(folder, storage, spread=lambda: 0.0)


def away(*_, **__):
    raise ConnectionError("nobody there")


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


def test_files_go_under_their_relative_names(folder, storage):
    first, second = folder.files("m")
    assert shipping(folder, storage).ship("m", now=NOON) == [first, second]
    assert storage.models() == ["m"]
    assert storage.files("m") == [first, second]
    assert storage.files("m", since=second.date) == [second]
    assert storage.files("m", until=first.date) == [first]
    assert storage.fs.cat_file(storage.path(first)) == folder.file(first).read_bytes()
    assert folder.files("m") == [first, second]


def test_what_was_shipped_is_not_shipped_again(folder, storage, monkeypatch):
    ship = shipping(folder, storage)
    assert len(ship.unshipped("m")) == 2
    ship.ship("m", now=NOON)
    monkeypatch.setattr(storage.fs, "put_file", away)
    assert ship.unshipped("m") == []
    assert ship.ship("m", now=NOON) == []
    folder.marker(folder.files("m")[0]).unlink()
    assert len(ship.ship("m", now=NOON)) == 1, "it is there already, and was found to be"


def test_a_half_upload_is_replaced(folder, storage):
    first, _ = folder.files("m")
    whole = folder.file(first).read_bytes()
    for wrong in (b"half", whole[:-1] + b"x"):
        storage.fs.makedirs(storage.path(first).rpartition("/")[0], exist_ok=True)
        storage.fs.pipe_file(storage.path(first), wrong)
        storage.upload(folder.file(first), first)
        assert storage.fs.cat_file(storage.path(first)) == whole


def test_what_did_not_arrive_is_not_marked(folder, storage, monkeypatch):
    monkeypatch.setattr(storage.fs, "put_file", lambda *_, **__: None)
    monkeypatch.setattr(storage.fs, "mv", lambda *_, **__: None)
    ship = shipping(folder, storage)
    with pytest.raises(LogError, match=r"did not arrive whole"):
        ship.ship("m", now=NOON)
    assert len(ship.unshipped("m")) == 2


def test_an_outage_is_waited_for_longer_and_longer(folder, storage, monkeypatch):
    ship = shipping(folder, storage)
    now, waits = NOON, []
    with monkeypatch.context() as patched:
        patched.setattr(storage.fs, "put_file", away)
        for _ in range(8):
            with pytest.raises(LogError, match=r"does not work, uploading model=m/.*nobody there"):
                ship.ship("m", now=now)
            begin = now
            while ship._next > now:
                assert ship.ship("m", now=now) == []
                now += 1
            waits.append(now - begin)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]
    assert len(ship.ship("m", now=now)) == 2
    assert ship._wait_s == 0.0


def test_a_local_file_goes_a_day_after_it_was_shipped(folder, storage):
    ship = shipping(folder, storage)
    assert ship.tidy("m", now=NOON + 10 * LOCAL_FOR_S) == []
    shipped = ship.ship("m", now=NOON)
    assert ship.tidy("m", now=NOON + LOCAL_FOR_S - 1) == []
    assert ship.tidy("m", now=NOON + LOCAL_FOR_S) == shipped
    assert folder.files("m") == []
    assert storage.files("m") == shipped


def test_another_place_gets_everything_anew(folder, storage, tmp_path):
    shipping(folder, storage).ship("m", now=NOON)
    other = shipping(folder, LogStorage(f"file://{tmp_path}/other"))
    assert len(other.unshipped("m")) == 2
    assert other.tidy("m", now=NOON + 10 * LOCAL_FOR_S) == []
    assert len(other.ship("m", now=NOON)) == 2


def test_a_marker_whose_writer_was_killed_marks_nothing(folder, storage):
    ship = shipping(folder, storage)
    ship.ship("m", now=NOON)
    folder.marker(folder.files("m")[0]).write_bytes(b'{"to"')
    assert len(ship.unshipped("m")) == 1


def test_deleting(folder, storage, monkeypatch):
    first, second = shipping(folder, storage).ship("m", now=NOON)
    storage.remove(first)
    storage.remove(first)
    assert storage.files("m") == [second]
    monkeypatch.setattr(storage.fs, "rm_file", away)
    with pytest.raises(LogError, match="deleting model=m"):
        storage.remove(second)


def test_what_others_put_there_is_left_out(folder, storage):
    shipping(folder, storage).ship("m", now=NOON)
    here = storage.files("m")
    for name in ("model=m/date=2024-10-04/x.parquet.tmp", "model=m/README", "notes/a.txt"):
        storage.fs.makedirs(f"{storage._root}/{name}".rpartition("/")[0], exist_ok=True)
        storage.fs.pipe_file(f"{storage._root}/{name}", b"x")
    assert storage.files("m") == here
    assert storage.models() == ["m"]


def test_no_answer_is_an_error_of_ours(storage, monkeypatch):
    monkeypatch.setattr(storage.fs, "ls", away)
    for ask in (storage.models, lambda: storage.files("m")):
        with pytest.raises(LogError, match=r"does not work, listing it: nobody there"):
            ask()
    with pytest.raises(LogError, match=r"uploading"):
        storage.upload(Path("/nowhere"), LogFile("m", "2024-10-04", "x.parquet"))
