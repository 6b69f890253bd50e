"""The log of several hosts on S3, which goes away and comes back."""

import contextlib
import subprocess
import sys
import time

import httpx
import pytest
from integration.running import free_port
from s3fs import S3FileSystem
from unit.monitoring.log_files import ALWAYS, DAY_S, NOON, ids, reader, row, segment

from ekiben.model.monitor_spec import LogSpec
from ekiben.monitoring.log_folder import LogFolder
from ekiben.monitoring.log_keeper import LogKeeper
from ekiben.monitoring.log_query import LogQuery
from ekiben.monitoring.log_storage import LogStorage
from ekiben.state.truth import MemoryTruths

pytestmark = pytest.mark.processes
BUCKET = "flights"


class S3:
    """moto's server, which forgets everything when it stops."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process = None

    def start(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.put(f"{self.url}/{BUCKET}").is_success:
                    return
            time.sleep(0.1)
        raise TimeoutError("moto does not answer")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def s3(monkeypatch):
    server = S3()
    for name, value in {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()  # fsspec gives the same object again, which knows the server before
    server.start()
    yield server
    server.stop()


class Host:
    def __init__(self, path, *, compacts=True) -> None:
        self.folder = LogFolder(path)
        self.storage = LogStorage(f"s3://{BUCKET}/log")
        self.now = NOON
        self.keeper = LogKeeper(
            self.folder, lambda model: LogSpec(retention_days=10), storage=self.storage, compacts=compacts, wall=lambda: self.now
        )
        self.log = reader(self.folder, self.storage)


def test_hosts_read_what_all_of_them_shipped_each_row_once(s3, tmp_path):
    one, other = Host(tmp_path / "one"), Host(tmp_path / "other")
    segment(one.folder, "w-1", [row("a", temp=1.5)])
    segment(other.folder, "w-1", [row("b", NOON + 1, who="x")])
    for host in (one, other):
        kept = host.keeper.run_once()
        assert (kept.shipped_files, kept.problems) == (1, [])
    segment(one.folder, "w-2", [row("c", NOON + 2)])
    assert ids(one.log.read("m", **ALWAYS)) == ["a", "b", "c"]
    assert ids(other.log.read("m", **ALWAYS)) == ["a", "b"]
    one.now += DAY_S
    assert one.keeper.run_once().tidied_files == 1
    assert [file.model for file in one.folder.files("m")] == ["m"], "that of the last segment"
    table = one.log.read("m", columns=["request_id", "features.temp"], **ALWAYS)
    assert table.to_pylist()[:2] == [
        {"request_id": "a", "features": {"temp": 1.5}},
        {"request_id": "b", "features": {"temp": None}},
    ]
    answer = LogQuery(one.log, MemoryTruths()).run("SELECT count(*) AS n, max(features.temp) AS t FROM predictions")
    assert answer.to_pylist() == [{"n": 3, "t": 1.5}]
    one.now += 11 * DAY_S
    assert one.keeper.run_once().expired_files == 3
    assert one.storage.files("m") == []


def test_an_outage_loses_nothing_and_is_over_when_it_is_over(s3, tmp_path):
    host = Host(tmp_path)
    segment(host.folder, "w-1", [row("before")])
    assert host.keeper.run_once().shipped_files == 1
    s3.stop()
    segment(host.folder, "w-2", [row("during", NOON + 1)])
    kept = host.keeper.run_once()
    assert kept.compacted.rows == 1
    assert kept.shipped_files == 0
    assert "does not work, uploading" in kept.problems[0]
    assert ids(host.log.read("m", **ALWAYS)) == ["before", "during"]
    assert host.log.problem
    s3.start()
    host.now += 10
    assert host.keeper.run_once().shipped_files == 1
    assert len(host.storage.files("m")) == 1
    assert ids(host.log.read("m", **ALWAYS)) == ["before", "during"]
    assert host.log.problem == ""


def test_a_bucket_that_is_not_there_is_no_reason_to_make_one(s3, tmp_path):
    host = Host(tmp_path)
    storage = LogStorage("s3://flihgts/log")
    segment(host.folder, "w-1", [row("a")])
    host.keeper.run_once()
    (file,) = host.folder.files("m")
    with pytest.raises(Exception, match="s3://flihgts/log does not work, uploading"):
        storage.upload(host.folder.file(file), file)
    assert httpx.head(f"{s3.url}/flihgts").status_code == 404


def test_segments_as_they_are_on_s3(s3, tmp_path):
    """Of a host without pyarrow; another one takes them in."""
    bare, monitor = Host(tmp_path / "bare", compacts=False), Host(tmp_path / "monitor")
    for n in range(3):
        segment(bare.folder, f"w-{n}", [row(f"{n}", NOON + n)])
    assert bare.keeper.run_once().shipped_segments == 3
    assert bare.folder.segments("m") == []
    assert ids(monitor.log.read("m", **ALWAYS)) == ["0", "1", "2"]
    assert monitor.log.models() == ["m"]
    kept = monitor.keeper.take_in()
    assert (kept.taken_in, kept.shipped_files, kept.problems) == (3, 3, [])
    assert (monitor.storage.segments("m"), len(monitor.storage.files("m"))) == ([], 3)
    assert ids(Host(tmp_path / "third").log.read("m", **ALWAYS)) == ["0", "1", "2"]
