import asyncio

import msgspec
import pytest

from ekiben.guards.deadline import LISTEN_AFTER_S, Disconnected, Listening

NOW = 100.0


class Client(msgspec.Struct):
    receive: object


class Request(msgspec.Struct):
    call: Client | None
    future: asyncio.Future
    queued: float = NOW - 1


class Connection:
    """ASGI's receive of a request whose body was read."""

    def __init__(self):
        self.gone = asyncio.Event()
        self.asked = 0
        self.cancelled = 0

    async def __call__(self):
        self.asked += 1
        try:
            await self.gone.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return {"type": "http.disconnect"}


def request(receive, *, queued=NOW - 1):
    return Request(Client(receive), asyncio.get_running_loop().create_future(), queued)


async def turns():
    for _ in range(6):
        await asyncio.sleep(0)


def test_a_request_whose_client_goes_away_ends(arun):
    async def play():
        listening, connection = Listening(), Connection()
        waiting = request(connection)
        listening.begin([waiting], NOW)
        await turns()
        assert not waiting.future.done()
        assert len(listening) == 1
        connection.gone.set()
        await turns()
        with pytest.raises(Disconnected):
            waiting.future.result()
        assert len(listening) == 0

    arun(play())


def test_what_still_comes_of_the_body_is_no_end(arun):
    async def play():
        messages = iter([{"type": "http.request", "body": b""}, {"type": "http.disconnect"}])

        async def receive():
            return next(messages)

        waiting = request(receive)
        Listening().begin([waiting], NOW)
        await turns()
        assert isinstance(waiting.future.exception(), Disconnected)

    arun(play())


@pytest.mark.parametrize("end", ["answer", "error", "cancel"])
def test_who_is_answered_is_listened_for_no_more(arun, end):
    async def play():
        listening, connection = Listening(), Connection()
        waiting = request(connection)
        listening.begin([waiting], NOW)
        await turns()
        if end == "answer":
            waiting.future.set_result(1)
        elif end == "error":
            waiting.future.set_exception(ValueError("x"))
            assert waiting.future.exception()
        else:
            waiting.future.cancel()
        await turns()
        assert connection.cancelled == 1
        assert len(listening) == 0
        connection.gone.set()
        await turns()

    arun(play())


def test_an_answer_that_came_first_stays(arun):
    async def play():
        connection = Connection()
        waiting = request(connection)
        Listening().begin([waiting], NOW)
        await turns()
        connection.gone.set()
        waiting.future.set_result("answer")
        await turns()
        assert waiting.future.result() == "answer"

    arun(play())


def test_only_who_waits_for_long_is_listened_for_and_each_once(arun):
    async def play():
        listening = Listening()
        old, young = Connection(), Connection()
        waiting = [request(old), request(young, queued=NOW - LISTEN_AFTER_S / 2), request(Connection())]
        listening.begin(waiting, NOW)
        listening.begin(waiting, NOW)
        await turns()
        assert (old.asked, young.asked) == (1, 0)
        assert waiting[0].call.receive is None
        listening.begin(waiting, NOW + LISTEN_AFTER_S)
        await turns()
        assert young.asked == 1
        for one in waiting:
            one.future.cancel()
        await turns()

    arun(play())


def test_those_that_nobody_can_hang_up_on_are_left_alone(arun):
    async def play():
        listening = Listening()
        loop = asyncio.get_running_loop()
        listening.begin([Request(None, loop.create_future()), Request(Client(None), loop.create_future())], NOW)
        assert len(listening) == 0

    arun(play())


def test_so_many_are_begun_at_once_and_the_rest_later(arun):
    async def play():
        listening = Listening()
        waiting = [request(Connection()) for _ in range(100)]
        listening.begin(waiting, NOW)
        assert len(listening) == 64
        listening.begin(waiting, NOW)
        assert len(listening) == 100
        for one in waiting:
            one.future.cancel()
        await turns()
        assert len(listening) == 0

    arun(play())


@pytest.fixture
def arun():
    return lambda work: asyncio.run(asyncio.wait_for(work, 20))
