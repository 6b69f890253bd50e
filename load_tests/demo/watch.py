"""The news: what happens to the model, shown as it happens, as the server's admin API tells it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from load_tests.demo.scenario import MODEL

_EVERY_S: Final = 1.0
_TIMEOUT_S: Final = 5.0
_AT_ONCE: Final = 200
_RETRAIN_BEGINS: Final = "retrain_started"
_RETRAIN_ENDS: Final = ("retrain_rejected", "retrain_failed")
_MACHINE: Final = "monitor"
_ROLLOUT_ENDS: Final = ("promoted", "rolled-back", "aborted")


class News:
    """Follows the events of the model.

    Args:
        url: The server's address.
        key_file: File with the key of its admin API.
        tell: Hears of each event, as the API has it.

    Attributes:
        events: All of them, the oldest first.
    """

    def __init__(self, url: str, key_file: Path, tell: Callable[[Mapping[str, Any]], None]) -> None:
        self._url = f"{url}/admin/v1/models/{MODEL}/events"
        self._key_file = key_file
        self._tell = tell
        self._has_begun = asyncio.Event()
        self.events: list[Mapping[str, Any]] = []

    @property
    def was_retrained(self) -> bool:
        """Whether training anew has begun at least once."""
        return self._has_begun.is_set()

    @property
    def is_busy(self) -> bool:
        """Whether the model is being trained, or a version is on trial or about to be."""
        kinds = [event["kind"] for event in self.events]
        # What is better than the champion has a rollout started for it, a moment later.
        ended_well = sum(event["kind"] == "started" and event["who"] == _MACHINE for event in self.events)
        training = kinds.count(_RETRAIN_BEGINS) - ended_well - sum(kind in _RETRAIN_ENDS for kind in kinds)
        begun = {event["rollout"] for event in self.events if event["kind"] == "started" and event.get("rollout")}
        ended = {event["rollout"] for event in self.events if event["kind"] in _ROLLOUT_ENDS and event.get("rollout")}
        return training > 0 or bool(begun - ended)

    async def until_retrained(self, patience_s: float) -> None:
        """Waits until training anew has begun, or for so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._has_begun.wait(), patience_s)

    async def follow(self) -> None:
        """Looks once a second, until it is cancelled. A worker that is killed may take a look with it: the next one sees it all."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    await self.look(session)
                await asyncio.sleep(_EVERY_S)

    async def look(self, session: aiohttp.ClientSession) -> None:
        """Asks for what is new.

        Raises:
            aiohttp.ClientError, TimeoutError: The server did not answer.
        """
        headers = {"Authorization": f"Bearer {self._key_file.read_text(encoding='utf-8').strip()}"}
        after = self.events[-1].get("id", 0) if self.events else 0
        params = {"after": str(after), "limit": str(_AT_ONCE)}
        async with session.get(self._url, headers=headers, params=params, raise_for_status=True) as response:
            new: list[Mapping[str, Any]] = msgspec.json.decode(await response.read())
        for event in new:
            self.events.append(event)
            if event["kind"] == _RETRAIN_BEGINS:
                self._has_begun.set()
            self._tell(event)
