from __future__ import annotations

import math
import sys

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from ekiben.errors import (
    DeadlineExceeded,
    InvalidRequest,
    InvalidRows,
    NotReady,
    PredictionFailed,
    QueueFull,
    RequestError,
    RowError,
    UnsupportedMediaType,
)
from ekiben.model.outputs import Outputs
from ekiben.monitoring.metrics import Metrics
from ekiben.serving.arm_record import EXPOSED_PER_S, ArmRecord, Compared, Sample, Taken, exposures_of, has_scores, scores_of, window_of
from ekiben.serving.batch_run import Answer
from ekiben.state.histogram import Histogram
from ekiben.state.truth import Exposure
from ekiben.state.windows import Window

LABELS = ("no", "yes")


class Request(msgspec.Struct):
    request_id: str
    key: str | None = None


def binary(*positive: float, threshold: float = 0.5) -> Outputs:
    """A binary classifier's answers."""
    probabilities = np.array([[1 - p, p] for p in positive], np.float32)
    index = (probabilities[:, 1] >= threshold).astype(np.intp)
    return Outputs(len(positive), {"probabilities": probabilities}, LABELS, index, threshold)


def several(*rows: list[float]) -> Outputs:
    """A classifier's of several classes."""
    probabilities = np.array(rows, np.float32)
    return Outputs(len(rows), {"probabilities": probabilities}, ("a", "b", "c"), probabilities.argmax(axis=1))


def numbers(*values: float) -> Outputs:
    """A regressor's."""
    return Outputs(len(values), {"prediction": np.array(values, np.float32)})


@pytest.fixture
def collectors():
    return CollectorRegistry()


@pytest.fixture
def make(collectors):
    metrics = Metrics(collectors)

    def record(labels=LABELS, *, has_scores=True, exposes=True) -> ArmRecord:
        made = ArmRecord(metrics.arm("m", "1", "challenger", labels), lambda: 1000.5, headers=[], has_scores=has_scores)
        made.exposes = exposes
        return made

    return record


def rows(outputs: Outputs, start: int, stop: int) -> Answer:
    """The rows of one request."""
    return Answer(outputs, start, stop)


def windowed(record: ArmRecord) -> Window:
    return window_of(record.take())


# windows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_an_empty_window(make):
    taken = make().take()
    assert not taken
    assert window_of(taken) == Window()


def test_a_batch_that_answered_requests(make):
    record = make()
    outputs = binary(0.25, 0.75, 0.5, 0.0)
    record.answered([0.01, 0.02, 0.04], [(0.005, 3)], [(outputs, 0, 4)])
    record.answered([0.08], [(0.007, 1)], [(outputs, 1, 2)])
    window = windowed(record)
    assert window == Window(
        ok=4,
        latency=Histogram.of([0.01, 0.02, 0.04, 0.08]),
        compute=Histogram.of([0.005, 0.005, 0.005, 0.007]),
        classes={"no": 2, "yes": 3},
        scores=Histogram.of([0.25, 0.75, 0.5, 0.0, 0.75]),
    )


def test_what_was_taken_is_not_taken_again(make):
    record = make()
    record.answered([0.01], [(0.005, 1)], [(binary(0.25), 0, 1)])
    assert record.take()
    assert not record.take()


def test_while_no_rollout_runs_nobody_looks_at_scores(make, collectors):
    record = make(exposes=False)
    record.answered([0.01], [(0.005, 1)], [(binary(0.25, 0.75), 0, 2)])
    taken = record.take()
    assert taken.outputs == []
    assert window_of(taken) == Window(ok=1, latency=Histogram.of([0.01]), compute=Histogram.of([0.005]))
    record.metrics.write()
    labels = {"model": "m", "version": "1", "arm": "challenger", "class": "yes"}
    assert collectors.get_sample_value("ekiben_prediction_distribution", labels) == 1


def test_what_is_kept_of_answers_does_not_keep_the_rows_that_were_made_to_answer(make):
    record = make()
    outputs = binary(0.25, 0.75)
    made = outputs.rows()
    record.answered([0.01], [(0.005, 1)], [(outputs, 0, 2)])
    record.keep(Request("r-1"), rows(outputs, 0, 2))
    del outputs
    assert sys.getrefcount(made) == 2  # this function's, and the argument's
    assert windowed(record).classes == {"no": 1, "yes": 1}


def test_a_regressor_has_scores_and_no_classes(make):
    record = make(())
    record.answered([0.01], [(0.005, 1)], [(numbers(1.0, -2.0, 0.0), 0, 2)])
    window = windowed(record)
    assert window.classes == {}
    assert window.scores == Histogram.of([1.0, -2.0])


