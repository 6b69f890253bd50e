import asyncio
import importlib.util
import json
import sys

import httpx
import prometheus_client
import pytest
from unit.serving.inprocess import LoopThread

from ekiben.errors import SettingError, SpecError
from ekiben.model import Predictor
from ekiben.model.spec import dump_spec
from ekiben.serving import build_service as exported
from ekiben.serving.service import build_service
from ekiben.state import memory_control

# BentoML asks a model's instance for its fields when it reads a form.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_fields':DeprecationWarning")

SOURCE = "from ekiben.serving import build_service\n\nsvc = build_service('models')\n"


@pytest.fixture
def project(tmp_path, registry, monkeypatch):
    """A folder with a service.py; ``project(spec, …)`` loads it, after models were given to its models folder."""
    root = tmp_path / "project"
    (root / "models").mkdir(parents=True)
    (root / "service.py").write_text(SOURCE)
    control = memory_control(aliases=registry.aliases, loads=registry.loads)
    monkeypatch.setattr("ekiben.serving.service.open_control", lambda settings: control)
    monkeypatch.setattr("ekiben.serving.service.open_registry", lambda settings, project, control: registry)
    monkeypatch.setenv("EKIBEN_WORKERS", "3")

    def load(*specs):
        for spec in specs:
            folder = root / "models" / spec.name
            folder.mkdir(exist_ok=True)
            (folder / "model.yaml").write_text(dump_spec(spec))
        module_spec = importlib.util.spec_from_file_location("service_under_test", root / "service.py")
        module = importlib.util.module_from_spec(module_spec)
        monkeypatch.setitem(sys.modules, "service_under_test", module)
        module_spec.loader.exec_module(module)
        return module.svc

    load.root = root
    return load


@pytest.fixture
def clean_metrics():
    """BentoML and the service make collectors on the process's registry."""
    registry = prometheus_client.REGISTRY
    before = set(registry._collector_to_names)
    yield
    for collector in set(registry._collector_to_names) - before:
        registry.unregister(collector)


class Worker:
    """The service's app, started and asked as BentoML's worker does it."""

    def __init__(self, service):
        self.thread = LoopThread()
        self.service = service
        self.app = service.to_asgi()
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://server")
        self.thread.run(self._start(), seconds=60)

    async def _start(self):
        self._inbox, started = asyncio.Queue(), asyncio.Event()
        self._sent = []

        async def send(message):
            self._sent.append(message)
            started.set()

        self._lifespan = asyncio.create_task(self.app({"type": "lifespan", "asgi": {"version": "3.0"}}, self._inbox.get, send))
        await self._inbox.put({"type": "lifespan.startup"})
        await started.wait()
        assert self._sent == [{"type": "lifespan.startup.complete"}], self._sent

    async def _stop(self):
        await self._inbox.put({"type": "lifespan.shutdown"})
        await self._lifespan
        await self.client.aclose()

    def request(self, method, path, **kw):
        return self.thread.run(self.client.request(method, path, **kw))

    def close(self):
        self.thread.run(self._stop())
        self.thread.close()


@pytest.fixture
def worker(project, registry, tiny_artifact, plane_artifact, clean_metrics):
    for artifact in (tiny_artifact, plane_artifact):
        registry.register(artifact.path, tag=f"{artifact.spec.name}:1")
    worker = Worker(project(tiny_artifact.spec, plane_artifact.spec))
    yield worker
    worker.close()


def test_the_package_gives_build_service_only():
    assert exported is build_service


def test_models_are_the_folders_with_a_spec(project, tiny_spec, plane_artifact):
    (project.root / "models" / "notes").mkdir()
    service = project(tiny_spec, plane_artifact.spec)
    assert service.name == "ekiben"
    assert service._models == ["plane", "tiny"]
    assert service.config["workers"] == 3
    assert set(service.apis) == {"plane", "tiny"}
    assert service.server is None


