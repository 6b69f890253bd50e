from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import msgspec
import pytest

from ekiben.model import Provenance
from ekiben.model.build import build_artifact
from ekiben.model.monitor_spec import MonitorSpec, RetrainSpec
from ekiben.model.spec import dump_spec
from ekiben.monitoring import retrain_triggers
from ekiben.monitoring.retrain_triggers import Facts, RetrainTriggers, decide, start_process
from ekiben.monitoring.retraining import STARTED, lease_of
from ekiben.registry import FolderRegistry
from ekiben.state.checks import Check
from ekiben.state.control import memory_control
from ekiben.state.events import Event
from ekiben.state.rollouts import Change, Rollout
from ekiben.state.truth import Truth

DAY_S = 86_400.0
NOW = 1_000 * DAY_S
ON = RetrainSpec(enabled=True)


def check(time, outcome="bad", kind="drift", version="1"):
    return Check(model="tiny", version=version, kind=kind, time=time, since=0.0, until=time, rows=1000, outcome=outcome, summary="")


def facts(*checks, **changed):
    return Facts(**({"now": NOW, "champion": "1", "trained": NOW - 30 * DAY_S, "checks": checks} | changed))


def row_of(*outcomes, **changed):
    return [check(NOW - 100 + n, outcome, **changed) for n, outcome in enumerate(outcomes)]


@pytest.mark.parametrize(
    ("outcomes", "is_due"),
    [
        (("bad", "bad", "bad"), True),
        (("ok", "bad", "bad", "bad"), True),
        (("bad", "unknown", "bad", "unknown", "bad", "unknown"), True),
        (("bad", "bad"), False),
        (("bad", "bad", "ok"), False),
        (("bad", "ok", "bad", "bad"), False),
        (("unknown", "unknown", "unknown"), False),
        ((), False),
    ],
)
def test_drift_in_a_row(outcomes, is_due):
    found = decide(ON, facts(*row_of(*outcomes)))
    assert found.is_due is is_due
    assert found.reason == ("data drifted in 3 checks in a row" if is_due else "nothing calls for it")


def test_a_check_of_several_arms_is_one_check():
    one = [msgspec.structs.replace(check(NOW - 10), arm=arm) for arm in ("", "champion", "canary")]
    assert not decide(ON, facts(*one)).is_due
    mixed = [check(NOW - 10, "ok"), msgspec.structs.replace(check(NOW - 10), arm="canary")]
    assert decide(RetrainSpec(enabled=True, drift_checks=1), facts(*mixed)).reason == "data drifted"


def test_only_the_champions_checks_count():
    assert not decide(ON, facts(*row_of("bad", "bad", "bad", version="2"))).is_due


def test_what_called_for_the_last_run_must_be_seen_again():
    checks = row_of("bad", "bad", "bad")
    assert not decide(ON, facts(*checks, now=NOW + 2 * DAY_S, last_run=NOW - 50)).is_due
    again = [check(NOW + n) for n in range(3)]
    assert decide(ON, facts(*checks, *again, now=NOW + 2 * DAY_S, last_run=NOW - 50)).is_due


def test_quality():
    assert decide(ON, facts(check(NOW - 9, kind="quality"))).reason == "the quality is below its threshold"
    assert not decide(ON, facts(check(NOW - 9, kind="quality"), check(NOW - 8, "ok", kind="quality"))).is_due
    assert not decide(RetrainSpec(enabled=True, quality=False), facts(check(NOW - 9, kind="quality"))).is_due


def test_age():
    assert decide(RetrainSpec(enabled=True, max_age="29d"), facts()).reason == "the champion is 30 days old"
    assert not decide(RetrainSpec(enabled=True, max_age="31d"), facts()).is_due


def test_new_truth():
    assert decide(RetrainSpec(enabled=True, truth_rows=5000), facts(truth_rows=5000)).reason == "there are 5,000 new rows with ground truth"
    assert not decide(RetrainSpec(enabled=True, truth_rows=5001), facts(truth_rows=5000)).is_due


def test_it_is_off_unless_it_is_on():
    found = decide(RetrainSpec(), facts(*row_of("bad", "bad", "bad")))
    assert (found.is_due, found.reason) == (False, "monitor.retrain.enabled is off")


def test_each_trigger_can_be_switched_off():
    spec = RetrainSpec(enabled=True, drift_checks=None, quality=False)
    assert not decide(spec, facts(*row_of("bad", "bad", "bad"), check(NOW - 5, kind="quality"), truth_rows=10**6)).is_due


@pytest.mark.parametrize(
    ("pause", "ago_s", "text"),
    [
        ("24h", 24 * 3600 - 1, "the last run was 24 hours ago, and one is allowed every 24h"),
        ("7d", 6 * DAY_S, "6 days ago"),
        (600, 300, "5 minutes ago, and one is allowed every 600 s"),
        ("24h", 24 * 3600, ""),
    ],
)
def test_not_more_often_than_is_allowed(pause, ago_s, text):
    spec = RetrainSpec(enabled=True, at_most_every=pause, max_age="1d")
    found = decide(spec, facts(last_run=NOW - ago_s))
    assert found.is_due is (not text)
    assert text in found.reason


def test_what_is_busy_waits():
    found = decide(ON, facts(*row_of("bad", "bad", "bad"), busy="tiny-1 is active"))
    assert (found.is_due, found.reason) == (False, "data drifted in 3 checks in a row, but tiny-1 is active")


