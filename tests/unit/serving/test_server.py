import asyncio
import logging
import re
import signal
import sys
import time

import pytest
from prometheus_client import CollectorRegistry
from unit.serving.inprocess import Fallback, Trouble, troubled

from ekiben.errors import InvalidRequest, InvalidRows, NotReady
from ekiben.model import Predictor
from ekiben.monitoring.metrics import Metrics
from ekiben.rollout.status import LEASE
from ekiben.serving.control_view import ControlView, LastKnown
from ekiben.serving.server import SWITCH_INTERVAL_S, Server
from ekiben.settings import Settings
from ekiben.state import memory_control
from ekiben.state.rollouts import Change
from ekiben.state.routes import Arm, Kept, Route, SlotRange

ROW = {"a": 1.0, "b": 2.0, "c": None, "d": -3.0}
TO_CHALLENGER = Route(rollout="tiny-1", arms=(Arm("challenger", "2"),), slots=(SlotRange(0, 10_000, "challenger"),))


# metrics, end to end ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_request_is_counted_once_by_how_it_ended(serving, tiny_artifact, tiny_rows):
    rows = tiny_rows(10)
    for n in range(4):
        assert serving.predict("tiny", rows[n : n + 2]).status_code == 200
    serving.predict("tiny", [{**ROW, "d": 99}])
    serving.predict("tiny", [{**ROW, "x": 1}])
    serving.predict("tiny", [])
    serving.post("/v1/models/tiny:predict", content=b"{")
    serving.post("/v2/models/tiny/infer", content=b"{}")
    serving.predict("tiny", [ROW], headers={"x-request-timeout-ms": "0.0001"})
    counted = {
        status: serving.metric("ekiben_predictions_total", model="tiny", version="1", status=status)
        for status in ("ok", "invalid", "refused", "expired", "failed")
    }
    assert counted == {"ok": 4, "invalid": 5, "refused": 0, "expired": 1, "failed": 0}
    errors = {
        name: serving.metric("ekiben_prediction_errors_total", model="tiny", error=name)
        for name in ("InvalidRows", "InvalidRequest", "DeadlineExceeded")
    }
    assert errors == {"InvalidRows": 2, "InvalidRequest": 3, "DeadlineExceeded": 1}
    assert serving.metric("ekiben_predicted_rows_total", model="tiny") == 8
    assert serving.metric("ekiben_batch_size_count", model="tiny") == 4
    assert serving.metric("ekiben_batch_size_sum", model="tiny") == 8
    assert serving.metric("ekiben_batch_size_bucket", model="tiny", le="2.0") == 4
    assert serving.metric("ekiben_batch_size_bucket", model="tiny", le="1.0") == 0
    for name in ("ekiben_prediction_latency_seconds", "ekiben_queue_seconds"):
        assert serving.metric(f"{name}_count", model="tiny") == 4
        assert 0 <= serving.metric(f"{name}_sum", model="tiny") < 10
    expected = [e["prediction"] for n in range(4) for e in Predictor.open(tiny_artifact.path).predict(rows[n : n + 2])]
    for label in ("no", "yes"):
        assert serving.metric("ekiben_prediction_distribution", model="tiny", **{"class": label}) == expected.count(label)
    assert serving.metric("ekiben_predictions_total", model="plane") == 0
    assert serving.metric("ekiben_model_load_seconds", model="tiny") > 0


def test_requests_that_share_a_batch_are_counted_each(serving):
    async def ask_together():
        return await asyncio.gather(*(serving.server.predict("plane", [[n, 0, 0]] * 3) for n in range(5)))

    answers = serving.thread.run(ask_together())
    assert [rows[0]["prediction"] for rows in answers] == [n + 0.5 for n in range(5)]
    assert serving.metric("ekiben_predictions_total", model="plane", status="ok") == 5
    assert serving.metric("ekiben_batch_size_count", model="plane") == 1
    assert serving.metric("ekiben_batch_size_sum", model="plane") == 15


# the typed endpoints' way in ─────────────────────────────────────────────────────────────────────────────────────────


def predict(serving, model, rows):
    return serving.thread.run(serving.server.predict(model, rows))


def test_predict_goes_the_way_of_every_request(serving, tiny_artifact, tiny_rows):
    rows = tiny_rows(3)
    assert predict(serving, "tiny", rows) == Predictor.open(tiny_artifact.path).predict(rows)
    assert predict(serving, "grid", [{"image": [[1, 2, 3], [4, 5, 6]]}]) == [{"doubled": [[2, 4, 6], [8, 10, 12]], "total": [21]}]


