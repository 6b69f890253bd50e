import asyncio
import logging
import os
import signal
import sys
import time

import pytest

from ekiben.serving import monitor_process
from ekiben.serving.monitor_process import MonitorProcess

# Writes down who it is, and lives on.
MONITOR = """
import os, sys, time
with open(sys.argv[1], "a") as f:
    f.write(f"{os.getpid()} {' '.join(sys.argv[2:])}\\n")
time.sleep(60)
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(monitor_process, "_LOOK_S", 0.05)
    return tmp_path / "home"


def monitor(home, code=MONITOR):
    return MonitorProcess(home, [sys.executable, "-c", code, str(home / "who")])


def started(home) -> list[str]:
    return (home / "who").read_text().splitlines() if (home / "who").exists() else []


async def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_one_of_several_workers_has_it_and_another_when_it_is_gone(home, caplog):
    async def play():
        first, second = monitor(home), monitor(home)
        first.start()
        await until(lambda: started(home))
        second.start()
        await asyncio.sleep(0.3)
        (line,) = started(home)
        pid = int(line.split()[0])
        assert line.split()[1:] == ["--with-parent", str(os.getpid())]
        os.kill(pid, signal.SIGKILL)
        await until(lambda: len(started(home)) == 2)
        await first.stop()
        await until(lambda: len(started(home)) >= 2)
        await second.stop()
        assert not any(is_alive(int(line.split()[0])) for line in started(home))

    with caplog.at_level(logging.WARNING, "ekiben.monitor"):
        asyncio.run(play())
    assert "the monitor ended with code -9" in caplog.text


def test_one_that_does_not_end_is_killed(home, monkeypatch):
    monkeypatch.setattr(monitor_process, "_ENDS_S", 0.2)

    async def play():
        deaf = monitor(home, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + MONITOR)
        deaf.start()
        await until(lambda: started(home))
        await deaf.stop()
        assert not is_alive(int(started(home)[0].split()[0]))

    asyncio.run(play())


def test_one_that_cannot_be_started_is_tried_again(home, caplog):
    async def play():
        missing = MonitorProcess(home, [str(home / "missing")])
        missing.start()
        await until(lambda: caplog.text.count("the monitor cannot be started") >= 2)
        await missing.stop()

    asyncio.run(play())


def test_one_that_was_never_started_need_not_be_ended(home):
    asyncio.run(monitor(home).stop())
