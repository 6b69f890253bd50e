import os
import signal
import subprocess
import sys
import time

import pytest

from load_tests.bench import servers
from load_tests.bench.asking import post
from load_tests.bench.procfs import marked_processes
from load_tests.bench.servers import RunningServer, ServerFailed, free_port, server_environ

SERVER = """
import http.server, os, subprocess, sys
if "--child" in sys.argv:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
    subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(int(self.path[1:]))
        self.end_headers()
        self.wfile.write(body + self.headers["Content-Type"].encode())
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
HEADERS = {"Content-Type": "text/x"}


@pytest.fixture
def start(tmp_path):
    def started(port, *arguments, code=SERVER):
        command = [sys.executable, "-c", code, str(port), *arguments]
        return RunningServer(command, environ=server_environ({}), folder=tmp_path, log=tmp_path / "log")

    return started


@pytest.mark.processes
def test_a_server_is_waited_for_measured_and_ended_with_all_its_processes(start, monkeypatch):
    monkeypatch.setattr(servers, "_STOP_S", 1.0)
    port = free_port()
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with start(port, "--child") as server:
        reply = server.wait_until_answers(lambda: post(f"http://127.0.0.1:{port}/200", b"body", HEADERS))
        assert reply.body == b"bodytext/x"
        server.wait_until_idle()
        server.check_alive()
        pids = server.pids()
        assert len(pids) == 2, "the child that left the session is its own as well"
        assert bystander.pid not in pids
        assert server.cpu_times().server > 0

    assert server.pids() == set()
    assert not any(marked_processes(f"{servers.MARKER}={mark}") for mark in [server._mark.partition("=")[2]])
    assert bystander.poll() is None
    bystander.communicate(b"\n")


@pytest.mark.processes
def test_a_server_that_ends_by_itself_says_what_it_printed(start):
    with start(1, code="raise SystemExit('no such model')") as server, pytest.raises(ServerFailed, match=r"code 1.*no such model"):
        server.wait_until_answers(lambda: post("http://127.0.0.1:9/200", b"", HEADERS))


@pytest.mark.processes
def test_a_server_that_gives_no_good_answer_is_not_waited_for_forever(start):
    port = free_port()
    begun = time.monotonic()

    with start(port) as server, pytest.raises(ServerFailed, match="the last one: 503: why"):
        server.wait_until_answers(lambda: post(f"http://127.0.0.1:{port}/503", b"why", HEADERS), 1.5)

    assert time.monotonic() - begun < 10


@pytest.mark.processes
def test_stopping_twice_or_after_the_end_is_nothing(start):
    server = start(free_port())
    os.kill(next(iter(server.pids())), signal.SIGKILL)

    server.stop()
    server.stop()

    assert server.pids() == set()


def test_a_server_sees_none_of_our_settings_and_one_thread():
    environ = server_environ({"EKIBEN_WORKERS": "2"}, {"PATH": "/bin", "EKIBEN_HOME": "/x", "BENTOML_HOME": "/y", "OMP_NUM_THREADS": "8"})

    assert environ == {"PATH": "/bin", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "EKIBEN_WORKERS": "2"}
