"""The path of one request, for every transport.

    transport: read the head ─▶ Gate.enter() ─▶ admit() ─▶ read and decode the body ─▶ Gate.rows() ─▶ identify() ─▶ infer() ─▶ encode

`ekiben.guards.gate` says who may ask, and how often. `DataPlane.admit` decides with nothing but the head of the request: does the
model exist, which arm answers, and can it answer in time? What is refused costs no decoding. `DataPlane.identify` gives the request
its id and, where the routing key is in the body or is the id, its arm. `DataPlane.infer` hands the rows to the version's batcher and
waits for its answer; where an arm on trial fails, the champion answers; where the champion counts as broken, what its spec names
answers in its place.
"""

from __future__ import annotations

import os
from binascii import hexlify
from collections.abc import Awaitable, Mapping
from itertools import count

import msgspec

from ekiben.errors import CircuitOpen, DeadlineExceeded, InvalidRequest, NotReady, RequestError
from ekiben.guards.deadline import Receive
from ekiben.guards.principal import ANONYMOUS_ID
from ekiben.model.signature import Payload, rows_of
from ekiben.rollout.router import CHAMPION_ARM, PINNED_ARM, RoutingTable, hash_of
from ekiben.serving.arm_record import ArmRecord
from ekiben.serving.batch_run import Answer, Clock
from ekiben.serving.default_answer import default_answer
from ekiben.serving.host import Host
from ekiben.serving.loaded_version import LoadedVersion
from ekiben.serving.snapshot import Way
from ekiben.state.routes import SLOTS

FALLBACK_ARM = "fallback"
_NO_HEADERS: Mapping[bytes, bytes] = {}