class Process:
    """A process that ends when it is told to."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.waited: list[float | None] = []
        self.is_stubborn = False

    def poll(self):
        return self.code

    def terminate(self):
        self.code = -15

    def wait(self, timeout=None):
        self.waited.append(timeout)
        if self.is_stubborn:
            raise subprocess.TimeoutExpired("ekiben retrain", timeout)
        return self.code


class World:
    def __init__(self, folder, artifact, spec) -> None:
        self.now = NOW
        self.control = memory_control(lambda: self.now)
        self.registry = FolderRegistry(folder / "store", self.control.aliases)
        made = build_artifact(
            folder / "made",
            spec=msgspec.structs.replace(artifact.spec, monitor=MonitorSpec(retrain=spec)),
            model=artifact.manifest.model,
            files={"model.onnx": artifact.path / "model.onnx"},
            provenance=Provenance(created=datetime.fromtimestamp(NOW - 30 * DAY_S, UTC).isoformat()),
            golden_rows=artifact.golden_rows().rows,
            reference=artifact.golden_rows().rows,
        )
        self.registry.register(made.path, tag="tiny:1")
        self.started: list[tuple[str, str]] = []
        self.processes: list[Process] = []
        self.triggers = self.another()

    def another(self) -> RetrainTriggers:
        return RetrainTriggers(self.control, self.registry, wall=lambda: self.now, start=self._start)

    def _start(self, model, reason):
        self.started.append((model, reason))
        self.processes.append(Process())
        return self.processes[-1]

    def facts(self, spec) -> Facts:
        made = self.another()
        return made._facts(made._watched.of("tiny")[0], spec)

    def drifts(self) -> None:
        for n in range(3):
            self.control.checks.add(check(self.now - 3 + n))


@pytest.fixture
def world(tmp_path, tiny_artifact):
    return lambda spec=ON: World(tmp_path, tiny_artifact, spec)


def test_a_process_is_started_once(world):
    w = world()
    assert not w.triggers.run_if_due("tiny").is_due
    w.drifts()
    assert w.triggers.run_if_due("tiny").is_due
    assert w.started == [("tiny", "data drifted in 3 checks in a row")]
    assert "one is allowed every 24h" in w.triggers.run_if_due("tiny").reason
    w.now += 2 * DAY_S
    w.drifts()
    assert w.triggers.run_if_due("tiny").reason.endswith("but it is being trained")
    w.processes[0].code = 1
    assert w.triggers.run_if_due("tiny").is_due
    assert len(w.started) == 2


def test_another_monitor_knows_of_the_last_run_by_its_event(world):
    w = world()
    w.drifts()
    by_hand = Event(time=w.now - 60, who="ann@desk", model="tiny", kind=STARTED, message="", details={"trigger": ""})
    w.control.events.append([by_hand])
    assert decide(ON, w.facts(ON)).is_due
    w.control.events.append([msgspec.structs.replace(by_hand, details={"trigger": "data drifted"})])
    assert "the last run was" in w.another().run_if_due("tiny").reason


def test_others_that_train_or_roll_out_are_waited_for(world):
    w = world()
    w.drifts()
    w.control.leases.acquire(lease_of("tiny"), "host:7", 60)
    assert w.triggers.run_if_due("tiny").reason.endswith("but it is being trained by host:7")
    w.control.leases.release(lease_of("tiny"), "host:7")
    plan = retrain_plan()
    rollout = Rollout(id="tiny-1", model="tiny", champion="1", challenger="2", plan=plan, created=w.now, created_by="ann")
    w.control.rollouts.commit(Change(model="tiny", rollout=rollout))
    assert w.triggers.run_if_due("tiny").reason.endswith("but tiny-1 is active")
    assert w.started == []


def retrain_plan():
    from ekiben.rollout.plan import default_plan

    return default_plan()


def test_new_truth_is_counted_since_the_champion_was_made(world):
    spec = RetrainSpec(enabled=True, truth_rows=2)
    w = world(spec)
    w.control.truths.report([Truth(model="tiny", request_id=f"r{n}", row=0, time=NOW - n * 20 * DAY_S, actual="yes") for n in range(1, 4)])
    assert w.facts(spec).truth_rows == 1
    w.control.truths.report([Truth(model="tiny", request_id="r9", row=0, time=NOW - DAY_S, actual="no")])
    assert w.triggers.run_if_due("tiny").is_due


def test_what_is_off_asks_for_nothing(world):
    w = world(RetrainSpec())
    w.drifts()
    assert not w.triggers.run_if_due("tiny").is_due
    assert w.triggers.run_if_due("none").reason == "none has no champion"


def test_what_the_models_folder_says_is_in_force_at_once(world, tmp_path):
    w = world(RetrainSpec())
    w.drifts()
    spec = msgspec.structs.replace(w.registry.resolve("tiny").artifact().spec, monitor=MonitorSpec(retrain=ON))
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    (tmp_path / "models" / "tiny" / "model.yaml").write_text(dump_spec(spec))
    triggers = RetrainTriggers(w.control, w.registry, wall=lambda: w.now, folder=tmp_path / "models", start=w._start)
    assert triggers.run_if_due("tiny").is_due


@pytest.mark.parametrize("is_stubborn", [False, True])
def test_stopping_ends_what_runs(world, is_stubborn):
    w = world()
    w.drifts()
    w.triggers.run_if_due("tiny")
    w.processes[0].is_stubborn = is_stubborn
    w.triggers.stop()
    assert (w.processes[0].code, len(w.processes[0].waited)) == (-15, 1)
    w.triggers.stop()
    assert len(w.processes[0].waited) == 1


def test_the_process_is_this_pythons_command(monkeypatch):
    seen = []
    monkeypatch.setattr(retrain_triggers.subprocess, "Popen", lambda command, **options: seen.append((command, options)))
    start_process("tiny", "data drifted")
    assert seen[0][0] == [sys.executable, "-m", "ekiben", "retrain", "tiny", "--trigger", "data drifted"]
    assert seen[0][1]["stdin"] == subprocess.DEVNULL