def test_the_typed_endpoint_is_the_champions_and_without_one_the_folders(project, registry, another, tiny_artifact, plane_artifact):
    registry.register(another(tiny_artifact, "x", description="The champion").path, tag="tiny:1")
    (project.root / "models" / "broken").mkdir()
    (project.root / "models" / "broken" / "model.yaml").write_text("name: [")
    service = project(tiny_artifact.spec, plane_artifact.spec)
    assert "The champion" in service.inner.__doc__
    # One whose spec cannot be read is served as far as it can be, and has no typed endpoint.
    assert service._models == ["broken", "plane", "tiny"]
    assert set(service.apis) == {"plane", "tiny"}


def test_a_folder_without_models_is_a_service_that_says_so(project, clean_metrics):
    worker = Worker(project())
    try:
        assert "models folder is empty" in worker.request("GET", "/readyz").json()["error"]
    finally:
        worker.close()


def test_a_wrong_setting_is_an_error_before_anything_starts(project, monkeypatch):
    monkeypatch.setenv("EKIBEN_WORKERS", "many")
    with pytest.raises(SettingError, match="EKIBEN_WORKERS is 'many'"):
        project()


def test_limits_that_cannot_be_are_an_error_before_anything_starts(project, monkeypatch):
    (project.root / "limits.yaml").write_text("rates: [{requests: ten}]")
    with pytest.raises(SpecError, match=r"limits.yaml: rates\[0\].requests"):
        project()
    (project.root / "limits.yaml").write_text("rates: [{requests: 10}]")
    monkeypatch.setenv("EKIBEN_TRUSTED_PROXIES", "the balancer")
    with pytest.raises(SettingError, match="EKIBEN_TRUSTED_PROXIES has 'the balancer'"):
        project()
    monkeypatch.delenv("EKIBEN_TRUSTED_PROXIES")
    monkeypatch.setenv("EKIBEN_REDIS_URL", "redis://host:port")
    with pytest.raises(SettingError, match="EKIBEN_REDIS_URL is of no use"):
        project()


def test_both_ways_in_give_the_same_predictions(worker, tiny_artifact, tiny_rows):
    rows = tiny_rows(3)
    expected = Predictor.open(tiny_artifact.path).predict(rows)
    assert worker.request("POST", "/v1/models/tiny:predict", json={"instances": rows}).json()["predictions"] == expected
    assert worker.request("POST", "/tiny", json={"instances": rows}).json() == expected
    # A form is another way to write the same.
    form = worker.request("POST", "/tiny", data={"instances": json.dumps(rows)})
    assert form.status_code == 200, form.text
    assert form.json() == expected


def test_errors_through_bentomls_own_api_keep_their_status(worker, tiny_rows):
    (row,) = tiny_rows(1)

    def ask(instances):
        bentoml = httpx.AsyncClient(transport=httpx.ASGITransport(worker.app.fallback), base_url="http://server")
        return worker.thread.run(bentoml.post("/tiny", json={"instances": instances}))

    assert ask([row]).status_code == 200
    bad = ask([])
    assert bad.status_code == 400
    assert "no rows" in bad.text
    assert ask([{**row, "d": 99}]).status_code == 400


def test_documentation_shows_the_typed_endpoints(worker):
    docs = worker.request("GET", "/docs.json").json()
    assert {"/tiny", "/plane"} <= set(docs["paths"])
    row = docs["components"]["schemas"]["TinyRow"]["properties"]
    assert row["d"].items() >= {"minimum": -10, "maximum": 10}.items()
    assert set(row) == {"a", "b", "c", "d"}
    schema = worker.request("GET", "/schema.json").json()
    assert {route["name"] for route in schema["routes"]} == {"tiny", "plane"}
    assert worker.request("GET", "/").status_code == 200


def test_health_is_the_data_planes_and_metrics_are_the_processs(worker):
    assert worker.request("GET", "/readyz").json() == {"ready": True}
    assert worker.request("GET", "/livez").status_code == 200
    worker.request("POST", "/v1/models/plane:predict", json={"instances": [[1, 2, 3]]})
    worker.thread.call(worker.service.server.host.write_metrics)
    labels = {"model": "plane", "version": "1", "arm": "champion", "status": "ok"}
    assert prometheus_client.REGISTRY.get_sample_value("ekiben_predictions_total", labels) == 1
