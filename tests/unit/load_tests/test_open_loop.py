import asyncio
import contextlib
import subprocess
import sys
import time

import msgspec
import pytest

from load_tests.bench.open_loop import Outcome, Plan, run_plan

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}"
REFUSED_WITHOUT_WORD = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


class Server:
    """A local HTTP server that answers request n with what ``reply(n)`` gives: bytes, or None for never."""

    def __init__(self, reply, delay_s=0.0):
        self.reply, self.delay_s = reply, delay_s
        self.heads, self.bodies, self.arrivals = [], [], []
        self.connections = self.open = self.most_open = 0
        self.handlers = set()

    async def __call__(self, reader, writer):
        self.handlers.add(asyncio.current_task())
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
                body = await reader.readexactly(length)
                n = len(self.heads)
                self.heads.append(head)
                self.bodies.append(body)
                self.arrivals.append(time.monotonic())
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                answer = self.reply(n)
                if answer is None:
                    continue
                if answer == b"":
                    break
                writer.write(answer)
                if b"Connection: close" in answer:
                    break
        self.open -= 1
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def _run(server, **plan):
    async def main():
        listener = await asyncio.start_server(server, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        defaults = {"host": "127.0.0.1", "port": port, "path": "/p", "bodies": ["[1]", "[2]"], "headers": {"X-Deadline": "250"}}
        outcome = await run_plan(Plan(**{**defaults, "rate": 200, "seconds": 0.25, "grace_s": 1, **plan}))
        listener.close()
        await asyncio.wait_for(asyncio.gather(*server.handlers), 5)
        return outcome

    return asyncio.run(main())


def test_all_that_is_due_is_sent_in_turn_with_its_headers():
    server = Server(lambda _n: OK)

    outcome = _run(server)

    assert outcome.scheduled == 50
    assert outcome.statuses == {"200": 50}
    assert len(outcome.accepted) == 50
    assert server.bodies.count(b"[1]") == server.bodies.count(b"[2]") == 25
    assert server.heads[0].startswith(b"POST /p HTTP/1.1\r\n")
    assert b"X-Deadline: 250\r\n" in server.heads[0]


def test_the_rate_is_kept_and_connections_are_reused():
    server = Server(lambda _n: OK)

    _run(server, rate=100, seconds=0.5)

    # The last request is due 0.49 s after the first, and none is sent more than a moment before it is due.
    assert server.arrivals[-1] - server.arrivals[0] > 0.47
    assert all(arrival - server.arrivals[0] > n / 100 - 0.03 for n, arrival in enumerate(server.arrivals))
    assert server.connections < 50


def test_a_slow_server_does_not_slow_the_arrivals():
    server = Server(lambda _n: OK, delay_s=0.3)

    outcome = _run(server, rate=100, seconds=0.3)

    assert server.most_open > 20, "a closed loop would have waited for answers"
    assert outcome.statuses == {"200": 30}
    assert min(latency for _, latency in outcome.accepted) >= 299


def test_latency_counts_from_the_scheduled_time_so_waiting_for_a_connection_shows():
    server = Server(lambda _n: OK, delay_s=0.05)

    outcome = _run(server, rate=100, seconds=0.1, max_connections=1, grace_s=3)

    assert (server.connections, server.most_open, outcome.connections) == (1, 1, 1)
    latencies = [latency for _, latency in outcome.accepted]
    # Each takes 50 ms, one after the other, and they are due every 10 ms: the tenth waits more than 400 ms.
    assert len(latencies) == 10
    assert latencies[-1] >= 10 * 50 - 9 * 10 - 1
    assert [done for done, _ in outcome.accepted] == sorted(done for done, _ in outcome.accepted)


def test_what_is_sent_about_when_it_is_due_counts_from_then_where_timers_are_coarse():
    def latencies(timer_ms):
        # One connection, 50 ms an answer, 40 requests a second: every request waits longer for it than the one before.
        outcome = _run(Server(lambda _n: OK, delay_s=0.05), rate=40, seconds=0.25, max_connections=1, timer_ms=timer_ms)
        return [latency_ms for _, latency_ms in outcome.accepted]

    assert latencies(timer_ms=0)[-1] > 200
    assert latencies(timer_ms=10)[-1] > 200, "what is late by more than that counts from its time"
    assert latencies(timer_ms=10_000)[-1] < 200


def test_refusals_are_counted_with_and_without_retry_after():
    server = Server(lambda n: (OK, REFUSED, REFUSED_WITHOUT_WORD)[n % 3])

    outcome = _run(server, rate=300, seconds=0.1)

    assert outcome.statuses == {"200": 10, "503": 20}
    assert outcome.with_retry_after == {"503": 10}
    assert len(outcome.accepted) == 10


def test_a_server_that_never_answers_does_not_keep_it_waiting():
    start = time.monotonic()

    outcome = _run(Server(lambda _n: None), rate=100, seconds=0.2, max_connections=5, grace_s=0.2)

    assert time.monotonic() - start < 2
    assert outcome.statuses == {"unsent": 15, "no answer": 5}


def test_lost_connections_are_counted_and_others_take_their_place():
    outcome = _run(Server(lambda n: b"" if n % 5 == 0 else OK), rate=100, seconds=0.3)

    assert outcome.statuses == {"connection": 6, "200": 24}


def test_an_answer_that_is_no_http_is_a_lost_connection():
    assert _run(Server(lambda _n: b"nonsense\r\n\r\n"), rate=20, seconds=0.2).statuses == {"connection": 4}


def test_a_server_that_closes_after_each_answer_loses_nothing():
    closing = OK.replace(b"200 OK\r\n", b"200 OK\r\nConnection: close\r\n")
    server = Server(lambda _n: closing)

    outcome = _run(server, rate=100, seconds=0.2)

    assert outcome.statuses == {"200": 20}
    assert server.connections >= 20


def test_where_nothing_listens_every_request_is_settled():
    async def main():
        plan = Plan(host="127.0.0.1", port=9, path="/", bodies=["1"], headers={}, rate=100, seconds=0.1, grace_s=0.5)
        return await run_plan(plan)

    assert asyncio.run(main()).statuses == {"connection": 10}


@pytest.mark.processes
def test_as_a_program_it_reads_a_plan_and_writes_the_outcome():
    plan = Plan(host="127.0.0.1", port=9, path="/", bodies=["1"], headers={}, rate=50, seconds=0.1, grace_s=0.5)

    done = subprocess.run(
        [sys.executable, "-m", "load_tests.bench.open_loop"], input=msgspec.json.encode(plan), capture_output=True, timeout=60, check=True
    )

    assert msgspec.json.decode(done.stdout, type=Outcome).statuses == {"connection": 5}
