"""Two monitors, and hosts without pyarrow whose segments they take in."""

import pytest
from unit.monitoring.log_files import ALWAYS, DAY_S, NOON, TEMP, head, ids, reader, row, segment

from ekiben.errors import LogError
from ekiben.monitoring.intake import Intake
from ekiben.monitoring.kept import Kept
from ekiben.monitoring.log_folder import LogFolder
from ekiben.monitoring.log_storage import LogStorage
from ekiben.monitoring.shipping import Shipping


class Monitor:
    def __init__(self, path, uri):
        self.folder, self.storage = LogFolder(path), LogStorage(uri)
        self.intake = Intake(self.folder, self.storage, Shipping(self.folder, self.storage, spread=lambda: 0.0))

    def run(self, *, now=NOON, goes_on=lambda: True):
        done = Kept()
        self.intake.run("m", now=now, goes_on=goes_on, done=done)
        return done

    def rows(self):
        return sorted(ids(reader(self.folder, self.storage).read("m", **ALWAYS)))


class World:
    def __init__(self, path):
        self.path, self.uri = path, f"file://{path}/fleet"
        self.storage = LogStorage(self.uri)
        self.host = LogFolder(path / "host")

    def monitor(self, name="one"):
        return Monitor(self.path / name, self.uri)

    def ship(self, *names, content=None, **more):
        """A host's segments, each with two rows of its name."""
        for name in names:
            segment(self.host, name, *([] if content is not None else [[row(f"{name}-1"), row(f"{name}-2")]]), content=content, **more)
        return Shipping(self.host, self.storage).ship_segments("m", now=NOON)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def away(*_, **__):
    raise ConnectionError("nobody there")


def test_segments_become_files_there_and_go(world):
    world.ship("a", "b", described=head(inputs=[TEMP]))
    monitor = world.monitor()
    assert monitor.rows() == ["a-1", "a-2", "b-1", "b-2"], "a reader need not wait for it"
    done = monitor.run()
    assert (done.taken_in, done.compacted.files, done.compacted.segments, done.compacted.rows, done.shipped_files) == (2, 2, 2, 4, 2)
    assert done.shipped_bytes == sum(file.size_bytes for file in world.storage.files("m"))
    assert (world.storage.segments("m"), len(world.storage.files("m"))) == ([], 2)
    assert world.monitor("other").rows() == ["a-1", "a-2", "b-1", "b-2"]
    assert monitor.run() == Kept()


def test_two_monitors_that_know_nothing_of_each_other_double_no_row(world, monkeypatch):
    world.ship("a", "b")
    one, other = world.monitor("one"), world.monitor("other")
    listed = other.storage.segments("m")
    one.run()
    world_left = world.storage.segments("m")
    monkeypatch.setattr(other.storage, "segments", lambda model: listed)
    monkeypatch.setattr(other.storage, "read", lambda segment: contents[segment.name])
    contents = {}
    assert world_left == []
    assert other.run().taken_in == 0, "the files are there"
    monkeypatch.undo()
    assert (one.rows(), other.rows()) == (["a-1", "a-2", "b-1", "b-2"],) * 2


def test_two_monitors_at_the_same_moment_make_the_same_files(world, monkeypatch):
    world.ship("a", "b")
    one, other = world.monitor("one"), world.monitor("other")
    with monkeypatch.context() as patched:
        for monitor in (one, other):  # neither sees what the other did
            patched.setattr(monitor.storage, "remove", lambda part: None)
            patched.setattr(monitor.storage, "files", lambda model, **more: [])
        assert (one.run().taken_in, other.run().taken_in) == (2, 2)
    assert len(world.storage.files("m")) == 2
    assert len(world.storage.segments("m")) == 2
    for monitor in (one, other, world.monitor("third")):
        assert monitor.rows() == ["a-1", "a-2", "b-1", "b-2"]
    assert one.run().taken_in == 0
    assert world.storage.segments("m") == []


