"""The path of one request, for every transport.

    transport: read the head ─▶ admit() ─▶ read and decode the body ─▶ infer() ─▶ encode ─▶ client

`DataPlane.admit` decides with nothing but the head of the request: does the version exist and answer, and can it answer in
time? What is refused costs no decoding. `DataPlane.infer` hands the rows to the version's batcher and waits for its answer.
"""

from __future__ import annotations

import os
from binascii import hexlify
from itertools import count

import msgspec

from ekiben.errors import DeadlineExceeded, InvalidRequest, NotReady, RequestError
from ekiben.model.signature import Batch, Payload
from ekiben.serving.batch_run import Answer, Clock
from ekiben.serving.host import Host
from ekiben.serving.loaded_version import LoadedVersion


class Call(msgspec.Struct):
    """One admitted request.

    Attributes:
        served: The version that answers.
        received: Clock at which it came.
        deadline: Clock by which it must be answered.
    """

    served: LoadedVersion
    received: float
    deadline: float

    def limit(self, timeout_ms: float | None) -> None:
        """Brings the deadline forward to a limit that came in the body."""
        if timeout_ms is not None:
            self.deadline = min(self.deadline, self.received + timeout_ms / 1000)


class DataPlane:
    """Runs requests.

    Args:
        host: The loaded versions.
        clock: Monotonic seconds.

    Attributes:
        draining: Set on SIGTERM: the server is not ready any more and answers what still comes.
        problems: What else keeps the server from being ready.
    """

    def __init__(self, host: Host, clock: Clock) -> None:
        self.host = host
        self.draining = False
        self.problems: list[str] = []
        self._clock = clock
        self._id_prefix = hexlify(os.urandom(6)).decode()
        self._ids = count(1)

    def new_id(self) -> str:
        """A request id that no other worker or run gives."""
        return f"{self._id_prefix}-{next(self._ids):x}"

    def not_ready(self) -> list[str]:
        """Why the server is not ready; empty when it is."""
        return ["the server is stopping"] if self.draining else [*self.problems, *self.host.not_ready()]

    def admit(self, model: str, version: str | None, *, received: float, timeout_ms: float | None) -> Call:
        """Decides with the head of a request alone.

        Args:
            model: The model asked for.
            version: The version asked for; None for the one that answers by default.
            received: Clock at which the request came.
            timeout_ms: The client's own limit; None takes the spec's.

        Raises:
            UnknownModel, NotReady: There is nothing that could answer.
            QueueFull: The answer would come too late.
        """
        served = self.host.find(model, version)
        deadline = received + (served.timeout_s if timeout_ms is None else timeout_ms / 1000)
        try:
            served.batcher.admit(deadline)
        except NotReady as refusal:
            served.metrics.failed([refusal], self._clock() - received)
            raise
        return Call(served, received, deadline)

    async def infer(self, call: Call, payload: Payload) -> Answer:
        """Predicts the rows of an admitted request.

        Raises:
            InvalidRequest: There are no rows.
            InvalidRows, DeadlineExceeded, PredictionFailed: As the batcher found.
        """
        n = payload.n if isinstance(payload, Batch) else len(payload)
        if n == 0:
            raise self.failed(call, InvalidRequest("the request has no rows; send at least one"))
        if call.deadline <= self._clock():
            raise self.failed(call, DeadlineExceeded("the deadline passed while the request was read; nothing was computed"))
        return await call.served.batcher.submit(payload, n, received=call.received, deadline=call.deadline)

    def failed(self, call: Call, error: RequestError) -> RequestError:
        """Counts a request that ends before it reached the batcher; returns its error, to be raised."""
        call.served.metrics.failed([error], self._clock() - call.received)
        return error
