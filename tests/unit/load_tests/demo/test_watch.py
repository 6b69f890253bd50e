import asyncio
import contextlib

from aiohttp import web
from unit.load_tests.demo.told import event

from load_tests.demo.watch import News

NUMBERED = [
    event("started", "v2", rollout="r-1", number=1),
    event("retrain_started", number=2),
    event("promoted", rollout="r-1", number=3),
    event("retrain_rejected", number=4),
]


class Admin:
    """An admin API with events, which fails at first."""

    def __init__(self, events, failures=0):
        self.events, self.failures, self.keys = events, failures, []

    async def answer(self, request):
        self.keys.append(request.headers["Authorization"])
        if self.failures:
            self.failures -= 1
            return web.Response(status=503)
        return web.json_response([e for e in self.events if e["id"] > int(request.query["after"])])

    async def followed(self, tmp_path, until):
        app = web.Application()
        app.router.add_get("/admin/v1/models/flight_delay/events", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        (tmp_path / "key").write_text("secret\n")
        told = []
        news = News(f"http://127.0.0.1:{runner.addresses[0][1]}", tmp_path / "key", told.append)
        task = asyncio.create_task(news.follow())
        try:
            await until(news)
            for _ in range(100):
                if len(told) >= len(self.events):
                    break
                await asyncio.sleep(0.02)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await runner.cleanup()
        return news, told


async def retrained(news):
    await news.until_retrained(10)


async def at_once(news):
    await news.until_retrained(0.01)


def test_it_tells_each_event_once_and_gets_over_failures(tmp_path, monkeypatch):
    monkeypatch.setattr("load_tests.demo.watch._EVERY_S", 0.02)
    admin = Admin(NUMBERED, failures=2)
    news, told = asyncio.run(admin.followed(tmp_path, retrained))
    assert told == NUMBERED
    assert news.was_retrained
    assert not news.is_busy
    assert set(admin.keys) == {"Bearer secret"}


def test_it_knows_what_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("load_tests.demo.watch._EVERY_S", 0.02)
    better = [event("retrain_started", number=1), event("retrain_finished", number=2)]
    trial = event("started", "v2", rollout="r-9", who="monitor", number=3)
    over = [*better, trial, event("promoted", rollout="r-9", number=4)]
    for events in (NUMBERED[:1], NUMBERED[1:2], NUMBERED[:3], better, [*better, trial]):
        news, _ = asyncio.run(Admin(events).followed(tmp_path, at_once))
        assert news.is_busy
    news, _ = asyncio.run(Admin(NUMBERED[:1]).followed(tmp_path, at_once))
    assert not news.was_retrained
    assert not asyncio.run(Admin(over).followed(tmp_path, at_once))[0].is_busy
