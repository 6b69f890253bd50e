import stat
import sys
import time

import pytest

from ekiben.state.control import memory_control
from ekiben.state.windows import Window, WindowKey
from ekiben.state.workers import WorkerState
from load_tests.bench import routing
from load_tests.bench.contestants import Contestant, Workplace
from load_tests.bench.heats import Heat
from load_tests.bench.models import BenchModel
from load_tests.bench.open_loop import Outcome
from load_tests.bench.procfs import CpuUse
from load_tests.bench.protocols import own_json
from load_tests.bench.race import Course
from load_tests.bench.results import Results
from load_tests.bench.routing import RoutingTrial, shadow_record
from load_tests.bench.sides import CHAMPION_VERSION, SECOND_VERSION, SIDES

# Answers the sum of the row.
SERVER = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        row = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        out = json.dumps([sum(row)]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 100
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
RESULT = "RESULT duration_us=1000000 p50_us=900 p99_us=2000 max_us=3000 connect=0 read=0 write=0 timeout=0 status_200={}"
ROWS = [[1.0, 2.0], [5.0, 5.0]]
EKIBEN = Contestant(
    name="ekiben",
    command=lambda start: [sys.executable, "-c", SERVER, str(start.port)],
    environ=lambda _start: {},
    protocols=(own_json(lambda _model: "/predict", lambda rows: rows[0], lambda answer: answer),),
)
CPU = CpuUse(server_us_per_request=1, server_cores=1, client_cores=0.1, noise_percent=0)


def _model(name):
    return BenchModel(name=name, file="/none.onnx", task="tensor", rows=ROWS, answers=[[sum(r)] for r in ROWS], decimals=1)


class Workers:
    """What a server's workers do in the control database while the trial sleeps: follow every route, and say what happened."""

    def __init__(self, control, windows, count=1):
        self.control, self.windows, self.count = control, windows, count
        self.routes = []
        self.second = None

    def sleep(self, _seconds):
        routes = self.control.routes.all()
        self.routes += [] if self.routes[-1:] == [routes] else [routes]
        versions = {model: (CHAMPION_VERSION, *route.versions()) for model, route in routes.items()}
        for n in range(self.count):
            self.control.workers.say(WorkerState(id=str(n), versions=versions, generation=self.control.generation()))
        self.second = self.second or int(time.time())
        self.control.windows.add("0", [(WindowKey(model, *arm, self.second), window) for model, arm, window in self.windows])


@pytest.fixture
def trial(tmp_path, monkeypatch):
    """Runs a trial against a small server, with a wrk that only writes down how it was called and found so many answers."""
    monkeypatch.setattr("load_tests.bench.servers._IDLE_WINDOW_S", 0.05)
    monkeypatch.setattr(routing, "SETTLE_S", 0.1)

    def run(*windows, answered=40, count=1, **course):
        wrk = tmp_path / "wrk"
        wrk.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\necho "{RESULT.format(answered)}"\n')
        wrk.chmod(wrk.stat().st_mode | stat.S_IXUSR)
        control = memory_control()
        workers = Workers(control, windows, count)
        defaults = {"models": {"tabular": (1, 8)}, "workers": (count,), "peers": SIDES, "protocols": (), "seconds": 0.4, "rounds": 1}
        said = []
        results = Results(started="", machine={}, options={}, routed=[], shadows=[], failures=[])
        RoutingTrial(
            Course(**{**defaults, **course}, with_overload=False),
            server=EKIBEN,
            models={name: _model(name) for name in ("tabular", "mlp")},
            place=Workplace(folder=tmp_path, pythons={}, ekiben_models={}),
            control=control,
            wrk=str(wrk),
            say=said.append,
            sleep=workers.sleep,
        ).run(results)
        assert control.routes.all() == {}, "the next server finds the same database"
        calls = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
        return results, workers.routes, calls, said

    return run


def _window(version, arm, **numbers):
    return "tabular", (version, arm), Window(**numbers)


# Each side warms up once a turn: of 40 answers a load, the routed side has 160, the split one 80.
ROUTED = _window(CHAMPION_VERSION, "challenger", ok=80)
SPLIT = _window(SECOND_VERSION, "challenger", ok=40)


@pytest.mark.processes
def test_routes_take_turns_on_one_server(trial):
    results, routes, calls, said = trial(ROUTED, SPLIT, peers=("ekiben-routed", "ekiben-split"), count=2)

    assert results.failures == []
    assert [r.peer for r in results.routed] == ["ekiben", "ekiben-routed", "ekiben-split", "ekiben-routed", "ekiben"]
    assert {(r.workers, r.connections, r.load.answered) for r in results.routed} == {(2, 8, 40)}
    assert [route["tabular"].rollout if route else "" for route in routes] == [
        "", "tabular-ekiben-routed", "tabular-ekiben-split", "tabular-ekiben-routed", "",
    ]  # fmt: skip
    assert len(calls) == 10, "a warm-up before each turn"
    assert len({call.split()[7] for call in calls}) == 1, "one server all along"
    assert "ekiben-routed · tabular · 2 workers · 8 connections: 40 rps" in said


@pytest.mark.processes
@pytest.mark.parametrize(("ok", "percent"), [(0, "0.0"), (35, "43.8"), (46, "57.5")])
def test_a_route_that_is_not_followed_is_no_measurement(trial, ok, percent):
    results, _, _, _ = trial(_window(CHAMPION_VERSION, "challenger", ok=ok), peers=("ekiben-routed",))

    assert results.routed == []
    assert f"ekiben-routed: {percent} % of the requests went to the arm on trial; it must be 50 %" in results.failures[0].problem


@pytest.mark.processes
def test_a_shadow_is_measured_at_a_share_of_the_capacity(trial):
    results, routes, calls, said = trial(
        _window(SECOND_VERSION, "shadow", compared=4), peers=("ekiben-shadow",), answered=120, workers=(1, 2)
    )

    assert results.failures == []
    assert [r.side for r in results.shadows] == ["ekiben", "ekiben-shadow", "ekiben"]
    assert {(r.model, r.capacity_rps, r.rate, r.scheduled) for r in results.shadows} == {("tabular", 120.0, 12.0, 6)}
    assert [r.computed_percent for r in results.shadows] == [None, 66.7, None]
    assert all(r.statuses == {"200": 6} and 0 < r.p50_ms <= r.p99_ms for r in results.shadows)
    assert [bool(route) for route in routes] == [False, True, False]
    assert len(calls) == 2, "a warm-up and the capacity, and one worker only"
    assert any(line.startswith("ekiben-shadow · tabular · 1 worker · 12 rps: p99 ") for line in said)


@pytest.mark.processes
def test_where_nothing_is_answered_there_is_no_capacity(trial):
    results, _, _, _ = trial(peers=("ekiben-shadow",), answered=0)

    assert results.shadows == []
    assert "no request was answered while the capacity was measured" in results.failures[0].problem


@pytest.mark.processes
def test_a_rate_at_which_nothing_is_answered_is_noted(trial, monkeypatch):
    monkeypatch.setattr(routing, "run_open_loop", lambda plan: Outcome(scheduled=1, seconds=plan.seconds, statuses={"503": 6}))

    results, _, _, _ = trial(peers=("ekiben-shadow",))

    assert results.shadows == []
    assert "ekiben: no request was answered with 200: {'503': 6}" in results.failures[0].problem


def test_only_what_was_chosen_is_measured(trial):
    for course in (
        {"peers": ("ekiben", "raw")},
        {"models": {"wide": (8,)}},
        {"models": {"tabular": (1,)}, "peers": ("ekiben-routed",)},
        {"models": {"mlp": (8,)}, "peers": ("ekiben-routed", "ekiben-split")},
    ):
        results, routes, calls, _ = trial(**course)
        assert (results.routed, results.shadows, results.failures, routes, calls) == ([], [], [], [], [])


def test_the_first_second_of_an_open_loop_does_not_count():
    accepted = [(0.2, 900.0), (0.99, 800.0), (1.0, 3.0), (1.5, 1.0), (2.5, 2.0)]
    outcome = Outcome(scheduled=12, seconds=3.0, statuses={"503": 1, "200": 5}, accepted=accepted, late_ms=1.234)

    record = shadow_record(outcome, CPU, heat=Heat(EKIBEN, _model("mlp"), 1, 2), side="ekiben-shadow", capacity_rps=13.0)

    assert (record.p50_ms, record.p99_ms, record.rate, record.scheduled, record.late_ms) == (2.0, 3.0, 4.0, 12, 1.23)
    assert (record.side, record.model, record.round, list(record.statuses)) == ("ekiben-shadow", "mlp", 2, ["200", "503"])
