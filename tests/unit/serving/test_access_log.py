import asyncio
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.serving.access_log import AccessLog


@given(rate=st.floats(0, 1), n=st.integers(0, 500))
def test_the_share_that_is_recorded_is_the_rate(rate, n):
    log = AccessLog(rate, lambda lines: None)
    assert sum(log.wants(200) for _ in range(n)) == pytest.approx(rate * n, abs=1)


def test_all_or_nothing():
    assert all(AccessLog(1.0, print).wants(status) for status in (200, 204, 302))
    never = AccessLog(0.0, print)
    assert not any(never.wants(200) for _ in range(1000))


def test_errors_are_recorded_whatever_the_rate_up_to_a_limit():
    log = AccessLog(0.0, print)
    wanted = [log.wants(status) for status in (400, 404, 503, 500)] + [log.wants(422) for _ in range(500)]
    assert sum(wanted) == 100
    assert all(wanted[:100])


def test_a_line_has_what_was_told_and_when():
    lines = []
    log = AccessLog(1.0, lines.append, wall=lambda: 99.5)
    log.write(headers={b"traceparent": b"00-a-b-01", b"x": b"y"}, seconds=0.0012345, path="/x", status=200)
    log.write(headers={}, seconds=1, path="/é", status=500)
    asyncio.run(log.stop())
    first, second = b"".join(lines).splitlines()
    assert msgspec.json.decode(first) == {
        "time": 99.5, "logger": "ekiben.access", "duration_ms": 1.234, "path": "/x", "status": 200, "traceparent": "00-a-b-01",
    }  # fmt: skip
    assert msgspec.json.decode(second)["path"] == "/é"
    assert "traceparent" not in msgspec.json.decode(second)


@pytest.fixture
def _quick(monkeypatch):
    monkeypatch.setattr("ekiben.serving.access_log._FLUSH_S", 0.005)


def write(log, n):
    log.write(headers={}, seconds=0, n=n)


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to pass")


@pytest.mark.usefixtures("_quick")
def test_lines_are_written_by_a_thread_and_the_rest_at_the_stop():
    lines, threads = [], set()

    def sink(part):
        lines.append(part)
        threads.add(threading.current_thread().name)

    async def log_some():
        log = AccessLog(1.0, sink)
        log.start()
        write(log, 1)
        await until(lambda: lines)
        assert threading.current_thread().name not in threads
        write(log, 2)
        await log.stop()
        await log.stop()

    asyncio.run(log_some())
    assert [msgspec.json.decode(line)["n"] for line in b"".join(lines).splitlines()] == [1, 2]


@pytest.mark.usefixtures("_quick")
def test_the_limit_of_errors_is_one_for_each_interval():
    async def flood():
        log = AccessLog(0.0, lambda part: None)
        log.start()
        assert sum(log.wants(400) for _ in range(150)) == 100
        await until(lambda: log._errors == 0)
        assert log.wants(400)
        await log.stop()

    asyncio.run(flood())


@pytest.mark.usefixtures("_quick")
def test_stopping_while_a_flush_is_under_way_loses_nothing_and_ends_after_it():
    lines = []
    began, gate = threading.Event(), threading.Event()

    def slow(part):
        if not began.is_set():
            began.set()
            assert gate.wait(10)
        lines.append(part)

    async def stop_in_between():
        log = AccessLog(1.0, slow)
        log.start()
        write(log, 1)
        await asyncio.to_thread(began.wait)
        write(log, 2)
        threading.Timer(0.05, gate.set).start()
        await log.stop()
        return [msgspec.json.decode(line)["n"] for line in b"".join(lines).splitlines()]

    assert asyncio.run(stop_in_between()) == [1, 2]


@pytest.mark.usefixtures("_quick")
def test_a_sink_that_fails_stops_neither_the_log_nor_the_server(caplog):
    lines = []

    def sink(part):
        if not lines:
            lines.append(b"")
            raise BrokenPipeError(32, "Broken pipe")
        lines.append(part)

    async def log_some():
        log = AccessLog(1.0, sink)
        log.start()
        write(log, 1)
        await until(lambda: lines)
        write(log, 2)
        await until(lambda: len(lines) > 1)
        await log.stop()

    asyncio.run(log_some())
    assert "access log lines are lost: [Errno 32] Broken pipe" in caplog.text
    assert msgspec.json.decode(lines[1])["n"] == 2


def test_pieces_are_whole_lines_small_enough_for_a_pipe_to_take_at_once():
    parts = []
    log = AccessLog(1.0, parts.append)
    for n in range(200):
        log.write(headers={}, seconds=0, n=n, filler="x" * (n % 90))
    log.write(headers={}, seconds=0, n=200, filler="x" * 9000)
    log.write(headers={}, seconds=0, n=201)
    asyncio.run(log.stop())
    assert all(part.endswith(b"\n") for part in parts)
    assert [len(part) <= 4096 for part in parts].count(False) == 1
    assert len(parts) < 20
    assert [msgspec.json.decode(line)["n"] for line in b"".join(parts).splitlines()] == list(range(202))


def test_nothing_to_write_writes_nothing():
    parts = []
    asyncio.run(AccessLog(1.0, parts.append).stop())
    assert parts == []
