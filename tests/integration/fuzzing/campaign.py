"""Mutated requests of every kind against one server, several connections at once, each case by a seed of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from random import Random
from typing import Any, NamedTuple

from integration.fuzzing import frames, grpc_cases, rest_cases, verdict
from integration.fuzzing.corpus import HttpRequest
from integration.fuzzing.http1 import Closed, Http1
from integration.fuzzing.http2 import Http2

_CONNECTIONS = {"v2": 6, "rest": 6, "grpc": 6, "frames": 16}
_SHOWN_CHARS = 3000
_MOST_FAULTS = 5


class Fault(NamedTuple):
    """A case that went wrong.

    Attributes:
        kind, number: Which, under the campaign's seed.
        what: What was wrong.
        sent: What was sent.
    """

    kind: str
    number: int
    what: str
    sent: str


class Campaign:
    """All cases of one seed.

    Args:
        port: BentoML's own.
        data_port: The data port.
        seed: What makes the cases.

    Attributes:
        faults: What went wrong, the first few of it.
        outcomes: How often a case ended how.
    """

    def __init__(self, port: int, data_port: int, seed: str) -> None:
        self._port = port
        self._data_port = data_port
        self._seed = seed
        self.faults: list[Fault] = []
        self.outcomes: dict[str, Counter[str]] = {kind: Counter() for kind in _CONNECTIONS}

    async def run(self, kind: str, numbers: range) -> None:
        """Runs the cases of a kind: ``v2`` (binary tensors), ``rest`` (everything else over REST), ``grpc`` or ``frames``."""
        left = iter(numbers)
        player = {"v2": self._rest, "rest": self._rest, "grpc": self._grpc, "frames": self._frames}[kind]
        await asyncio.gather(*(player(kind, left, n) for n in range(_CONNECTIONS[kind])))

    async def _rest(self, kind: str, left: Iterator[int], connection: int) -> None:
        # Every other connection goes to BentoML's port, which another server answers.
        client = Http1(self._data_port if connection % 2 else self._port)
        make: Callable[[Random], HttpRequest] = rest_cases.v2_body if kind == "v2" else rest_cases.other

        async def ask(request: HttpRequest) -> str | None:
            answer = await client.ask(request)
            self.outcomes[kind][str(answer.status)] += 1
            return verdict.of_rest(request, answer)

        await self._play(kind, left, make, ask)
        await client.close()

    async def _grpc(self, kind: str, left: Iterator[int], _: int) -> None:
        client = Http2(self._data_port)

        async def ask(call: grpc_cases.Call) -> str | None:
            ended = await client.call(call.headers, call.chunks)
            outcome = ended.headers.get("grpc-status") or f"HTTP {ended.headers.get(':status')}, reset {ended.reset}"
            self.outcomes[kind][outcome] += 1
            return verdict.of_grpc(call, ended)

        await self._play(kind, left, grpc_cases.call, ask)
        await client.close()

    async def _frames(self, kind: str, left: Iterator[int], _: int) -> None:
        async def ask(made: frames.Scenario) -> str | None:
            self.outcomes[kind]["played"] += 1
            return await frames.play(self._data_port, made)

        await self._play(kind, left, frames.scenario, ask)

    async def _play(
        self, kind: str, left: Iterator[int], make: Callable[[Random], Any], ask: Callable[[Any], Awaitable[str | None]]
    ) -> None:
        for number in left:
            if len(self.faults) >= _MOST_FAULTS:
                return
            case = make(Random(f"{self._seed}:{kind}:{number}"))
            try:
                what = await ask(case)
            except (Closed, OSError, TimeoutError, AssertionError) as e:
                what = f"{type(e).__name__}: {e}"
            if what is not None:
                self.faults.append(Fault(kind, number, what, repr(case)[:_SHOWN_CHARS]))