def test_of_a_model_without_predictions_no_rows_are_kept(make):
    record = make((), has_scores=False)
    record.answered([0.01], [(0.005, 1)], [(Outputs(1, {"image": np.zeros((1, 1000, 1000))}), 0, 1)])
    taken = record.take()
    assert taken.outputs == []
    assert window_of(taken).ok == 1


def test_a_shadow_computes_requests_and_answers_nobody(make, collectors):
    record = make()
    record.answered([], [(0.5, 2)], [(binary(0.25, 0.75), 0, 1), (binary(0.9), 0, 1)])
    taken = record.take()
    assert taken
    window = window_of(taken)
    assert (window.ok, window.latency.n, window.compute) == (2, 0, Histogram.of([0.5, 0.5]))
    assert window.classes == {"no": 1, "yes": 1}
    record.metrics.write()
    names = {"model": "m", "version": "1", "arm": "challenger"}
    assert collectors.get_sample_value("ekiben_predictions_total", {**names, "status": "ok"}) == 0
    assert collectors.get_sample_value("ekiben_prediction_distribution", {**names, "class": "yes"}) == 1


def test_requests_of_a_run_that_is_not_timed_are_counted_and_its_time_is_not(make):
    record = make()
    record.answered([], [(math.nan, 2)], [(binary(0.25, 0.75, 0.9), 0, 3)])
    record.answered([], [(0.5, 1)], [(binary(0.5), 0, 1)])
    window = windowed(record)
    assert (window.ok, window.compute) == (3, Histogram.of([0.5]))
    assert window.classes == {"no": 1, "yes": 3}
    assert window.scores == Histogram.of(np.array([0.25, 0.75, 0.9, 0.5], np.float32))


@pytest.mark.parametrize(
    ("error", "is_clients"),
    [
        (InvalidRequest("x"), True),
        (InvalidRows([RowError(0, "a", 1, "rule")]), True),
        (UnsupportedMediaType("x"), True),
        (PredictionFailed("x"), False),
        (QueueFull("x"), False),
        (NotReady("x"), False),
        (DeadlineExceeded("x"), False),
        (RequestError("x"), False),
    ],
)
def test_errors_are_the_clients_or_not(make, error, is_clients):
    record = make()
    record.failed(iter([error, error]), 0.5)
    window = windowed(record)
    assert window.invalid == (2 if is_clients else 0)
    assert window.errors == ({} if is_clients else {type(error).__name__: 2})


def test_errors_by_their_names(make):
    record = make()
    record.failed([PredictionFailed("x"), QueueFull("x")], 0.1)
    record.failed([PredictionFailed("x")], 0.1)
    assert windowed(record).errors == {"PredictionFailed": 2, "QueueFull": 1}


def test_fallbacks_comparisons_and_what_was_dropped(make, collectors):
    record = make()
    record.fell_back()
    record.compared(Compared(2, np.array([0.0, 0.25, 0.5])))
    record.compared(Compared(1, np.array([0.125])))
    record.dropped(7)
    record.dropped(1)
    window = windowed(record)
    assert (window.fallbacks, window.compared, window.agreed, window.dropped) == (1, 4, 3, 8)
    assert window.differences == Histogram.of([0.0, 0.25, 0.5, 0.125])
    rows = {
        r: collectors.get_sample_value("ekiben_shadow_rows_total", {"model": "m", "version": "1", "result": r})
        for r in ("agreed", "differed")
    }
    assert rows == {"agreed": 3, "differed": 1}


@pytest.mark.parametrize(
    "happened",
    [{"latencies": [0.1]}, {"errors": {"X": 1}}, {"invalid": 1}, {"fallbacks": 1}, {"dropped": 1}, {"computes": [(0.1, 1)]}],
)
def test_anything_that_happened_makes_a_window(happened):
    assert Taken(**happened)
    assert not Taken()


# scores ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_score_of_a_row():
    assert scores_of(binary(0.25, 0.75, 0.5).take(1, 3)).tolist() == [0.75, 0.5]
    assert scores_of(binary(0.25, threshold=0.1)).tolist() == [0.25]
    assert scores_of(several([0.5, 0.25, 0.25], [0.125, 0.125, 0.75])).tolist() == [0.5, 0.75]
    assert scores_of(numbers(3.0, 4.0)).tolist() == [3.0, 4.0]
    assert scores_of(Outputs(2, {"prediction": np.array([[1, 9], [2, 9]])})).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("outputs", "has"),
    [
        (binary(0.5), True),
        (several([1, 0, 0]), True),
        (numbers(1.0), True),
        (Outputs(1, {"prediction": np.array([True])}), True),
        (Outputs(1, {"prediction": np.array(["text"], object)}), False),
        (Outputs(1, {"prediction": np.array([[1.0, 2.0]])}), False),
        (Outputs(1, {"image": np.zeros((1, 2))}), False),
    ],
)
def test_which_outputs_have_a_score_a_row(outputs, has):
    assert has_scores(outputs) is has


