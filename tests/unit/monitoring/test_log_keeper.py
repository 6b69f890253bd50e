import os
import sys

import pytest
from unit.monitoring.log_files import ALWAYS, DAY_S, NOON, Open, head, ids, reader, row, segment

from ekiben.errors import LogError
from ekiben.model.monitor_spec import LogSpec
from ekiben.monitoring.kept import Compacted, Kept
from ekiben.monitoring.log_folder import LogFolder
from ekiben.monitoring.log_keeper import LogKeeper, open_keeper
from ekiben.monitoring.log_storage import LogStorage
from ekiben.monitoring.shipping import LOCAL_FOR_S
from ekiben.settings import load_settings


class World:
    def __init__(self, path, *, ships="", compacts=True):
        self.folder = LogFolder(path / "inference_log")
        self.storage = LogStorage(ships) if ships else None
        self.now = NOON
        self.specs = {}
        self.keeper = LogKeeper(self.folder, self.specs.get, storage=self.storage, compacts=compacts, wall=lambda: self.now)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def fleet(tmp_path):
    return World(tmp_path, ships=f"file://{tmp_path}/fleet")


def away(*_, **__):
    raise ConnectionError("nobody there")


def test_an_empty_log(world):
    assert world.keeper.run_once() == Kept()


def test_it_compacts_all_models(world):
    segment(world.folder, "w-1", [row("a")])
    segment(world.folder, "w-1", [row("b")], described=head(model="n"))
    kept = world.keeper.run_once()
    assert kept.compacted == Compacted(files=2, segments=2, rows=2)
    assert kept.problems == []
    assert (kept.shipped_files, kept.expired_files) == (0, 0)


def test_one_process_of_the_host_at_a_time(world):
    segment(world.folder, "w-1", [row("a")])
    with world.folder.lock():
        assert world.keeper.run_once() == Kept(is_busy=True)
    assert world.keeper.run_once().compacted.rows == 1


def test_retention_by_age_and_its_default(world):
    segment(world.folder, "w-1", [row("a"), row("b")])
    segment(world.folder, "w-1", [row("c")], described=head(model="n"))
    world.keeper.run_once()
    size = world.folder.files("m")[0].size_bytes
    world.specs["m"] = LogSpec(retention_days=5)
    world.now += 6 * DAY_S
    kept = world.keeper.run_once()
    assert (kept.expired_files, kept.expired_bytes, kept.expired_rows) == (1, size, 2)
    assert reader(world.folder).count("m", **ALWAYS) == 0
    assert reader(world.folder).count("n", **ALWAYS) == 1, "of a model that is not known here rows stay for 90 days"
    world.now += 86 * DAY_S
    assert world.keeper.run_once().expired_files == 1


def test_retention_by_size(world):
    for n in range(3):
        segment(world.folder, f"w-{n}", [row(str(n), NOON + n)])
        world.keeper.run_once()
    size = max(file.size_bytes for file in world.folder.files("m"))
    world.specs["m"] = LogSpec(max_mb=2.5 * size / 1e6)
    kept = world.keeper.run_once()
    assert (kept.expired_files, kept.expired_rows) == (1, 1)
    assert ids(reader(world.folder).read("m", **ALWAYS)) == ["1", "2"]


def test_shipping_and_tidying(fleet):
    segment(fleet.folder, "w-1", [row("a")])
    kept = fleet.keeper.run_once()
    (file,) = fleet.folder.files("m")
    assert (kept.shipped_files, kept.shipped_bytes) == (1, file.size_bytes)
    fleet.now += LOCAL_FOR_S
    kept = fleet.keeper.run_once()
    assert (kept.tidied_files, kept.shipped_files) == (1, 0)
    assert fleet.folder.files("m") == []
    assert ids(reader(fleet.folder, fleet.storage).read("m", **ALWAYS)) == ["a"]


def test_what_was_shipped_expires_there_too_and_is_looked_at_once_an_hour(fleet):
    segment(fleet.folder, "w-1", [row("a")])
    fleet.keeper.run_once()
    fleet.now += LOCAL_FOR_S
    fleet.keeper.run_once()
    fleet.specs["m"] = LogSpec(retention_days=0.01)
    fleet.now += DAY_S
    assert fleet.keeper.run_once().expired_files == 1
    assert fleet.storage.files("m") == []
    assert fleet.keeper._stored("m", fleet.now) == []


def test_a_file_here_and_there_expires_in_both_places_and_counts_once(fleet):
    segment(fleet.folder, "w-1", [row("a"), row("b")])
    fleet.keeper.run_once()
    fleet.specs["m"] = LogSpec(max_mb=1e-6)
    fleet.now += 3600
    kept = fleet.keeper.run_once()
    assert (kept.expired_files, kept.expired_rows) == (1, 2)
    assert fleet.storage.files("m") == fleet.folder.files("m") == []


