import json

import pytest
from click.testing import CliRunner

from load_tests.bench import __main__ as command
from load_tests.bench.environments import InstallFailed
from load_tests.bench.heats import Heat
from load_tests.bench.procfs import CpuUse
from load_tests.bench.programs import LoadGeneratorMissing
from load_tests.bench.results import Failure, Load, LoadRecord, Results
from load_tests.bench.sides import SIDES


@pytest.fixture
def raced():
    """What each race was given besides the course."""
    return []


@pytest.fixture
def run(monkeypatch, tmp_path, raced):
    """Runs the command with a race that only takes down what it was asked for; gives the result and the course."""
    courses = []
    raced.clear()
    monkeypatch.setattr(command, "make_models", lambda _folder, names: dict.fromkeys(names))
    monkeypatch.setattr(command, "_fill_store", lambda *_: True)
    monkeypatch.setattr(command, "ensure_environment", lambda environment, cache, _pins: cache / environment.name)

    def race(course, results, work, programs, _console):
        courses.append(course)
        raced.append((work, programs))
        load = Load(seconds=1, answered=10, rps=10, p50_ms=1, p99_ms=2, max_ms=3, errors={})
        cpu = CpuUse(server_us_per_request=1, server_cores=1, client_cores=1, noise_percent=0)
        results.loads.append(LoadRecord(peer="ekiben", model="tabular", workers=1, connections=32, round=0, load=load, cpu=cpu))
        if "bentoml" not in course.peers:
            results.failures.append(Failure(peer="ekiben", model="tabular", workers=2, round=0, problem="ended"))

    monkeypatch.setattr(command, "_race", race)
    monkeypatch.setattr(command, "ensure_program", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)

    def runner(*arguments):
        options = [*arguments, "--output", str(tmp_path / "results"), "--cache", str(tmp_path / "cache")]
        result = CliRunner().invoke(command.main, options)
        return result, (courses[-1] if courses else None), list((tmp_path / "results").glob("*.json"))

    return runner


def test_everything_is_measured_unless_told_otherwise(run):
    result, course, files = run()

    assert result.exit_code == 0, result.output
    assert course.models == {"tabular": (1, 32, 64), "mlp": (32, 64, 128), "wide": (32,)}
    assert (course.workers, course.seconds, course.rounds, course.with_overload) == ((1, 2), 5.0, 1, True)
    assert course.peers == ("ekiben", *SIDES, "bentoml", "fastapi", "echo", "onnx-ceiling", "grpc-echo", "raw")
    assert course.sides == SIDES
    assert course.protocols == ("rest", "v2-json", "v2-binary", "grpc", "data-rest", "data-v2-json", "data-v2-binary")
    written = json.loads(files[0].read_bytes())
    lists = {"loads", "raw", "overloads", "routed", "shadows", "cached", "twins", "failures"}
    assert {"started", "machine", "options", "promises", *lists} == set(written)
    assert written["promises"][0]["reached"] is None
    assert "What is promised" in result.output


def test_options_narrow_it(run):
    arguments = ("--duration", "2", "--rounds", "3", "--peers", "ekiben,bentoml", "--workers", "2", "--connections", "8,16")
    _, course, _ = run(*arguments, "--models", "tabular", "--skip-overload")

    assert course.models == {"tabular": (8, 16)}
    assert (course.workers, course.seconds, course.rounds, course.with_overload) == ((2,), 2.0, 3, False)


def test_each_peer_gets_its_environment_and_grpc_its_load_generator(run, raced, tmp_path):
    _, course, _ = run("--peers", "ekiben,triton,litserve", "--models", "wide", "--wide-connections", "4", "--skip-overload")

    ((work, programs),) = raced
    assert course.models == {"wide": (4,)}
    assert work.place.pythons == {name: tmp_path / "cache" / name for name in ("triton", "litserve")}
    assert set(work.field) == {"ekiben", "triton", "litserve"}
    assert programs == ("/usr/bin/wrk", "/usr/bin/h2load")


def test_without_grpc_its_load_generator_is_not_asked_for(run, raced):
    _, course, _ = run("--protocols", "rest,data-rest")

    assert course.protocols == ("rest", "data-rest")
    assert raced[0][1] == ("/usr/bin/wrk", "")


