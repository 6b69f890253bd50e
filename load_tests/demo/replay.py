"""The replay: flights are asked over REST when they are due, and what became of them is reported when that is known."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

import aiohttp
import msgspec

from load_tests.demo.flights import Flight
from load_tests.demo.scenario import MODEL
from load_tests.demo.truths import TruthQueue

TRIES: Final = 5
"""Of a request whose connection is lost before its answer: another one is as good as the first, as nothing is changed by it."""

_IN_FLIGHT: Final = 48
_AGAIN_S: Final = 0.1
_REPORT_S: Final = 0.1
_TIMEOUT_S: Final = 30.0
# Below what the server keeps an idle connection for, so that none is used that it is about to close.
_IDLE_S: Final = 2.0
_REPORTS_AT_ONCE: Final = 5_000
_JSON: Final = {"Content-Type": "application/json"}
_LOST: Final = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError)


class Answer(msgspec.Struct, frozen=True):
    """A flight that was answered.

    Attributes:
        request_id: Of the request that was answered; it names the month, the flight and the try.
        month, index: The flight, see `Flight`.
        version, arm: Who answered.
        time: When, seconds since the epoch.
        latency_s: From the request to its answer.
        is_reported: Whether its truth was, or will be, reported.
    """

    request_id: str
    month: int
    index: int
    version: str
    arm: str
    time: float
    latency_s: float
    is_reported: bool


class Replay:
    """Asks, and reports.

    Args:
        url: Where the server is, ``http://host:port``.
        seed: Of the truths.
        clock: Monotonic seconds.
        wall: Seconds since the epoch.

    Attributes:
        answers: All flights that were answered.
        failures: What went wrong of those that were not, a line each.
        lost: Ids of the requests whose connection broke; they were asked again under another id.
        truths: Reports on their way.
        refused: What went wrong with reports, a line each.
    """

    def __init__(self, url: str, *, seed: int, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._predict = f"{url}/v1/models/{MODEL}:predict"
        self._truth = f"{url}/v1/models/{MODEL}/ground_truth"
        self._clock = clock
        self._wall = wall
        self._places = asyncio.Semaphore(_IN_FLIGHT)
        self._session: aiohttp.ClientSession | None = None
        self._reporter: asyncio.Task[None] | None = None
        self._is_quiet = asyncio.Event()
        self.answers: list[Answer] = []
        self.failures: list[str] = []
        self.lost: list[str] = []
        self.truths = TruthQueue(seed)
        self.refused: list[str] = []

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=_IN_FLIGHT + 2, keepalive_timeout=_IDLE_S)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        self._reporter = asyncio.create_task(self._report())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._session is not None  # it was entered
        assert self._reporter is not None
        self._reporter.cancel()
        await asyncio.gather(self._reporter, return_exceptions=True)
        await self._session.close()

    async def month(
        self,
        month: int,
        flights: Sequence[Flight],
        told: Callable[[int], None] = lambda _asked: None,
        *,
        is_over: Callable[[], bool] = lambda: False,
    ) -> int:
        """Asks a month's flights, each when it is due, and waits for their answers.

        Args:
            month: 1 to 12.
            flights: In the order in which they are asked.
            told: Hears how many were asked.
            is_over: Says before each whether the rest is left out.

        Returns:
            How many were asked.
        """
        begin, number = self._clock(), 0
        async with asyncio.TaskGroup() as asked:
            for number, flight in enumerate(flights, 1):
                wait_s = begin + flight.asked_s - self._clock()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                if is_over():
                    return number - 1
                await self._places.acquire()
                asked.create_task(self._ask(month, flight))
                told(number)
        return number

    async def reported(self) -> None:
        """Waits until no report is on its way."""
        assert self._reporter is not None  # it was entered
        self._is_quiet.clear()
        quiet = asyncio.create_task(self._is_quiet.wait())
        await asyncio.wait({quiet, self._reporter}, return_when=asyncio.FIRST_COMPLETED)
        quiet.cancel()
        if self._reporter.done():
            self._reporter.result()  # raises what ended it

    async def _ask(self, month: int, flight: Flight) -> None:
        assert self._session is not None  # it was entered
        name = f"{month:02}-{flight.index:05}"
        begin = self._clock()
        try:
            for number in range(1, TRIES + 1):
                request_id = f"{name}-{number}"
                headers = {**_JSON, "X-Request-Id": request_id, "X-Routing-Key": name}
                try:
                    async with self._session.post(self._predict, data=flight.body, headers=headers) as response:
                        text = await response.read()
                except _LOST:
                    self.lost.append(request_id)
                    await asyncio.sleep(_AGAIN_S * number)
                    continue
                if response.status != 200:  # noqa: PLR2004  anything else is a failure
                    self.failures.append(f"{request_id}: {response.status} {text[:200].decode(errors='replace')}")
                    return
                self._answered(request_id, month, flight, response, self._clock() - begin)
                return
            self.failures.append(f"{name}: no answer in {TRIES} tries")
        finally:
            self._places.release()

    def _answered(self, request_id: str, month: int, flight: Flight, response: aiohttp.ClientResponse, latency_s: float) -> None:
        version, arm = response.headers.get("X-Model-Version", ""), response.headers.get("X-Model-Arm", "")
        is_reported = flight.truth_after_s is not None
        self.answers.append(Answer(request_id, month, flight.index, version, arm, self._wall(), latency_s, is_reported))
        if flight.truth_after_s is not None:
            self.truths.add(request_id, flight.actual, self._clock() + flight.truth_after_s)

    async def _report(self) -> None:
        """Reports what is due, ten times a second; what could not be sent is sent again, which changes nothing where it had arrived."""
        assert self._session is not None  # it was entered
        waiting: list[dict[str, str]] = []
        while True:
            waiting += self.truths.take(self._clock())
            while waiting:
                part = waiting[:_REPORTS_AT_ONCE]
                try:
                    async with self._session.post(self._truth, data=msgspec.json.encode(part), headers=_JSON) as response:
                        text = await response.read()
                except _LOST:
                    break
                if response.status >= 300:  # noqa: PLR2004  anything else is a failure
                    self.refused.append(f"{response.status} {text[:200].decode(errors='replace')}")
                del waiting[: len(part)]
            if not waiting and not len(self.truths):
                self._is_quiet.set()
            await asyncio.sleep(_REPORT_S)