def test_an_outage_keeps_what_is_here_and_is_over_at_some_time(fleet, monkeypatch, caplog):
    segment(fleet.folder, "w-1", [row("a")])
    with monkeypatch.context() as patched:
        for name in ("put_file", "ls", "info"):
            patched.setattr(fleet.storage.fs, name, away)
        kept = fleet.keeper.run_once()
        assert kept.compacted.rows == 1
        assert len(kept.problems) == 1
        assert "nobody there" in kept.problems[0]
        fleet.now += 1
        assert fleet.keeper.run_once().problems == [], "it waits"
    assert "retention must wait" in caplog.text
    fleet.now += 10
    assert fleet.keeper.run_once().shipped_files == 1


def test_what_does_not_work_keeps_nothing_else_from_being_done(fleet, monkeypatch):
    segment(fleet.folder, "w-1", [row("a")])
    fleet.keeper.run_once()
    fleet.now += LOCAL_FOR_S
    fleet.specs["m"] = LogSpec(max_mb=1e-6)
    segment(fleet.folder, "w-1", [row("b")], described=head(model="n"))
    unreadable = segment(fleet.folder, "w-2")
    unreadable.unlink()
    unreadable.mkdir()
    kept = fleet.keeper.run_once()
    assert len(kept.problems) == 1
    assert kept.problems[0].startswith("m: ")
    assert kept.tidied_files == 0
    assert kept.expired_files == 1
    assert kept.compacted.rows == 1


def test_a_file_whose_rows_cannot_be_counted_expires_too(world):
    segment(world.folder, "w-1", [row("a")])
    world.keeper.run_once()
    (file,) = world.folder.files("m")
    world.folder.file(file).write_bytes(b"garbage")
    world.specs["m"] = LogSpec(max_mb=1e-9)
    kept = world.keeper.run_once()
    assert (kept.expired_files, kept.expired_rows, kept.problems) == (1, 0, [])


def test_a_damaged_segment_stays_as_long_as_its_rows_would(world):
    segment(world.folder, "w-1", content=b"garbage!" * 9)
    world.specs["m"] = LogSpec(retention_days=5)
    assert len(world.keeper.run_once().compacted.damaged) == 1
    world.now += 5 * DAY_S
    world.keeper.run_once()
    assert len(world.folder.damaged("m")) == 1
    world.now += DAY_S
    world.keeper.run_once()
    assert world.folder.damaged("m") == []


def test_the_keeper_of_the_settings(tmp_path):
    settings = load_settings({"EKIBEN_HOME": str(tmp_path), "EKIBEN_LOG_URI": f"file://{tmp_path}/fleet"})
    keeper = open_keeper(settings, lambda model: None, wall=lambda: NOON)
    segment(LogFolder(tmp_path / "inference_log"), "w-1", [row("a")])
    assert keeper.run_once().shipped_files == 1


@pytest.fixture
def bare(tmp_path):
    """A host without pyarrow that ships."""
    return World(tmp_path / "bare", ships=f"file://{tmp_path}/fleet", compacts=False)


@pytest.fixture
def monitor(tmp_path):
    return World(tmp_path / "monitor", ships=f"file://{tmp_path}/fleet")


def test_without_pyarrow_segments_are_shipped_as_they_are_and_a_monitor_takes_them_in(bare, monitor):
    segment(bare.folder, "w-1", [row("a")])
    segment(bare.folder, "w-2", [row("b")], described=head(model="n"))
    kept = bare.keeper.run_once()
    assert (kept.shipped_segments, kept.compacted, kept.problems) == (2, Compacted(), [])
    assert (bare.folder.segments("m"), bare.folder.files("m")) == ([], [])
    assert bare.keeper.take_in() == Kept(), "it cannot"
    assert monitor.keeper.run_once() == Kept(), "each looks after its own host's"
    kept = monitor.keeper.take_in()
    assert (kept.taken_in, kept.compacted.rows, kept.problems) == (2, 2, [])
    assert ids(reader(LogFolder(bare.folder.path / "empty"), bare.storage).read("m", **ALWAYS)) == ["a"]


def test_where_nothing_is_shipped_nothing_is_taken_in(world):
    assert world.keeper.take_in() == Kept()


def test_one_process_of_the_host_takes_in(bare, monitor):
    segment(bare.folder, "w-1", [row("a")])
    bare.keeper.run_once()
    with monitor.folder.lock():
        assert monitor.keeper.take_in() == Kept(is_busy=True)
    assert monitor.keeper.take_in().taken_in == 1


