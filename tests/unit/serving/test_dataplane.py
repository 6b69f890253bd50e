import time

import pytest

from ekiben.errors import DeadlineExceeded, InvalidRequest, QueueFull, UnknownModel

ROW = [1.0, 2.0, None, -3.0]


def infer(serving, call, rows):
    signature = call.served.predictor.signature
    return serving.thread.run(serving.server.plane.infer(call, signature.parse_rows(rows)))


def test_ids_are_never_given_twice(serving):
    plane = serving.server.plane
    ids = [plane.new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert not any(new.startswith(ids[0].split("-", 1)[0]) for new in [type(plane)(plane.host, time.monotonic).new_id()])


def test_the_deadline_is_the_clients_or_the_specs(serving):
    plane = serving.server.plane
    assert plane.admit("tiny", None, received=100.0, timeout_ms=250).deadline == 100.25
    call = plane.admit("tiny", "1", received=100.0, timeout_ms=None)
    assert call.deadline == 101.0
    assert (call.served.version, call.received) == ("1", 100.0)
    with pytest.raises(UnknownModel):
        plane.admit("ghost", None, received=0, timeout_ms=None)


def test_an_admitted_request_is_answered(serving):
    call = serving.server.plane.admit("tiny", None, received=time.monotonic(), timeout_ms=None)
    assert infer(serving, call, [ROW]).rows() == call.served.predictor.predict([ROW])


def test_no_rows_and_too_late_are_refused_and_counted(serving):
    plane = serving.server.plane
    call = plane.admit("tiny", None, received=time.monotonic(), timeout_ms=None)
    with pytest.raises(InvalidRequest, match="no rows"):
        infer(serving, call, [])
    batch = call.served.predictor.signature.batch(call.served.predictor.signature.parse_rows([ROW]))
    with pytest.raises(InvalidRequest, match="no rows"):
        serving.thread.run(plane.infer(call, batch.take(slice(0, 0))))
    late = plane.admit("tiny", None, received=time.monotonic() - 10, timeout_ms=None)
    with pytest.raises(DeadlineExceeded, match="while the request was read"):
        infer(serving, late, [ROW])
    assert serving.metric("ekiben_predictions_total", model="tiny", status="invalid") == 2
    assert serving.metric("ekiben_predictions_total", model="tiny", status="expired") == 1


def test_a_refusal_is_counted(serving, monkeypatch):
    served = serving.server.host.find("tiny", None)

    def refuse(deadline):
        raise QueueFull("too long", retry_after_s=3)

    monkeypatch.setattr(served.batcher, "admit", refuse)
    answer = serving.predict("tiny", [dict(zip("abcd", ROW, strict=True))])
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "3"
    assert serving.metric("ekiben_predictions_total", model="tiny", status="refused") == 1
    assert serving.metric("ekiben_prediction_errors_total", error="QueueFull") == 1


def test_not_ready_while_draining(serving):
    plane = serving.server.plane
    assert plane.not_ready() == []
    plane.draining = True
    assert plane.not_ready() == ["the server is stopping"]
