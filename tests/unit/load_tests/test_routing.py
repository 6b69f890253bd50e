import stat
import sys

import pytest
from unit.load_tests.routed_world import World

from ekiben.state.control import memory_control
from ekiben.state.windows import Window
from load_tests.bench import full_load, routing
from load_tests.bench.contestants import Contestant, Workplace
from load_tests.bench.heats import Heat
from load_tests.bench.models import BenchModel
from load_tests.bench.open_loop import Outcome
from load_tests.bench.procfs import CpuUse
from load_tests.bench.protocols import own_json
from load_tests.bench.race import Course
from load_tests.bench.results import Results
from load_tests.bench.routing import RoutingTrial, shadow_record
from load_tests.bench.sides import SECOND_VERSION, SIDES

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


@pytest.fixture
def trial(tmp_path, monkeypatch):
    """Runs a trial against a small server, with a wrk that only writes down how it was called and found so many answers."""
    monkeypatch.setattr("load_tests.bench.servers._IDLE_WINDOW_S", 0.05)
    monkeypatch.setattr(routing, "SETTLE_S", 0.1)

    def run(*windows, answered=40, count=1, at_begin=lambda _world: None, **course):
        wrk = tmp_path / "wrk"
        wrk.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\necho "{RESULT.format(answered)}"\n')
        wrk.chmod(wrk.stat().st_mode | stat.S_IXUSR)
        control = memory_control()
        world = World(control, workers=count, windows=windows)

        def begin(*arguments, **named):
            load = world.begin(*arguments, **named)
            at_begin(world)
            return load

        monkeypatch.setattr(full_load, "LastingLoad", begin)
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
            wall=world.wall,
            sleep=world.sleep,
        ).run(results)
        assert control.routes.all() == {}, "the next server finds the same database"
        calls = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
        return results, world, calls, said

    return run


def _window(version, arm, **numbers):
    return "tabular", (version, arm), Window(**numbers)


@pytest.mark.processes
def test_routes_take_turns_on_one_server_under_one_load_for_each_number_of_connections(trial):
    results, world, calls, said = trial(models={"tabular": (1, 8, 16)}, peers=("ekiben-routed", "ekiben-split"), count=2)

    assert results.failures == []
    sides = ["ekiben", "ekiben-routed", "ekiben-split"]
    assert [(r.connections, r.peer) for r in results.routed] == [(n, s) for n in (8, 16) for s in (*sides, *reversed(sides))]
    assert {(r.model, r.workers, r.load.rps) for r in results.routed} == {("tabular", 2, 100)}
    assert [load.connections for load in world.loads] == [8, 16], "one connection has nothing to batch"
    assert len({load.url for load in world.loads}) == 1, "one server all along"
    assert calls == [], "no side has a load of its own"
    assert "ekiben-split · tabular · 2 workers · 16 connections: 100 rps" in said


@pytest.mark.processes
def test_what_was_measured_before_a_route_was_not_followed_stays(trial):
    def stop_following(world):
        world.shares = {"ekiben-aa": 20} if len(world.loads) > 1 else {}

    results, _, _, _ = trial(models={"tabular": (8, 16)}, peers=("ekiben-aa",), at_begin=stop_following)

    assert {r.connections for r in results.routed} == {8}
    assert "ekiben-aa: 20.0 % of the requests went to the arm on trial; it must be 50 %" in results.failures[0].problem


@pytest.mark.processes
def test_a_shadow_is_measured_at_a_share_of_the_capacity(trial):
    results, world, calls, said = trial(
        _window(SECOND_VERSION, "shadow", compared=4), peers=("ekiben-shadow",), answered=120, workers=(1, 2)
    )

    assert results.failures == []
    assert [r.side for r in results.shadows] == ["ekiben", "ekiben-shadow", "ekiben"]
    assert {(r.model, r.capacity_rps, r.rate, r.scheduled) for r in results.shadows} == {("tabular", 120.0, 12.0, 6)}
    assert [r.computed_percent for r in results.shadows] == [None, 66.7, None]
    assert all(r.statuses == {"200": 6} and 0 < r.p50_ms <= r.p99_ms for r in results.shadows)
    assert [bool(route) for route in world.routes] == [False, True, False]
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
        results, world, calls, _ = trial(**course)
        assert (results.routed, results.shadows, results.failures, world.routes, calls) == ([], [], [], [], [])


def test_the_first_second_of_an_open_loop_does_not_count():
    accepted = [(0.2, 900.0), (0.99, 800.0), (1.0, 3.0), (1.5, 1.0), (2.5, 2.0)]
    outcome = Outcome(scheduled=12, seconds=3.0, statuses={"503": 1, "200": 5}, accepted=accepted, late_ms=1.234)

    record = shadow_record(outcome, CPU, heat=Heat(EKIBEN, _model("mlp"), 1, 2), side="ekiben-shadow", capacity_rps=13.0)

    assert (record.p50_ms, record.p99_ms, record.rate, record.scheduled, record.late_ms) == (2.0, 3.0, 4.0, 12, 1.23)
    assert (record.side, record.model, record.round, list(record.statuses)) == ("ekiben-shadow", "mlp", 2, ["200", "503"])