@pytest.mark.parametrize(
    ("rows", "error"), [([{"a": "x"}], InvalidRows), ([{**ROW, "d": 99}], InvalidRows), ([], InvalidRequest), ("rows", InvalidRequest)]
)
def test_predict_refuses_what_is_wrong_and_counts_it(serving, rows, error):
    with pytest.raises(error):
        predict(serving, "tiny", rows)
    assert serving.metric("ekiben_predictions_total", model="tiny", status="invalid") == 1


def test_predict_without_a_version(start):
    with pytest.raises(NotReady):
        predict(start("ghost"), "ghost", [[1]])


# life ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_starting_prepares_the_process(start, caplog):
    access = logging.getLogger("uvicorn.access")
    access.addHandler(logging.NullHandler())
    start("ghost")
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)
    assert access.handlers == []
    assert not access.propagate
    assert "not ready: ghost: there is no model 'ghost'" in caplog.text


@pytest.fixture
def away(registry, tiny_artifact, another):
    """A control database that is away, and what it says when it is back: tiny:1 is champion, tiny:2 answers everything else."""
    registry.register(tiny_artifact.path, tag="tiny:1")
    registry.register(another(tiny_artifact, "2").path, tag="tiny:2")
    trouble = Trouble()
    control = troubled(memory_control(aliases=registry.aliases, loads=registry.loads), trouble)
    control.rollouts.commit(Change(model="tiny", route=TO_CHALLENGER))
    trouble.methods = None
    return control, trouble


def links(caplog):
    """What was said of the way to the control database."""
    return [r.getMessage().partition(";")[0].partition(" after")[0] for r in caplog.records if r.name == "ekiben.control"]


AWAY, BACK = "the control database is away", "the control database is back"


def test_a_database_that_is_away_at_the_start_is_asked_on_until_it_is_back(start, away, caplog, eventually):
    control, trouble = away
    serving = start("tiny", control=control)
    for path in ("/readyz", "/v2/health/ready"):
        answer = serving.get(path)
        assert answer.status_code == 503
        assert answer.json() == {"error": "not ready: tiny: the disk is on fire"}
        assert answer.headers["retry-after"] == "2"
    assert serving.predict("tiny", [ROW]).status_code == 503
    assert "not ready: tiny: the disk is on fire" in caplog.text
    assert serving.metric("ekiben_control_database_up") == 0
    trouble.methods = set()
    eventually(lambda: serving.get("/readyz").status_code == 200)
    eventually(lambda: serving.get("/readyz").json() == {"ready": True})
    assert serving.predict("tiny", [ROW]).headers["x-model-arm"] == "challenger"
    eventually(lambda: serving.metric("ekiben_control_database_up") == 1)
    assert links(caplog) == [AWAY, BACK]


def test_what_was_known_last_is_served_while_the_database_is_away(start, away, registry, caplog, eventually, tmp_path):
    control, trouble = away
    known = ControlView((7, 7, 7), {"tiny": {"champion": "2"}}, {}, {"tiny": Route(kept=(Kept("1", 9e9),))})
    LastKnown(tmp_path, "memory").write(known)
    serving = start("tiny", control=control)
    ready = serving.get("/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    assert re.fullmatch(
        r"away since 2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00, serving goes on with the last known routes: the disk is on fire",
        ready.json()["details"]["control_database"],
    )
    assert serving.predict("tiny", [ROW]).headers["x-model-version"] == "2"
    assert serving.get("/v2/models/tiny").json()["versions"] == ["1", "2"]
    trouble.methods = set()
    eventually(lambda: serving.get("/readyz").json() == {"ready": True})
    eventually(lambda: serving.predict("tiny", [ROW]).headers["x-model-arm"] == "challenger")
    assert serving.get("/v2/models/tiny").json()["versions"] == ["1", "2"]
    assert links(caplog) == [AWAY, BACK]
    # And what it says now is what would be known.
    eventually(lambda: LastKnown(tmp_path, "memory").read().routes == {"tiny": TO_CHALLENGER})


def test_a_database_that_goes_away_later_takes_nothing_down(start, away, caplog, eventually):
    control, trouble = away
    trouble.methods = set()
    serving = start("tiny", control=control)
    trouble.methods = None
    eventually(lambda: "details" in serving.get("/readyz").json())
    assert serving.predict("tiny", [ROW]).headers["x-model-arm"] == "challenger"
    for _ in range(5):
        serving.thread.run(serving.server.recorder.write())
    assert links(caplog) == [AWAY]
    trouble.methods = set()
    serving.thread.run(serving.server.recorder.write())
    eventually(lambda: serving.get("/readyz").json() == {"ready": True})
    assert links(caplog) == [AWAY, BACK]
    assert control.windows.sum("tiny", 0, 1e12)["2", "challenger"].ok == 1


