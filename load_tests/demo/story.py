"""The story: a model is trained, served, put to the test month by month, and everything is counted at the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from load_tests.demo import figures
from load_tests.demo.bad_version import VERSION as BAD
from load_tests.demo.counting import count, rows_by_month
from load_tests.demo.flights import Flight, flights_of
from load_tests.demo.project import CommandFailed, Project
from load_tests.demo.promises import WORKERS, promises_of
from load_tests.demo.receiver import Receiver
from load_tests.demo.record import Month, Record
from load_tests.demo.replay import Answer, Replay
from load_tests.demo.scenario import LAST_MONTH, MODEL, Scenario
from load_tests.demo.serving import Serving
from load_tests.demo.watch import News

# Rows that a check leaves to the next one, because their batch may not be in the log yet.
_SETTLE_S: Final = 2.0
_REPLACED_S: Final = 20.0
# The monitor looks every ten seconds, and then needs some to begin.
_TRIGGERED_S: Final = 20.0
_TOLD_S: Final = 15.0
_LOOK_S: Final = 0.5
_EVENTS: Final = "1000"


class Audience(Protocol):
    """Who is shown what goes on."""

    def step(self, text: str) -> None:
        """Something begins."""

    def event(self, event: Mapping[str, Any]) -> None:
        """Something happened to the model."""

    def month_begins(self, month: int, flights: int) -> None:
        """A month is replayed."""

    def asked(self, flights: int) -> None:
        """So many of the month's flights were asked."""

    def month_ends(self, month: Month) -> None:
        """A month is over, and was checked."""


