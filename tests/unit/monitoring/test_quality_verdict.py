import math

import pytest

from ekiben.monitoring.quality_verdict import Standard, judged
from ekiben.monitoring.resampling import Estimate


@pytest.mark.parametrize(
    ("metric", "value", "low", "high", "outcome", "why"),
    [
        ("f1", 0.8, 0.7, 0.9, "ok", "f1 is 0.8 (0.7 to 0.9), which keeps the threshold of 0.75"),
        ("f1", 0.7, 0.6, 0.8, "ok", "below the threshold of 0.75 by no more than chance"),
        ("f1", 0.6, 0.5, 0.7, "bad", "f1 is 0.6 (0.5 to 0.7), below the threshold of 0.75"),
        ("f1", 0.6, None, None, "ok", "f1 is 0.6, below the threshold of 0.75 by no more than chance"),
        ("mae", 0.6, 0.5, 0.7, "ok", "keeps"),
        ("mae", 0.8, 0.7, 0.9, "ok", "above the threshold of 0.75 by no more than chance"),
        ("mae", 0.9, 0.8, 1.0, "bad", "above the threshold of 0.75"),
    ],
)
def test_it_is_bad_where_the_whole_interval_is_beyond_the_threshold(metric, value, low, high, outcome, why):
    found = judged(Standard(metric, 10, threshold=0.75, held_out=0.99), Estimate(value, low, high), 10)
    assert found[0] == outcome
    assert why in found[1]


@pytest.mark.parametrize(
    ("metric", "value", "rows", "outcome", "why"),
    [
        ("f1", 0.85, math.inf, "ok", "no worse than 0.8 on held-out rows"),
        ("f1", 0.69, math.inf, "bad", "worse than 0.8 on held-out rows by more than chance"),
        ("f1", 0.71, math.inf, "ok", "worse than 0.8 on held-out rows by no more than chance"),
        ("f1", 0.69, 100, "ok", "by no more than chance"),
        ("f1", 0.65, 100, "bad", "by more than chance"),
        ("mae", 0.91, math.inf, "bad", "by more than chance"),
        ("mae", 0.7, math.inf, "ok", "no worse"),
    ],
)
def test_without_a_threshold_it_is_held_against_held_out_rows_and_both_may_err(metric, value, rows, outcome, why):
    standard = Standard(metric, 10, held_out=0.8, held_out_rows=rows)
    found = judged(standard, Estimate(value, value - 0.1, value + 0.1), 100)
    assert found[0] == outcome
    assert why in found[1]


def test_a_gap_without_an_interval_is_not_bad():
    assert judged(Standard("f1", 1, held_out=0.8), Estimate(0.1, None, None), 5)[0] == "ok"


@pytest.mark.parametrize(
    ("standard", "estimate", "reason", "why"),
    [
        (Standard("f1", 200), Estimate(0.1, 0.0, 0.2), "", "f1 is unknown: the truth of 100 rows is known, and it takes 200"),
        (Standard("f1", 10), None, "all rows were 'no'", "f1 is unknown: all rows were 'no'"),
        (Standard("f1", 10), None, "", "none of the metrics of such a model"),
        (Standard("f1", 10), Estimate(0.1, 0.0, 0.2), "", "neither a threshold nor a value on held-out rows"),
    ],
)
def test_it_is_unknown(standard, estimate, reason, why):
    found = judged(standard, estimate, 100, reason)
    assert found[0] == "unknown"
    assert why in found[1]