# exposures ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def exposed(record: ArmRecord) -> list[Exposure]:
    return exposures_of(record.take(), "m", "2", "challenger")


COMMON = {"model": "m", "version": "2", "arm": "challenger", "time": 1000.5}


def test_exposures_of_a_classifier(make):
    record = make()
    outputs = binary(0.25, 0.75, 0.5)
    record.keep(Request("r-1", "ann"), rows(outputs, 0, 2))
    record.keep(Request("r-2"), rows(outputs, 2, 3))
    assert exposed(record) == [
        Exposure(request_id="r-1", row=0, key="ann", prediction="no", score=0.25, **COMMON),
        Exposure(request_id="r-1", row=1, key="ann", prediction="yes", score=0.75, **COMMON),
        Exposure(request_id="r-2", row=0, key="r-2", prediction="yes", score=0.5, **COMMON),
    ]


def test_exposures_of_a_classifier_of_several_classes(make):
    record = make(("a", "b", "c"))
    record.keep(Request("r-1", "ann"), rows(several([0.5, 0.25, 0.25], [0.125, 0.125, 0.75]), 1, 2))
    assert exposed(record) == [Exposure(request_id="r-1", row=0, key="ann", prediction="c", score=0.75, **COMMON)]


def test_exposures_of_a_regressor(make):
    record = make(())
    record.keep(Request("r-1", "ann"), rows(numbers(1.5, 2.5), 1, 2))
    assert exposed(record) == [Exposure(request_id="r-1", row=0, key="ann", prediction=2.5, **COMMON)]


@pytest.mark.parametrize(
    "array", [np.array(["text", "more"], object), np.zeros((2, 3)), np.array([[1.0, 2.0], [3.0, 4.0]])], ids=["text", "image", "pairs"]
)
@pytest.mark.parametrize("name", ["prediction", "image"])
def test_exposures_of_what_is_neither_class_nor_number(make, array, name):
    record = make((), has_scores=False)
    record.keep(Request("r-1", "ann"), rows(Outputs(2, {name: array}), 0, 2))
    assert [(e.row, e.prediction, e.score) for e in exposed(record)] == [(0, None, None), (1, None, None)]


def test_an_arm_that_is_not_on_trial_keeps_nothing(make):
    record = make(exposes=False)
    record.keep(Request("r"), rows(binary(0.5), 0, 1))
    assert exposed(record) == []


def test_of_more_requests_than_are_kept_a_sample_of_the_users_is_kept():
    sample = Sample()
    assert sample.below == 1 << 64  # nobody is left out before it is known how many there are
    sample.follow(20 * EXPOSED_PER_S, 100.0)
    assert sample.below == (1 << 64) // 20
    sample.follow(5 * EXPOSED_PER_S, 100.5)  # the second is not over
    sample.follow(5 * EXPOSED_PER_S, 101.0)
    assert sample.below == (1 << 64) // 10
    sample.follow(EXPOSED_PER_S, 102.5)  # what was seen in a quiet second fits whole
    assert sample.below == 1 << 64


def test_a_sudden_load_keeps_no_more_than_twice_as_many(make):
    record = make()
    for n in range(3 * EXPOSED_PER_S):
        record.keep(Request(f"r-{n}"), rows(binary(0.5, 0.25, 0.75), 0, 3))
    kept = exposed(record)
    assert len(kept) == 2 * EXPOSED_PER_S
    assert (kept[-1].request_id, kept[-1].row) == ("r-133", 0)  # of the last request there was room for one row


def test_the_arms_of_a_model_share_the_room(make):
    one, other = make(), make()
    other.sample = one.sample
    for n in range(2 * EXPOSED_PER_S):
        one.keep(Request(f"r-{n}"), rows(binary(0.5), 0, 1))
    other.keep(Request("late"), rows(binary(0.5), 0, 1))
    assert len(exposed(one)) == 2 * EXPOSED_PER_S
    assert exposed(other) == []


def test_a_clock_that_was_put_back_begins_another_second():
    sample = Sample()
    sample.follow(1, 1000.0)
    assert [sample.room(2 * EXPOSED_PER_S), sample.room(1)] == [2 * EXPOSED_PER_S, 0]
    sample.follow(1, 900.0)
    assert sample.room(1) == 1


def test_what_was_exposed_alone_makes_no_window(make):
    record = make()
    record.keep(Request("r"), rows(binary(0.5), 0, 1))
    assert not record.take()
