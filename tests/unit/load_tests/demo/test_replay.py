import asyncio
import json

import pytest
from aiohttp import web

from load_tests.demo.flights import Flight
from load_tests.demo.replay import TRIES, Replay

FLIGHTS = [Flight(i, json.dumps({"instances": [i]}).encode(), 0.002 * i, 0.01 if i % 5 else None, "late") for i in range(30)]


class Server:
    """Answers as a server does, and sometimes breaks a connection."""

    def __init__(self, breaks=lambda request_id: False, status=200, truth_status=200):
        self.breaks, self.status, self.truth_status = breaks, status, truth_status
        self.asked, self.keys, self.reports, self.most = [], [], [], 99

    async def predict(self, request):
        request_id = request.headers["X-Request-Id"]
        self.asked.append(request_id)
        self.keys.append(request.headers["X-Routing-Key"])
        await request.read()
        if self.breaks(request_id):
            request.transport.abort()
        return web.json_response({}, status=self.status, headers={"X-Model-Version": "v1", "X-Model-Arm": "champion"})

    async def truth(self, request):
        self.reports.append(await request.json())
        if self.truth_status == 0 and len(self.reports) == 1:
            request.transport.abort()
        return web.json_response({}, status=self.truth_status or 200)

    async def replayed(self, flights=FLIGHTS):
        app = web.Application()
        app.router.add_post("/v1/models/flight_delay:predict", self.predict)
        app.router.add_post("/v1/models/flight_delay/ground_truth", self.truth)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            told = []
            async with Replay(f"http://127.0.0.1:{runner.addresses[0][1]}", seed=1) as replay:
                asked = await replay.month(5, flights, told.append, is_over=lambda: len(told) == self.most)
                await replay.reported()
            assert asked == min(len(flights), self.most)
            assert told == list(range(1, asked + 1))
        finally:
            await runner.cleanup()
        return replay


def run(server):
    return asyncio.run(server.replayed())


def test_every_flight_is_asked_and_its_truth_reported():
    server = Server()
    replay = run(server)
    assert sorted(server.asked) == [f"05-{i:05}-1" for i in range(30)]
    assert server.keys[0] == server.asked[0].removesuffix("-1")
    assert {(a.version, a.arm, a.month) for a in replay.answers} == {("v1", "champion", 5)}
    reported = {item["request_id"] for part in server.reports for item in part}
    assert reported == {a.request_id for a in replay.answers if a.is_reported}
    assert len(reported) == 24
    assert replay.failures == replay.lost == replay.refused == []


def test_a_month_can_be_cut_short():
    server = Server()
    server.most = 10
    assert len(run(server).answers) == 10


def test_a_request_whose_connection_breaks_is_asked_again_under_another_id():
    replay = run(Server(breaks=lambda request_id: request_id == "05-00007-1"))
    assert replay.lost == ["05-00007-1"]
    assert "05-00007-2" in {a.request_id for a in replay.answers}
    assert len(replay.answers) == 30
    assert replay.failures == []


def test_a_flight_that_nobody_answers_is_a_failure(monkeypatch):
    monkeypatch.setattr("load_tests.demo.replay._AGAIN_S", 0.0)
    replay = run(Server(breaks=lambda request_id: request_id.startswith("05-00003")))
    assert replay.failures == [f"05-00003: no answer in {TRIES} tries"]
    assert len(replay.answers) == 29


def test_an_error_is_a_failure_and_is_not_asked_again():
    replay = run(Server(status=503))
    assert len(replay.failures) == 30
    assert "503" in replay.failures[0]
    assert replay.answers == []


def test_a_report_that_is_refused_is_remembered():
    assert run(Server(truth_status=422)).refused[0].startswith("422")


def test_a_report_that_is_lost_is_sent_again():
    server = Server(truth_status=0)
    replay = run(server)
    later = {item["request_id"] for part in server.reports[1:] for item in part}
    assert {item["request_id"] for item in server.reports[0]} <= later
    assert replay.refused == []


def test_what_ends_the_reporter_is_raised(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("load_tests.demo.truths.TruthQueue.take", broken)
    with pytest.raises(ZeroDivisionError):
        run(Server())
