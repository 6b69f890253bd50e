import io

import pytest
from rich.console import Console

from load_tests.thresholds import Measured, Thresholds, are_kept, broken, table

LIMITS = Thresholds(max_error_percent=1.0, max_p95_ms=100.0)


def _measured(**changes):
    return Measured(**{"name": "gRPC", "requests": 1000, "failures": 10, "p50_ms": 5, "p95_ms": 100, "p99_ms": 300, "rps": 50.0, **changes})


def test_at_the_limits_they_are_kept():
    assert broken(_measured(), LIMITS) == []
    assert are_kept([_measured(), _measured(failures=0)], LIMITS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"failures": 11}, ["errors 1.10 % > 1 %"]),
        ({"p95_ms": 101}, ["p95 101 ms > 100 ms"]),
        ({"failures": 1000, "p95_ms": 5000}, ["errors 100.00 % > 1 %", "p95 5000 ms > 100 ms"]),
        ({"requests": 0, "failures": 0, "p95_ms": 0}, ["no requests"]),
    ],
)
def test_beyond_them_it_says_which_are_broken(changes, said):
    assert broken(_measured(**changes), LIMITS) == said
    assert not are_kept([_measured(), _measured(**changes)], LIMITS)


def test_nothing_measured_keeps_nothing():
    assert not are_kept([], LIMITS)


def test_the_table_says_kind_by_kind_what_was_found():
    out = io.StringIO()
    console = Console(file=out, width=160)
    console.print(table([_measured(), _measured(name="REST V1", p95_ms=250)], LIMITS))
    console.print(table([], LIMITS))

    text = out.getvalue()
    kept, slow, nothing = (next(line for line in text.splitlines() if word in line) for word in ("gRPC", "REST V1", "no: no requests"))
    assert all(part in kept for part in ("1,000", "1.00", "yes"))
    assert "no: p95 250 ms > 100 ms" in slow
    assert "0" in nothing
    assert "thresholds: errors ≤ 1 %, p95 ≤ 100 ms" in text