class Call(msgspec.Struct):
    """One admitted request.

    Attributes:
        served: The version that answers.
        arm: Its arm.
        record: What happens to the arm's requests.
        received: Clock at which it came.
        deadline: Clock by which it must be answered.
        request_id: Its id; empty until it is identified.
        key: Its routing key; None where it does not matter, or is not known yet.
        key_hash: The key's hash, which chose its arm; None where nothing was to choose.
        way: The way of its model's requests; None where the version stands in the path.
        is_open: Whether its arm depends on what is not read yet.
        is_kept: Whether its answer is kept to be joined with what really happened.
        principal: Who asks, by id.
        is_default: Whether the default of its version's spec answers it, and no model.
        receive: ASGI's, once the body is read; None where nobody can say that the client went away.
    """

    served: LoadedVersion
    arm: str
    record: ArmRecord
    received: float
    deadline: float
    request_id: str = ""
    key: str | None = None
    key_hash: int | None = None
    way: Way | None = None
    is_open: bool = False
    is_kept: bool = False
    principal: str = ANONYMOUS_ID
    is_default: bool = False
    receive: Receive | None = None

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

    def admit(
        self,
        model: str,
        version: str | None,
        *,
        received: float,
        timeout_ms: float | None,
        headers: Mapping[bytes, bytes] = _NO_HEADERS,
        query: bytes = b"",
    ) -> Call:
        """Decides with the head of a request alone.

        Args:
            model: The model asked for.
            version: The version asked for; None for the one that the model's routes say.
            received: Clock at which the request came.
            timeout_ms: The client's own limit; None takes the spec's.
            headers: The request's, by lower-case name.
            query: What stands behind ``?``.

        Raises:
            UnknownModel, NotReady: There is nothing that could answer.
            QueueFull: The answer would come too late.
            CircuitOpen: The version counts as broken, and nothing answers in its place.
        """
        way = self.host.snapshot.ways.get(model) if version is None else None
        if way is None:
            served = self.host.find(model, version)
            arm = CHAMPION_ARM if version is None else PINNED_ARM
            call = Call(served, arm, served.record.arm(arm), received, received + _timeout_s(served, timeout_ms))
            self._check_queue(call)
            return call
        call = Call(way.champion, CHAMPION_ARM, way.record, received, received + _timeout_s(way.champion, timeout_ms), way=way)
        if way.table.is_plain or not self._route(call, way.table, headers, query):
            self._check_champion(call)
        return call

    def _route(self, call: Call, table: RoutingTable, headers: Mapping[bytes, bytes], query: bytes) -> bool:
        """Chooses the arm by the head, if it says enough; returns whether another arm than the champion has admitted it."""
        if table.heads.isdisjoint(headers) and not (query and table.query):
            call.is_open = table.is_split
            return False
        choice = table.by_headers(headers)
        call.key = key = table.key_of(headers, query)
        if choice is None:
            if key is None:
                call.is_open = table.is_split
                return False
            call.key_hash = key_hash = hash_of(table.seed, key)
            choice = table.slots[key_hash % SLOTS]
        return self._choose(call, choice.arm)

    def _choose(self, call: Call, arm: str) -> bool:
        """Gives a call to an arm, unless that is the champion's or cannot take it; returns whether it did."""
        way = call.way
        if arm == CHAMPION_ARM or way is None:
            return False
        (call.served, call.record), call.arm, call.is_default = way.arms[arm], arm, False
        if call.served is way.champion:
            return False  # of an A/A test: its queue is asked only once
        try:
            self._check_queue(call)
        except NotReady:
            if not way.table.falls_back:
                raise
            self._fall_back(call, way.champion)
            return False
        return True

    def _check_queue(self, call: Call) -> None:
        """Refuses a request that its version could only answer too late.

        Raises:
            NotReady, QueueFull: As `Batcher.admit`.
        """
        served = call.served
        try:
            if not served.breaker.is_closed:
                served.breaker.admit(call.deadline)
            served.batcher.admit(call.deadline)
        except NotReady as refusal:
            raise self.failed(call, refusal) from None

    def _check_champion(self, call: Call) -> None:
        """Refuses a request that the champion cannot answer, unless the champion is broken and something answers in its place.

        Raises:
            NotReady, QueueFull, CircuitOpen: As `_check_queue`.
        """
        try:
            self._check_queue(call)
        except CircuitOpen:
            way, broken = call.way, call.served
            if broken.default is not None:
                call.is_default = True
                self._fall_back(call, broken)
            elif way is not None and way.former is not None:
                self._fall_back(call, way.former)
                self._check_queue(call)
            else:
                raise

    def identify(self, call: Call, request_id: str, payload: Payload) -> None:
        """Gives a request its id and, where its arm was still open, its arm.

        Args:
            call: The request.
            request_id: Its id.
            payload: Its rows, which may hold the routing key.

        Raises:
            NotReady, QueueFull: It belongs to an experiment's arm, which cannot take it.
        """
        call.request_id = request_id
        if call.is_open:
            assert call.way is not None  # what is open has routes
            table = call.way.table
            call.is_open = False
            key = (call.served.predictor.signature.key_in(payload, table.key_input) if table.key_input else None) or request_id
            call.key = key
            call.key_hash = key_hash = hash_of(table.seed, key)
            is_moved = (choice := table.slots[key_hash % SLOTS]) is not table.champion and not self._choose(call, choice.arm)
            if is_moved and not call.served.breaker.is_closed:
                self._check_champion(call)
        if call.record.exposes:
            if call.key_hash is None:
                call.key_hash = hash_of(0, call.key or request_id)
            call.is_kept = call.key_hash < call.record.sample.below

    async def infer(self, call: Call, payload: Payload) -> Answer:
        """Predicts the rows of an admitted request.

        Raises:
            InvalidRequest: There are no rows.
            InvalidRows, DeadlineExceeded, PredictionFailed: As the batcher found.
        """
        n = rows_of(payload)
        if n == 0:
            raise self.failed(call, InvalidRequest("the request has no rows; send at least one"))
        if call.deadline <= self._clock():
            raise self.failed(call, DeadlineExceeded("the deadline passed while the request was read; nothing was computed"))
        if call.is_default:
            return self._by_default(call, payload, n)
        try:
            answer = await self._answer(call, payload, n)
        except RequestError:
            if not self._falls_back(call):
                raise
            answer = await self._answer(call, payload, n)
        if call.is_kept:
            call.record.keep(call, answer)
        return answer

    def _by_default(self, call: Call, payload: Payload, n: int) -> Answer:
        """Answers in place of a broken version.

        Raises:
            InvalidRows: Rows break the signature.
        """
        try:
            return default_answer(call.served, call, payload, n, self._clock())
        except RequestError as e:
            raise self.failed(call, e) from None

    @staticmethod
    def _answer(call: Call, payload: Payload, n: int) -> Awaitable[Answer]:
        """What the version gives: out of its cache where it has one."""
        served = call.served
        if served.cache is not None:
            return served.cache.infer(call, payload)
        return served.batcher.submit(payload, n, received=call.received, deadline=call.deadline, call=call)

    def _falls_back(self, call: Call) -> bool:
        """Gives a request that failed on an arm on trial to the champion, if there is time; users are not to pay for the trial.

        Its failure is recorded as the arm's, its answer as nobody's.
        """
        way = call.way
        if way is None or not way.table.falls_back or call.arm in (CHAMPION_ARM, FALLBACK_ARM) or call.deadline <= self._clock():
            return False
        champion = self.host.snapshot.default.get(call.served.model)
        if champion is None or champion is call.served or not champion.breaker.is_closed:
            return False
        self._fall_back(call, champion)
        return True

    @staticmethod
    def _fall_back(call: Call, champion: LoadedVersion) -> None:
        call.record.fell_back()
        call.served, call.arm, call.record = champion, FALLBACK_ARM, champion.record.arm(FALLBACK_ARM)

    def failed(self, call: Call, error: RequestError) -> RequestError:
        """Counts a request that ends before it reached the batcher; returns its error, to be raised."""
        call.record.failed([error], self._clock() - call.received)
        breaker = call.served.breaker
        if not breaker.is_closed and not call.is_default and not isinstance(error, CircuitOpen):
            breaker.returned()
        return error


def _timeout_s(served: LoadedVersion, timeout_ms: float | None) -> float:
    return served.timeout_s if timeout_ms is None else timeout_ms / 1000
