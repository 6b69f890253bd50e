from __future__ import annotations

import getpass
import json
import os
import signal
import socket
import sys

import pytest
from unit.admin_world import run
from unit.monitoring.logged import DAY_S
from unit.monitoring.retrain_world import N, RetrainWorld

from ekiben.cli.retrain import labelled_rows, shadow_first
from ekiben.errors import RetrainingError
from ekiben.monitoring.training_window import window_of
from ekiben.rollout.plan import default_plan, plan_from_builtins
from ekiben.settings import load_settings
from ekiben.state.truth import Truth


@pytest.fixture
def world(tmp_path, tiny_artifact, monkeypatch):
    """The commands use this world; the training script is a function that says something meanwhile."""
    made = RetrainWorld(tmp_path, tiny_artifact)

    def run_script(module, data, *, tell):
        tell("✓ Learnt")
        return made.train(module, data)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ekiben.registry.open_registry", lambda settings, control: made.registry)
    monkeypatch.setattr("ekiben.state.opening.open_control", lambda settings: made.control)
    monkeypatch.setattr("ekiben.cli.retrain.labelled_rows", lambda settings, control: made.rows)
    monkeypatch.setattr("ekiben.monitoring.training_script.run_script", run_script)
    monkeypatch.setattr("time.time", lambda: made.now)
    return made


def test_a_better_version_goes_on_trial_in_shadow(world):
    done = run("retrain", "tiny")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("tiny:2 was trained anew and is better: f1 is 1.0000")
    assert ["trained", "on", "1,920", "rows"] in [line.split() for line in lines]
    assert ["rows", "answered", "2,400,", "100.0%", "with", "ground", "truth"] in [line.split() for line in lines]
    assert lines[-1] == "tiny-1 started, in shadow; watch it: ekiben rollout status tiny --watch"
    assert done.stderr == "✓ Learnt\n"
    rollout = world.control.rollouts.get("tiny-1")
    assert (rollout.champion, rollout.challenger) == ("1", "2")
    assert rollout.created_by == f"{getpass.getuser()}@{socket.gethostname()}"
    assert rollout.plan == default_plan()
    assert world.control.aliases.get("tiny") == {"champion": "1", "challenger": "2"}


def test_a_version_that_is_not_better_is_no_error_and_goes_nowhere(world):
    world.makes = (-1, 0, 0)
    done = run("retrain", "tiny")
    assert "not better: f1 is" in done.stdout
    assert "no rollout starts" in done.stdout
    assert world.control.rollouts.find() == []
    assert world.control.aliases.get("tiny") == {"champion": "1"}


def test_machines_get_json_and_nothing_else(world):
    found = json.loads(run("retrain", "tiny", "--json").stdout)
    assert (found["outcome"], found["rollout"], found["comparison"]["is_better"]) == ("better", "tiny-1", True)
    world.makes = (-1, 0, 0)
    rejected = json.loads(run("retrain", "tiny", "--json", "--no-rollout").stdout)
    assert (rejected["outcome"], rejected["rollout"]) == ("rejected", None)


def test_without_a_rollout_the_way_to_one_is_shown(world):
    assert run("retrain", "tiny", "--no-rollout").stdout.splitlines()[-1] == "try it: ekiben rollout start tiny --to 2"
    assert world.control.rollouts.find() == []


def test_a_dry_run_trains_nothing(world):
    done = run("retrain", "tiny", "--dry-run", "--window", "30d")
    assert done.stdout.startswith("600 rows of tiny were answered")
    assert json.loads(run("retrain", "tiny", "--dry-run", "--json").stdout)["answered"] == N
    assert world.learnt == []


def test_until_a_day_or_a_moment(world):
    run("retrain", "tiny", "--dry-run", "--until", "2025-01-01", "--window", "50d")
    run("retrain", "tiny", "--dry-run", "--until", "2025-01-01T01:00:00+01:00", "--window", "50d")
    assert world.rows.asked[0] == world.rows.asked[1] == ("tiny", 1_735_689_600.0 - 50 * DAY_S, 1_735_689_600.0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--until", "soon"), "'soon' is neither a duration"),
        (("--window", "long"), "'long' is no duration"),
        (("--window", "0d"), "is 0; it must be longer"),
    ],
)
def test_wrong_usage(world, arguments, text):
    assert text in run("retrain", "tiny", *arguments, code=2).stderr


def test_what_is_active_is_refused_before_anything_is_trained(world):
    run("retrain", "tiny")
    refused = run("retrain", "tiny", code=1)
    assert "tiny-1 is active" in refused.stderr
    assert len(world.learnt) == 1
    run("retrain", "tiny", "--no-rollout")
    assert len(world.learnt) == 2


def test_a_trigger_is_named_and_no_person(world):
    run("retrain", "tiny", "--trigger", "data drifted in 3 checks in a row")
    [started, *_, rollout] = world.control.events.find(model="tiny")
    assert (started.who, started.details["trigger"]) == ("monitor", "data drifted in 3 checks in a row")
    assert rollout.who == "monitor"


def test_sigterm_ends_it_and_is_among_the_events(world, monkeypatch):
    def run_script(module, data, *, tell):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("ekiben.monitoring.training_script.run_script", run_script)
    before = signal.getsignal(signal.SIGTERM)
    run("retrain", "tiny", code=143)
    assert signal.getsignal(signal.SIGTERM) == before
    assert world.control.events.find(model="tiny")[-1].message == "training anew failed: it was stopped"


def test_a_plan_without_a_shadow_gets_one_first():
    own = plan_from_builtins({"steps": [{"setWeight": 10}, {"pause": "1h"}]}, file="plan")
    assert shadow_first(own).steps == (*default_plan().steps[:2], *own.steps)
    assert shadow_first(own).analysis == own.analysis
    begins = plan_from_builtins({"steps": ["shadow", {"pause": "1h"}, {"setWeight": 10}]}, file="plan")
    assert shadow_first(begins) == begins


def test_a_plan_without_steps_gets_the_shadow_too():
    assert shadow_first(plan_from_builtins({"steps": [{"setWeight": 100}]}, file="plan")).steps[0].shadow is not None


def test_without_what_reads_the_log_it_says_what_to_install(world, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "ekiben.monitoring.log_reader", None)
    with pytest.raises(RetrainingError, match=r"reads the log, is not installed; `pip install 'ekiben\[monitor,train\]'`"):
        labelled_rows(load_settings(), world.control)


def test_rows_are_the_log_with_its_truth(world, monkeypatch, tmp_path):
    monkeypatch.undo()
    rows = labelled_rows(load_settings({"EKIBEN_HOME": str(tmp_path / "home")}), world.control)
    world.control.truths.report([Truth(model="tiny", request_id="r", row=0, time=1.0, actual="yes")])
    with pytest.raises(RetrainingError, match="answered nothing"):
        window_of(rows, world.spec, since=0, until=1)
