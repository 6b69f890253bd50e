import asyncio
import faulthandler

import pytest

from ekiben.serving import worker_limits
from ekiben.serving.worker_limits import WorkerLimits, resident_bytes

MB = 1024 * 1024


@pytest.fixture
def armed(monkeypatch):
    """What faulthandler was told; the real one would end the tests."""
    told = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda seconds, **kw: told.append((seconds, kw["exit"])))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: told.append("cancelled"))
    return told


def run(limits, until, seconds=10):
    async def main():
        limits.start()
        end = asyncio.get_running_loop().time() + seconds
        while not until():
            assert asyncio.get_running_loop().time() < end
            await asyncio.sleep(0.005)
        limits.stop()
        await asyncio.sleep(0.02)

    asyncio.run(main())


def test_the_watch_is_put_off_as_long_as_the_loop_turns(armed):
    run(WorkerLimits(hang_s=0.02, max_mb=0), lambda: len(armed) >= 3)
    assert armed[:3] == [(0.02, True)] * 3
    assert armed[-1] == "cancelled"


def test_without_limits_nothing_is_watched(armed):
    run(WorkerLimits(hang_s=0, max_mb=0, resident=lambda: 10**15), lambda: True)
    assert armed == []


def test_a_worker_that_grew_too_large_stops_once_in_order(armed, monkeypatch, caplog):
    monkeypatch.setattr(worker_limits, "_MEMORY_S", 0.001)
    sizes, stopped = iter([99 * MB, 100 * MB, 101 * MB, 500 * MB]), []
    run(WorkerLimits(hang_s=0, max_mb=100, resident=lambda: next(sizes), stop=lambda: stopped.append(1)), lambda: stopped)
    assert stopped == [1]
    assert next(sizes) == 500 * MB
    assert "grown to 101 MB, above 100 MB" in caplog.text


def test_memory_in_use_grows_with_what_is_used():
    before = resident_bytes()
    held = bytearray(b"x" * 64 * MB)
    assert resident_bytes() - before > 32 * MB
    del held


def test_a_system_that_does_not_say_how_large_a_process_is(monkeypatch):
    monkeypatch.setattr(worker_limits.Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(OSError("no /proc")))
    assert resident_bytes() == 0
