import http.server
import os
import shutil
import stat
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from load_tests.bench.programs import LoadGeneratorFailed
from load_tests.bench.wrk import LastingLoad, parse_result, run_wrk, write_bodies

OUTPUT = """Running 2s test @ http://127.0.0.1:1/
  1 threads and 32 connections
RESULT duration_us=2000000 p50_us=811 p99_us=4200 max_us=9000 connect=1 read=0 write=0 timeout=2 status_503=30 status_200=2000
"""


def _program(folder, name, script):
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


@contextmanager
def _answering():
    """A server that answers everything with 200: where it is, and what it was sent."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            seen.append((self.rfile.read(int(self.headers["Content-Length"])), self.headers["Content-Type"], self.headers["X-More"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/x", seen
        server.shutdown()


def test_only_answers_with_200_count_and_the_others_are_errors_by_status():
    load = parse_result(OUTPUT)

    assert (load.answered, load.rps, load.seconds) == (2000, 1000.0, 2.0)
    assert (load.p50_ms, load.p99_ms, load.max_ms) == (0.811, 4.2, 9.0)
    assert load.errors == {"503": 30, "connect": 1, "timeout": 2}


def test_a_load_without_any_answer_has_no_rps_and_says_so():
    load = parse_result("RESULT duration_us=1000000 p50_us=0 p99_us=0 max_us=0 connect=32 read=0 write=0 timeout=0")

    assert (load.answered, load.rps, load.errors) == (0, 0.0, {"connect": 32})


def test_output_without_a_result_is_an_error_that_shows_it():
    with pytest.raises(LoadGeneratorFailed, match="unable to connect"):
        parse_result("unable to connect to 127.0.0.1:1 Connection refused")


def test_the_load_is_bounded_in_time_and_headers_reach_the_script(tmp_path):
    wrk = _program(tmp_path, "wrk", f'echo "$@" > {tmp_path}/arguments; echo "{OUTPUT.splitlines()[2]}"')

    load = run_wrk(str(wrk), "http://127.0.0.1:1/x", tmp_path / "b", connections=8, seconds=0.2, headers={"X-Request-Timeout-Ms": "250"})

    assert load.answered == 2000
    arguments = (tmp_path / "arguments").read_text().split()
    assert {"-t1", "-c8", "-d1s"} <= set(arguments)
    assert arguments[arguments.index("--") :] == ["--", str(tmp_path / "b"), "X-Request-Timeout-Ms:250"]


def test_wrk_that_ends_badly_is_an_error(tmp_path):
    wrk = _program(tmp_path, "wrk", "echo no such host >&2; exit 1")

    with pytest.raises(LoadGeneratorFailed, match="code 1: no such host"):
        run_wrk(str(wrk), "http://127.0.0.1:1/x", tmp_path / "b", connections=1, seconds=1)


def test_bodies_are_written_with_their_lengths_so_that_they_may_hold_anything(tmp_path):
    write_bodies(tmp_path / "bodies", [b"a\nb", b"", b"\x00\xff"])

    assert (tmp_path / "bodies").read_bytes() == b"3\na\nb0\n2\n\x00\xff"


def test_wrk_that_does_not_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("load_tests.bench.wrk._GRACE_S", -0.8)

    with pytest.raises(LoadGeneratorFailed, match="did not end"):
        run_wrk(str(_program(tmp_path, "wrk", "exec sleep 5")), "http://127.0.0.1:1/x", tmp_path / "b", connections=1, seconds=1)


@pytest.fixture
def lasting(tmp_path):
    """Begins a load with a wrk that does what it is told once it is stopped; gives the load when it is under way."""

    def begin(at_the_end, *, meanwhile="time.sleep(20)"):
        script = tmp_path / "lasting.py"
        script.write_text(
            f"import pathlib, signal, sys, time\ndef end(*_):\n    {at_the_end}\n    sys.exit()\nsignal.signal(signal.SIGINT, end)\n"
            f"pathlib.Path({str(tmp_path / 'arguments')!r}).write_text(' '.join(sys.argv[1:]))\n{meanwhile}\n"
        )
        wrk = _program(tmp_path, "wrk", f'exec {sys.executable} -I -S {script} "$@"')
        load = LastingLoad(str(wrk), "http://127.0.0.1:1/x", tmp_path / "b", connections=8, at_most_s=90)
        while not (tmp_path / "arguments").exists():
            time.sleep(0.01)
        return load

    return begin


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.processes
def test_a_lasting_load_goes_on_until_it_is_stopped(lasting, tmp_path):
    with lasting(f"print({OUTPUT.splitlines()[2]!r})") as load:
        load.check_under_way()
        assert _is_alive(load.pid)
        found = load.stop()

    assert (found.answered, found.errors) == (2000, {"503": 30, "connect": 1, "timeout": 2})
    arguments = (tmp_path / "arguments").read_text().split()
    assert {"-t1", "-c8", "-d90s"} <= set(arguments)
    assert arguments[-3:] == ["http://127.0.0.1:1/x", "--", str(tmp_path / "b")]


@pytest.mark.processes
def test_a_lasting_load_that_is_left_is_ended(lasting):
    with pytest.raises(ZeroDivisionError), lasting("pass") as load:
        raise ZeroDivisionError

    assert not _is_alive(load.pid)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("meanwhile", "problem"),
    [("sys.exit('no such host')", "code 1: no such host"), (f"print({OUTPUT!r})", "ended before"), ("pass", "printed no result")],
)
def test_a_lasting_load_that_does_not_last_is_an_error(lasting, meanwhile, problem):
    with lasting("pass", meanwhile=meanwhile) as load:
        load._process.wait(10)
        with pytest.raises(LoadGeneratorFailed, match=problem):
            load.stop()


@pytest.mark.processes
def test_a_lasting_load_that_cannot_be_stopped_is_given_up(lasting, monkeypatch):
    monkeypatch.setattr("load_tests.bench.wrk._GRACE_S", 0.2)

    with lasting("time.sleep(20)") as load, pytest.raises(LoadGeneratorFailed, match="did not end"):
        load.stop()

    assert not _is_alive(load.pid)


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_real_wrk_ends_when_it_is_told_to_and_says_what_it_got(tmp_path):
    write_bodies(tmp_path / "bodies", [b"[]"])
    with _answering() as (url, seen), LastingLoad(shutil.which("wrk"), url, tmp_path / "bodies", connections=2, at_most_s=60) as load:
        while len(seen) < 2:
            time.sleep(0.01)
        time.sleep(0.2)
        found = load.stop()

    assert found.answered > 0
    assert found.seconds < 30
    assert found.errors == {}


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_real_wrk_sends_each_body_byte_for_byte(tmp_path):
    bodies = [bytes(range(256)), b"12\n34", b"\n"]
    write_bodies(tmp_path / "bodies", bodies)
    with _answering() as (url, seen):
        headers = {"Content-Type": "application/octet-stream", "X-More": "yes"}
        load = run_wrk(shutil.which("wrk"), url, tmp_path / "bodies", connections=2, seconds=1, headers=headers)

    assert load.answered >= len(bodies)
    assert set(seen) == {(body, "application/octet-stream", "yes") for body in bodies}
