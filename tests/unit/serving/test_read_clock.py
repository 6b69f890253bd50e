import asyncio
from contextlib import suppress

import pytest

from ekiben.errors import ReadTimeout
from ekiben.serving import read_clock
from ekiben.serving.read_clock import ReadClock


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    monkeypatch.setattr(read_clock, "_LOOK_S", 0.01)
    return Clock()


def part(body: bytes = b"", *, more: bool = False):
    return {"type": "http.request", "body": body, "more_body": more}


def test_what_comes_in_time_passes_as_it_is(clock):
    waiting = iter([part(b"a", more=True), part(b"b")])

    async def receive():
        clock.now += 4
        return next(waiting)

    async def read():
        timed = ReadClock(10, clock).timed(receive)
        return [await timed(), await timed()]

    assert asyncio.run(read()) == [part(b"a", more=True), part(b"b")]


def test_the_time_is_that_of_the_whole_request_and_not_of_each_piece(clock):
    async def receive():
        clock.now += 4
        await asyncio.sleep(0.03)
        return part(b"a", more=True)

    async def read():
        timed = ReadClock(10, clock).timed(receive)
        for n in range(5):
            try:
                await timed()
            except ReadTimeout as e:
                return n, str(e)
        return None

    assert asyncio.run(read()) == (
        2,
        "the request did not come whole within 10 s (EKIBEN_READ_TIMEOUT_S); send it faster, or in smaller parts",
    )


def test_what_comes_behind_the_body_may_take_its_time(clock):
    async def receive_late():
        clock.now += 1000
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    async def read():
        first = [part(b"a")]

        async def receive():
            return first.pop() if first else await receive_late()

        timed = ReadClock(10, clock).timed(receive)
        return [await timed(), await timed()]

    assert asyncio.run(read())[1] == {"type": "http.disconnect"}


def test_one_that_is_late_does_not_end_others_and_a_task_that_was_ended_goes_on(clock):
    reads = ReadClock(10, clock)
    gate = asyncio.Event

    async def read():
        opened = gate()

        async def receive():
            await opened.wait()
            return part(b"a")

        late = asyncio.create_task(reads.wait(receive, reads.due()))
        await asyncio.sleep(0)
        clock.now += 5
        early = asyncio.create_task(reads.wait(receive, reads.due()))
        await asyncio.sleep(0)
        clock.now += 6
        await asyncio.sleep(0.05)
        with pytest.raises(ReadTimeout):
            await late
        assert not late.cancelled()
        assert not late.cancelling()
        opened.set()
        return await early

    assert asyncio.run(read()) == part(b"a")


def test_a_task_that_somebody_else_cancels_is_cancelled(clock):
    async def read():
        task = asyncio.create_task(ReadClock(10, clock).wait(asyncio.Event().wait, clock() + 10))
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return task.cancelled()

    assert asyncio.run(read())


def test_nobody_looks_while_nothing_is_read(clock):
    async def read():
        reads = ReadClock(10, clock)

        async def receive():
            return part()

        await reads.wait(receive, reads.due())
        await asyncio.sleep(0.05)
        looked = reads._is_looking
        await reads.wait(receive, reads.due())
        return looked, reads._is_looking

    assert asyncio.run(read()) == (False, True)
