import sys
import time

import pytest

from load_tests.bench.servers import RunningServer, server_environ
from load_tests.demo.serving import Serving

# Its own command line must not look like a worker's.
MAIN = """
import subprocess, sys, time
name = "_bentoml_impl.worker." + "service"
workers = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", name]) for _ in range(2)]
time.sleep(60)
"""


@pytest.fixture
def serving(tmp_path):
    """A server of which nothing is real but two processes."""
    made = object.__new__(Serving)
    made._server = RunningServer([sys.executable, "-c", MAIN], environ=server_environ({}), folder=tmp_path, log=tmp_path / "log")
    yield made
    made.stop()


def until(serving, n):
    end = time.monotonic() + 20
    while len(serving.workers()) != n:
        assert time.monotonic() < end
        time.sleep(0.05)
    return serving.workers()


@pytest.mark.processes
def test_a_worker_can_be_killed_and_the_rest_is_stopped(serving):
    before = until(serving, 2)
    killed = serving.kill_worker()
    assert killed in before
    assert until(serving, 1) == [pid for pid in before if pid != killed]
    serving.stop()
    assert serving.workers() == []


def test_a_process_that_is_gone_is_no_worker(serving, tmp_path):
    assert serving.workers(proc=tmp_path) == []
