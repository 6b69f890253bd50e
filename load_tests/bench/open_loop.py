"""The open-loop load generator: requests at a constant rate, whether or not the server keeps up.

A closed loop slows down with the server and never overloads it. Here every request has its time in a schedule, and its
latency is counted from then, so that waiting for a free connection or for this program itself counts too.

As a program it reads one `Plan` as JSON on standard input and writes one `Outcome` as JSON on standard output.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast

import httptools
import msgspec

_OK: Final = 200
_LEAST_SLEEP_S: Final = 0.0005
NO_ANSWER: Final = "no answer"
BROKEN: Final = "connection"
UNSENT: Final = "unsent"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A load.

    Attributes:
        host: The server's address.
        port: Its port.
        path: Where to post.
        bodies: Request bodies, sent in turn.
        headers: Request headers on top of the content type and length.
        rate: Requests a second.
        seconds: How long.
        max_connections: Connections at most, all kept alive.
        grace_s: How long to wait for answers after the last request is due.
        timer_ms: What is sent so close to its time counts from when it was sent; 0 where all counts from its time.
    """

    host: str
    port: int
    path: str
    bodies: list[str]
    headers: dict[str, str]
    rate: float
    seconds: float
    max_connections: int = 800
    grace_s: float = 3.0
    timer_ms: float = 0.0


class Outcome(msgspec.Struct, kw_only=True):
    """What came of a load.

    Attributes:
        scheduled: Requests that were due.
        seconds: The time in which they were due.
        statuses: Status, or ``connection`` (lost), ``no answer`` (in time), ``unsent`` (no free connection) → how many.
        with_retry_after: Of the answers other than 200, how many had a Retry-After, by status.
        accepted: For each answer with 200, when it came (seconds from the start) and its latency from its scheduled time, or from
            when it was sent, see `Plan.timer_ms` (ms).
        connections: Connections that were opened.
        late_ms: How late the generator itself was at worst, sending with a connection at hand.
    """

    scheduled: int = 0
    seconds: float = 0.0
    statuses: dict[str, int] = {}
    with_retry_after: dict[str, int] = {}
    accepted: list[tuple[float, float]] = []
    connections: int = 0
    late_ms: float = 0.0


