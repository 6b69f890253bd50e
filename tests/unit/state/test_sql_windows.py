import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ekiben.errors import StateError
from ekiben.state import sql_windows
from ekiben.state.histogram import Histogram
from ekiben.state.schema import WINDOWS
from ekiben.state.sql_windows import SqlWindows
from ekiben.state.windows import MemoryWindows, Window, WindowKey

_counts = st.integers(0, 9)
_histograms = st.lists(st.sampled_from([-2.0, 0.0, 0.5, 3.0]), max_size=4).map(Histogram.of)
_windows = st.builds(
    Window,
    ok=_counts,
    errors=st.dictionaries(st.sampled_from(["QueueFull", "PredictionFailed"]), _counts),
    invalid=_counts,
    latency=_histograms,
    classes=st.dictionaries(st.sampled_from(["yes", "no"]), _counts),
    differences=_histograms,
    dropped=_counts,
)
_keys = st.builds(WindowKey, st.just("m"), st.sampled_from("12"), st.sampled_from(["champion", "shadow"]), st.integers(50, 250))
_adds = st.lists(st.tuples(st.sampled_from("vw"), st.lists(st.tuples(_keys, _windows), max_size=3)), max_size=6)


def windows_of(*seconds, ok=1):
    return [(WindowKey("m", "1", "champion", second), Window(ok=ok)) for second in seconds]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(adds=_adds, since=st.floats(40, 260), length=st.floats(0, 200), before=st.integers(50, 250))
def test_the_database_and_its_twin_answer_alike(new_database, adds, since, length, before):
    database = new_database()
    real, twin = SqlWindows(database), MemoryWindows()
    for worker, windows in adds:
        for part in (real, twin):
            part.add(worker, windows)
        assert real.sum("m", since, since + length) == twin.sum("m", since, since + length)
    assert real.prune(before) == twin.prune(before)
    assert real.sum("m", 0, 1000) == twin.sum("m", 0, 1000)
    database.close()


def test_whole_minutes_are_read_once_and_again_only_when_they_changed(database, monkeypatch):
    windows, read = SqlWindows(database), []
    rows = SqlWindows._rows
    monkeypatch.setattr(SqlWindows, "_rows", lambda self, model, start, stop: read.append((start, stop)) or rows(self, model, start, stop))
    windows.add("w", windows_of(*range(30, 1830, 30)))
    assert windows.sum("m", 30, 1815)["1", "champion"].ok == 60
    assert read == [(30, 60), (60, 660), (660, 1260), (1260, 1800), (1800, 1815)]
    read.clear()
    assert windows.sum("m", 60, 1800)["1", "champion"].ok == 58
    assert read == []
    SqlWindows(database).add("w", windows_of(61, 600, ok=5))
    assert windows.sum("m", 60, 1800)["1", "champion"].ok == 58 + 5 + 4
    assert read == [(60, 120), (600, 660)]


def test_what_is_written_again_with_as_many_windows_is_seen(database):
    windows = SqlWindows(database)
    windows.add("w", windows_of(60))
    assert windows.sum("m", 60, 120)["1", "champion"].ok == 1
    windows.add("w", windows_of(60, ok=7))
    assert windows.sum("m", 60, 120)["1", "champion"].ok == 7
    windows.prune(61)
    assert windows.sum("m", 60, 120) == {}


def test_only_so_many_minutes_are_remembered(database, monkeypatch):
    monkeypatch.setattr(sql_windows, "_SPANS_KEPT", 3)
    windows = SqlWindows(database)
    windows.add("w", windows_of(*range(0, 600, 60)))
    assert windows.sum("m", 0, 600)["1", "champion"].ok == 10
    assert len(windows._spans._kept) == 3
    assert windows.sum("m", 0, 600)["1", "champion"].ok == 10


def test_numbers_beyond_all_bounds_are_kept(database):
    windows = SqlWindows(database)
    window = Window(ok=1, scores=Histogram(total=float("inf")))
    windows.add("w", [(WindowKey("m", "1", "champion", 1), window)])
    assert windows.sum("m", float("-inf"), float("inf")) == {("1", "champion"): window}


def test_a_window_that_nobody_can_read_is_an_error(database):
    windows = SqlWindows(database)
    windows.add("w", windows_of(1))
    with database.writing() as connection:
        connection.execute(WINDOWS.update().values(window=b"\x00"))
    with pytest.raises(StateError, match="has a window that cannot be read"):
        windows.sum("m", 0, 10)
