"""Rollouts on a real server with two workers under load: a good version reaches everybody, bad ones go back by themselves."""

from __future__ import annotations

import json
import time

import httpx
import pytest
from integration.rollout_clients import IN_FORCE_S, Load, moved_back, share_of
from integration.rollouts import Admin, corrupt, detached, ekiben, event_of, made, plan, register
from integration.running import Project, Running

from ekiben.settings import load_settings
from ekiben.state.opening import open_control

pytestmark = pytest.mark.processes

KINDS = {"good": "good", "failing": "failing", "slow": "slow", "worse": "worse", "broken": "good", "unfit": "unfit", "asked": "good"}
"""Model → what its version 2 is; ``broken`` is spoilt once it is registered."""

ROW = [0.1] * 6


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Two workers that serve a model for each scenario, version 1 its champion."""
    folder = tmp_path_factory.mktemp("scenarios")
    project = Project(folder / "project")
    versions = []
    for name, kind in KINDS.items():
        versions += [(made(folder, name, "good", seed=1), "v1"), (made(folder, name, kind), "v2")]
    register(project, versions)
    corrupt(project, "broken:v2")
    with Running(project, EKIBEN_ACCESS_LOG_RATE="0") as running:
        running.wait()
        yield running
        assert detached(running) == []
        assert "the control database" not in running.log.read_text()


@pytest.fixture(scope="module")
def admin(server):
    with Admin(server) as api:
        yield api


@pytest.fixture(scope="module")
def control(server):
    """The server's control database."""
    opened = open_control(load_settings({"EKIBEN_HOME": server.project.env["EKIBEN_HOME"]}))
    yield opened
    opened.database.close()


def test_a_good_version_reaches_everybody_in_steps(server, admin, control):
    bakes = [{"shadow": {}}, {"pause": "5s"}]
    for weight in (5, 50, 100):
        bakes += [{"setWeight": weight}, {"pause": "5s"}]
    # Answers take a quarter of a millisecond here: whoever else uses the machine decides their p95.
    latency = {"name": "latencyP95", "maxRatio": 20}
    others = [{"name": name} for name in ("errorRate", "invalidRate", "quality", "agreement", "drift")]
    file = plan(server.project, *bakes, analysis={"metrics": [latency, *others]})
    with Load(server, model="good", rate=280) as load:
        time.sleep(1)
        started = ekiben(server.project, "rollout", "start", "good", "--to", "v2", "--plan", file)
        assert (started["champion"], started["challenger"], started["status"]) == ("v1", "v2", "Progressing")
        shadowing = admin.until("good", is_so=lambda s: s["shadow"] is not None and s["shadow"]["compared"] >= 200, seconds=30)
        assert shadowing["shadow"]["agreement"]["value"] > 0.8
        assert shadowing["shadow"]["errors"] == 0
        done = admin.until_ended("good", seconds=120)
        time.sleep(2)
    print(f"\ngood: {load.figures()}")
    assert done["status"] == "Completed", done["message"]
    assert [s["state"] for s in done["steps"]] == ["done"] * 8
    assert load.failures() == []
    assert load.refused == []

    # Each stage's share is its weight, but for the second in which it comes into force.
    events = ekiben(server.project, "rollout", "history", "good")
    began = {e["details"]["what"]: e["time"] for e in events if e["kind"] == "step"}
    promoted = event_of(events, "promoted")["time"]
    borders = [began["setWeight: 5"], began["setWeight: 50"], began["setWeight: 100"], promoted]
    before = load.between(0, borders[0])
    assert {(a.version, a.arm) for a in before} == {("v1", "champion")}
    for weight, begin, end in zip((0.05, 0.5, 1.0), borders, borders[1:], strict=False):
        share, n = share_of(load.between(begin + IN_FORCE_S, end), "v2")
        print(f"good: weight {weight:.0%}: share {share:.1%} of {n} requests without a key")
        assert n > 200
        assert abs(share - weight) <= 5 * (weight * (1 - weight) / n) ** 0.5
    arms = {(a.version, a.arm) for a in load.answers}
    assert arms == {("v1", "champion"), ("v2", "challenger"), ("v2", "champion")}
    assert moved_back(load.answers, "v2") == []
    keys = {a.key for a in load.answers if a.key}
    met = {a.key for a in load.answers if a.key and a.version == "v2"}
    assert len(met) > 0.9 * len(keys) > 500

    in_force_s = load.in_force_s(began["setWeight: 100"], "v2")
    print(f"good: setWeight: 100 in force on all workers after {in_force_s * 1000:.0f} ms")
    assert in_force_s <= IN_FORCE_S
    for step in (0, 2, 4, 6):
        print(f"good: step {step}: {[m.message for m in control.measurements.find(done['id'], step=step) if m.metric == 'latencyP95'][-1]}")
    aliases = {m["version"]: m["aliases"] for m in ekiben(server.project, "models", "list", "good")}
    assert aliases == {"v2": ["champion"], "v1": ["previous"]}