def test_what_cannot_be_taken_in_of_one_model_holds_up_no_other(bare, monitor, monkeypatch):
    segment(bare.folder, "w-1", [row("a")])
    segment(bare.folder, "w-2", [row("b")], described=head(model="n"))
    bare.keeper.run_once()
    segments = monitor.storage.segments

    def lost(model):
        if model == "m":
            raise LogError("lost")
        return segments(model)

    monkeypatch.setattr(monitor.storage, "segments", lost)
    kept = monitor.keeper.take_in()
    assert (kept.taken_in, kept.problems) == (1, ["m: lost"])


def test_without_pyarrow_and_a_place_to_ship_to_segments_stay_until_age_or_budget_ends_them(tmp_path):
    world = World(tmp_path, compacts=False)
    paths = [segment(world.folder, f"w-{n}", [row(str(n))]) for n in (2, 1, 0)]
    for n, path in enumerate(paths):
        os.utime(path, (n, n))
    size = paths[0].stat().st_size
    writer = Open(segment(world.folder, "w-9", [row("now")]))
    assert world.keeper.run_once() == Kept()
    world.specs["m"] = LogSpec(max_mb=2.5 * size / 1e6)
    kept = world.keeper.run_once()
    assert (kept.expired_files, kept.expired_bytes, kept.expired_rows) == (1, size, 0)
    assert sorted(ids(reader(world.folder).read("m", **ALWAYS))) == ["0", "1", "now"], "that which was written first went"
    world.now += 91 * DAY_S
    assert world.keeper.run_once().expired_files == 2
    assert ids(reader(world.folder).read("m", **ALWAYS)) == ["now"], "one that is written is left"
    writer.close()


def test_while_the_storage_is_away_the_budget_of_segments_holds(bare, monkeypatch):
    path = segment(bare.folder, "w-1", [row("a")])
    segment(bare.folder, "w-2", [row("b")])
    bare.specs["m"] = LogSpec(max_mb=1.5 * path.stat().st_size / 1e6)
    for name in ("put_file", "ls", "info"):
        monkeypatch.setattr(bare.storage.fs, name, away)
    kept = bare.keeper.run_once()
    assert (kept.shipped_segments, kept.expired_files, len(kept.problems)) == (0, 1, 1)
    assert len(bare.folder.segments("m")) == 1
    assert bare.folder.shipping_marks("m") == {}


def test_shipped_segments_that_nobody_takes_in_expire_too(bare):
    segment(bare.folder, "w-1", [row("a")])
    bare.keeper.run_once()
    bare.specs["m"] = LogSpec(retention_days=1)
    bare.now += 2 * DAY_S
    assert bare.keeper.run_once().expired_files == 1
    assert bare.storage.segments("m") == []


def test_a_segment_whose_upload_began_becomes_no_file_here_once_pyarrow_is_installed(bare, tmp_path):
    segment(bare.folder, "w-1", [row("a")])
    segment(bare.folder, "w-2", [row("b")])
    first, _ = bare.folder.finished("m", now=NOON)
    bare.folder.shipping_mark(first).touch()
    bare.storage.upload(bare.folder.segment(first), first)
    later = LogKeeper(bare.folder, bare.specs.get, storage=bare.storage, wall=lambda: NOON)
    kept = later.run_once()
    assert (kept.compacted.rows, kept.shipped_segments) == (1, 1)
    assert sorted(ids(reader(bare.folder, bare.storage).read("m", **ALWAYS))) == ["a", "b"]
    assert later.take_in().taken_in == 1
    assert sorted(ids(reader(bare.folder, bare.storage).read("m", **ALWAYS))) == ["a", "b"]


def test_the_keeper_of_the_settings_where_pyarrow_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    settings = load_settings({"EKIBEN_HOME": str(tmp_path), "EKIBEN_LOG_URI": f"file://{tmp_path}/fleet"})
    segment(LogFolder(tmp_path / "inference_log"), "w-1", [row("a")])
    kept = open_keeper(settings, lambda model: None, wall=lambda: NOON).run_once()
    assert (kept.shipped_segments, kept.compacted) == (1, Compacted())


def test_a_log_that_is_shipped_to_itself_would_be_deleted(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    settings = load_settings({"EKIBEN_HOME": str(tmp_path), "EKIBEN_LOG_URI": f"file://{tmp_path}/link/inference_log"})
    with pytest.raises(LogError, match="which is this host's own log; name another place"):
        open_keeper(settings, lambda model: None)
