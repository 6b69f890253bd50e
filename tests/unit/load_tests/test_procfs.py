import os
import subprocess
import sys
from pathlib import Path

import pytest

from load_tests.bench.procfs import CpuTimes, cpu_use, marked_processes, read_cpu_times

TICKS = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def proc(tmp_path):
    """A small /proc: two processes, one with spaces and a parenthesis in its name."""
    (tmp_path / "stat").write_text("cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 1 1 1\n")
    for pid, name, user, system, environ in ((7, "py) thon", 30, 10, b"A=1\0MARK=x\0"), (8, "sh", 5, 5, b"MARK=xy\0")):
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "stat").write_text(f"{pid} ({name}) S 1 1 1 0 -1 4194304 1 1 1 1 {user} {system} 99 99 20 0 1 0 1 1 1\n")
        (folder / "environ").write_bytes(environ)
    (tmp_path / "self").mkdir()
    return tmp_path


def test_the_clocks_of_the_server_and_the_machine_are_read(proc):
    times = read_cpu_times([7, 8, 99], proc)

    assert times.server == pytest.approx(50 / TICKS)
    assert times.machine == pytest.approx(200 / TICKS)
    assert times.capacity == pytest.approx(1000 / TICKS)


def test_a_load_generator_that_is_under_way_is_read_too(proc):
    without, times = read_cpu_times([7], proc), read_cpu_times([7], proc, clients=[8])

    assert times.server == pytest.approx(40 / TICKS)
    assert times.client - without.client == pytest.approx(10 / TICKS, abs=0.5 / TICKS)


def test_a_process_is_recognised_by_its_whole_mark(proc):
    assert marked_processes("MARK=x", proc) == {7}


def test_what_neither_server_nor_client_used_is_noise():
    before = CpuTimes(server=1, client=1, machine=10, capacity=100)
    after = CpuTimes(server=4, client=2, machine=15, capacity=110)

    use = cpu_use(before, after, answered=1000, cores=2)

    assert use.server_us_per_request == 3000
    assert (use.server_cores, use.client_cores) == (0.6, 0.2)
    assert use.noise_percent == 10


def test_clocks_that_disagree_a_little_are_no_negative_noise():
    before = CpuTimes(server=0, client=0, machine=0, capacity=0)

    use = cpu_use(before, CpuTimes(server=2, client=0, machine=1, capacity=4), answered=0, cores=2)

    assert use.noise_percent == 0
    assert use.server_us_per_request == 2e6


def test_a_real_process_is_found_by_its_mark():
    mark = f"BENCH_TEST_{os.getpid()}"
    child = subprocess.Popen([sys.executable, "-c", "input()"], env={**os.environ, mark: "1"}, stdin=subprocess.PIPE)
    try:
        assert marked_processes(f"{mark}=1") == {child.pid}
        assert read_cpu_times([child.pid]).machine > 0
        assert Path(f"/proc/{child.pid}").exists()
    finally:
        child.communicate(b"\n")
