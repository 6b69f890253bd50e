"""KServe's and MLServer's own SDKs, each in an environment of its own, as they do not go together with ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from load_tests.bench.environments import ENVIRONMENTS, InstallFailed, cache_folder, ensure_environment

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900)]

PROGRAMS = Path(__file__).with_name("programs")
CONSTRAINTS = Path(__file__).parents[3] / "constraints.txt"


def interpreter(name: str) -> Path:
    """The environment's interpreter; it is made the first time, which takes a minute, and kept in the user's cache."""
    try:
        return ensure_environment(ENVIRONMENTS[name], cache_folder(), CONSTRAINTS)
    except InstallFailed as e:
        if is_offline(str(e)):
            pytest.skip(f"{name}'s SDK is not installed, and there is no network to install it from")
        raise


def is_offline(output: str) -> bool:
    """Whether an installation failed because no package index could be reached."""
    return any(sign in output.lower() for sign in ("dns error", "failed to lookup address", "connection refused", "network is unreachable"))


@pytest.mark.parametrize("name", ["kserve", "mlserver"])
def test_the_sdk_works_unchanged(server, name):
    program = PROGRAMS / f"with_{name}.py"

    done = subprocess.run(
        [interpreter(name), program, f"127.0.0.1:{server.data_port}", server.data_url, server.url],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["ok"]), done.stderr
