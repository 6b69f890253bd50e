import pytest
from unit.monitoring.log_files import DAY_S

from ekiben.model.monitor_spec import LogSpec
from ekiben.monitoring.log_folder import LogFile, TailSegment, date_of
from ekiben.monitoring.retention import outlived

NOW = 20_000 * DAY_S + 3600.0


def file(days_ago, name="a.parquet", megabytes=1):
    return LogFile("m", date_of(NOW - days_ago * DAY_S), name, megabytes * 1_000_000)


def test_a_date_goes_when_its_last_moment_is_too_old():
    files = [file(0), file(1), file(2), file(3)]
    assert outlived(files, LogSpec(retention_days=2), now=NOW) == [files[3]]
    assert outlived(files, LogSpec(retention_days=1), now=NOW) == [files[3], files[2]]
    assert outlived(files, LogSpec(retention_days=0.02), now=NOW) == [files[3], files[2], files[1]]


@pytest.mark.parametrize(("budget", "left"), [(10, 4), (4, 4), (3.5, 3), (1, 1), (0.5, 0)])
def test_beyond_the_budget_the_oldest_go_first(budget, left):
    files = [file(2), file(1, "0100.parquet"), file(1, "0200.parquet"), file(0)]
    gone = outlived(list(reversed(files)), LogSpec(max_mb=budget), now=NOW)
    assert gone == files[: 4 - left]


def test_what_is_too_old_does_not_count_against_the_budget():
    files = [file(50, megabytes=100), file(1)]
    assert outlived(files, LogSpec(retention_days=10, max_mb=1), now=NOW) == [files[0]]


def tail(days_ago, name, time=0.0, megabytes=1):
    return TailSegment("m", f"{date_of(NOW - days_ago * DAY_S)}-{name}.arrows", megabytes * 1_000_000, time)


def test_segments_go_by_date_and_within_it_after_files_and_by_when_they_were_written():
    parts = [tail(3, "z"), file(2, "2359.parquet"), tail(2, "z", 10.0), tail(2, "a", 20.0), file(1), tail(0, "b")]
    for n in range(len(parts)):
        assert outlived(list(reversed(parts)), LogSpec(max_mb=n), now=NOW) == parts[: len(parts) - n]
    assert outlived(parts, LogSpec(retention_days=2), now=NOW) == parts[:1]
