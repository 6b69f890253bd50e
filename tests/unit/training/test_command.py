from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner

from training import command
from training.command import MODELS, code_of, execute, training_options
from training.datasets import DataError


@pytest.fixture
def invoke(registry, tiny_job, monkeypatch):
    """Calls a training script that trains ``tiny``."""
    monkeypatch.setattr(command, "open_registry", lambda settings: registry)

    def prepare(settings, steps):
        if settings.workers == 7:
            raise DataError("there are no rows")
        return tiny_job()

    @click.command()
    @training_options
    def main(*, tag, seed, if_missing, data_file, as_json):
        execute(prepare, tag=tag, if_missing=if_missing, as_json=as_json)

    return lambda *args, **env: CliRunner(catch_exceptions=False).invoke(main, args, env=env)


def test_people_get_a_table_and_progress_goes_beside_it(invoke):
    result = invoke("--tag", "tiny:1")
    assert result.exit_code == 0
    assert "tiny:1 is registered" in result.stdout
    assert "✓ Train on 200 rows" in result.stderr
    assert "✓ Train" not in result.stdout


def test_machines_get_json_and_nothing_else(invoke):
    found = json.loads(invoke("--tag", "tiny:1", "--json").stdout)
    assert (found["tag"], found["champion"], found["reused"]) == ("tiny:1", True, False)
    assert json.loads(invoke("--if-missing", "--json").stdout) == {**found, "reused": True}


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"EKIBEN_WORKERS": "7"}, "Error: there are no rows\n"),
        ({"EKIBEN_WORKERS": "none"}, "Error: EKIBEN_WORKERS is 'none'"),
    ],
)
def test_what_goes_wrong_is_said_without_a_traceback(invoke, env, message):
    result = invoke(**env)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_code_is_the_script_and_what_it_names():
    files = code_of(str(MODELS.parent / "training" / "digits.py"), "digit_network")
    assert all(file.is_file() for file in files)
    assert {"digits.py", "digit_network.py", "datasets.py", "exports.py", "splits.py"} <= {file.name for file in files}
