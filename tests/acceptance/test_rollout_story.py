"""Someone rolls new versions out on a running server, watches, approves, and takes one back; a bad one goes back by itself."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from integration.running import Project, Running
from onnx import TensorProto, helper

from ekiben.model import ModelFile, Provenance
from ekiben.model.build import build_artifact

pytestmark = pytest.mark.processes
EKIBEN = Path(sys.executable).parent / "ekiben"
ROW = {"a": 2000.0, "b": 0.5, "c": None, "d": 1.0}
ANALYSIS = """
analysis:
  interval: 1s
  minRequests: 20
  metrics:
  - name: errorRate
"""
QUICK = f"steps:\n- shadow\n- pause: 2s\n- setWeight: 50\n- pause: 3s\n- setWeight: 100\n- pause: 2s\n{ANALYSIS}"
ASKED = f"steps:\n- setWeight: 20\n- pause: until approved\n{ANALYSIS}"
LONG = f"steps:\n- setWeight: 50\n- pause: 10m\n- setWeight: 100\n{ANALYSIS}"


@pytest.fixture
def fragile_artifact(tmp_path, tiny_spec, save_graph, tiny_rows):
    """Takes and gives what tiny does, works on the rows it was made with, and fails where ``a`` is a thousand or more."""
    model = save_graph(
        [
            helper.make_node("IsNaN", ["x"], ["is_null"]),
            helper.make_node("Where", ["is_null", "zero", "x"], ["filled"]),
            helper.make_node("Gather", ["filled", "first"], ["a"], axis=1),
            helper.make_node("Div", ["a", "thousand"], ["thousands"]),
            helper.make_node("Cast", ["thousands"], ["place"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "place"], ["found"], axis=0),
            helper.make_node("Gemm", ["filled", "weight", "bias"], ["plain"]),
            helper.make_node("Add", ["plain", "found"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
        ],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2]),
        ],
        {
            "weight": np.array([[0, 1], [0, 1], [0, 0], [0, -1]], np.float32),
            "bias": np.array([0, -0.25], np.float32),
            "zero": np.float32(0),
            "first": np.array([0], np.int64),
            "thousand": np.float32(1000),
            "table": np.zeros(1, np.float32),
        },
        file="fragile.onnx",
    )
    rows = tiny_rows(200)
    return build_artifact(
        tmp_path / "fragile",
        spec=tiny_spec,
        model=ModelFile(framework="onnx", file="model.onnx"),
        files={"model.onnx": model},
        provenance=Provenance(created="2026-01-03T00:00:00Z"),
        golden_rows=rows[:32],
        reference=rows,
    )


class Person:
    """Someone at the folder of the project, typing commands."""

    def __init__(self, project: Project) -> None:
        self.project = project

    def types(self, *arguments: object, code: int = 0) -> str:
        done = subprocess.run(
            [EKIBEN, *map(str, arguments)],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.project.root,
            env=self.project.env,
            timeout=200,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def sees(self, *arguments: object):
        return json.loads(self.types(*arguments, "--json"))

    def waits(self, wanted, *arguments: object, seconds: float = 30):
        """Looks until what is wanted is there."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.sees(*arguments)
            if wanted(found):
                return found
            time.sleep(0.3)
        raise AssertionError(found)


