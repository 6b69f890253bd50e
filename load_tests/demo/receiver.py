"""The webhook of the demo: whoever is to be told of alerts and rollouts listens here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Set as AbstractSet
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from aiohttp import web

_ALERT: Final = "alert"


class Receiver:
    """Takes messages on a port of its own, and keeps each once: one that is sent again has the same id.

    Attributes:
        url: Where it listens, while it is open.
        messages: Id of a message → what it says.
    """

    def __init__(self) -> None:
        self.url = ""
        self.messages: dict[str, Any] = {}
        self._came = asyncio.Condition()
        app = web.Application()
        app.router.add_post("/", self._take)
        self._runner = web.AppRunner(app, access_log=None)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._runner.cleanup()

    @property
    def alerts(self) -> set[int]:
        """Numbers of the events of alerts that were told."""
        events = (message.get("data", {}) for message in self.messages.values())
        return {event["id"] for event in events if event.get("kind") == _ALERT}

    async def lacks(self, alerts: AbstractSet[int], patience_s: float) -> AbstractSet[int]:
        """Which of some alerts have not been told, after so long at most.

        Args:
            alerts: Numbers of their events.
            patience_s: Seconds.
        """
        async with self._came:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._came.wait_for(lambda: alerts <= self.alerts), patience_s)
        return alerts - self.alerts

    async def _take(self, request: web.Request) -> web.Response:
        self.messages[request.headers.get("webhook-id", "")] = msgspec.json.decode(await request.read())
        async with self._came:
            self._came.notify_all()
        return web.Response()
