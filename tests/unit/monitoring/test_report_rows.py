import numpy as np
import pyarrow as pa
import pytest
from unit.monitoring.answered import MemoryLog, binary_outputs, classifier, logged

from ekiben.monitoring import report_rows
from ekiben.monitoring.report_rows import ReportRows
from ekiben.state import memory_control
from ekiben.state.truth import Truth

SPEC = classifier("no", "yes")  # min_rows is 20
N = 1000


@pytest.fixture
def log():
    """A row a second from 1000 s on; every tenth is another version's, and the last ten are a shadow's."""
    temp = pa.StructArray.from_arrays([pa.array(np.arange(N), pa.float32())], names=["temp"])
    version = ["2" if n % 10 == 9 else "1" for n in range(N)]
    arm = ["shadow" if n >= N - 10 else "champion" for n in range(N)]
    return MemoryLog(logged(binary_outputs(np.linspace(0, 1, N)), times=1000, version=version, arm=arm, features=temp))


@pytest.fixture
def rows(log):
    truths = memory_control().truths
    truths.report([Truth(model="m", request_id=f"r{n}", row=0, time=1.0, actual="yes") for n in range(0, N, 2)])

    def made(version="1", **kwargs):
        return ReportRows(log, truths, SPEC, version, **kwargs)

    return made


def temps(span):
    return np.array([row["temp"] for row in span.table["features"].to_pylist()], int)


def test_a_window_has_the_versions_rows_and_their_truth(rows):
    span = rows().window(1100, 1120)
    assert (span.since, span.until, span.answered) == (1100, 1120, 18)
    assert temps(span).tolist() == [n for n in range(100, 120) if n % 10 != 9]
    assert span.table["actual"].to_pylist() == ["yes" if n % 2 == 0 else None for n in temps(span)]
    assert rows().window(1985, 3000).answered == 4  # the shadow's are none of them


def test_many_rows_are_thinned_evenly_whatever_the_pieces(rows, monkeypatch):
    whole = rows(most_rows=100).window(1000, 2000)
    assert (whole.answered, whole.table.num_rows) == (891, 99)
    assert temps(whole)[:3].tolist() == [0, 10, 20]
    for piece in (50, 333, 890):
        monkeypatch.setattr(report_rows, "_ROWS_A_PIECE", piece)
        assert temps(rows(most_rows=100).window(1000, 2000)).tolist() == temps(whole).tolist()


def test_a_window_may_be_empty(rows, monkeypatch):
    assert rows().window(0, 1000).answered == 0
    # So may a piece of one be.
    monkeypatch.setattr(report_rows, "_ROWS_A_PIECE", 300)
    assert rows().window(0, 2000).table.num_rows == 891


def test_the_oldest_rows_are_as_long_as_the_window_and_none_of_it(rows):
    oldest = rows().oldest_before(1900, 100)
    assert (oldest.since, oldest.until, oldest.answered) == (1000, 1100, 90)
    short = rows().oldest_before(1050, 100)
    assert (short.since, short.until) == (1000, 1050)
    assert temps(short).max() == 48
    # Another version began when it did.
    assert rows("2").oldest_before(1900, 500).since == 1009


def test_there_may_be_too_few_older_rows(rows):
    assert rows().oldest_before(1000, 100) is None
    assert rows().oldest_before(1021, 100) is None  # 19
    assert rows().oldest_before(1023, 100).answered == 21
