import shutil
import stat
import subprocess
import sys

import pytest

from load_tests.bench.asking import NoGoodAnswer, call
from load_tests.bench.contestants import PEERS_FOLDER
from load_tests.bench.h2load import framed, parse_result, run_h2load
from load_tests.bench.programs import LoadGeneratorFailed
from load_tests.bench.servers import RunningServer, free_port, server_environ

METHOD = "/inference.GRPCInferenceService/ModelInfer"
OUTPUT = "finished in 2.00s\ntraffic: 1.00MB (1000000) total, 1.00KB (1000) headers (space savings 90.00%), 3.00KB ({data}) data\n"


def _log(*answers):
    return "".join(f"1700000000{n:06}\t{status}\t{us}\n" for n, (status, us) in enumerate(answers))


def _fake(folder, script):
    file = folder / "h2load"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


def test_good_answers_are_counted_by_their_bytes():
    load = parse_result(OUTPUT.format(data=300), _log(("200", 1000), ("200", 3000), ("200", 2000)), answer_bytes=100, seconds=2)

    assert (load.answered, load.rps, load.errors) == (3, 1.5, {})
    assert (load.p50_ms, load.p99_ms, load.max_ms) == (2.0, 3.0, 3.0)


def test_errors_without_a_message_are_errors_although_their_status_is_200():
    load = parse_result(OUTPUT.format(data=150), _log(*[("200", 10)] * 4, ("503", 10), ("-1", 10)), answer_bytes=100, seconds=1)

    assert (load.answered, load.errors) == (1, {"503": 1, "failed": 1, "grpc error": 3})


def test_what_came_after_the_end_adds_nothing():
    assert parse_result(OUTPUT.format(data=10**6), _log(("200", 10)), answer_bytes=100, seconds=1).answered == 1


def test_a_load_without_any_answer_is_none():
    load = parse_result(OUTPUT.format(data=0), "", answer_bytes=100, seconds=1)

    assert (load.answered, load.rps, load.p99_ms, load.max_ms) == (0, 0.0, 0.0, 0.0)


def test_output_without_a_result_is_an_error_that_shows_it():
    with pytest.raises(LoadGeneratorFailed, match="could not resolve"):
        parse_result("could not resolve", "", answer_bytes=1, seconds=1)


def test_calls_are_spread_over_eight_connections(tmp_path):
    program = _fake(tmp_path, f'echo "$@" >> {tmp_path}/arguments; echo "(0) data"')

    for calls in (1, 8, 32, 60):
        run_h2load(program, "http://127.0.0.1:1/s/M", b"m", folder=tmp_path, answer_bytes=1, calls=calls, seconds=0.2)

    lines = (tmp_path / "arguments").read_text().splitlines()
    assert [line.split()[1:3] for line in lines] == [["-c1", "-m1"], ["-c8", "-m1"], ["-c8", "-m4"], ["-c8", "-m8"]]
    assert all("-D 1 " in line and line.endswith("http://127.0.0.1:1/s/M") for line in lines)
    assert not list(tmp_path.glob("h2load.*")), "its files are removed"


def test_h2load_that_ends_badly_or_not_at_all_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(LoadGeneratorFailed, match="code 3: no such host"):
        run_h2load(_fake(tmp_path, "echo no such host >&2; exit 3"), "u", b"", folder=tmp_path, answer_bytes=1, calls=1, seconds=1)
    monkeypatch.setattr("load_tests.bench.h2load._GRACE_S", -0.8)
    with pytest.raises(LoadGeneratorFailed, match="did not end"):
        run_h2load(_fake(tmp_path, "exec sleep 5"), "u", b"", folder=tmp_path, answer_bytes=1, calls=1, seconds=1)


def test_a_message_is_framed():
    assert framed(b"abc") == b"\0\0\0\0\3abc"


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed")
def test_real_h2load_against_the_echo_with_two_processes(tmp_path):
    port = free_port()
    environ = server_environ({"BENCH_GRPC_PORT": str(port), "BENCH_WORKERS": "2"})
    url = f"http://127.0.0.1:{port}"
    with RunningServer(
        [sys.executable, str(PEERS_FOLDER / "grpc_echo.py")], environ=environ, folder=PEERS_FOLDER, log=tmp_path / "log"
    ) as server:
        assert server.wait_until_answers(lambda: call(url + METHOD, b"message")).body == b"message"
        assert len(server.pids()) == 2
        with pytest.raises(NoGoodAnswer, match="UNIMPLEMENTED"):
            call(f"{url}/no.Such/Method", b"")

        good = run_h2load(shutil.which("h2load"), url + METHOD, b"message", folder=tmp_path, answer_bytes=7, calls=8, seconds=1)
        bad = run_h2load(shutil.which("h2load"), f"{url}/no.Such/Method", b"m", folder=tmp_path, answer_bytes=7, calls=8, seconds=1)

    assert good.answered > 0
    assert good.errors == {}
    assert bad.answered == 0
    assert bad.errors["grpc error"] > 0


def test_a_port_where_nothing_listens_gives_no_answer():
    with pytest.raises(NoGoodAnswer, match="UNAVAILABLE"):
        call(f"http://127.0.0.1:{free_port()}{METHOD}", b"")


def test_the_echo_is_a_program_that_needs_nothing_of_the_project():
    done = subprocess.run(
        [sys.executable, "-I", str(PEERS_FOLDER / "grpc_echo.py")], capture_output=True, text=True, env={}, timeout=60, check=False
    )

    assert "KeyError: 'BENCH_WORKERS'" in done.stderr
