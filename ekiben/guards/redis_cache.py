"""Answers that workers and replicas share through Redis.

A request asks Redis for 20 ms at most. Where that fails, requests are computed, as without a cache, until Redis was reached again behind
their backs: no second one waits for it. How much it keeps is its own business: ``maxmemory`` with a policy like
``allkeys-lru``; each row has a time to live. Rows are written behind the answers, a bounded number at a time.

Whoever can write to that Redis can say what is answered. Give it a password and a network of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from ekiben.guards.cache_codec import RowCodec
from ekiben.model.outputs import Outputs

logger = logging.getLogger("ekiben.cache")

TIMEOUT_S: Final = 0.02
REACH_S: Final = 1.0
"""What may take longer than a request may wait for: the first connection, and writing."""

REST_S: Final = 1.0
_MAX_WRITES: Final = 64
_FORMAT: Final = "ekiben:cache:1"


class ByteStore(Protocol):
    """What keeps bytes under keys for a time, somewhere else."""

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """The bytes of each key.

        Raises:
            OSError: It cannot be reached.
        """

    async def put(self, values: Mapping[str, bytes], ttl_ms: int) -> None:
        """Keeps them for so long.

        Raises:
            OSError: It cannot be reached.
        """

    async def close(self) -> None:
        """Lets go of its connections."""


class RedisBytes:
    """Bytes in Redis.

    Args:
        url: ``redis://…``, ``rediss://…`` or ``unix://…``.
        timeout_s: How long a connection, and an answer, may take, seconds.

    Raises:
        ImportError: The client is not installed.
        ValueError: The URL is none.
    """

    def __init__(self, url: str, *, timeout_s: float = 1.0) -> None:
        from redis.asyncio import Redis  # noqa: PLC0415  only where answers are shared
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.exceptions import RedisError  # noqa: PLC0415

        self._client: Any = Redis.from_url(
            url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0), protocol=2
        )
        self._error = RedisError

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """The bytes of each key.

        Raises:
            OSError: It cannot be reached, or refuses.
        """
        found: list[bytes | None] = await self._asked(self._client.mget(keys))
        return found

    async def put(self, values: Mapping[str, bytes], ttl_ms: int) -> None:
        """Keeps them for so long.

        Raises:
            OSError: It cannot be reached, or refuses.
        """
        pipeline = self._client.pipeline(transaction=False)
        for key, value in values.items():
            pipeline.set(key, value, px=ttl_ms)
        await self._asked(pipeline.execute())

    async def close(self) -> None:
        """Lets go of its connections."""
        await self._client.aclose()

    async def _asked(self, command: Awaitable[Any]) -> Any:
        try:
            return await command
        except self._error as e:
            raise OSError(str(e)) from e


class SharedRows:
    """Rows that all workers share; made in a running event loop, where it begins to reach for Redis.

    Args:
        store: Where they are.
        codec: Makes bytes of them.
        model: The model; its keys begin with it.
        ttl_s: How long a row is good, seconds.
        failed: Called each time that Redis could not be asked.
    """

    def __init__(self, store: ByteStore, codec: RowCodec, *, model: str, ttl_s: float, failed: Callable[[], None]) -> None:
        self._store = store
        self._codec = codec
        self._prefix = f"{_FORMAT}:{model}:"
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._failed = failed
        self._is_there = False
        self._is_missed = False
        self._writes: set[asyncio.Task[None]] = set()
        self._reaching = asyncio.create_task(self._reach())

    @property
    def entries(self) -> int:
        """None: what is kept, Redis keeps."""
        return 0

    @property
    def held_bytes(self) -> int:
        """None: what is kept, Redis keeps."""
        return 0

    async def find(self, keys: Sequence[bytes]) -> Outputs | None:
        """The rows of these keys, in their order; None where one or more are not there, or Redis is away."""
        if not self._is_there:
            return None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                found = await self._store.get([self._prefix + key.hex() for key in keys])
        except OSError:  # a timeout is one
            self._lost()
            return None
        rows: list[Outputs] = []
        for data in found:
            row = None if data is None else self._codec.decoded(data)
            if row is None or (rows and row.arrays.keys() != rows[0].arrays.keys()):
                return None
            rows.append(row)
        return Outputs.join(rows)

    def put(self, keys: Sequence[bytes], outputs: Outputs, start: int) -> None:
        """Remembers rows, behind the answer; not where Redis is away or behind.

        Args:
            keys: A key a row.
            outputs: Holds the rows, and perhaps others.
            start: Where they begin.
        """
        if not self._is_there or len(self._writes) >= _MAX_WRITES:
            return
        rows = {self._prefix + key.hex(): self._codec.encoded(outputs, n) for n, key in enumerate(keys, start)}
        values = {key: data for key, data in rows.items() if data is not None}
        if values:
            task = asyncio.create_task(self._write(values))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    async def close(self) -> None:
        """Ends what is being written and lets go of the connections."""
        # Who was admitted before and asks only now is computed, and opens no connection.
        self._is_there = False
        self._reaching.cancel()
        if self._writes:
            await asyncio.wait(self._writes)
        await self._store.close()

    async def _write(self, values: Mapping[str, bytes]) -> None:
        try:
            async with asyncio.timeout(REACH_S):
                await self._store.put(values, self._ttl_ms)
        except OSError:
            self._lost()

    def _lost(self) -> None:
        self._is_there = False
        self._failed()
        if self._reaching.done():
            self._reaching = asyncio.create_task(self._reach())

    async def _reach(self) -> None:
        """Asks until there is an answer; only where there is none at once is it worth a line in the log."""
        while not self._is_there:
            try:
                async with asyncio.timeout(REACH_S):
                    await self._store.get([self._prefix])
            except OSError as e:
                self._failed()
                if not self._is_missed:
                    self._is_missed = True
                    problem = str(e) or f"no answer within {REACH_S:g} s"
                    logger.warning("Redis cannot be asked for remembered answers, every request is computed until it can: %s", problem)
                await asyncio.sleep(REST_S)
            else:
                self._is_there = True
        if self._is_missed:
            self._is_missed = False
            logger.warning("Redis is asked for remembered answers again")
