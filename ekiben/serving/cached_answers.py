"""Answers out of a version's cache, and one computation for requests that ask the same at the same time.

A request is answered from the cache where all its rows are remembered, and waits where all of them are being computed for others.
Else all of it is computed, so that its rows stand in the inference log as they came. What fails is not remembered. Who waited
gets the error where both asked the same single row; else it may be another row's, or the other client's deadline, and is no answer
to this request, which is tried anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from ekiben.errors import DeadlineExceeded, InvalidRows, PredictionFailed, RequestError
from ekiben.guards.cache import RowStore
from ekiben.guards.cache_key import RowKeys
from ekiben.model.outputs import Outputs
from ekiben.model.signature import Batch, Payload, Signature
from ekiben.monitoring.cache_metrics import VersionCacheMetrics
from ekiben.serving.batch_run import Answer, Clock
from ekiben.serving.batcher import Batcher

_WAITS: Final = 3
"""After so many computations of others that came to nothing a request is computed whoever else computes the same."""

_Outcome = Answer | RequestError | None
"""Of a computation; None where it ended in a way that says nothing to others."""


class _Flight:
    """A request that is being computed.

    Attributes:
        n: Its rows.
        done: Its outcome.
    """

    __slots__ = ("done", "n")

    def __init__(self, n: int, done: asyncio.Future[_Outcome]) -> None:
        self.n = n
        self.done = done


class CachedAnswers:
    """Answers requests to one version, computing as little as may be.

    Args:
        store: What is remembered.
        keys: Makes the rows' keys.
        batcher: Computes the others.
        signature: The version's inputs.
        reused: Called for each request that is answered without being computed: the request, its answer, and the seconds since it came.
        metrics: The collectors.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        store: RowStore,
        keys: RowKeys,
        batcher: Batcher,
        *,
        signature: Signature,
        reused: Callable[[Any, Answer, float], None],
        metrics: VersionCacheMetrics,
        clock: Clock,
    ) -> None:
        self._store = store
        self._keys = keys
        self._batcher = batcher
        self._signature = signature
        self._reused = reused
        self._metrics = metrics
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._flights: dict[bytes, tuple[_Flight, int]] = {}

    async def infer(self, call: Any, payload: Payload) -> Answer:
        """Answers an admitted request of one row or more.

        Args:
            call: The request, as `Batcher.submit` takes it.
            payload: Its rows.

        Raises:
            DeadlineExceeded: Its deadline passed while it waited.
            RequestError: As the batcher found, for this request or for one that asked the same.
        """
        batch = self._signature.as_batch(payload)
        keys = self._keys.of(batch, call.principal)
        if keys is None:
            # A row is bad: the batcher says which and why.
            return await self._submit(call, batch)
        for _ in range(_WAITS):
            flights = self._under_way(keys)
            if flights is None:
                break
            answer = await self._join(call, batch, flights)
            if answer is not None:
                return answer
        return await self._lead(call, batch, keys)

    def write_metrics(self) -> None:
        """Writes what was counted, and what is held now."""
        self._metrics.write(self._store.entries, self._store.held_bytes)

    async def close(self) -> None:
        """Forgets everything."""
        await self._store.close()
        self.write_metrics()

    def _submit(self, call: Any, batch: Batch) -> asyncio.Future[Answer]:
        return self._batcher.submit(batch, batch.n, received=call.received, deadline=call.deadline, call=call)

    def _under_way(self, keys: Sequence[bytes]) -> list[tuple[_Flight, int]] | None:
        """Where each row is being computed; None where one or more are not."""
        flights = self._flights
        if not flights:
            return None
        found = [flight for key in keys if (flight := flights.get(key)) is not None]
        return found if len(found) == len(keys) else None

    # ── computed, or found ───────────────────────────────────────────────────────────────────────────────────────────

    async def _lead(self, call: Any, batch: Batch, keys: Sequence[bytes]) -> Answer:
        """Looks for the rows, computes them where they are not there, and tells those who wait."""
        flights = self._flights
        flight = _Flight(len(keys), self._loop.create_future())
        for row, key in enumerate(keys):
            flights[key] = flight, row
        outcome: _Outcome = None
        try:
            found = await self._store.find(keys)
            if found is not None:
                self._metrics.hits += 1
                outcome = answer = Answer(found, 0, found.n, batch)
                self._reused(call, answer, self._clock() - call.received)
                return answer
            self._metrics.misses += 1
            outcome = answer = await self._submit(call, batch)
            self._store.put(keys, answer.outputs, answer.start)
        except (InvalidRows, PredictionFailed) as e:
            outcome = e
            raise
        else:
            return answer
        finally:
            for key in keys:
                if (entry := flights.get(key)) is not None and entry[0] is flight:
                    del flights[key]
            flight.done.set_result(outcome)

    # ── computed for another ─────────────────────────────────────────────────────────────────────────────────────────

    async def _join(self, call: Any, batch: Batch, flights: Sequence[tuple[_Flight, int]]) -> Answer | None:
        """Waits for what is being computed; None where that came to nothing that answers this request."""
        done = {flight.done for flight, _ in flights}
        _, waiting = await asyncio.wait(done, timeout=max(0.0, call.deadline - self._clock()))
        if waiting:
            raise self._failed(call, DeadlineExceeded("the deadline passed while the same rows were computed for another request"))
        parts: list[Outputs] = []
        for flight, row in flights:
            outcome = flight.done.result()
            if isinstance(outcome, Answer):
                parts.append(outcome.outputs.take(outcome.start + row, outcome.start + row + 1))
            elif outcome is not None and flight.n == len(flights) == 1:
                raise self._failed(call, _again(outcome)) from None
            else:
                return None
        self._metrics.joined += 1
        answer = Answer(Outputs.join(parts), 0, len(parts), batch)
        self._reused(call, answer, self._clock() - call.received)
        return answer

    def _failed(self, call: Any, error: RequestError) -> RequestError:
        call.record.failed([error], self._clock() - call.received)
        return error


def _again(error: RequestError) -> RequestError:
    """The same error for another request: one that is raised twice gathers the traces of both."""
    return InvalidRows(error.details) if isinstance(error, InvalidRows) else PredictionFailed(str(error))
