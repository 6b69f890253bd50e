"""Counters that all replicas share, in Redis; while it is away, each rate says what happens."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from ekiben.errors import NotReady, SettingError
from ekiben.guards.counts import Counts, Place
from ekiben.guards.rates import Outcome, Rate, Standing, TokenBucket, standing_of
from ekiben.guards.redis_script import HOLD, RENEW, TAKE

if TYPE_CHECKING:
    from redis.asyncio import Redis

logger = logging.getLogger("ekiben.limits")

TIMEOUT_S: Final = 0.05
"""How long a request waits for Redis."""
RETRY_S: Final = 1.0
"""How long nobody asks Redis after it failed."""
LEASE_S: Final = 10.0
"""After so long the places of a worker that was killed are free."""

FAILURES: Final = 3
"""So many questions in a row without an answer, and Redis counts as away: one alone may be this process's, when it is short of time."""

_CONNECTIONS: Final = 64
_PREFIX: Final = b"ekiben:limits:"


class RedisCounts(Counts):
    """Counters in Redis. Each step is one script there, so exact over all that share it, and by its clock.

    After a few questions without an answer nobody asks for `RETRY_S` seconds, and then one request tries. Where there is no answer,
    rates that say so refuse, with `NotReady`; others let pass, and places are not counted.

    NOTE: a step may want counters of several keys. A Redis Cluster does not do that; one Redis with replicas does.

    Args:
        redis: The client, with its timeouts.
        on_change: Hears whether Redis can be reached, at the first answer and when that changes.
        clock: Monotonic seconds.
        lease_s: Seconds that a place is held without being renewed.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        on_change: Callable[[bool], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        lease_s: float = LEASE_S,
    ) -> None:
        self._redis = redis
        self._on_change = on_change
        self._clock = clock
        self._lease_s = lease_s
        self._take, self._hold, self._renew = (redis.register_script(text) for text in (TAKE, HOLD, RENEW))
        self._up: bool | None = None
        self._failures = 0
        self._ask_again = 0.0
        self._ids = f"{secrets.token_hex(8)}-".encode()
        self._held: dict[int, bytes] = {}
        self._last_index = 0
        self._renewing: asyncio.Task[None] | None = None
        self._releasing: set[asyncio.Task[Any]] = set()

    @classmethod
    def at(cls, url: str, *, on_change: Callable[[bool], None] = lambda _: None) -> RedisCounts:
        """Counters in the Redis of a URL. Nothing is connected to before the first request.

        Raises:
            SettingError: redis-py is not installed, or the URL is of no use to it.
        """
        try:
            from redis.asyncio import BlockingConnectionPool, Redis  # noqa: PLC0415  only who has a Redis needs it
            from redis.asyncio.retry import Retry  # noqa: PLC0415  as above
            from redis.backoff import NoBackoff  # noqa: PLC0415  as above
            from redis.exceptions import ConnectionError as Disconnected  # noqa: PLC0415  as above
        except ImportError:
            raise SettingError("EKIBEN_REDIS_URL needs redis-py; install ekiben[redis]") from None
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=TIMEOUT_S,
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                retry=Retry(NoBackoff(), 1, supported_errors=(Disconnected,)),  # a connection that Redis closed meanwhile is worth another
            )
        except ValueError as e:
            raise SettingError(f"EKIBEN_REDIS_URL is of no use: {e}") from None
        return cls(Redis.from_pool(pool), on_change=on_change)

    async def take(self, rates: Sequence[Rate], names: Sequence[bytes], cost: float) -> Standing:
        """As `Counts.take` says."""
        args: list[Any] = [cost]
        for rate in rates:
            args += ("bucket", rate.unit_s, rate.full_s) if isinstance(rate, TokenBucket) else ("window", rate.limit, rate.window_s)
        answers = await self._ask(lambda: self._take(keys=[_key(name) for name in names], args=args))
        if answers is None:
            return self._unreachable(rates)
        # The state stays in Redis.
        outcomes = [Outcome(bool(fits), (0.0, 0.0, 0.0), float(left), float(reset), float(wait)) for fits, left, reset, wait in answers]
        return standing_of(rates, outcomes)

    async def hold(self, name: bytes, limit: int) -> Place | None:
        """As `Counts.hold` says."""
        self._last_index += 1
        place = Place(_key(b"places|" + name), self._last_index)
        taken = await self._ask(lambda: self._hold(keys=[place.name], args=[limit, self._id(place.index), self._lease_s]))
        if taken is None:
            return Place(name)
        if not taken:
            return None
        self._held[place.index] = place.name
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew_all())
        return place

    def release(self, place: Place) -> None:
        """As `Counts.release` says. Where Redis is away, the lease ends by itself."""
        if self._held.pop(place.index, None) is not None:
            task = asyncio.create_task(self._ask(lambda: self._redis.zrem(place.name, self._id(place.index))))
            self._releasing.add(task)
            task.add_done_callback(self._releasing.discard)

    async def close(self) -> None:
        """As `Counts.close` says."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        for index, name in list(self._held.items()):
            self.release(Place(name, index))
        await asyncio.gather(*self._releasing)
        await self._redis.aclose()

    def _id(self, index: int) -> bytes:
        return self._ids + b"%d" % index

    def _unreachable(self, rates: Sequence[Rate]) -> Standing:
        for rate in rates:
            if rate.unreachable == "refuse":
                raise NotReady(f"the limit of {rate} cannot be counted now; try again in {RETRY_S:g} s", RETRY_S)
        return Standing(allowed=True)

    async def _ask(self, question: Callable[[], Awaitable[Any]]) -> Any:
        """What Redis answers; None where it cannot be reached."""
        from redis.exceptions import RedisError  # noqa: PLC0415  as in `at`

        now = self._clock()
        if now < self._ask_again:
            return None
        if self._up is False:
            self._ask_again = now + RETRY_S  # one asks, for all others
        try:
            async with asyncio.timeout(2 * TIMEOUT_S):
                answer = await question()
        except (RedisError, OSError, TimeoutError) as e:
            self._failed(e)
            return None
        self._failures = 0
        if not self._up:
            if self._up is False:
                logger.info("Redis answers again; limits are counted")
            self._ask_again = 0.0
            self._tell(up=True)
        return answer

    def _failed(self, e: Exception) -> None:
        self._failures += 1
        if self._failures < FAILURES:
            return
        self._ask_again = self._clock() + RETRY_S
        if self._up is not False:
            logger.warning("limits cannot be counted: Redis does not answer: %s", str(e) or type(e).__name__)
            self._tell(up=False)

    def _tell(self, *, up: bool) -> None:
        self._up = up
        self._on_change(up)

    async def _renew_all(self) -> None:
        """Renews what requests hold that are under way for long."""
        seen: set[int] = set()
        while True:
            await asyncio.sleep(self._lease_s / 4)
            long = [index for index in self._held if index in seen]
            seen = set(self._held)
            if long:
                keys, ids = [self._held[index] for index in long], [self._id(index) for index in long]
                await self._ask(lambda keys=keys, ids=ids: self._renew(keys=keys, args=[self._lease_s, *ids]))  # type: ignore[misc]


def _key(name: bytes) -> bytes:
    """Names are as long as who asks makes them; and keys in Redis tell nobody who asked."""
    return _PREFIX + blake2b(name, digest_size=16).hexdigest().encode()
