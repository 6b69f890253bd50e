import sys
from pathlib import Path

import pytest

from load_tests.bench import environments
from load_tests.bench.contestants import contestants
from load_tests.bench.environments import ENVIRONMENTS, Environment, InstallFailed, cache_folder, ensure_environment

PINNED = Environment(name="e", packages=("thing",), pinned=True)


def test_it_is_kept_in_the_cache_of_the_user():
    assert cache_folder({"XDG_CACHE_HOME": "/c"}) == Path("/c/ekiben-bench")
    assert cache_folder({}) == Path.home() / ".cache/ekiben-bench"


@pytest.fixture
def commands(monkeypatch):
    """What would be run; making the environment makes its interpreter."""
    run = []

    def record(command):
        run.append(command)
        if "venv" in command:
            python = Path(command[-1]) / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.touch()

    monkeypatch.setattr(environments, "_run", record)
    return run


def test_it_is_built_once_with_the_pins_of_the_project(tmp_path, commands):
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("numpy==2.4.6\n")

    first = ensure_environment(PINNED, tmp_path / "cache", constraints)
    second = ensure_environment(PINNED, tmp_path / "cache", constraints)

    assert first == second == tmp_path / "cache" / "e" / "bin" / "python"
    assert len(commands) == 2
    install = commands[1]
    assert install[install.index("--python") + 1] == str(first)
    assert install[install.index("--constraint") + 1] == str(constraints)
    assert install[-2:] == ["thing", "onnxruntime"]


def test_other_pins_build_it_anew(tmp_path, commands):
    constraints = tmp_path / "constraints.txt"

    ensure_environment(PINNED, tmp_path, constraints)
    assert "--constraint" not in commands[1]
    constraints.write_text("numpy==2.4.6\n")
    ensure_environment(PINNED, tmp_path, constraints)

    assert len(commands) == 4


def test_a_peer_gets_its_own_pins_and_only_the_projects_runtime(tmp_path, commands):
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("onnxruntime==1.2.3\nnumpy==2.4.6\n")
    peer = Environment(name="p", packages=("peer==1",))

    python = ensure_environment(peer, tmp_path, constraints)
    constraints.write_text("onnxruntime==1.2.3\nnumpy==9\n")
    ensure_environment(peer, tmp_path, constraints)

    assert python == tmp_path / "p/bin/python"
    assert len(commands) == 2, "pins of other packages are none of its own"
    assert commands[1][-2:] == ["peer==1", "onnxruntime==1.2.3"]
    assert "--constraint" not in commands[1]


def test_an_interpreter_that_is_not_there_is_named(tmp_path, commands):
    with pytest.raises(InstallFailed, match="t needs the interpreter /nowhere/python3"):
        ensure_environment(Environment(name="t", packages=(), python="/nowhere/python3"), tmp_path, tmp_path)

    assert commands == []


def test_every_peer_that_needs_an_environment_has_one():
    needed = {c.environment for c in contestants().values() if c.environment}

    assert needed == set(ENVIRONMENTS)
    assert all(environment.packages and environment.name == name for name, environment in ENVIRONMENTS.items())


def test_one_that_was_not_finished_is_built_anew(tmp_path, monkeypatch, commands):
    ensure_environment(PINNED, tmp_path, tmp_path / "none")
    (tmp_path / "e" / "ekiben-bench.sha256").unlink()

    ensure_environment(PINNED, tmp_path, tmp_path / "none")

    assert len(commands) == 4


def test_what_cannot_be_installed_is_an_error_that_says_why():
    with pytest.raises(InstallFailed, match="no matching distribution"):
        environments._run([sys.executable, "-c", "raise SystemExit('no matching distribution')"])
    with pytest.raises(InstallFailed, match="No such file"):
        environments._run(["/nowhere/python"])