class Users:
    """They ask all the time; none of them may see an error."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.statuses: list[int | str] = []
        self.versions: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(20)

    def _ask(self) -> None:
        with httpx.Client(base_url=self.url, timeout=30) as client:
            number = 0
            while not self._stop.wait(0.01):
                number += 1
                headers = {"x-routing-key": f"user-{number % 300}"}
                try:
                    # One in four: a version that fails on most is refused by its breaker before anybody has counted.
                    row = ROW if number % 4 == 0 else {**ROW, "a": 1.0}
                    answer = client.post("/v1/models/tiny:predict", json={"instances": [row]}, headers=headers)
                except httpx.TransportError as e:
                    self.statuses.append(repr(e))
                    continue
                self.statuses.append(answer.status_code)
                self.versions.append(answer.headers.get("x-model-version", ""))


@pytest.fixture
def project(tmp_path, tiny_artifact, fragile_artifact) -> Project:
    project = Project(tmp_path / "project")
    project.register(tiny_artifact, version="v1")
    project.register(tiny_artifact, version="v2")
    project.register(fragile_artifact, version="v3")
    for name, text in (("quick", QUICK), ("asked", ASKED), ("long", LONG)):
        (project.root / f"{name}.yaml").write_text(text)
    return project


@pytest.fixture
def server(project):
    with Running(project, workers=2) as running:
        running.wait()
        yield running


@pytest.fixture
def person(project) -> Person:
    return Person(project)


def test_a_good_version_reaches_everybody_and_goes_back_on_demand(person, server):
    with Users(server.url) as users:
        out = person.types("rollout", "start", "tiny", "--to", "v2", "--plan", "quick.yaml")
        assert "1. shadow: 100 %" in out
        assert "ekiben rollout status tiny --watch" in out
        lines = person.types("rollout", "status", "tiny", "--watch").splitlines()
        assert "Completed" in lines[-1]
        assert any("challenger 50 %" in line for line in lines)
        person.waits(lambda found: all(w["follows"] for w in found["workers"]), "rollout", "status", "tiny")
        time.sleep(1)
        assert set(users.versions[-20:]) == {"v2"}
        assert "v1" in person.types("rollback", "tiny")
        time.sleep(2)
        assert set(users.versions[-20:]) == {"v1"}
    assert set(users.statuses) == {200}
    kinds = [event["kind"] for event in person.sees("rollout", "history", "tiny")]
    assert kinds[0] == "started"
    assert "promoted" in kinds


def test_a_bad_version_goes_back_by_itself_and_no_user_sees_an_error(person, server):
    with Users(server.url) as users:
        out = person.types("rollout", "start", "tiny", "--to", "v3", "--plan", "long.yaml", "--watch", code=3)
        assert "RolledBack" in out.splitlines()[-1]
        time.sleep(2)
        assert set(users.versions[-20:]) == {"v1"}
    assert set(users.statuses) == {200}
    found = person.sees("rollout", "status", "tiny")
    assert (found["status"], found["steps"][1]["state"]) == ("RolledBack", "rolled-back")
    assert any(m["metric"] == "errorRate" and m["outcome"] == "Failed" for m in found["measurements"])
    assert "errorRate" in found["message"]
    assert person.sees("models", "list", "tiny")[0]["aliases"] == ["champion"]


def test_approval_and_everything_else_through_the_server(person, server):
    where = ("--server", server.data_url, "--key-file", person.project.root / "home" / "admin.key")
    assert (person.project.root / "home" / "admin.key").stat().st_mode & 0o777 == 0o600
    with Users(server.url) as users:
        person.types("rollout", "start", "tiny", "--to", "latest", "--plan", "asked.yaml", *where, code=0)
        person.types("rollout", "abort", "tiny", "--reason", "the wrong one", *where)
        person.types("rollout", "start", "tiny", "--to", "v2", "--plan", "asked.yaml", *where)
        waiting = person.waits(lambda found: "approval" in found["next"], "rollout", "status", "tiny", *where)
        assert waiting["arms"][1]["weight"] == 20
        assert waiting == {
            **person.sees("rollout", "status", "tiny"),
            **{k: waiting[k] for k in ("now", "arms", "workers", "measurements")},
        }
        assert person.sees("rollout", "promote", "tiny", *where)["step"] == 2
        person.waits(lambda found: found["status"] == "Completed", "rollout", "status", "tiny", *where)
        assert {event["who"] for event in person.sees("rollout", "history", "tiny", *where)} >= {"admin-key@127.0.0.1", "controller"}
    assert set(users.statuses) == {200}
    refused = httpx.get(server.url + "/admin/v1/rollouts")
    assert refused.status_code == 401
    key = (person.project.root / "home" / "admin.key").read_text().strip()
    listed = httpx.get(server.url + "/admin/v1/rollouts", headers={"authorization": f"Bearer {key}"}).json()
    assert [rollout["status"] for rollout in listed] == ["Completed", "Aborted"]
    assert key not in server.log.read_text()
