from __future__ import annotations

import asyncio
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from ekiben.errors import DeadlineExceeded, InvalidRows, PredictionFailed, RowError
from ekiben.model.outputs import Outputs
from ekiben.monitoring.metrics import Metrics
from ekiben.serving.arm_record import window_of
from ekiben.serving.batch_run import Answer, BatchReport, Pending
from ekiben.serving.loaded_version import VersionRecord
from ekiben.state.histogram import Histogram


class Call(msgspec.Struct):
    record: object
    request_id: str = "r"
    key: str | None = None


class Shadow:
    def __init__(self):
        self.offers = []

    def offer(self, report, champion):
        self.offers.append((report, champion))


@pytest.fixture
def collectors():
    return CollectorRegistry()


@pytest.fixture
def record(collectors, tiny_spec):
    made = VersionRecord(Metrics(collectors, wall=lambda: 1000.0), tiny_spec, "1")
    for arm in ("champion", "pinned", "challenger"):
        made.arm(arm).exposes = True
    return made


def outputs(n: int) -> Outputs:
    """Every second row is a yes."""
    index = np.arange(n) % 2
    return Outputs(n, {"probabilities": np.stack([1.0 - index, index], axis=1).astype(np.float32)}, ("no", "yes"), index, 0.5)


def pending(n: int, call: Call | None = None, *, received: float = 0.0, queued: float = 1.0) -> Pending:
    return Pending([[0.0] * 4] * n, n, received, 99.0, queued, None, None, call)


def report(members, results, whole) -> BatchReport:
    is_whole = all(isinstance(r, Answer) and r.outputs is whole for r in results) and sum(p.n for p in members) == whole.n
    return BatchReport(whole.n if whole is not None else 0, 2.0, 2.5, 4.0, members, results, whole, is_whole)


def answers(whole: Outputs, *sizes: int) -> list[Answer]:
    starts = np.cumsum([0, *sizes]).tolist()
    return [Answer(whole, a, b) for a, b in pairwise(starts)]


def taken(record: VersionRecord, arm: str):
    record.split()
    return record.arm(arm).take()


def test_a_batch_of_one_arm(record, collectors):
    whole = outputs(5)
    record.batch(report([pending(2), pending(3, received=1.0)], answers(whole, 2, 3), whole))
    window = window_of(taken(record, "champion"))
    assert (window.ok, window.classes, window.scores.n) == (2, {"no": 3, "yes": 2}, 5)
    assert window.latency == Histogram.of([4.0, 3.0])
    assert window.compute == Histogram.of([2.0, 2.0])
    labels = {"model": "tiny", "version": "1"}
    record.metrics.write(0)
    assert collectors.get_sample_value("ekiben_queue_seconds_sum", labels) == 2.0
    assert collectors.get_sample_value("ekiben_predicted_rows_total", labels) == 5


def test_answers_are_held_against_the_specs_budget(record, tiny_spec, collectors):
    whole = outputs(3)
    just_in_time = 4.0 - tiny_spec.latency_budget_ms / 1000 + 0.001
    members = [pending(1), pending(1, received=just_in_time), pending(1, received=just_in_time - 0.002)]
    record.batch(report(members, answers(whole, 1, 1, 1), whole))
    record.write_metrics(0)
    labels = {"model": "tiny", "version": "1", "arm": "champion"}
    assert collectors.get_sample_value("ekiben_over_latency_budget_total", labels) == 2


def test_the_arms_that_share_a_batch_are_told_apart(record):
    whole = outputs(6)
    calls = [Call(record.arm(arm)) for arm in ("champion", "pinned", "champion")]
    record.batch(report([pending(1, calls[0]), pending(3, calls[1]), pending(2, calls[2])], answers(whole, 1, 3, 2), whole))
    champion, pinned = window_of(taken(record, "champion")), window_of(taken(record, "pinned"))
    assert (champion.ok, champion.classes) == (2, {"no": 2, "yes": 1})
    assert (pinned.ok, pinned.classes) == (1, {"no": 1, "yes": 2})


def test_errors_belong_to_their_arm(record, collectors):
    whole = outputs(2)
    calls = [Call(record.arm(arm)) for arm in ("challenger", "champion", "challenger")]
    bad = InvalidRows([RowError(0, "d", 99, "rule")])
    members = [pending(1, calls[0]), pending(2, calls[1]), pending(1, calls[2], received=1.5)]
    record.batch(report(members, [bad, Answer(whole, 0, 2), PredictionFailed("x")], whole))
    challenger = window_of(taken(record, "challenger"))
    assert (challenger.ok, challenger.invalid, challenger.errors) == (0, 1, {"PredictionFailed": 1})
    assert window_of(taken(record, "champion")).ok == 1
    labels = {"model": "tiny", "version": "1", "arm": "challenger"}
    assert collectors.get_sample_value("ekiben_failed_seconds_total", labels) == 4.0 + 2.5


def test_a_batch_of_one_arm_in_which_a_request_failed(record):
    whole = outputs(2)
    bad = InvalidRows([RowError(0, "d", 99, "rule")])
    record.batch(report([pending(1), pending(2), pending(1)], [bad, Answer(whole, 0, 2), PredictionFailed("x")], whole))
    window = window_of(taken(record, "champion"))
    assert (window.ok, window.invalid, window.errors) == (1, 1, {"PredictionFailed": 1})
    assert window.classes == {"no": 1, "yes": 1}


