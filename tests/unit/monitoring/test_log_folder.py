import pytest
from unit.monitoring.log_files import DATE, NOON, Open, row, segment

from ekiben.monitoring.log_folder import (
    LogFile,
    LogFolder,
    date_of,
    dates_around,
    digest_in,
    digest_of,
    is_segment,
    open_folder,
    partition_of,
)
from ekiben.settings import load_settings

FILE = LogFile("m", "2026-01-02", "x.parquet", 3)


@pytest.fixture
def folder(tmp_path):
    return LogFolder(tmp_path / "inference_log")


def write(folder, file, content=b"abc"):
    folder.file(file).parent.mkdir(parents=True, exist_ok=True)
    folder.file(file).write_bytes(content)


def test_it_is_where_the_settings_say(tmp_path):
    assert open_folder(load_settings({"EKIBEN_HOME": str(tmp_path)})).path == tmp_path / "inference_log"


def test_nothing_is_there_at_first(folder):
    assert (folder.models(), folder.segments("m"), folder.dates("m"), folder.files("m")) == ([], [], [], [])


def test_what_is_there_is_found_and_nothing_else(folder):
    write(folder, FILE)
    later = LogFile("m", "2026-01-03", "a.parquet", 3)
    write(folder, later)
    folder.marker(FILE).touch()
    folder.file(FILE).with_name(".y.parquet").touch()
    temporary = folder.file(FILE).with_name(".y.parquet.tmp")
    temporary.touch()
    found = segment(folder, "w-1", [row("a")])
    damaged = found.with_name("z.arrows.damaged")
    damaged.touch()
    assert folder.models() == ["m"]
    assert folder.segments("m") == [found]
    assert folder.damaged("m") == [damaged]
    assert folder.files("m") == [FILE, later]
    assert folder.files("m", since="2026-01-03") == [later]
    assert folder.files("m", until="2026-01-02") == [FILE]
    assert folder.temporaries("m") == [temporary]


def test_a_model_is_known_by_its_files_or_its_segments(folder):
    write(folder, FILE)
    (folder.path / "tail" / "model=n").mkdir(parents=True)
    assert folder.models() == ["m", "n"]


def test_a_partition_goes_with_its_last_file(folder):
    other = LogFile("m", "2026-01-02", "y.parquet", 3)
    write(folder, FILE)
    write(folder, other)
    folder.marker(FILE).touch()
    folder.remove(FILE)
    assert (folder.dates("m"), folder.files("m")) == (["2026-01-02"], [other])
    folder.remove(other)
    folder.remove(other)
    assert folder.dates("m") == []


def test_the_lock_is_one_process_s_at_a_time(folder):
    with folder.lock() as mine:
        assert mine
        with folder.lock() as theirs:
            assert not theirs
    with folder.lock() as again:
        assert again


def test_the_dates_of_a_time_are_its_own_and_the_neighbours():
    assert date_of(NOON) == DATE == "2024-10-04"
    assert dates_around(NOON, NOON + 1) == ("2024-10-03", "2024-10-05")
    assert dates_around(float("-inf"), float("inf")) == ("0", "9")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (FILE.relative, ("m", "2026-01-02", "x.parquet")),
        ("model=m/date=2026-01-02/x.parquet.tmp", None),
        ("model=m/date=2026-01-02/.x.parquet", None),
        ("model=m/x.parquet", None),
        ("m/date=2026-01-02/x.parquet", None),
        ("model=m/2026-01-02/x.parquet", None),
    ],
)
def test_a_path_says_what_is_in_a_file(path, expected):
    assert partition_of(path) == expected


def test_finished_segments_and_their_marks(folder):
    done, writing = segment(folder, "w-1", [row("a")]), segment(folder, "w-2", [row("b")])
    (folder.path / "tail/model=m/2024-10-04-w-3.arrows").mkdir()
    writer = Open(writing)
    (found,) = folder.finished("m", now=NOON)
    assert (found.relative, found.date) == (f"tail/model=m/{done.name}", DATE)
    assert (found.size_bytes, found.time) == (done.stat().st_size, done.stat().st_mtime)
    assert folder.segment(found) == done
    folder.shipping_mark(found).touch()
    assert folder.shipping_marks("m") == {done.name: folder.shipping_mark(found)}
    assert done in folder.segments("m")
    folder.remove_segment(found)
    folder.remove_segment(found)
    assert (folder.finished("m", now=NOON), folder.shipping_marks("m")) == ([], {})
    writer.close()
    assert [part.name for part in folder.finished("m", now=NOON)] == [writing.name]


def test_a_segment_that_goes_while_it_is_looked_at(folder, monkeypatch):
    done = segment(folder, "w-1", [row("a")])
    monkeypatch.setattr("ekiben.monitoring.log_folder.is_finished", lambda path, *, now: path.unlink() is None)
    assert folder.finished("m", now=NOON) == []
    assert not done.exists()


def test_a_files_name_says_of_which_segments_it_is():
    assert digest_of(["a"]) != digest_of(["b"])
    assert digest_of(["a", "b"]) != digest_of(["a"])
    assert digest_in(f"120000-{digest_of(['a'])}.parquet") == digest_of(["a"])


@pytest.mark.parametrize(("name", "expected"), [("x.arrows", True), (".x.arrows", False), ("x.arrows.tmp", False), ("x.damaged", False)])
def test_a_segment_is_known_by_its_name(name, expected):
    assert is_segment(name) is expected
