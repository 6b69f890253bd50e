"""The image: built as `make image` does it, run as strictly as a platform may, called over every port."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from integration.running import Project, free_port

from ekiben.model import Predictor

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="images are built and run as root here"),
    pytest.mark.skipif(
        any(shutil.which(tool) is None for tool in ("buildah", "podman", "runc", "mmdebstrap")),
        reason="needs buildah, podman, runc and mmdebstrap; .ci/run installs them",
    ),
]

ROOT = Path(__file__).parents[2]
BASE = "localhost/ekiben-base:bookworm"
IMAGE = "localhost/ekiben:latest"
MONITOR = "localhost/ekiben-monitor"
LARGEST_MB = 450
STRICT = ("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--memory", "1g", "--tmpfs", "/tmp")


class Engine:
    """podman and buildah on a store of their own."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        conf = root / "storage.conf"
        conf.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{root / "graph"}"\nrunroot = "{root / "run"}"\n')
        self.env = {**os.environ, "CONTAINERS_STORAGE_CONF": str(conf)}

    def run(self, *command, seconds=120, check=True, **kw):
        done = subprocess.run([*map(str, command)], env=self.env, capture_output=True, text=True, timeout=seconds, check=False, **kw)
        assert done.returncode == 0 or not check, f"{command}: {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        return done

    def podman(self, *command, **kw):
        return self.run("podman", "--runtime", "runc", *command, **kw).stdout.strip()


