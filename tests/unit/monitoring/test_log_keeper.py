import pytest
from unit.monitoring.log_files import ALWAYS, DAY_S, NOON, head, ids, reader, row, segment

from ekiben.model.monitor_spec import LogSpec
from ekiben.monitoring.compaction import Compacted
from ekiben.monitoring.log_folder import LogFolder
from ekiben.monitoring.log_keeper import Kept, LogKeeper, open_keeper
from ekiben.monitoring.shipping import LOCAL_FOR_S, LogStorage
from ekiben.settings import load_settings


class World:
    def __init__(self, path, *, ships=False):
        self.folder = LogFolder(path / "inference_log")
        self.storage = LogStorage(f"file://{path}/fleet") if ships else None
        self.now = NOON
        self.specs = {}
        self.keeper = LogKeeper(self.folder, self.specs.get, storage=self.storage, wall=lambda: self.now)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def fleet(tmp_path):
    return World(tmp_path, ships=True)


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
