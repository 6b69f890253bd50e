import sys
from pathlib import Path

import pytest

from load_tests.bench import fastapi_venv
from load_tests.bench.fastapi_venv import InstallFailed, cache_folder, ensure_environment


def test_it_is_kept_in_the_cache_of_the_user():
    assert cache_folder({"XDG_CACHE_HOME": "/c"}) == Path("/c/ekiben-bench/fastapi")
    assert cache_folder({}) == Path.home() / ".cache/ekiben-bench/fastapi"


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

    monkeypatch.setattr(fastapi_venv, "_run", record)
    return run


def test_it_is_built_once_with_the_pins_of_the_project(tmp_path, commands):
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("numpy==2.4.6\n")

    first = ensure_environment(tmp_path / "cache" / "e", constraints)
    second = ensure_environment(tmp_path / "cache" / "e", constraints)

    assert first == second == tmp_path / "cache" / "e" / "bin" / "python"
    assert len(commands) == 2
    install = commands[1]
    assert install[0] == str(first)
    assert install[install.index("-c") + 1] == str(constraints)
    assert {"fastapi", "orjson"} <= set(install)


def test_other_pins_build_it_anew(tmp_path, commands):
    constraints = tmp_path / "constraints.txt"

    ensure_environment(tmp_path / "e", constraints)
    assert "-c" not in commands[1]
    constraints.write_text("numpy==2.4.6\n")
    ensure_environment(tmp_path / "e", constraints)

    assert len(commands) == 4


def test_one_that_was_not_finished_is_built_anew(tmp_path, monkeypatch, commands):
    ensure_environment(tmp_path / "e", tmp_path / "none")
    (tmp_path / "e" / "ekiben-bench.sha256").unlink()

    ensure_environment(tmp_path / "e", tmp_path / "none")

    assert len(commands) == 4


def test_what_cannot_be_installed_is_an_error_that_says_why():
    with pytest.raises(InstallFailed, match="no matching distribution"):
        fastapi_venv._run([sys.executable, "-c", "raise SystemExit('no matching distribution')"])
    with pytest.raises(InstallFailed, match="No such file"):
        fastapi_venv._run(["/nowhere/python"])