@pytest.mark.parametrize(("model", "metric"), [("failing", "errorRate"), ("slow", "latencyP95"), ("worse", "quality")])
def test_a_bad_version_goes_back_by_itself(server, admin, control, model, metric):
    file = plan(server.project, {"setWeight": 50}, {"pause": "8s"}, {"setWeight": 100}, {"pause": "8s"})
    with Load(server, model=model) as load:
        time.sleep(1)
        ekiben(server.project, "rollout", "start", model, "--to", "v2", "--plan", file)
        ended = admin.until_ended(model, seconds=60)
        time.sleep(3)
        now = time.time()
        after = load.between(now - 1, now)
    events = ekiben(server.project, "rollout", "history", model)
    decided = event_of(events, "rolled-back")
    in_force_s = load.in_force_s(decided["time"], "v1")
    begun = event_of(events, "step")["time"]
    print(f"\n{model}: {load.figures()}; rolled back {decided['time'] - begun:.1f} s after setWeight: 50")
    print(f"{model}: {decided['message']}\n{model}: the rollback in force on all workers after {in_force_s * 1000:.0f} ms")
    assert ended["status"] == "RolledBack"
    assert {m["metric"] for m in decided["details"]["measurements"]} == {metric}
    assert all(m["outcome"] == "Failed" for m in decided["details"]["measurements"])
    assert decided["who"] == "controller"
    assert load.failures() == []
    assert in_force_s <= IN_FORCE_S
    assert after
    assert {(a.version, a.arm) for a in after} == {("v1", "champion")}
    # Answers are kept for ground truth while it is on trial, and no longer.
    assert control.truths.exposed(model, begun, decided["time"]).keys() >= {("v1", "champion"), ("v2", "challenger")}
    assert control.truths.exposed(model, decided["time"] + IN_FORCE_S, now) == {}
    met = {(a.version, a.arm) for a in load.answers}
    assert ("v2", "challenger") in met
    assert (("v1", "fallback") in met) is (model == "failing")
    pinned = httpx.post(f"{server.url}/v1/models/{model}/versions/v2:predict", json={"instances": [ROW]}, timeout=10)
    assert (pinned.status_code, pinned.headers["x-model-version"], pinned.headers["x-model-arm"]) == (200, "v2", "pinned")


def test_a_broken_version_meets_nobody(server, admin):
    file = plan(server.project, {"setWeight": 50}, {"pause": "5s"})
    with Load(server, model="broken", rate=120) as load:
        time.sleep(0.5)
        admin.post("/rollouts", {"model": "broken", "to": "v2", "plan": json.loads((server.project.root / file).read_text())})
        ended = admin.until_ended("broken", seconds=30)
        time.sleep(1)
    print(f"\nbroken: {load.figures()}\nbroken: {ended['message']}")
    assert ended["status"] == "RolledBack"
    assert "model.onnx has changed" in ended["message"]
    events = admin.events("broken")
    assert [e["kind"] for e in events] == ["started", "load-failed", "rolled-back"]
    assert load.failures() == []
    assert {(a.version, a.arm) for a in load.answers} == {("v1", "champion")}
    pinned = httpx.post(f"{server.url}/v1/models/broken/versions/v2:predict", json={"instances": [ROW]}, timeout=10)
    assert pinned.status_code == 503
    assert "has changed" in pinned.text


def test_an_unfit_version_does_not_even_start(server, admin):
    refused = server.project.run("ekiben", "rollout", "start", "unfit", "--to", "v2", check=False)
    assert refused.returncode == 1
    assert "unfit:v2 cannot answer in place of v1" in refused.stderr
    assert "'other'" in refused.stderr
    assert admin.events("unfit") == []


def test_people_promote_abort_and_roll_back_within_a_second(server, admin):
    """Each is in force on all workers within a second of its event."""
    file = plan(server.project, {"setWeight": 50}, {"pause": "until approved"})
    content = json.loads((server.project.root / file).read_text())
    figures = {}
    with Load(server, model="asked") as load:

        def begin() -> None:
            admin.post("/rollouts", {"model": "asked", "to": "v2", "plan": content})
            admin.until("asked", is_so=lambda s: s["step"] == 1, seconds=30)
            time.sleep(1.5)

        def note(what: str, kind: str, version: str) -> None:
            time.sleep(1.5)
            at = [e for e in admin.events("asked") if e["kind"] == kind][-1]["time"]
            until = time.time()
            figures[what] = load.in_force_s(at, version, until=until)
            assert {a.version for a in load.between(at + IN_FORCE_S, until)} == {version}

        begin()
        aborted = ekiben(server.project, "rollout", "abort", "asked", "--reason", "complaints")
        assert (aborted["status"], aborted["message"]) == ("Aborted", "complaints")
        note("abort", "aborted", "v1")
        begin()
        ekiben(server.project, "rollback", "asked")
        note("rollback of a rollout", "aborted", "v1")
        begin()
        assert ekiben(server.project, "rollout", "promote", "asked", "--full")["status"] == "Completed"
        note("promote --full", "promoted", "v2")
        assert ekiben(server.project, "rollback", "asked")["champion"] == "v1"
        note("rollback to the former champion", "rolled-back", "v1")
    print(f"\nasked: {load.figures()}")
    for what, seconds in figures.items():
        print(f"asked: {what} in force on all workers after {seconds * 1000:.0f} ms")
    assert load.failures() == []
    assert max(figures.values()) <= IN_FORCE_S
