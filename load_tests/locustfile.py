"""Load with Locust: passengers who ask whether their flight will be late, over REST V1, REST V2 with binary tensors, and gRPC.

    locust -f load_tests/locustfile.py --headless --host http://localhost:3000 --users 60 --run-time 60s --shape spike

Name classes to have only these users, for example ``… GrpcPassenger``. The run ends with exit code 1 when a threshold is broken.
"""

from __future__ import annotations

import random
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

# Locust starts a file by its path, whose folder it puts on the module path; the project's root is one above.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import grpc
from grpc.experimental import gevent as grpc_gevent
from locust import FastHttpUser, LoadTestShape, User, between, events, task
from locust.env import Environment
from locust.stats import StatsEntry
from rich.console import Console

from ekiben.settings import load_settings
from load_tests.flights import MODEL, Question, held_out_questions, is_binary_prediction, is_prediction, is_v1_prediction
from load_tests.open_inference import JSON_LENGTH_HEADER, Malformed, grpc_outputs
from load_tests.shapes import DEFAULT_S, SHAPES, users_at
from load_tests.thresholds import Measured, Thresholds, are_kept, table

# Without it, the first call over gRPC would hold up every user of this process.
grpc_gevent.init_gevent()

_OK = 200
_TIMEOUT_S = 10.0
_WIDTH = 140
_THINK_S = (0.05, 0.15)


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # Locust's own
def add_options(parser: ArgumentParser) -> None:
    """Adds this file's options to Locust's own."""
    group = parser.add_argument_group("Ekiben", "Options of load_tests/locustfile.py")
    group.add_argument("--shape", choices=SHAPES, default="ramp", env_var="LOAD_SHAPE", help="How the number of users changes.")
    group.add_argument("--grpc-address", default="", env_var="LOAD_GRPC_ADDRESS", help="host:port of the data port; port 3001 of --host.")
    group.add_argument("--max-error-percent", type=float, default=0.1, env_var="LOAD_MAX_ERROR_PERCENT", help="Failed requests at most.")
    group.add_argument("--max-p95-ms", type=float, default=200.0, env_var="LOAD_MAX_P95_MS", help="95th percentile of latency at most.")


@events.init.add_listener  # type: ignore[untyped-decorator]  # as above
def read_flights(environment: Environment, **_: Any) -> None:
    """Reads the flights once, before the first user comes."""
    Passenger.questions = held_out_questions(load_settings().home)
    host = urlsplit(environment.host or "").hostname or "localhost"
    Passenger.grpc_address = _options(environment).grpc_address or f"{host}:3001"


@events.quitting.add_listener  # type: ignore[untyped-decorator]  # as above
def hold_against_thresholds(environment: Environment, **_: Any) -> None:
    """Says by the exit code whether the thresholds were kept; what users raised counts as well."""
    faults = environment.runner.exceptions if environment.runner else {}
    environment.process_exit_code = 0 if are_kept(_all_measured(environment), _limits(environment)) and not faults else 1


@events.init.add_listener  # type: ignore[untyped-decorator]  # as above
def print_last(environment: Environment, **_: Any) -> None:
    """Has the table printed below Locust's own, where people look first."""

    def print_table(**_: Any) -> None:
        console = Console()
        console = console if console.is_terminal else Console(width=_WIDTH)
        console.print(table(_all_measured(environment), _limits(environment)))

    environment.events.quit.add_listener(print_table)  # type: ignore[no-untyped-call]  # as above


def _all_measured(environment: Environment) -> list[Measured]:
    entries = [entry for _, entry in sorted(environment.stats.entries.items())]
    # A kind of user that could not send anything has no entry, and the run must not pass for it.
    silent = {user.asks for user in environment.user_classes if issubclass(user, Passenger)} - {entry.name for entry in entries}
    return [_measured(entry) for entry in entries] + [Measured(name, 0, 0, 0, 0, 0, 0) for name in sorted(silent)]


def _limits(environment: Environment) -> Thresholds:
    options = _options(environment)
    return Thresholds(options.max_error_percent, options.max_p95_ms)


def _options(environment: Environment) -> Any:
    assert environment.parsed_options is not None
    return environment.parsed_options


