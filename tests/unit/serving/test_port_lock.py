import os
import signal
import subprocess
import sys

import pytest

from ekiben.errors import SettingError
from ekiben.serving.port_lock import PortLock

HOLDER = """
import sys, time
from pathlib import Path
from ekiben.serving.port_lock import PortLock
lock = PortLock(3001, int(sys.argv[1]), Path(sys.argv[2]))
lock.acquire(wait_s=0)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def locks(tmp_path):
    """Makes locks on one port: ``locks(family)``."""
    made = []

    def make(family, port=3001):
        made.append(PortLock(port, family, tmp_path))
        return made[-1]

    yield make
    for lock in made:
        lock.release()


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock: ``holder(family)``."""
    processes = []

    def start(family):
        process = subprocess.Popen([sys.executable, "-c", HOLDER, str(family), str(tmp_path)], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_family_holds_it_together(locks):
    for lock in (locks(1), locks(1), locks(1)):
        lock.acquire(wait_s=0)


def test_another_family_is_told_whose_it_is(locks):
    locks(123).acquire(wait_s=0)
    for _ in range(2):
        with pytest.raises(SettingError, match=r"port 3001 is another server's \(started by process 123\); set EKIBEN_DATA_PORT"):
            locks(124).acquire(wait_s=0)
    locks(123).acquire(wait_s=0)


def test_ports_are_apart(locks):
    locks(1, 3001).acquire(wait_s=0)
    locks(2, 3002).acquire(wait_s=0)


def test_it_is_free_when_its_last_holder_has_let_go(locks):
    first, second, other = locks(1), locks(1), locks(22)
    first.acquire(wait_s=0)
    second.acquire(wait_s=0)
    first.release()
    with pytest.raises(SettingError, match="process 1"):
        other.acquire(wait_s=0)
    second.release()
    second.release()
    other.acquire(wait_s=0)
    with pytest.raises(SettingError, match="process 22"):
        first.acquire(wait_s=0)


def test_a_server_that_is_just_ending_is_waited_for(locks, monkeypatch):
    first = locks(1)
    first.acquire(wait_s=0)
    monkeypatch.setattr("ekiben.serving.port_lock.time.sleep", lambda _: first.release())
    locks(2).acquire(wait_s=60)


def test_the_kernel_lets_go_of_it_when_a_holder_is_killed(locks, holder):
    other = holder(7)
    with pytest.raises(SettingError, match="process 7"):
        locks(8).acquire(wait_s=0)
    locks(7).acquire(wait_s=0)
    other.send_signal(signal.SIGKILL)
    other.wait()
    with pytest.raises(SettingError, match="process 7"):
        locks(8).acquire(wait_s=0)


def test_all_holders_killed_is_free(locks, holder):
    for other in (holder(7), holder(7)):
        other.send_signal(signal.SIGKILL)
        other.wait()
    locks(8).acquire(wait_s=0)


def test_a_folder_where_no_file_can_be_made(tmp_path):
    with pytest.raises(SettingError, match=r"port 3001 needs the lock file .*ekiben-\d+-3001.lock, which cannot be opened: No such"):
        PortLock(3001, 1, tmp_path / "nowhere").acquire(wait_s=0)


def test_a_link_of_somebody_elses_is_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / f"ekiben-{os.getuid()}-3001.lock").symlink_to(precious)
    with pytest.raises(SettingError, match="cannot be opened"):
        PortLock(3001, 1, tmp_path).acquire(wait_s=0)
    assert precious.read_text() == "mine"


def test_a_name_that_was_written_between_two_steps_is_seen(locks, monkeypatch):
    """Another server may get the exclusive lock while ours becomes a shared one."""
    from ekiben.serving import port_lock

    ours = locks(1)
    flock = port_lock.fcntl.flock

    def slow(file, how):
        if how == port_lock.fcntl.LOCK_SH | port_lock.fcntl.LOCK_NB:
            (path := ours._path).write_text("2")
            assert path.read_text() == "2"
        flock(file, how)

    monkeypatch.setattr(port_lock.fcntl, "flock", slow)
    with pytest.raises(SettingError, match="process 2"):
        ours.acquire(wait_s=0)