class Container:
    """A running container of the image, on the host's network, at ports of its own."""

    def __init__(self, engine: Engine, *options: str) -> None:
        self.engine = engine
        self.port, self.data_port, self.platform_port = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_url = f"http://127.0.0.1:{self.data_port}"
        limits = ("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=10000:10000", "--network", "host")
        ports = {"EKIBEN_DATA_PORT": self.data_port, "EKIBEN_PLATFORM_PORT": self.platform_port, "EKIBEN_WORKERS": 2}
        env = [text for name, value in ports.items() for text in ("-e", f"{name}={value}")]
        serve = ("serve", "--host", "127.0.0.1", "--port", str(self.port))
        self.id = engine.podman("run", "-d", *limits, *STRICT, *env, *options, IMAGE, *serve).splitlines()[-1]

    def exec(self, *command, **kw):
        return self.engine.podman("exec", self.id, *command, **kw)

    def logs(self):
        done = self.engine.run("podman", "logs", self.id)
        return done.stdout + done.stderr

    def wait(self, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return self
            time.sleep(0.2)
        raise AssertionError(f"not ready in {seconds} s\n{self.logs()}")

    def stop(self, *, seconds=30):
        self.engine.podman("stop", "-t", seconds, self.id, seconds=seconds + 30)
        return int(self.engine.podman("inspect", "--format", "{{.State.ExitCode}}", self.id))


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    root = tmp_path_factory.mktemp("containers")
    engine = Engine(root)
    yield engine
    engine.run("podman", "rm", "--all", "--force", "--time", "5", check=False)
    engine.run("podman", "rmi", "--all", "--force", check=False)
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def made():
    """What was built or started for the first test that needed it; the artifacts that it takes are made anew for each test."""
    return {}


@pytest.fixture
def image(engine, made, tmp_path_factory, tiny_artifact, another_tiny, plane_artifact):
    """tiny with a champion and a newer challenger, and plane."""
    if "image" not in made:
        project = Project(tmp_path_factory.mktemp("image") / "project")
        project.register(tiny_artifact, plane_artifact, version="1")
        project.register(another_tiny("on trial"), version="2")
        project.run("ekiben", "models", "alias", "tiny", "challenger", "2")
        made["image"] = build(engine, project)
    return IMAGE


def build(engine, project):
    for name in ("bentofile.yaml", "constraints.txt", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, project.root / name)
    for name in ("ekiben", "deploy/image"):
        shutil.copytree(ROOT / name, project.root / name, ignore=shutil.ignore_patterns("__pycache__"))
    engine.env |= {k: v for k, v in project.env.items() if k.startswith(("BENTOML_", "EKIBEN_"))}
    engine.env |= {"PYTHON": sys.executable, "BENTOML": str(Path(sys.executable).with_name("bentoml"))}
    engine.env |= {"BASE_IMAGE": BASE, "IMAGE": IMAGE.removesuffix(":latest"), "BUILDER": "buildah"}
    engine.run(project.root / "deploy/image/base.sh", BASE, seconds=400)
    built = engine.run(project.root / "deploy/image/build.sh", seconds=400).stdout.splitlines()[-1]
    assert built.startswith("localhost/ekiben:")
    return project


@pytest.fixture
def container(engine, image, made):
    """One container for all tests that stop none; the engine's end is its own."""
    if "container" not in made:
        made["container"] = Container(engine, "-v", "ekiben-data:/var/lib/ekiben").wait()
    return made["container"]


@pytest.fixture
def rows():
    return [{"a": 1.0, "b": 2.0, "c": None, "d": 0.5}, {"a": -1.0, "b": -2.0, "c": 3.0, "d": 0.5}]


@pytest.fixture
def expected(tiny_artifact):
    return Predictor.open(tiny_artifact.path).predict


def test_rest_answers_on_every_port_with_the_champion(container, rows, expected):
    for port in (container.port, container.data_port, container.platform_port):
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/models/tiny:predict", json={"instances": rows})
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == expected(rows)
        # The challenger is the latest, and no control database came along to say that it is not the champion.
        assert answer.json()["model_version"] == "1"


def test_grpc_answers_on_the_data_port(container):
    grpc = pytest.importorskip("tritonclient.grpc", reason="tritonclient is part of the environment that `make` installs")
    with grpc.InferenceServerClient(f"127.0.0.1:{container.data_port}") as client:
        assert client.is_server_ready()
        inputs = []
        for name, value in zip("xyz", (1, 2, 3), strict=True):
            tensor = grpc.InferInput(name, [1], "FP32")
            tensor.set_data_from_numpy(np.array([value], np.float32))
            inputs.append(tensor)
        answer = client.infer("plane", inputs)
        (name,) = [output.name for output in answer.get_response().outputs]
        assert answer.as_numpy(name).ravel().tolist() == [1 + 2 * 2 + 3 * 3 + 0.5]


def test_bentomls_and_ekibens_commands_see_the_packed_versions(container):
    listed = json.loads(container.exec("bentoml", "models", "list", "-o", "json"))
    assert sorted(item["tag"] for item in listed) == ["plane:1", "tiny:1", "tiny:2"]
    ours = json.loads(container.exec("python", "-m", "ekiben", "models", "list", "--json"))
    assert {item["tag"]: item["aliases"] for item in ours} == {"plane:1": ["champion"], "tiny:1": ["champion"], "tiny:2": ["challenger"]}


def test_it_runs_without_rights_and_writes_only_where_it_may(container):
    assert container.exec("id", "-u") == "1034"
    assert container.exec("id", "-g") == "1034"
    forbidden = "for p in / /app /home/bentoml /home/bentoml/bento/src /etc; do touch $p/x 2>/dev/null && echo $p; done"
    tried = f"{forbidden}; touch /var/lib/ekiben/x && echo data"
    assert container.exec("bash", "-c", tried) == "data"


def test_the_image_has_neither_training_frameworks_nor_build_tools(container):
    missing = ("torch", "sklearn", "pandas", "skl2onnx", "pytest", "uv", "pyarrow", "duckdb", "scipy", "boto3")
    found = f"import importlib.util as u; print([n for n in {missing} if u.find_spec(n)])"
    assert container.exec("python", "-c", found) == "[]"
    assert container.exec("bash", "-c", "command -v gcc cc make git uv perl5.36 || true") == ""
    assert container.exec("bash", "-c", "ls -A /root/.cache /tmp/uv* 2>/dev/null || true") == ""
    installed = dict(line.split("==") for line in container.exec("cat", "env/python/requirements.txt").split())
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split("\n") if "==" in line)
    assert installed["onnxruntime"] == pins["onnxruntime"]
    assert installed["bentoml"] == pins["bentoml"]


