from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from unit.monitoring.answered import MemoryLog, binary_outputs, classifier, logged

from ekiben.monitoring.ground_truth import joined
from ekiben.monitoring.quality_slices import quality_slices, windows_of
from ekiben.state.truth import MemoryTruths, Truth

DAY = 86400.0


def at(*date):
    return datetime(*date, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("by", "cuts"),
    [
        (None, []),
        ("day", [at(2026, 12, 30), at(2026, 12, 31), at(2027, 1, 1), at(2027, 1, 2), at(2027, 1, 3), at(2027, 1, 4)]),
        ("week", [at(2027, 1, 4)]),
        ("month", [at(2027, 1, 1)]),
    ],
)
def test_time_is_cut_where_days_weeks_and_months_begin(by, cuts):
    since, until = at(2026, 12, 29, 12), at(2027, 1, 4, 6)
    ends = [since, *cuts, until]
    assert list(windows_of(since, until, by)) == list(pairwise(ends))


def test_a_window_that_ends_where_a_day_does_is_one():
    assert list(windows_of(0.0, DAY, "day")) == [(0.0, DAY)]
    assert list(windows_of(0.0, 32 * DAY, "month")) == [(0.0, 31 * DAY), (31 * DAY, 32 * DAY)]


@pytest.fixture
def found():
    n = 60
    features = pa.StructArray.from_arrays([pa.array(["UA", "UA", "DL"] * 20)], names=["carrier"])
    times = np.where(np.arange(n) < 40, 0.0, 2 * DAY)
    arm = ["champion"] * 30 + ["canary"] * 30
    table = logged(
        binary_outputs(np.where(np.arange(n) % 2, 0.9, 0.1)), times=times, arm=arm, features=features, version=["1"] * 58 + ["2"] * 2
    )
    truths = MemoryTruths()
    truths.report([Truth(model="m", request_id=f"r{i}", row=0, time=1.0, actual="yes") for i in range(n)])
    return joined(MemoryLog(table), truths, "m", since=0, until=1e9, now=1e9)


def sliced(found, **options):
    spec = classifier("no", "yes")
    reports = quality_slices(found, spec, **{"since": 0.0, "until": 3 * DAY, "version": "1", **options})
    return [(r.since / DAY, r.arm, r.segment and r.segment.value, r.predictions) for r in reports]


def test_a_version_as_a_whole_and_by_arm(found):
    assert sliced(found) == [(0, "", None, 58), (0, "canary", None, 28), (0, "champion", None, 30)]
    assert sliced(found, version="2") == [(0, "", None, 2)]
    assert sliced(found, version="3") == []


def test_by_segment_and_by_day_without_what_has_no_rows(found):
    assert sliced(found, by="day", segments=["carrier"]) == [
        (0, "", None, 40),
        (0, "canary", None, 10),
        (0, "champion", None, 30),
        (0, "", "UA", 27),
        (0, "", "DL", 13),
        (2, "", None, 18),
        (2, "canary", None, 18),
        (2, "", "UA", 12),
        (2, "", "DL", 6),
    ]
