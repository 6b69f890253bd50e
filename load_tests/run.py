"""``python -m load_tests.run``: a load test from start to end, with a server of its own unless there is one to be used."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
import msgspec

from load_tests.bench.asking import get
from load_tests.bench.servers import RunningServer, ServerFailed, free_port
from load_tests.shapes import DEFAULT_S, SHAPES

PROJECT: Final = Path(__file__).resolve().parents[1]
_LOCUSTFILE: Final = Path(__file__).with_name("locustfile.py")
_FAILED: Final = 2


class Target(msgspec.Struct, frozen=True):
    """A server to load.

    Attributes:
        host: The address of its REST, ``http://host:port``.
        grpc_address: ``host:port`` of its data port; empty for port 3001 beside that.
    """

    host: str
    grpc_address: str


@click.command(help="Loads the flight model over REST V1, REST V2 binary and gRPC; ends with 1 when a threshold is broken.")
@click.option("--host", default="", help="A running server, http://host:port; without it, one is started here and stopped again.")
@click.option("--grpc-address", default="", help="Its data port, host:port; by default port 3001 of that host.")
@click.option("--shape", default="ramp", show_default=True, type=click.Choice(SHAPES), help="How the number of users changes.")
@click.option(
    "--users", default=60, show_default=True, type=click.IntRange(min=1), help="Users at most; each asks about 10 times a second."
)
@click.option("--seconds", type=click.FloatRange(min=1), help="How long; by default 60, soak 3600.")
@click.option("--max-error-percent", default=0.1, show_default=True, type=click.FloatRange(0, 100), help="Failed requests at most.")
@click.option("--max-p95-ms", default=200.0, show_default=True, type=click.FloatRange(min=0), help="95th percentile of latency at most.")
@click.argument("kinds", nargs=-1)
def main(
    *,
    host: str,
    grpc_address: str,
    shape: str,
    users: int,
    seconds: float | None,
    max_error_percent: float,
    max_p95_ms: float,
    kinds: tuple[str, ...],
) -> None:
    """The command; ``kinds`` names the users that take part, all by default."""
    if host and not host.startswith(("http://", "https://")):
        raise click.BadParameter(f"{host!r} is no address; give one such as http://localhost:3000", param_hint="--host")
    run_s = round(seconds or DEFAULT_S[shape])
    options = ["--shape", shape, "--users", str(users), "--run-time", f"{run_s}s"]
    options += ["--max-error-percent", str(max_error_percent), "--max-p95-ms", str(max_p95_ms), *kinds]
    if host:
        sys.exit(load(Target(host, grpc_address), options))
    try:
        with serving(click.echo) as target:
            code = load(target, options)
    except ServerFailed as e:
        click.echo(f"the server to be loaded did not start: {e}", err=True)
        sys.exit(_FAILED)
    sys.exit(code)


def load(target: Target, options: list[str]) -> int:
    """Runs Locust without its web page; gives its exit code."""
    command = [sys.executable, "-m", "locust", "--locustfile", str(_LOCUSTFILE), "--headless", "--only-summary", "--loglevel", "WARNING"]
    address = ["--host", target.host, *(["--grpc-address", target.grpc_address] if target.grpc_address else [])]
    return subprocess.run([*command, *address, *options], cwd=PROJECT, check=False).returncode


@contextmanager
def serving(say: Callable[[str], None], folder: Path = PROJECT) -> Iterator[Target]:
    """`bentoml serve` of a project on free ports, with its champion versions, ended afterwards.

    Args:
        say: Shows a line of progress.
        folder: The project's folder, with its service.py.

    Raises:
        ServerFailed: It did not become ready.
    """
    port, data_port = free_port(), free_port()
    command = [sys.executable, "-m", "bentoml", "serve", "service:svc", "--host", "127.0.0.1", "--port", str(port)]
    environ = {**os.environ, "EKIBEN_DATA_PORT": str(data_port), "EKIBEN_DATA_HOST": "127.0.0.1"}
    with tempfile.TemporaryDirectory(prefix="ekiben-load-") as logs:
        say(f"starting a server on port {port} (gRPC on {data_port}) …")
        with RunningServer(command, environ=environ, folder=folder, log=Path(logs) / "serve.log") as server:
            server.wait_until_answers(lambda: get(f"http://127.0.0.1:{port}/readyz"))
            server.wait_until_idle()
            yield Target(f"http://127.0.0.1:{port}", f"127.0.0.1:{data_port}")
            say("stopping the server")


if __name__ == "__main__":
    main()