@pytest.mark.parametrize("ends_in", ["upload", "remove"])
def test_what_ended_halfway_is_done_by_the_next_run(world, monkeypatch, ends_in):
    world.ship("a", "b")
    monitor = world.monitor()
    with monkeypatch.context() as patched:
        patched.setattr(monitor.storage.fs, {"upload": "put_file", "remove": "rm_file"}[ends_in], away)
        with pytest.raises(LogError, match="nobody there"):
            monitor.run()
    assert len(monitor.folder.files("m")) == 1
    for reading in (monitor, world.monitor("other")):
        assert reading.rows() == ["a-1", "a-2", "b-1", "b-2"]
    if ends_in == "upload":
        assert monitor.run(now=NOON + 1).taken_in == 1, "of the other; uploads wait"
        assert len(world.storage.segments("m")) == 2
    done = monitor.run(now=NOON + 60)
    assert done.taken_in == (1 if ends_in == "remove" else 0)
    assert (len(world.storage.files("m")), world.storage.segments("m")) == (2, [])
    assert world.monitor("other").rows() == ["a-1", "a-2", "b-1", "b-2"]


def test_a_segment_that_its_host_uploaded_again_goes_at_once(world):
    """It ended after its upload, and the monitor was quicker than its next start."""
    (shipped,) = world.ship("a")
    content = world.storage.read(shipped)
    monitor = world.monitor()
    monitor.run()
    world.ship("a", content=content)
    assert world.monitor("other").rows() == ["a-1", "a-2"]
    done = world.monitor("other").run()
    assert (done.taken_in, world.storage.segments("m")) == (0, [])
    assert monitor.rows() == ["a-1", "a-2"]


def test_it_stops_where_it_may_not_go_on(world):
    world.ship("a", "b", "c")
    asked = iter([True, False])
    assert world.monitor().run(goes_on=lambda: next(asked)).taken_in == 1
    assert len(world.storage.segments("m")) == 2


def test_what_has_no_rows_goes_and_what_is_torn_is_counted(world):
    whole = segment(world.host, "x", [row("x")]).read_bytes()
    (world.host.path / "tail/model=m/2024-10-04-x.arrows").unlink()
    world.ship("a", content=b"\xff\xff\xff\xff")
    world.ship("b", content=whole + b"\xff\xff\xff")
    monitor = world.monitor()
    done = monitor.run()
    assert (done.taken_in, done.compacted.torn_bytes) == (1, 7)
    assert (world.storage.segments("m"), monitor.rows()) == ([], ["x"])


def test_a_damaged_segment_is_kept_here_and_holds_nothing_up(world, caplog):
    world.ship("a", content=b"garbage!" * 9)
    world.ship("b")
    monitor = world.monitor()
    with pytest.raises(LogError, match=r"fleet/tail/model=m/2024-10-04-a.arrows is damaged"):
        monitor.rows()
    done = monitor.run()
    assert (done.compacted.damaged, done.taken_in) == (["2024-10-04-a.arrows"], 1)
    (kept,) = monitor.folder.damaged("m")
    assert kept.read_bytes() == b"garbage!" * 9
    assert "is damaged, not merely cut off" in caplog.text
    assert (world.storage.segments("m"), monitor.rows()) == ([], ["b-1", "b-2"])


def test_one_that_another_monitor_took_meanwhile(world, monkeypatch):
    world.ship("a")
    monitor = world.monitor()
    monkeypatch.setattr(monitor.storage, "read", lambda segment: None)
    assert monitor.run() == Kept()


def test_the_file_stays_here_for_a_day_as_others_do(world):
    world.ship("a")
    monitor = world.monitor()
    monitor.run()
    shipping = Shipping(monitor.folder, monitor.storage)
    assert len(monitor.folder.files("m")) == 1
    assert len(shipping.tidy("m", now=NOON + DAY_S)) == 1
    assert monitor.rows() == ["a-1", "a-2"]