def test_what_a_worker_has_loaded_is_said_at_once_and_no_more_after_the_stop(start, away, eventually):
    control, trouble = away
    trouble.methods = set()
    serving = start("tiny", control=control)
    eventually(lambda: control.workers.alive(5.0))
    (worker,) = control.workers.alive(5.0)
    assert worker.id == serving.server.recorder.worker
    assert (worker.models, worker.versions, worker.problems) == (("tiny",), {"tiny": ("1", "2")}, {})
    assert worker.follows(control.generation())
    control.rollouts.commit(Change(model="tiny", route=None))
    eventually(lambda: control.workers.alive(5.0)[0].versions == {"tiny": ("1",)})
    assert control.workers.alive(5.0)[0].follows(control.generation())
    serving.predict("tiny", [ROW])
    serving.stop()
    assert control.workers.alive(5.0) == []
    assert control.windows.sum("tiny", 0, 1e12)["1", "champion"].ok == 1


@pytest.mark.parametrize("is_on", [True, False])
def test_the_controller_works_beside_the_server_unless_it_is_off(start, away, eventually, is_on):
    control, trouble = away
    trouble.methods = set()
    serving = start("tiny", control=control, controller=is_on)
    if is_on:
        eventually(lambda: control.leases.holder(LEASE))
        assert control.leases.holder(LEASE) == serving.server.recorder.worker
    time.sleep(0.02)
    assert bool(control.leases.holder(LEASE)) == is_on
    serving.stop()
    # Another worker need not wait until the lease is over.
    assert control.leases.holder(LEASE) is None


def test_the_access_log_goes_to_standard_output_and_what_is_left_is_written_at_the_stop(start, registry, tiny_artifact, capfd):
    registry.register(tiny_artifact.path, tag="tiny:1")
    serving = start("tiny", access_log_rate=1.0)
    serving.predict("tiny", [ROW], headers={"x-request-id": "r-1"})
    serving.stop()
    assert '"request_id":"r-1"' in capfd.readouterr().out


def test_after_the_stop_requests_are_told_to_come_back(start, registry, tiny_artifact):
    registry.register(tiny_artifact.path, tag="tiny:1")
    serving = start("tiny")
    serving.thread.run(serving.server.host.stop())
    answer = serving.predict("tiny", [ROW])
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


# SIGTERM, in the main thread ─────────────────────────────────────────────────────────────────────────────────────────


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def terminate(tmp_path, registry):
    """Runs a server in the main thread, lets a test signal it, and returns when what uvicorn would do was done."""
    before = signal.getsignal(signal.SIGTERM)

    def run(scenario, *, drain_s=0.02, handler=None):
        clock = Clock()
        stopped = []
        signal.signal(signal.SIGTERM, (lambda number, frame: stopped.append(number)) if handler is None else handler)

        async def main():
            settings = Settings(home=tmp_path, database_url="sqlite://", workers=1, drain_s=drain_s)
            server = Server(
                [], settings=settings, registry=registry, metrics=Metrics(CollectorRegistry()), fallback=Fallback(), clock=clock
            )
            await server.start()
            try:
                await scenario(server, clock, stopped)
            finally:
                await server.stop()

        asyncio.run(main())

    yield run
    signal.signal(signal.SIGTERM, before)


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to pass")


def test_sigterm_makes_a_server_unready_at_once_and_stops_it_after_the_drain(terminate):
    async def scenario(server, clock, stopped):
        signal.raise_signal(signal.SIGTERM)
        assert server.plane.draining
        assert stopped == []
        assert server.plane.not_ready() == ["the server is stopping"]
        await until(lambda: stopped)
        assert stopped == [signal.SIGTERM]

    terminate(scenario)


def test_a_second_sigterm_does_not_wait(terminate):
    async def scenario(server, clock, stopped):
        signal.raise_signal(signal.SIGTERM)
        assert stopped == []
        signal.raise_signal(signal.SIGTERM)
        assert stopped == [signal.SIGTERM]

    terminate(scenario, drain_s=3600)


def test_a_server_without_a_drain_stops_at_once(terminate):
    async def scenario(server, clock, stopped):
        signal.raise_signal(signal.SIGTERM)
        assert stopped == [signal.SIGTERM]
        assert server.plane.draining

    terminate(scenario, drain_s=0)


def test_a_signal_that_nobody_handles_is_left_alone(terminate):
    async def scenario(server, clock, stopped):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN

    terminate(scenario, handler=signal.SIG_IGN)
