import asyncio

import pytest
from unit.serving.inprocess import SeenRuntime, seen_predictor

from ekiben.errors import FeatureError, InvalidRows, PredictionFailed
from ekiben.serving.batch_run import Answer, BatchRun, Pending


class Ticking:
    """A clock that moves a second each time it is read."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1
        return self.now


def compute(runtime, *requests):
    """Computes a batch of requests given as lists of (a, s)."""
    predictor = seen_predictor(runtime)
    loop = asyncio.new_event_loop()
    try:
        members = [
            Pending(predictor.signature.parse_rows([[a, 1, s] for a, s in rows]), len(rows), 0, 9e9, 0, None, loop.create_future())
            for rows in requests
        ]
    finally:
        loop.close()
    return BatchRun(predictor, Ticking()).compute(members)


def summary(report):
    return [[e["prediction"] for e in r.rows()] if isinstance(r, Answer) else type(r) for r in report.results]


def test_one_run_for_all_and_each_its_own_rows():
    runtime = SeenRuntime()
    report = compute(runtime, [(1, "x")], [(2, "x"), (3, "y")])
    assert summary(report) == [[11], [12, 13]]
    assert runtime.runs == [[1, 2, 3]]
    assert (report.rows, report.started, report.prepared, report.ended) == (3, 1, 2, 3)
    assert report.outputs.n == 3
    assert report.results[1].tensors()["prediction"].tolist() == [12, 13]


def test_bad_rows_are_told_by_their_index_in_their_own_request():
    runtime = SeenRuntime()
    report = compute(runtime, [(1, "x"), (2, "x")], [(3, "x"), (4, "z"), (2e6, "z")], [(5, "y")])
    assert summary(report) == [[11, 12], InvalidRows, [15]]
    assert [(f.row, f.field) for f in report.results[1].details] == [(1, "s"), (2, "a"), (2, "s")]
    assert runtime.runs == [[1, 2, 5]]
    assert report.rows == 3


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("odd"), "the model failed: ValueError: odd"),
        (FeatureError("features.py: odd"), "features.py: odd"),
        (PredictionFailed("odd"), "odd"),
        (MemoryError("much"), "the model failed: MemoryError: much"),
    ],
)
def test_a_failure_is_tracked_down_to_its_request(error, message):
    runtime = SeenRuntime(poison=2, error=error)
    report = compute(runtime, [(1, "x")], [(2, "x"), (9, "x")], [(3, "x")])
    assert summary(report) == [[11], PredictionFailed, [13]]
    assert str(report.results[1]) == message
    assert report.outputs.rows() == [{"prediction": 11}, {"prediction": 13}]


def test_where_nothing_could_be_computed_there_are_no_outputs():
    for report in (compute(SeenRuntime(poison=1), [(1, "x")], [(1, "x")]), compute(SeenRuntime(), [(1, "z")])):
        assert (report.rows, report.outputs) == (0, None)
        assert not any(isinstance(r, Answer) for r in report.results)


def test_what_was_prepared_before_it_failed_counts_as_preparing():
    # Together: begun at 1, ready at 2, failed. Then each alone, a second for each of the three readings of its clock.
    report = compute(SeenRuntime(poison=2), [(1, "x")], [(2, "x")], [(3, "x")])
    assert (report.started, report.prepared - report.started) == (1, 1 + 2 + 1)
    assert report.ended > report.prepared
    # Nothing but bad rows: all of it was preparing.
    report = compute(SeenRuntime(), [(1, "z")])
    assert (report.started, report.prepared, report.ended) == (1, 2, 3)