def test_size_and_description(engine, image):
    described = json.loads(engine.podman("image", "inspect", image))[0]
    assert described["Size"] < LARGEST_MB * 1_000_000, f"{described['Size'] / 1e6:.0f} MB"
    config = described["Config"]
    assert config["User"] == "bentoml"
    assert set(config["ExposedPorts"]) == {"3000/tcp", "3001/tcp", "8080/tcp"}
    assert set(config["Volumes"]) == {"/var/lib/ekiben"}
    assert config["Cmd"] == ["serve", "--port", "3000"]
    labels = config["Labels"]
    assert labels["ekiben.models"] == "plane:1 tiny:1 tiny:2"
    assert labels["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert {f"org.opencontainers.image.{name}" for name in ("title", "description", "version", "created", "base.name")} <= set(labels)
    assert described["HealthCheck" if "HealthCheck" in described else "Healthcheck"]["Test"][0] == "CMD"


def test_the_health_check_is_the_servers_readiness(engine, image, container):
    check = json.loads(engine.podman("image", "inspect", image))[0]["Healthcheck"]["Test"][1:]
    here = [text.replace(":3000", f":{container.port}") for text in check]
    container.exec(*here)
    nowhere = [text.replace(":3000", f":{free_port()}") for text in check]
    assert engine.run("podman", "--runtime", "runc", "exec", container.id, *nowhere, check=False).returncode != 0


def test_what_is_promoted_stays_so_in_a_container_that_follows(engine, image, rows):
    volume = ("-v", "ekiben-promoted:/var/lib/ekiben")
    first = Container(engine, *volume).wait()
    first.exec("python", "-m", "ekiben", "models", "alias", "tiny", "champion", "2")

    def version(container):
        return httpx.post(f"{container.url}/v1/models/tiny:predict", json={"instances": rows}).json()["model_version"]

    end = time.monotonic() + 20
    while version(first) != "2" and time.monotonic() < end:
        time.sleep(0.1)
    assert version(first) == "2"
    assert first.stop() == 0
    second = Container(engine, *volume).wait()
    assert version(second) == "2"
    assert second.stop() == 0


def test_stopping_it_under_load_loses_no_request(engine, image, rows):
    container = Container(engine).wait()
    answers, lost = [], []

    def call():
        with httpx.Client(timeout=10) as client:
            while True:
                try:
                    answer = client.post(f"{container.url}/v1/models/tiny:predict", json={"instances": rows})
                except httpx.HTTPError as e:
                    lost.append(repr(e))
                    return
                answers.append(answer.status_code)
                # What a balancer does: it sends nothing more to a server that is leaving.
                if answer.headers.get("connection") == "close":
                    return

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    time.sleep(1)
    code = container.stop()
    for caller in callers:
        caller.join(30)
    assert code == 0, container.logs()
    assert not lost
    assert set(answers) == {200}


def test_what_a_server_ships_without_pyarrow_the_image_of_a_monitor_makes_files_of(engine, image, made, rows):
    shared = ("-v", "ekiben-shipped:/var/lib/ekiben", "-e", "EKIBEN_LOG_URI=file:///var/lib/ekiben/fleet")
    container = Container(engine, *shared).wait()
    for _ in range(5):
        httpx.post(f"{container.url}/v1/models/tiny:predict", json={"instances": rows}).raise_for_status()
    end = time.monotonic() + 30
    while "without pyarrow" not in container.logs() and time.monotonic() < end:
        time.sleep(0.2)
    assert "this monitor ships and prunes this host's log as it is" in container.logs()
    assert container.stop() == 0
    assert "Traceback" not in container.logs()

    limits = ("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=10000:10000", "--network", "host")
    run = ("run", "--rm", *limits, *STRICT, *shared)
    ekiben = ("python", "-m", "ekiben")
    shipped = engine.podman(*run, IMAGE, *ekiben, "log", "compact")
    assert "segments were shipped as they are: a monitor elsewhere makes files of them" in shipped
    segments = engine.podman(*run, IMAGE, "find", "/var/lib/ekiben", "-name", "*.arrows").split()
    assert segments
    assert all(path.startswith("/var/lib/ekiben/fleet/tail/model=tiny/") for path in segments)

    engine.env |= {"IMAGE": MONITOR, "EXTRAS": "monitor"}
    try:
        engine.run(made["image"].root / "deploy/image/build.sh", seconds=400)
    finally:
        engine.env |= {"IMAGE": IMAGE.removesuffix(":latest"), "EXTRAS": ""}
    monitor = (*run, "-e", "EKIBEN_HOME=/var/lib/ekiben/monitor", f"{MONITOR}:latest", *ekiben)
    assert "checks models and tells of alerts" in engine.podman(*monitor, "monitor", "run", "--once")
    counted = engine.podman(*monitor, "log", "query", "SELECT count(*) AS n FROM predictions", "--json")
    assert json.loads(counted) == [{"n": 5 * len(rows)}]
    time.sleep(2.5)  # rows as young as that are left to the next check
    checks = json.loads(engine.podman(*monitor, "monitor", "check", "tiny", "--json"))
    assert {(check["kind"], check["outcome"]) for check in checks} == {("drift", "unknown"), ("quality", "unknown")}
    assert max(check["rows"] for check in checks) == 5 * len(rows)
    imported = "import duckdb, pyarrow.parquet, scipy.stats, sklearn.metrics, sklearn.linear_model, numpy.testing"
    assert engine.podman(*run, f"{MONITOR}:latest", "python", "-c", imported) == ""
    assert engine.podman(*run, IMAGE, "find", "/var/lib/ekiben", "-name", "*.arrows") == ""
    files = engine.podman(*run, IMAGE, "find", "/var/lib/ekiben/fleet", "-name", "*.parquet").split()
    assert len(files) == len(segments)
