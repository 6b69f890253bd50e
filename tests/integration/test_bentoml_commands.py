"""BentoML's own commands on our versions: list, get, export, delete, import; then verify and predict with ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ekiben.registry import BentoRegistry
from ekiben.state import MemoryAliases

pytestmark = pytest.mark.processes
BIN = Path(sys.executable).parent


@pytest.fixture
def run(tmp_path):
    """Runs a command of the environment with homes of its own."""
    homes = {"BENTOML_HOME": str(tmp_path / "bentoml"), "EKIBEN_HOME": str(tmp_path / "ekiben"), "BENTOML_DO_NOT_TRACK": "1"}

    def call(program, *arguments, code=0):
        done = subprocess.run(
            [BIN / program, *map(str, arguments)],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, **homes},
            cwd=tmp_path,
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return call


def test_a_version_travels_through_a_file(run, tmp_path, tiny_artifact):
    registry = BentoRegistry(MemoryAliases(), home=tmp_path / "bentoml")
    before = registry.register(tiny_artifact.path, tag="tiny:2013.04")
    files = {p.relative_to(before.path): p.read_bytes() for p in before.path.rglob("*") if p.is_file()}

    assert [item["tag"] for item in json.loads(run("bentoml", "models", "list", "-o", "json").stdout)] == ["tiny:2013.04"]
    shown = json.loads(run("bentoml", "models", "get", "tiny:latest", "-o", "json").stdout)
    assert (shown["name"], shown["version"]) == ("tiny", "2013.04")
    assert shown["labels"] == {"task": "binary_classification", "framework": "onnx", "owner": "tests"}
    run("bentoml", "models", "export", "tiny:2013.04", tmp_path / "tiny.bentomodel")
    run("bentoml", "models", "delete", "tiny:2013.04", "--yes")
    assert registry.versions() == []
    assert "no model 'tiny'" in run("ekiben", "models", "verify", "tiny:2013.04", code=1).stderr

    run("bentoml", "models", "import", tmp_path / "tiny.bentomodel")
    after = registry.resolve("tiny:2013.04")
    assert {p.relative_to(after.path): p.read_bytes() for p in after.path.rglob("*") if p.is_file()} == files
    assert run("ekiben", "models", "verify", "tiny:2013.04").stdout.startswith("tiny:2013.04 is sound")
    (tmp_path / "rows.json").write_text("[[3, 3, null, -3]]")
    found = json.loads(run("ekiben", "predict", "tiny", "rows.json", "--json").stdout)
    assert found["predictions"][0]["prediction"] == "yes"


def test_a_champion_deleted_behind_our_back_is_noticed(run, tmp_path, tiny_artifact):
    registry = BentoRegistry(MemoryAliases(), home=tmp_path / "bentoml")
    for version in ("1", "2"):
        registry.register(tiny_artifact.path, tag=f"tiny:{version}")
    run("ekiben", "models", "alias", "tiny", "champion", "1")
    run("bentoml", "models", "delete", "tiny:1", "--yes")
    assert "tiny@champion names the version 1, which is no longer in the store" in run("ekiben", "models", "list").stderr
    assert "no longer in the store" in run("ekiben", "models", "show", "tiny@champion", code=1).stderr
    assert json.loads(run("ekiben", "models", "show", "tiny", "--json").stdout)["tag"] == "tiny:2"


def test_bentoml_loads_our_predictor(run, tmp_path, tiny_artifact):
    BentoRegistry(MemoryAliases(), home=tmp_path / "bentoml").register(tiny_artifact.path, tag="tiny:1")
    script = "import bentoml; print(bentoml.models.get('tiny:1').load_model().predict([[3, 3, 0, -3]])[0]['prediction'])"
    assert run("python", "-W", "ignore", "-c", script).stdout.strip() == "yes"
