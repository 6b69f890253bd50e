import os

import fsspec
import pytest
from unit.monitoring.log_files import NOON, Open, row, segment

from ekiben.errors import LogError
from ekiben.monitoring.compaction import compact
from ekiben.monitoring.kept import Compacted
from ekiben.monitoring.log_folder import LogFolder
from ekiben.monitoring.log_storage import LogStorage
from ekiben.monitoring.shipping import LOCAL_FOR_S, Shipping


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


@pytest.fixture
def tail(tmp_path):
    folder = LogFolder(tmp_path / "without_pyarrow")
    segment(folder, "w-1", [row("a")])
    segment(folder, "w-2", [row("b")])
    return folder


def finished(folder):
    return folder.finished("m", now=NOON)


def test_a_segment_goes_as_soon_as_it_arrived_as_it_is(tail, storage):
    first, second = finished(tail)
    content = tail.segment(first).read_bytes()
    assert shipping(tail, storage).ship_segments("m", now=NOON) == [first, second]
    assert list(tail.path.rglob("*.*")) == []
    assert [(s.name, s.size_bytes) for s in storage.segments("m")] == [(s.name, s.size_bytes) for s in (first, second)]
    assert storage.read(first) == content
    assert shipping(tail, storage).ship_segments("m", now=NOON) == []


def test_one_that_is_written_stays(tail, storage):
    first, second = finished(tail)
    writer = Open(tail.segment(first))
    assert shipping(tail, storage).ship_segments("m", now=NOON) == [second]
    writer.close()
    assert shipping(tail, storage).ship_segments("m", now=NOON) == [first]


def test_an_empty_segment_goes_and_is_shipped_nowhere(storage, tmp_path):
    folder = LogFolder(tmp_path / "empty")
    os.utime(segment(folder, "w-1", content=b""), (0, 0))
    assert shipping(folder, storage).ship_segments("m", now=NOON) == []
    assert (folder.segments("m"), storage.segments("m")) == ([], [])


@pytest.mark.parametrize("ends", ["while it uploads", "before it was compared"])
def test_a_segment_whose_upload_did_not_end_stays_and_ends_there(tail, storage, monkeypatch, ends):
    """Whether it arrived is not known: it must not become a file here as well."""
    first, second = finished(tail)
    ship = shipping(tail, storage)
    with monkeypatch.context() as patched:
        patched.setattr(storage.fs, "put_file" if ends == "while it uploads" else "cat_file", away)
        with pytest.raises(LogError, match=r"uploading tail/model=m/.*nobody there"):
            ship.ship_segments("m", now=NOON)
    assert ship.ship_segments("m", now=NOON) == [], "it waits"
    assert finished(tail) == [first, second]
    assert list(tail.shipping_marks("m")) == [first.name]
    assert ship.ship_segments("m", now=NOON + 10, only_begun=True) == [first]
    assert finished(tail) == [second]
    assert tail.shipping_marks("m") == {}


def test_the_mark_of_a_segment_that_has_gone_goes(tail, storage):
    first, _ = finished(tail)
    tail.shipping_mark(first).touch()
    tail.segment(first).unlink()
    shipping(tail, storage).ship_segments("m", now=NOON)
    assert tail.shipping_marks("m") == {}


def test_files_and_segments_wait_together(folder, storage, monkeypatch):
    segment(folder, "w-9", [row("c")])
    ship = shipping(folder, storage)
    with monkeypatch.context() as patched:
        patched.setattr(storage.fs, "put_file", away)
        with pytest.raises(LogError):
            ship.ship("m", now=NOON)
    assert ship.ship_segments("m", now=NOON + 1) == []
    assert not ship.ship_file(folder.files("m")[0], now=NOON + 1)
    assert ship.ship_file(folder.files("m")[0], now=NOON + 5)
    assert ship.ship_file(folder.files("m")[0], now=NOON + 5)
