import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from load_tests import run
from load_tests.bench.servers import ServerFailed
from load_tests.bench.sides import SIDES
from load_tests.run import Target


@pytest.fixture
def loads(monkeypatch):
    """What was loaded, and what was said of the server in the meantime."""
    made = []

    def load(target, options):
        made.append((target, options))
        return 1 if "GrpcPassenger" in options else 0

    @contextmanager
    def serving(_say):
        made.append("start")
        yield Target("http://127.0.0.1:5", "127.0.0.1:6")
        made.append("stop")

    monkeypatch.setattr(run, "load", load)
    monkeypatch.setattr(run, "serving", serving)
    return made


def test_a_server_is_started_for_the_load_and_stopped_after_it(loads):
    result = CliRunner().invoke(run.main, [])

    assert result.exit_code == 0, result.output
    start, (target, options), stop = loads
    assert (start, stop, target) == ("start", "stop", Target("http://127.0.0.1:5", "127.0.0.1:6"))
    assert dict(zip(options[::2], options[1::2], strict=True)) == {
        "--shape": "ramp", "--users": "60", "--run-time": "60s", "--max-error-percent": "0.1", "--max-p95-ms": "200.0",
    }  # fmt: skip


def test_a_running_server_is_used_and_left_alone(loads):
    result = CliRunner().invoke(run.main, ["--host", "http://here:3000", "--shape", "spike", "--seconds", "5", "GrpcPassenger"])

    assert result.exit_code == 1, "the exit code is Locust's"
    ((target, options),) = loads
    assert target == Target("http://here:3000", "")
    assert options[-1] == "GrpcPassenger"
    assert "5s" in options


def test_a_soak_is_long_unless_told_otherwise(loads):
    CliRunner().invoke(run.main, ["--shape", "soak", "--host", "http://here"])

    assert "3600s" in loads[0][1]


def test_a_server_that_does_not_start_is_another_exit_code(monkeypatch):
    @contextmanager
    def serving(_say):
        raise ServerFailed("ended with code 1: no model")
        yield

    monkeypatch.setattr(run, "serving", serving)

    result = CliRunner().invoke(run.main, [])

    assert result.exit_code == 2
    assert "did not start: ended with code 1: no model" in result.output


def test_locust_gets_the_addresses(monkeypatch):
    commands = []

    class Done:
        returncode = 3

    monkeypatch.setattr(run.subprocess, "run", lambda command, **_: commands.append(command) or Done)

    assert run.load(Target("http://h:1", "h:2"), ["--shape", "soak"]) == 3
    assert run.load(Target("http://h:1", ""), []) == 3
    first, second = commands
    assert first[first.index("--host") + 1] == "http://h:1"
    assert first[first.index("--grpc-address") + 1] == "h:2"
    assert first[-2:] == ["--shape", "soak"]
    assert "--grpc-address" not in second


def test_an_address_says_how_to_speak_to_it(loads):
    result = CliRunner().invoke(run.main, ["--host", "localhost:3000"])

    assert result.exit_code == 2
    assert "http://localhost:3000" in result.output
    assert loads == []


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        (["load"], {}, "load_tests.run   --shape ramp --seconds 30"),
        (["load"], {"HOST": "my-laptop"}, "load_tests.run   --shape ramp"),
        (["load"], {"HOST": "http://a:1"}, "--host http://a:1"),
        (["load", "HOST=http://a:1", "GRPC=a:2"], {}, "--host http://a:1 --grpc-address a:2"),
        (["soak", "LOAD_ARGS=--users 9"], {}, "--shape soak --users 9"),
        (["bench"], {}, f"--peers ekiben,{','.join(SIDES)},bentoml,fastapi,echo,onnx-ceiling,grpc-echo,raw"),
        (["bench", "PEERS=triton,kserve"], {}, f"--peers ekiben,{','.join(SIDES)},triton,kserve,echo"),
    ],
)
def test_make_says_what_it_would_do(arguments, environ, said):
    kept = {
        name: value for name, value in os.environ.items() if name not in {"HOST", "GRPC", "PEERS", "LOAD_ARGS", "MAKEFLAGS", "MAKELEVEL"}
    }

    done = subprocess.run(["make", "-n", *arguments], cwd=run.PROJECT, env=kept | environ, capture_output=True, text=True, check=True)

    assert said in done.stdout
