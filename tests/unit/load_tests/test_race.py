import stat
import sys

import msgspec
import pytest

from load_tests.bench.contestants import PEERS_FOLDER, Contestant, Workplace
from load_tests.bench.heats import most_different_row
from load_tests.bench.models import BenchModel, make_models
from load_tests.bench.protocols import PROTOCOLS, Asked, echoed_grpc, own_json
from load_tests.bench.race import Course, Race
from load_tests.bench.results import Results

# Answers the sum of the row, or always 3.0 when told to be wrong.
SERVER = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        row = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        out = json.dumps([3.0 if sys.argv[2] == "wrong" else sum(row)]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 100
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
GRPC_ECHO = f"""
import os, runpy, sys
os.environ["BENCH_GRPC_PORT"], os.environ["BENCH_WORKERS"] = sys.argv[3], "1"
runpy.run_path({str(PEERS_FOLDER / "grpc_echo.py")!r}, run_name="__main__")
"""
RESULT = "RESULT duration_us=1000000 p50_us=900 p99_us=2000 max_us=3000 connect=0 read=0 write=0 timeout=0 status_200=40"


def _model(name):
    rows = [[1.0, 2.0], [1.0, 2.5], [5.0, 5.0]] * (3 if name == "mlp" else 1)
    return BenchModel(name=name, file="/none.onnx", task="tensor", rows=rows, answers=[[sum(r)] for r in rows], decimals=1)


OWN = own_json(lambda _model: "/predict", lambda rows: rows[0], lambda answer: answer)


def _contestant(name, manner="right", code=SERVER, *, runs_model=True, protocols=(OWN,)):
    return Contestant(
        name=name,
        command=lambda start: [sys.executable, "-c", code, str(start.port), manner, str(start.second_port)],
        environ=lambda _start: {},
        protocols=protocols,
        runs_model=runs_model,
    )


WIDER = {"tabular": BenchModel(name="tabular", file="", task="tensor", rows=[[1.0, 2.0], [3.0, 4.0]], answers=[[0.0], [0.0]], decimals=1)}


@pytest.fixture
def race(tmp_path):
    """Runs a race of these contestants with a wrk that only writes down how it was called."""
    wrk = tmp_path / "wrk"
    wrk.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\necho "{RESULT}"\n')
    wrk.chmod(wrk.stat().st_mode | stat.S_IXUSR)
    h2load = tmp_path / "h2load"
    h2load.write_text(f'#!/bin/sh\necho "h2load $@" >> {tmp_path}/calls\necho "traffic: 1MB (1) total, 1KB (1) headers, 1KB (0) data"\n')
    h2load.chmod(h2load.stat().st_mode | stat.S_IXUSR)
    said = []

    def run(*field, made=None, **course):
        defaults = {
            "models": {"tabular": (1, 32)},
            "workers": (1,),
            "seconds": 0.5,
            "rounds": 1,
            "with_overload": False,
            "protocols": PROTOCOLS,
        }
        names = tuple(c.name for c in field)
        race = Race(
            Course(**{"peers": names, **defaults, **course}),
            field={c.name: c for c in field},
            models=made or {name: _model(name) for name in ("tabular", "heavy", "mlp", "wide")},
            place=Workplace(folder=tmp_path, pythons={}, ekiben_models={}),
            wrk=str(wrk),
            h2load=str(h2load),
            say=said.append,
        )
        results = Results(started="", machine={}, options={}, raw=[], loads=[], overloads=[], failures=[])
        race.run(results)
        return results, (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else [], said

    return run


@pytest.mark.processes
def test_peers_take_turns_within_a_round(race):
    results, calls, said = race(_contestant("ekiben"), _contestant("bentoml"), rounds=2)

    assert [(r.round, r.peer, r.connections) for r in results.loads] == [
        (0, "ekiben", 1), (0, "ekiben", 32), (0, "bentoml", 1), (0, "bentoml", 32),
        (1, "ekiben", 1), (1, "ekiben", 32), (1, "bentoml", 1), (1, "bentoml", 32),
    ]  # fmt: skip
    assert len(calls) == 12, "a warm-up before each server's loads"
    assert results.loads[0].load.rps == 40
    assert results.loads[0].cpu.server_us_per_request >= 0
    assert "ekiben · tabular · 1 worker · rest · 1 connection: 40 rps" in said


@pytest.mark.processes
def test_a_server_that_always_answers_the_same_is_not_measured_and_the_others_are(race):
    results, _, _ = race(_contestant("bentoml", "wrong"), _contestant("echo", code="raise SystemExit(3)"), _contestant("ekiben"))

    assert [r.peer for r in results.loads] == ["ekiben", "ekiben"]
    assert [f.peer for f in results.failures] == ["bentoml", "echo"]
    assert "rest: WrongAnswer: row 2 must give [10.0], the answer is [3.0]" in results.failures[0].problem
    assert "ended with code 3" in results.failures[1].problem


def _named(name, *, on_second_port=False, headers=None):
    """The server's JSON under the name of another protocol."""
    return msgspec.structs.replace(
        OWN, name=name, on_second_port=on_second_port, ask=lambda _model, rows: Asked(msgspec.json.encode(rows[0]), headers or {})
    )


@pytest.mark.processes
def test_each_protocol_is_loaded_on_its_own_port_with_its_own_headers(race):
    binary = _named("v2-binary", headers={"X-Length": "7"})
    results, calls, _ = race(_contestant("ekiben", protocols=(OWN, binary)), models={"tabular": (8,)})

    assert [(r.protocol, r.connections) for r in results.loads] == [("rest", 8), ("v2-binary", 8)]
    assert ["X-Length:7" in call for call in calls] == [False, False, True, True]


@pytest.mark.processes
def test_a_protocol_that_fails_does_not_keep_the_others_from_being_loaded(race, monkeypatch):
    monkeypatch.setattr("load_tests.bench.heats._NEXT_READY_S", 0.5)
    closed = _named("data-rest", on_second_port=True)

    results, _, _ = race(_contestant("ekiben", protocols=(OWN, closed, _named("v2-json"))), models={"tabular": (8,)})

    assert [r.protocol for r in results.loads] == ["rest", "v2-json"]
    assert [f.problem.partition(":")[0] for f in results.failures] == ["data-rest"]
    assert "no good answer in 0.5 s" in results.failures[0].problem


@pytest.mark.processes
def test_only_chosen_protocols_are_loaded_and_a_server_that_speaks_none_is_not_started(race):
    dead = _contestant("echo", code="raise SystemExit(3)")
    results, _, _ = race(dead, _contestant("ekiben", protocols=(OWN, _named("v2-json"))), protocols=("v2-json",), models={"tabular": (8,)})

    assert [(r.peer, r.protocol) for r in results.loads] == [("ekiben", "v2-json")]
    assert results.failures == []


@pytest.mark.processes
def test_the_wide_model_is_for_who_can_be_asked_both_ways(race):
    speaks_both = _contestant("ekiben", protocols=(OWN, _named("v2-json"), _named("v2-binary")))
    results, _, _ = race(_contestant("bentoml"), _contestant("triton", protocols=(_named("v2-json"),)), speaks_both, models={"wide": (8,)})

    assert [(r.peer, r.protocol) for r in results.loads] == [("ekiben", "v2-json"), ("ekiben", "v2-binary")]


@pytest.mark.processes
def test_further_protocols_and_several_rows_of_the_mlp_are_asked_once(race):
    first = msgspec.structs.replace(OWN, takes_rows=True)
    results, _, _ = race(_contestant("ekiben", protocols=(first, _named("v2-json"))), models={"mlp": (8, 16)})

    assert [(r.protocol, r.connections, r.rows_each) for r in results.loads] == [
        ("rest", 8, 1), ("rest", 16, 1), ("rest", 8, 8), ("v2-json", 8, 1),
    ]  # fmt: skip


@pytest.mark.processes
def test_grpc_is_loaded_by_h2load_and_checked_before(race):
    results, calls, _ = race(_contestant("grpc-echo", code=GRPC_ECHO, runs_model=False, protocols=(echoed_grpc(),)), made=WIDER)

    assert results.failures == []
    assert [(r.protocol, r.load.answered) for r in results.loads] == [("grpc", 0), ("grpc", 0)]
    assert all(call.startswith("h2load -t1 -c") and "/inference.GRPCInferenceService/ModelInfer" in call for call in calls)
    assert ["-c1 -m1 " in call for call in calls] == [False, True, False]


@pytest.mark.processes
def test_overload_is_a_multiple_of_the_capacity_measured_just_before(race):
    results, calls, _ = race(_contestant("ekiben"), _contestant("echo", runs_model=False), models={}, with_overload=True)

    assert [(r.peer, r.times_capacity, r.rate, r.scheduled) for r in results.overloads] == [
        ("ekiben", 0.5, 20.0, 10),
        ("ekiben", 4.0, 160.0, 80),
    ]
    assert all(r.accepted == r.scheduled for r in results.overloads)
    assert all(call.endswith("X-Request-Timeout-Ms:250") for call in calls)


@pytest.mark.processes
def test_only_who_is_to_be_is_overloaded(race):
    spared = msgspec.structs.replace(_contestant("ekiben-unlogged"), is_overloaded=False)

    results, calls, _ = race(spared, models={}, with_overload=True)

    assert (results.overloads, calls) == ([], [])


@pytest.mark.processes
def test_the_raw_session_is_measured_in_a_process_of_its_own(race, tmp_path):
    models = make_models(tmp_path / "onnx", ["tabular"])

    results, _, _ = race(made=models, peers=("raw",))

    assert [(r.model, r.round) for r in results.raw] == [("tabular", 0)]
    assert set(results.raw[0].speed.rows_per_s) == {1, 8, 32, 128}
    assert 0 < results.raw[0].speed.run_p50_ms < 1000


@pytest.mark.processes
def test_a_raw_session_that_fails_is_noted(race):
    results, _, _ = race(peers=("raw",))

    assert [f.peer for f in results.failures] == ["raw"]
    assert "none.onnx" in results.failures[0].problem


def test_the_row_that_is_checked_second_has_another_answer():
    assert most_different_row(_model("tabular").answers) == 2
