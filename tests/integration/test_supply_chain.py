"""A server that loads only what somebody trusted has signed."""

from __future__ import annotations

import shutil

import httpx
import pytest
from integration.rollouts import Admin, ekiben, made, plan, register
from integration.running import Project, Running
from integration.watching import until
from pickled import make_pickled

pytestmark = pytest.mark.processes

ROWS = {"instances": [dict.fromkeys("abcdef", 0.1)]}


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """The file that loading the pickle makes."""
    return tmp_path_factory.mktemp("trace") / "was-here"


@pytest.fixture(scope="module")
def project(tmp_path_factory, trace):
    """Three versions of a model, of which ann has signed the first; and a pickle, which is in the store and not in the models folder."""
    folder = tmp_path_factory.mktemp("supply-chain")
    project = Project(folder / "project")
    register(project, [(made(folder, "tried", "good", seed=seed), f"v{seed}") for seed in (1, 2, 3)])
    pickled = make_pickled(folder / "line", trace)
    shutil.copytree(pickled.path, folder / "again")
    script = (
        "import sys, pathlib; from ekiben.registry import open_registry; from ekiben.settings import load_settings;"
        "open_registry(load_settings()).register(pathlib.Path(sys.argv[1]), tag='line:1')"
    )
    (project.root / "register.py").write_text(script)
    project.run("register", str(pickled.path))
    project.run("ekiben", "models", "keygen", "ann")
    project.run("ekiben", "models", "sign", "tried:v1", "--key", "ann.private.pem")
    project.env["EKIBEN_TRUSTED_SIGNERS"] = "ann.pem"
    return project


@pytest.fixture(scope="module")
def server(project):
    with Running(project) as running:
        running.wait()
        yield running


def answering(server):
    answer = httpx.post(f"{server.url}/v1/models/tried:predict", json=ROWS)
    assert answer.status_code == 200, answer.text
    return answer.json()["model_version"]


def test_a_rollout_to_what_nobody_signed_is_aborted_and_the_champion_stays(server, project):
    assert answering(server) == "v1"
    steps = plan(project, {"setWeight": 50}, {"pause": {}})
    ekiben(project, "rollout", "start", "tried", "--to", "v2", "--plan", steps)
    with Admin(server) as admin:
        ended = admin.until_ended("tried")
    assert ended["status"] in ("RolledBack", "Aborted")
    assert "tried:v2 is not loaded: none of EKIBEN_TRUSTED_SIGNERS has signed it" in ended["message"]
    assert answering(server) == "v1"


def test_a_version_that_is_signed_meanwhile_is_rolled_out(server, project):
    project.run("ekiben", "models", "sign", "tried:v3", "--key", "ann.private.pem")
    steps = plan(project, {"setWeight": 50}, {"pause": {}}, name="signed")
    ekiben(project, "rollout", "start", "tried", "--to", "v3", "--plan", steps)
    until(lambda: "v3" in {answering(server) for _ in range(8)}, 60, server.log.read_text)
    ekiben(project, "rollout", "abort", "tried")


def test_no_code_of_an_unsigned_pickle_is_run(server, project, trace):
    project.run("ekiben", "models", "load", "line")
    refusal = until(lambda: "refused line:1" in server.log.read_text(), 30, server.log.read_text)
    assert refusal
    assert httpx.post(f"{server.url}/v1/models/line:predict", json={"instances": [[2.0]]}).status_code in (404, 503)
    assert "line:1 is not loaded" in project.run("ekiben", "models", "verify", "line:1", check=False).stderr
    assert not trace.exists()

    project.run("ekiben", "models", "sign", "line:1", "--key", "ann.private.pem")
    project.run("ekiben", "models", "load", "line")
    answered = until(
        lambda: (found := httpx.post(f"{server.url}/v1/models/line:predict", json={"instances": [[2.0]]})).status_code == 200 and found,
        30,
        server.log.read_text,
    )
    assert answered.json()["predictions"][0]["prediction"] == pytest.approx(5.0)
    assert trace.exists()
