"""Servers without pyarrow, as in the image, and a monitor elsewhere that makes files of what they shipped."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from integration.running import Project, Running
from integration.test_inference_log import Clients
from unit.monitoring.log_files import ALWAYS, NOON, ids, reader, row, segment

from ekiben.monitoring.log_folder import LogFolder
from ekiben.monitoring.log_keeper import LogKeeper
from ekiben.monitoring.log_storage import LogStorage

pytestmark = pytest.mark.processes

TAKES_IN = """
import pathlib, sys
from ekiben.monitoring.log_folder import LogFolder
from ekiben.monitoring.log_keeper import LogKeeper
from ekiben.monitoring.log_storage import LogStorage
path, uri, now = sys.argv[1:]
LogKeeper(LogFolder(pathlib.Path(path)), lambda model: None, storage=LogStorage(uri), wall=lambda: float(now)).take_in()
"""


@pytest.fixture
def without_pyarrow(tmp_path):
    """A folder for PYTHONPATH with which no process has pyarrow."""
    folder = tmp_path / "without"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text('import sys\n\nsys.modules["pyarrow"] = None\n')
    return str(folder)


def until(condition, what, seconds=40):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def test_a_fleet_without_pyarrow_and_its_one_monitor(tmp_path, tiny_artifact, without_pyarrow):
    uri, folders = f"file://{tmp_path}/fleet", [tmp_path / name for name in ("server", "monitor")]
    server_of, monitor_of = (Project(folder) for folder in folders)
    for project in (server_of, monitor_of):
        project.register(tiny_artifact, version="1")
        project.env["EKIBEN_LOG_URI"] = uri
    server_of.env["PYTHONPATH"] = without_pyarrow
    assert server_of.run("pyarrow", check=False).returncode != 0
    shipped = tmp_path / "fleet/tail/model=tiny"
    with Running(server_of, workers=2) as server:
        server.wait()
        with Clients(server.port, server.data_port) as clients:
            time.sleep(1.5)
            killed = server.workers()
            for worker in killed:
                os.kill(worker, signal.SIGKILL)
            until(lambda: len(set(server.workers()) - set(killed)) == 2, "the workers are not followed by others")
            until(lambda: list(shipped.glob("*.arrows")), "the host's monitor does not ship what is finished")
        answered = set(clients.answered)
        assert len(answered) > 50
        status = server_of.run("ekiben", "monitor", "status", "tiny").stdout
        assert "checks are made where 'ekiben[monitor]' is installed; here pyarrow is missing, and the log is shipped as it is" in status
        asked = server_of.run("ekiben", "log", "status", check=False)
        assert asked.returncode == 1
        assert asked.stderr == "error: this needs pyarrow, which is not installed here; pip install 'ekiben[monitor]'\n"
    said = server.log.read_text()
    assert "without pyarrow this monitor ships and prunes this host's log as it is" in said
    assert "Traceback" not in said
    done = server_of.run("ekiben", "log", "compact").stdout
    assert "segments were shipped as they are: a monitor elsewhere makes files of them" in done
    assert list((folders[0] / "home/inference_log").rglob("*.arrows")) == []

    def rows():
        sql = "SELECT request_id, count(*) AS n FROM predictions GROUP BY ALL"
        found = {row["request_id"]: row["n"] for row in json.loads(monitor_of.run("ekiben", "log", "query", sql, "--json").stdout)}
        assert answered <= set(found)
        assert set(found.values()) == {1}
        return found

    early = rows()
    segments = len(list(shipped.glob("*.arrows")))
    assert segments >= 2
    monitor_of.run("ekiben", "monitor", "run", "--once")
    assert list(shipped.iterdir()) == []
    assert len(list((tmp_path / "fleet/model=tiny").rglob("*.parquet"))) == segments
    assert rows() == early


def test_an_intake_that_is_killed_is_done_by_the_next_one(tmp_path):
    uri = f"file://{tmp_path}/fleet"
    storage, host = LogStorage(uri), LogFolder(tmp_path / "host")
    for n in range(40):
        segment(host, f"w-{n:02}", [row(f"{n}-{i}", NOON + i) for i in range(20)])
    expected = sorted(f"{n}-{i}" for n in range(40) for i in range(20))
    assert LogKeeper(host, lambda model: None, storage=storage, compacts=False, wall=lambda: NOON).run_once().shipped_segments == 40
    one, other = LogFolder(tmp_path / "one"), LogFolder(tmp_path / "other")
    kills = 0
    for folder, delay_s in ((one, 0.0), (other, 0.002), (one, 0.005)):
        made = len(storage.files("m"))
        process = subprocess.Popen([sys.executable, "-c", TAKES_IN, str(folder.path), uri, str(NOON)])
        while process.poll() is None and len(storage.files("m")) == made:
            time.sleep(0.001)
        time.sleep(delay_s)
        process.kill()
        kills += process.wait() == -9
        for host in (one, other, LogFolder(tmp_path / "third")):
            assert sorted(ids(reader(host, storage).read("m", **ALWAYS))) == expected
    assert kills
    LogKeeper(other, lambda model: None, storage=storage, wall=lambda: NOON).take_in()
    assert (storage.segments("m"), len(storage.files("m"))) == ([], 40)
    assert sorted(ids(reader(other, storage).read("m", **ALWAYS))) == expected