class _Connection(asyncio.Protocol):
    """One connection, with at most one request in flight."""

    def __init__(self, load: OpenLoop) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._due: float | None = None
        self._renew()

    def _renew(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._has_retry_after = False

    def send(self, due: float, request: bytes) -> None:
        assert self._transport is not None
        self._due = due
        self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # NOTE: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        self._load.lost(self, self._due)
        self._due = None

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after" and value.strip():
            self._has_retry_after = True

    def on_message_complete(self) -> None:
        due, self._due = self._due, None
        status, keep_alive = self._parser.get_status_code(), self._parser.should_keep_alive()
        retry_after = self._has_retry_after
        self._renew()
        if due is not None:
            self._load.answered(due, status, has_retry_after=retry_after)
        if keep_alive:
            self._load.free(self)
        else:
            self.close()


class OpenLoop:
    """One load under way.

    Args:
        plan: What to do.
        clock: Seconds, monotonic.
    """

    def __init__(self, plan: Plan, clock: Callable[[], float]) -> None:
        self._plan = plan
        self._clock = clock
        self._timer_s = plan.timer_ms / 1000
        self._requests = [_request(plan, body) for body in plan.bodies]
        self._start = 0.0
        self._sent = 0
        self._idle: deque[_Connection] = deque()
        self._open: set[_Connection] = set()
        self._opening = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: deque[float] = deque()
        self._settled = 0
        self._total = 0
        self._all_settled = asyncio.Event()
        self._outcome = Outcome(statuses={}, with_retry_after={}, accepted=[])

    async def run(self) -> Outcome:
        """Sends what is due, waits for the answers, at most ``grace_s``, and closes all connections."""
        total = max(1, round(self._plan.rate * self._plan.seconds))
        start = self._start = self._clock()
        for n in range(total):
            due = start + n / self._plan.rate
            wait = due - self._clock()
            if wait > _LEAST_SLEEP_S:
                await asyncio.sleep(wait)
            self._dispatch(due)
            if wait <= 0 and n % 16 == 15:  # noqa: PLR2004  behind the schedule: answers must still be read
                await asyncio.sleep(0)
        self._outcome.scheduled = total
        self._outcome.seconds = self._plan.seconds
        end = start + self._plan.seconds + self._plan.grace_s
        self._total = total
        if self._settled < total:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_settled.wait(), max(0.0, end - self._clock()))
        await self._close(total)
        return self._outcome

    def answered(self, due: float, status: int, *, has_retry_after: bool) -> None:
        """Takes down an answer."""
        self._count(str(status))
        if status == _OK:
            now = self._clock()
            self._outcome.accepted.append((now - self._start, (now - due) * 1000))
        elif has_retry_after:
            self._outcome.with_retry_after[str(status)] = self._outcome.with_retry_after.get(str(status), 0) + 1

    def free(self, connection: _Connection) -> None:
        """Takes a connection back, and gives it what has waited longest."""
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: _Connection, due: float | None) -> None:
        """Takes down a lost connection, and the request that was on it."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if due is not None:
            self._count(BROKEN)
        if self._waiting:
            self._open_one()

    def _dispatch(self, due: float) -> None:
        if self._idle:
            self._outcome.late_ms = max(self._outcome.late_ms, (self._clock() - due) * 1000)
            # The one idle longest, so that every connection, and with it every worker, gets its share.
            self._send(self._idle.popleft(), due)
            return
        self._waiting.append(due)
        self._open_one()

    def _open_one(self) -> None:
        # A connection for each request that waits, as far as the limit goes.
        if self._opening < len(self._waiting) and len(self._open) + self._opening < self._plan.max_connections:
            self._opening += 1
            task = asyncio.get_running_loop().create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        connection = _Connection(self)
        try:
            await asyncio.get_running_loop().create_connection(lambda: connection, self._plan.host, self._plan.port)
        except OSError:
            if self._waiting:
                self._waiting.popleft()
                self._count(BROKEN)
            return
        finally:
            self._opening -= 1
        self._open.add(connection)
        self._outcome.connections += 1
        self.free(connection)

    def _send(self, connection: _Connection, due: float) -> None:
        if self._timer_s and abs((now := self._clock()) - due) <= self._timer_s:
            due = now
        connection.send(due, self._requests[self._sent % len(self._requests)])
        self._sent += 1

    def _count(self, kind: str, count: int = 1) -> None:
        self._outcome.statuses[kind] = self._outcome.statuses.get(kind, 0) + count
        self._settled += count
        if self._settled == self._total:
            self._all_settled.set()

    async def _close(self, total: int) -> None:
        """Settles what is open: counts it, then closes the connections without counting it again."""
        unsent, self._waiting = len(self._waiting), deque()
        if unsent:
            self._count(UNSENT, unsent)
        if self._settled < total:
            self._count(NO_ANSWER, total - self._settled)
        statuses = dict(self._outcome.statuses)
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in tuple(self._open):
            connection.close()
        await asyncio.sleep(0)
        self._outcome.statuses = statuses


def _request(plan: Plan, body: str) -> bytes:
    encoded = body.encode()
    lines = [f"POST {plan.path} HTTP/1.1", f"Host: {plan.host}:{plan.port}", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(encoded)}", *(f"{name}: {value}" for name, value in plan.headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + encoded


async def run_plan(plan: Plan) -> Outcome:
    """Runs a plan in this event loop."""
    # NOTE: uvloop's own clock stands still within a turn of the loop and counts whole milliseconds.
    return await OpenLoop(plan, time.monotonic).run()


def main() -> None:
    """Reads a plan, runs it on uvloop, writes the outcome."""
    import uvloop  # noqa: PLC0415  only the program needs it

    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(run_plan(plan))))


if __name__ == "__main__":
    main()