def _measured(entry: StatsEntry) -> Measured:
    p50, p95, p99 = (float(entry.get_response_time_percentile(part) or 0) for part in (0.5, 0.95, 0.99))
    return Measured(entry.name, entry.num_requests, entry.num_failures, p50, p95, p99, entry.total_rps)


class ChosenShape(LoadTestShape):
    """The shape that ``--shape`` names, with Locust's own ``--users`` and ``--run-time``."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """How many users there must be now; see `shapes`."""
        assert self.runner is not None
        options = _options(self.runner.environment)
        run_s = float(options.run_time or DEFAULT_S[options.shape])
        elapsed_s: float = self.get_run_time()  # type: ignore[no-untyped-call]  # Locust's own
        users = users_at(options.shape, elapsed_s, users=options.num_users, run_s=run_s)
        return None if users is None else (users, float(users))


class Passenger:
    """What all users have in common.

    Attributes:
        asks: How their requests are called in the statistics.
    """

    asks: ClassVar[str] = ""
    questions: ClassVar[list[Question]] = []
    grpc_address: ClassVar[str] = ""

    def a_question(self) -> Question:
        """Any flight."""
        return random.choice(self.questions)  # noqa: S311  no secret is made of it


class V1Passenger(Passenger, FastHttpUser):
    """Asks over REST, V1."""

    asks = "REST V1"
    wait_time = between(*_THINK_S)
    network_timeout = _TIMEOUT_S

    @task
    def ask(self) -> None:
        """One flight."""
        # NOTE: Locust's types ask for text; it sends bytes as they are.
        body: Any = self.a_question().v1
        path, headers = f"/v1/models/{MODEL}:predict", {"Content-Type": "application/json"}
        with self.client.post(path, data=body, headers=headers, name=self.asks, catch_response=True) as response:
            if response.status_code == _OK and not is_v1_prediction(response.content or b""):
                response.failure(f"no prediction: {response.text}")


class BinaryPassenger(Passenger, FastHttpUser):
    """Asks over REST, V2 with binary tensors both ways."""

    asks = "REST V2 binary"
    wait_time = between(*_THINK_S)
    network_timeout = _TIMEOUT_S

    @task
    def ask(self) -> None:
        """One flight."""
        question = self.a_question()
        body: Any = question.binary
        headers = {"Content-Type": "application/octet-stream", JSON_LENGTH_HEADER: str(question.json_length)}
        path = f"/v2/models/{MODEL}/infer"
        with self.client.post(path, data=body, headers=headers, name=self.asks, catch_response=True) as response:
            if response.status_code == _OK and not is_binary_prediction(response.content or b"", response.headers or {}):
                response.failure("no prediction in the answer's tensors")


class GrpcPassenger(Passenger, User):
    """Asks over gRPC, each on a connection of its own."""

    asks = "gRPC"
    wait_time = between(*_THINK_S)

    def on_start(self) -> None:
        """Opens the channel."""
        from tritonclient.grpc import service_pb2_grpc  # noqa: PLC0415  it must come after gRPC knows of gevent

        # NOTE: channels to one address share a connection unless told not to.
        self._channel = grpc.insecure_channel(self.grpc_address, options=[("grpc.use_local_subchannel_pool", 1)])
        self._infer = service_pb2_grpc.GRPCInferenceServiceStub(self._channel).ModelInfer

    def on_stop(self) -> None:
        """Closes it."""
        self._channel.close()

    @task
    def ask(self) -> None:
        """One flight."""
        error: Exception | None = None
        length = 0
        start = time.perf_counter()
        try:
            response = self._infer(self.a_question().message, timeout=_TIMEOUT_S)
            length = response.ByteSize()
            if not is_prediction(grpc_outputs(response).get("probabilities")):
                error = Malformed("no prediction in the answer's tensors")
        except grpc.RpcError as e:
            error = ConnectionError(f"{e.code().name}: {e.details()}")
        took_ms = (time.perf_counter() - start) * 1000
        self.environment.events.request.fire(
            request_type="CALL", name=self.asks, response_time=took_ms, response_length=length, exception=error, context={}
        )