def test_a_peer_that_cannot_be_installed_is_left_out_and_noted(run, raced, monkeypatch):
    def ensure(environment, cache, _pins):
        if environment.name == "kserve":
            raise InstallFailed("no such package")
        return cache

    monkeypatch.setattr(command, "ensure_environment", ensure)

    result, _, _ = run("--peers", "bentoml,kserve,litserve")

    assert result.exit_code == 1
    assert "no such package" in result.output
    assert set(raced[0][0].field) == {"bentoml", "litserve"}


def test_routes_alone_need_nobody_else(run, raced):
    _, course, _ = run("--peers", "ekiben-routed,ekiben-shadow")

    ((work, programs),) = raced
    assert (course.sides, course.has_race) == (("ekiben-routed", "ekiben-shadow"), False)
    assert (work.field, set(work.models), work.has_store) == ({}, {"tabular", "mlp"}, True)
    assert programs == ("/usr/bin/wrk", "")


def test_twins_need_no_server_of_their_own(run, raced):
    _, course, _ = run("--peers", "ekiben-unlogged,ekiben-guarded")

    ((work, _),) = raced
    assert (course.sides, course.has_race) == (("ekiben-unlogged", "ekiben-guarded"), False)
    assert (work.field, work.has_store, set(work.place.ekiben_twins)) == ({}, True, {"tabular", "mlp"})


def test_without_its_models_ekiben_takes_no_part(run, raced, monkeypatch):
    monkeypatch.setattr(command, "_fill_store", lambda *_: False)

    run("--peers", "ekiben-unlogged,ekiben,ekiben-routed,bentoml")

    assert (set(raced[0][0].field), raced[0][0].has_store) == ({"bentoml"}, False)


@pytest.mark.parametrize(
    ("peers", "has_store", "tried"), [(("ekiben-split",), True, 1), (("ekiben-split",), False, 0), (("echo",), True, 0)]
)
def test_routes_are_tried_after_the_race_where_they_can_be(monkeypatch, tmp_path, peers, has_store, tried):
    order = []

    class Ran:
        def __init__(self, course, **rest):
            self.name = "routes" if "control" in rest else "race"
            if "control" in rest:
                assert str(tmp_path) in rest["control"].name

        def run(self, _results):
            order.append(self.name)

    monkeypatch.setattr(command, "Race", Ran)
    monkeypatch.setattr(command, "RoutingTrial", Ran)
    monkeypatch.setattr(command, "RememberingTrial", Ran)
    options = {"models": {"tabular": (8,)}, "workers": (1,), "protocols": ("rest",), "seconds": 1, "rounds": 1, "with_overload": False}
    work = command._Work({}, {}, command.Workplace(folder=tmp_path, pythons={}, ekiben_models={}), has_store)
    results = Results(started="", machine={}, options={})

    command._race(command.Course(**options, peers=peers), results, work, ("wrk", ""), command.Console(quiet=True))

    assert order == ["race", *["routes", "routes"] * tried]


def test_a_store_that_cannot_be_filled_is_noted(monkeypatch, tmp_path):
    monkeypatch.setattr(command.sys, "executable", "false")
    results = Results(started="", machine={}, options={}, failures=[])

    assert command._fill_store({}, tmp_path, results) is False
    assert [f.peer for f in results.failures] == ["ekiben"]


def test_a_quick_look_is_short(run):
    _, course, _ = run("--quick")

    assert (course.workers, course.seconds) == ((1,), 1.0)


def test_a_server_that_failed_makes_the_run_fail(run):
    result, _, files = run("--peers", "ekiben")

    assert result.exit_code == 1
    assert "ended" in result.output
    assert len(files) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--peers", "ekiben,gunicorn"), "gunicorn is not among"),
        (("--protocols", "soap"), "soap is not among"),
        (("--workers", "1,x"), "whole numbers"),
        (("--workers", "0"), "whole"),
    ],
)
def test_what_there_is_not_is_refused(run, arguments, message):
    result, course, _ = run(*arguments)

    assert result.exit_code == 2
    assert message in result.output
    assert course is None


def test_without_a_load_generator_it_says_what_to_do(run, monkeypatch):
    def missing(_program):
        raise LoadGeneratorMissing("install it (Debian, Ubuntu: `apt-get install wrk` as root)")

    monkeypatch.setattr(command, "ensure_program", missing)

    result, _, _ = run()

    assert result.exit_code == 1
    assert "apt-get install wrk" in result.output


def test_a_heat_is_named_for_people():
    class Named:
        name = "ekiben"

    assert str(Heat(Named, Named, 1, 0)) == "ekiben · ekiben · 1 worker"
    assert str(Heat(Named, Named, 2, 0)).endswith("2 workers")