def test_a_batch_of_which_nothing_could_be_computed_is_no_batch_of_rows(record, collectors):
    record.batch(report([pending(1)], [DeadlineExceeded("x")], None))
    record.metrics.write(0)
    assert collectors.get_sample_value("ekiben_batch_size_count", {"model": "tiny", "version": "1"}) == 0
    assert window_of(taken(record, "champion")).errors == {"DeadlineExceeded": 1}


def test_rows_of_requests_that_are_gone_are_nobodys(record, collectors):
    """The batcher leaves out who was answered meanwhile, at the deadline: the rows were computed, and not answered."""
    whole = outputs(5)
    record.batch(report([pending(2)], [Answer(whole, 3, 5)], whole))
    window = window_of(taken(record, "champion"))
    assert (window.ok, window.classes, window.scores.n) == (1, {"no": 1, "yes": 1}, 2)
    record.metrics.write(0)
    assert collectors.get_sample_value("ekiben_predicted_rows_total", {"model": "tiny", "version": "1"}) == 5


def test_requests_that_were_run_one_by_one(record):
    """Each has outputs of its own, and those of the batch are all of them."""
    parts = [outputs(2), outputs(3)]
    record.batch(report([pending(2), pending(3)], [Answer(p, 0, p.n) for p in parts], Outputs.join(parts)))
    window = window_of(taken(record, "champion"))
    assert (window.ok, window.classes) == (2, {"no": 3, "yes": 2})


def test_batches_of_several_arms_are_split_together(record):
    challenger, champion = record.arm("challenger"), record.arm("champion")
    for sizes in ((1, 1, 1), (2, 1, 3)):
        whole = outputs(sum(sizes))
        calls = [Call(challenger), Call(champion), Call(challenger)]
        members = [pending(n, call, received=float(i)) for i, (n, call) in enumerate(zip(sizes, calls, strict=True))]
        record.batch(report(members, answers(whole, *sizes), whole))
    assert not champion.take(), "they are split when somebody asks"
    taken = dict(record.take())
    assert taken["challenger"].latencies == [4.0, 2.0, 4.0, 2.0]
    assert taken["champion"].latencies == [3.0, 3.0]
    assert (taken["challenger"].computes, taken["champion"].computes) == ([(2.0, 2), (2.0, 2)], [(2.0, 1), (2.0, 1)])
    windows = {arm: window_of(happened) for arm, happened in taken.items()}
    # Rows 0 and 2 of the first batch, 0 and 1 and 3 to 5 of the second; every second row is a yes.
    assert windows["challenger"].classes == {"no": 4, "yes": 3}
    assert windows["champion"].classes == {"no": 1, "yes": 1}
    assert not dict(record.take())["champion"]


def test_batches_of_several_arms_of_a_model_without_scores(steady):
    record = VersionRecord(Metrics(CollectorRegistry()), steady.server.host.find("grid", None).spec, "1")
    whole = Outputs(2, {"image": np.zeros((2, 2))})
    calls = [Call(record.arm("challenger")), Call(record.arm("champion"))]
    record.batch(report([pending(1, call) for call in calls], answers(whole, 1, 1), whole))
    taken = dict(record.take())
    assert [(len(taken[arm].latencies), taken[arm].outputs) for arm in ("challenger", "champion")] == [(1, []), (1, [])]


def test_shadows_are_offered_every_batch(record):
    record.shadows = (Shadow(), Shadow())
    whole = outputs(1)
    batch = report([pending(1)], answers(whole, 1), whole)
    record.batch(batch)
    for shadow in record.shadows:
        assert shadow.offers == [(batch, record.arm("champion"))]


def test_an_arm_is_made_once_and_says_who_answered(record):
    assert record.arm("blue") is record.arm("blue")
    assert record.arm("blue").headers == [(b"x-model-version", b"1"), (b"x-model-arm", b"blue")]


@pytest.mark.parametrize(("model", "kept"), [("tiny", 1), ("plane", 1), ("grid", 0)])
def test_rows_are_kept_where_a_row_has_a_prediction(steady, model, kept):
    record = VersionRecord(Metrics(CollectorRegistry()), steady.server.host.find(model, None).spec, "1")
    record.arm("champion").exposes = True
    whole = Outputs(1, {"prediction": np.zeros(1)})
    record.batch(report([pending(1)], [Answer(whole, 0, 1)], whole))
    assert len(record.arm("champion").take().outputs) == kept


def test_a_loaded_version_answers_until_it_is_drained(start, registry, tiny_artifact, monkeypatch):
    monkeypatch.setattr("ekiben.serving.host.POLL_S", 60.0)  # what is written is what the drain writes
    registry.register(tiny_artifact.path, tag="tiny:1")
    serving = start("tiny")
    served = serving.server.host.find("tiny", None)
    assert (served.model, served.version, served.timeout_s, served.spec.name) == ("tiny", "1", 1.0, "tiny")
    assert served.load_s == serving.metric("ekiben_model_load_seconds", model="tiny") > 0

    async def drained():
        await asyncio.wait_for(served.drain(), 10)

    def seen(name, **labels):
        return serving.metrics.get_sample_value(name, {"model": "tiny", "version": "1", **labels})

    serving.predict("tiny", [[1, 2, None, -3]])
    assert seen("ekiben_predictions_total", arm="champion", status="ok") == 0
    serving.thread.run(drained())
    assert seen("ekiben_last_inference_timestamp_seconds") > 0
    assert seen("ekiben_predictions_total", arm="champion", status="ok") == 1
    assert seen("ekiben_predicted_rows_total") == 1
    assert sum(seen("ekiben_prediction_distribution", arm="champion", **{"class": label}) for label in ("no", "yes")) == 1
