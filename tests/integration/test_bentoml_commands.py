"""BentoML's own commands on our versions: list, get, export, delete, import; then verify and predict with ours."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml
from integration.running import free_port

from ekiben.model import Predictor
from ekiben.registry import BentoRegistry
from ekiben.state import MemoryAliases

pytestmark = pytest.mark.processes
BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]


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


@pytest.fixture
def built(project, tiny_artifact, another_tiny, plane_artifact):
    """A project with a Bento of tiny, whose challenger is newer than its champion, and plane."""
    project.register(tiny_artifact, plane_artifact, version="1")
    project.register(another_tiny("on trial"), version="2")
    project.run("ekiben", "models", "alias", "tiny", "challenger", "2")
    for name in ("bentofile.yaml", "constraints.txt", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, project.root / name)
    shutil.copytree(ROOT / "ekiben", project.root / "ekiben", ignore=shutil.ignore_patterns("__pycache__"))
    bentoml(project, "build")
    return project


def bentoml(project, *arguments):
    done = subprocess.run(
        [BIN / "bentoml", *arguments], cwd=project.root, env=project.env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextlib.contextmanager
def served(home, folder, *, seconds=60):
    """`bentoml serve ekiben:latest` with a model store and nothing else, in a folder; gives its address."""
    folder.mkdir()
    port = free_port()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("BENTOML_", "EKIBEN_"))}
    env |= {"BENTOML_HOME": str(home), "EKIBEN_HOME": str(folder / "state"), "BENTOML_DO_NOT_TRACK": "1"}
    env |= {"EKIBEN_WORKERS": "1", "EKIBEN_DRAIN_S": "0", "EKIBEN_DATA_PORT": "0"}
    log = folder.with_suffix(".log")
    with log.open("wb") as out:
        command = [BIN / "bentoml", "serve", "ekiben:latest", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + seconds
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert {entry.name for entry in folder.iterdir()} <= {"state"}, "serving wrote where it was started"


def test_a_bento_is_served_from_anywhere_with_its_models_alone(built, tmp_path, tiny_artifact, tiny_rows):
    rows = tiny_rows(3)
    expected = Predictor.open(tiny_artifact.path).predict(rows)
    listed = json.loads(bentoml(built, "list", "-o", "json"))
    assert [item["tag"].split(":")[0] for item in listed] == ["ekiben"]
    bentoml(built, "export", "ekiben:latest", str(tmp_path / "ekiben.bento"))
    shutil.rmtree(built.root / "models")

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    env = {**built.env, "BENTOML_HOME": str(elsewhere)}
    subprocess.run([BIN / "bentoml", "import", tmp_path / "ekiben.bento"], env=env, check=True, capture_output=True, timeout=120)
    for home, folder in ((built.root / "bentoml", "here"), (elsewhere, "there")):
        with served(home, tmp_path / folder) as url:
            answer = httpx.post(f"{url}/v1/models/tiny:predict", json={"instances": rows}).json()
            assert answer["predictions"] == expected
            # The challenger is the latest version, and only the Bento knows that it is not the champion.
            assert answer["model_version"] == "1"
            assert httpx.post(f"{url}/tiny", json={"instances": rows}).json() == expected
            assert httpx.post(f"{url}/v1/models/plane:predict", json={"instances": [[1, 2, 3]]}).json()["model_version"] == "1"


def test_a_bento_has_what_its_versions_need_and_no_more(built):
    (bento,) = [path for path in (built.root / "bentoml" / "bentos" / "ekiben").iterdir() if path.is_dir()]
    described = yaml.safe_load((bento / "bento.yaml").read_text())
    assert described["labels"] == {"project": "ekiben", "champion.plane": "1", "champion.tiny": "1", "challenger.tiny": "2"}
    assert [model["tag"] for model in described["services"][0]["models"]] == ["plane:1", "tiny:1", "tiny:2"]
    requirements = dict(line.split("==") for line in (bento / "env" / "python" / "requirements.txt").read_text().split())
    assert {"bentoml", "onnxruntime", "numpy"} <= set(requirements)
    assert not set(requirements) & {"torch", "scikit-learn", "pandas", "skl2onnx", "onnx", "pytest", "locust"}
    files = {str(path.relative_to(bento / "src")) for path in (bento / "src").rglob("*") if path.is_file()}
    assert {"service.py", "ekiben/serving/service.py", "ekiben/py.typed", "models/tiny/model.yaml"} <= files
    assert not [file for file in files if "__pycache__" in file or file.startswith((".venv", "tests", "home", "bentoml"))]


def test_a_bento_packs_the_versions_it_is_told_to(built):
    bentoml(built, "build", "--version", "chosen", "--arg", "versions=tiny:2")
    described = yaml.safe_load((built.root / "bentoml/bentos/ekiben/chosen/bento.yaml").read_text())
    assert [model["tag"] for model in described["services"][0]["models"]] == ["plane:1", "tiny:2"]
    assert described["labels"].items() >= {"champion.tiny": "2"}.items()


def test_a_model_without_a_version_fails_the_build_with_its_name(built):
    shutil.copytree(built.root / "models" / "tiny", built.root / "models" / "grid")
    (built.root / "models/grid/model.yaml").write_text(
        (built.root / "models/grid/model.yaml").read_text().replace("name: tiny", "name: grid")
    )
    done = subprocess.run(
        [BIN / "bentoml", "build"], cwd=built.root, env=built.env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    assert "models/grid cannot be packed" in done.stdout + done.stderr
