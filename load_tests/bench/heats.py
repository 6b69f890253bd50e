"""One server with one model: started, checked that it answers rightly before it is loaded, and taken down where it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from ekiben.errors import StateError
from load_tests.bench.asking import NoGoodAnswer, Reply, call, post
from load_tests.bench.contestants import PEERS_FOLDER, Contestant, Start, Workplace
from load_tests.bench.models import BenchModel
from load_tests.bench.overload import GeneratorFailed
from load_tests.bench.programs import LoadGeneratorFailed
from load_tests.bench.protocols import Asked, Protocol
from load_tests.bench.results import Failure, Results
from load_tests.bench.route_switch import RouteNotFollowed
from load_tests.bench.servers import READY_S, RunningServer, ServerFailed, free_port, server_environ

_JSON: Final = {"Content-Type": "application/json"}
_NEXT_READY_S: Final = 10.0


class WrongAnswer(Exception):
    """A server answers, and not what the model gives."""


class Heat(msgspec.Struct, frozen=True):
    """One server with one model and so many workers, in one round."""

    contestant: Contestant
    model: BenchModel
    workers: int
    round: int

    def __str__(self) -> str:
        return f"{self.contestant.name} · {self.model.name} · {self.workers} worker{'' if self.workers == 1 else 's'}"


class Served:
    """A server under way.

    Args:
        server: The process.
        heat: What it serves.
        port: For its own HTTP.
        second_port: For gRPC, or Ekiben's data port.
    """

    def __init__(self, server: RunningServer, heat: Heat, *, port: int, second_port: int) -> None:
        self.server = server
        self.heat = heat
        self._port = port
        self._second_port = second_port
        self._has_answered = False

    def url(self, protocol: Protocol) -> str:
        """Where it is asked in a protocol."""
        port = self._second_port if protocol.on_second_port else self._port
        return f"http://127.0.0.1:{port}{protocol.path(self.heat.model)}"

    def check(self, protocol: Protocol) -> bytes:
        """Waits until it answers, and sees that it gives the right answers to two different rows.

        Returns:
            The body of the answer to the first row.

        Raises:
            ServerFailed: It gives no good answer.
            NoGoodAnswer: It gives one to the first row only.
            WrongAnswer: One of them is wrong.
        """
        model, contestant = self.heat.model, self.heat.contestant
        # Where it has answered in one protocol it has started, and another need not be waited for as long.
        seconds = _NEXT_READY_S if self._has_answered else READY_S
        first = self.server.wait_until_answers(lambda: self._ask(protocol, 0), seconds)
        self._check_answer(protocol, 0, first)
        other = most_different_row([contestant.expected(model, row) for row in range(len(model.rows))])
        self._check_answer(protocol, other, self._ask(protocol, other))
        if not self._has_answered:
            self.server.wait_until_idle()
            self._has_answered = True
        return first.body

    def _ask(self, protocol: Protocol, row: int) -> Reply:
        asked: Asked = protocol.ask(self.heat.model, [self.heat.model.rows[row]])
        if protocol.is_grpc:
            return call(self.url(protocol), asked.body)
        return post(self.url(protocol), asked.body, _JSON | asked.headers)

    def _check_answer(self, protocol: Protocol, row: int, reply: Reply) -> None:
        expected = self.heat.contestant.expected(self.heat.model, row)
        if not protocol.is_right(self.heat.model, reply.body, reply.headers, expected):
            shown = reply.body[:200].decode(errors="replace")
            raise WrongAnswer(f"row {row} must give {[round(v, 4) for v in expected[:4]]}, the answer is {shown}")


@contextmanager
def serving(heat: Heat, place: Workplace) -> Iterator[Served]:
    """A server under way, on ports that are free; whether it answers is seen protocol by protocol."""
    contestant, model = heat.contestant, heat.model
    port, second_port = free_port(), free_port()
    start = Start(place=place, model=model, workers=heat.workers, port=port, second_port=second_port)
    environ = server_environ(contestant.environ(start))
    log = place.folder / f"{contestant.name}-{model.name}-{heat.workers}.log"
    with RunningServer(contestant.command(start), environ=environ, folder=PEERS_FOLDER, log=log) as server:
        yield Served(server, heat, port=port, second_port=second_port)


@contextmanager
def noting_failure(heat: Heat, results: Results, say: Callable[[str], None], protocol: str = "") -> Iterator[None]:
    """Takes a failure down and says it, so that the others go on.

    Args:
        heat: Whose failure it is.
        results: Where it is taken down.
        say: Shows a line of progress.
        protocol: In which protocol; empty where that says nothing.
    """
    try:
        yield
    except (ServerFailed, WrongAnswer, NoGoodAnswer, LoadGeneratorFailed, GeneratorFailed, RouteNotFollowed, StateError, OSError) as e:
        problem = f"{protocol}{': ' if protocol else ''}{type(e).__name__}: {e}"
        say(f"{heat}: {problem}")
        failure = Failure(peer=heat.contestant.name, model=heat.model.name, workers=heat.workers, round=heat.round, problem=problem)
        results.failures.append(failure)


def most_different_row(answers: list[list[float]]) -> int:
    """The row whose answer is farthest from the first one's: a server that always answers the same gets it wrong."""
    first = answers[0]
    distances = [max(abs(a - b) for a, b in zip(answer, first, strict=True)) for answer in answers]
    return max(range(len(distances)), key=distances.__getitem__)
