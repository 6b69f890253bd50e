import os
import subprocess
import sys

from ekiben.monitoring.workers import forget_dead_workers, is_alive


def test_only_the_momentary_values_of_those_that_are_gone_are_removed(tmp_path):
    names = ["gauge_livesum_1.db", "gauge_livesum_2.db", "gauge_liveall_2.db", "gauge_max_2.db", "counter_2.db", "gauge_livesum_x.db"]
    for name in names:
        (tmp_path / name).touch()
    forget_dead_workers(tmp_path, alive=lambda pid: pid == 1)
    assert {f.name for f in tmp_path.iterdir()} == {"gauge_livesum_1.db", "gauge_max_2.db", "counter_2.db", "gauge_livesum_x.db"}


def test_where_there_is_no_folder_there_is_nothing_to_remove(tmp_path):
    forget_dead_workers(tmp_path / "none")


def test_who_is_alive(monkeypatch):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert not is_alive(process.pid)
    assert is_alive(os.getpid())

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr("os.kill", refuse)
    assert is_alive(1)


def test_a_file_that_another_worker_removed_meanwhile_is_gone(tmp_path):
    name = "gauge_livesum_7.db"
    (tmp_path / name).touch()

    def alive(_):
        (tmp_path / name).unlink()
        return False

    forget_dead_workers(tmp_path, alive=alive)
    assert list(tmp_path.iterdir()) == []