class Story:
    """Plays it.

    Args:
        scenario: What is played.
        form: What that is called.
        project: Where.
        audience: Who is shown it.

    Attributes:
        answers: All flights that were answered.
    """

    def __init__(self, scenario: Scenario, form: str, project: Project, audience: Audience) -> None:
        self._scenario = scenario
        self._form = form
        self._project = project
        self._audience = audience
        self._killed = 0
        self._killed_at = 0.0
        self._champion = ""
        self._months: list[Month] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self.answers: list[Answer] = []

    async def play(self) -> Record:
        """All of it.

        Raises:
            CommandFailed: A command did.
            ServerFailed: The server did not start.
            DataError: The flights are not installed.
        """
        began, clock = time.time(), time.monotonic()
        await self._train()
        async with Receiver() as receiver, self._served(receiver.url) as (server, news):
            async with Replay(server.url, seed=self._scenario.seed) as replay:
                await self._replay(replay, server, news)
                self.answers = replay.answers
                await self._until_replaced(server)
                workers = len(server.workers())
            self._audience.step("Count what is in the log")
            rows, counts = await asyncio.gather(rows_by_month(self._project), count(self._project, replay))
            events = await self._project.ask("rollout", "history", MODEL, "--limit", _EVENTS)
            versions = await self._project.ask("models", "list", MODEL)
            untold = await receiver.lacks({event["id"] for event in events if event["kind"] == "alert"}, _TOLD_S)
        for month in self._months:
            figures.with_arms(month.quality, rows, month.month)
        return Record(
            form=self._form,
            began=began,
            took_s=round(time.monotonic() - clock, 1),
            champion=self._champion,
            bad=BAD,
            killed=self._killed,
            killed_at=self._killed_at,
            months=self._months,
            rows=rows,
            versions=versions,
            events=events,
            counts=counts,
            promises=promises_of(
                counts=counts,
                months=self._months,
                events=events,
                bad=BAD,
                workers=workers,
                refused=replay.refused,
                untold=len(untold),
            ),
        )

    async def _train(self) -> None:
        self._audience.step("Train flight_delay on the flights of January to April")
        await self._project.run("training.flight_delay", "--json")
        self._audience.step("Register a version that answers the opposite")
        await self._project.run("load_tests.demo.bad_version")
        versions = await self._project.ask("models", "list", MODEL)
        self._champion = next(v["version"] for v in versions if "champion" in v["aliases"])

    @contextlib.asynccontextmanager
    async def _served(self, webhook: str) -> AsyncIterator[tuple[Serving, News]]:
        """A server that is ready, and the news of it."""
        self._audience.step(f"Serve it with {WORKERS} workers")
        server = Serving(self._project, webhook)
        follower = None
        try:
            await asyncio.to_thread(server.wait)
            # A check of nothing: the next one begins where it ended, and none is due before the demo asks for it.
            await self._project.ask("monitor", "check", MODEL)
            news = News(server.url, self._project.home / "admin.key", self._audience.event)
            follower = asyncio.create_task(news.follow())
            yield server, news
        finally:
            left = [*self._tasks, *([follower] if follower is not None else [])]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            self._audience.step("Stop the server")
            server.stop()

    async def _replay(self, replay: Replay, server: Serving, news: News) -> None:
        scenario, month = self._scenario, self._scenario.first_month
        flights = await self._flights(month)
        while True:
            self._audience.month_begins(month, len(flights))
            coming = asyncio.create_task(self._flights(min(month + 1, LAST_MONTH)))
            await self._month(month, flights, replay, server, news)
            flights = await coming
            if self._months[-1].verdict == "bad" and not news.was_retrained:
                # What calls for it is seen within seconds: the months must not run away meanwhile.
                await news.until_retrained(_TRIGGERED_S)
            if month == scenario.own_month and not news.was_retrained:
                self._begin(self._retrain())
            month += 1
            if month > LAST_MONTH or (month > scenario.last_month and not news.is_busy):
                return

    async def _flights(self, month: int) -> list[Flight]:
        return await asyncio.to_thread(flights_of, self._project.home, month, self._scenario)

    async def _month(self, month: int, flights: list[Flight], replay: Replay, server: Serving, news: News) -> None:
        scenario = self._scenario
        since, answered, failed, lost = time.time(), len(replay.answers), len(replay.failures), len(replay.lost)
        if month == scenario.bad_month:
            self._begin(self._at(scenario.bad_at, self._try_bad()))
        if month == scenario.kill_month:
            self._begin(self._at(scenario.kill_at, self._kill(server)))
        is_over = (lambda: False) if month <= scenario.last_month else (lambda: not news.is_busy)
        asked = await replay.month(month, flights, self._audience.asked, is_over=is_over)
        over = time.monotonic()
        await replay.reported()
        self._check_tasks()
        await asyncio.sleep(max(over + _SETTLE_S - time.monotonic(), 0.0))
        until = time.time()
        span = ("--since", _moment(since), "--until", _moment(until))
        checks, reports = await asyncio.gather(self._project.ask("monitor", "check", MODEL), self._project.ask("quality", MODEL, *span))
        versions = [check["version"] for check in checks if check["kind"] == "drift"]
        verdict, said = figures.verdict_of(checks, versions[0] if versions else "")
        latencies = sorted(answer.latency_s for answer in replay.answers[answered:])
        self._months.append(
            Month(
                month=month,
                since=since,
                until=until,
                asked=asked,
                failures=len(replay.failures) - failed,
                lost=len(replay.lost) - lost,
                p95_ms=round(1000 * latencies[int(0.95 * len(latencies))], 1) if latencies else 0.0,
                verdict=verdict,
                said=said,
                drift=figures.drift_of(checks),
                quality=figures.quality_of(reports),
            )
        )
        self._audience.month_ends(self._months[-1])

    async def _at(self, share: float, then: Any) -> None:
        await asyncio.sleep(share * self._scenario.month_s)
        await then

    async def _try_bad(self) -> None:
        self._audience.step("Put the version that answers the opposite on trial")
        await self._project.ask("rollout", "start", MODEL, "--to", BAD)

    async def _kill(self, server: Serving) -> None:
        self._killed_at = time.time()
        self._killed = await asyncio.to_thread(server.kill_worker)
        self._audience.step(f"Killed a worker, process {self._killed}")

    async def _retrain(self) -> None:
        self._audience.step("Nothing called for training anew until now: the demo does")
        # Why it failed is among the events, and so in what is found of the promise.
        with contextlib.suppress(CommandFailed):
            await self._project.run("ekiben", "retrain", MODEL, "--trigger", "the schedule of the demo")

    async def _until_replaced(self, server: Serving) -> None:
        end = time.monotonic() + _REPLACED_S
        while len(server.workers()) < WORKERS and time.monotonic() < end:  # noqa: ASYNC110  nobody tells of a new process
            await asyncio.sleep(_LOOK_S)

    def _begin(self, work: Any) -> None:
        """Something that goes on beside the replay; what goes wrong with it is raised at the end of the month."""
        self._tasks.add(asyncio.create_task(work))

    def _check_tasks(self) -> None:
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            task.result()


def _moment(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat()
