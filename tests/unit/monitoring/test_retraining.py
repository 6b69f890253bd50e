from __future__ import annotations

import msgspec
import numpy as np
import pytest
from unit.monitoring.logged import DAY_S
from unit.monitoring.retrain_world import DAYS, START, N, RetrainWorld

from ekiben.errors import RetrainingError, VersionNotFound
from ekiben.model import InputSpec
from ekiben.model.monitor_spec import MonitorSpec, RetrainSpec
from ekiben.model.rollout_spec import QualitySpec
from ekiben.model.spec import dump_spec
from ekiben.monitoring.retraining import compared, lease_of, refuse_active
from ekiben.monitoring.training_window import window_of
from ekiben.monitoring.watched import WatchedVersions
from ekiben.rollout.plan import default_plan
from ekiben.state.rollouts import Change, Rollout


@pytest.fixture
def world(tmp_path, tiny_artifact):
    return lambda **changed: RetrainWorld(tmp_path, tiny_artifact, **changed)


def test_a_better_version_is_registered_and_said_to_be_better(world):
    w = world()
    done = w.retraining().run("tiny", trigger="data drifted")
    assert (done.outcome, done.champion, done.challenger) == ("better", "1", "2")
    assert (done.answered, done.rows, done.held_back, done.labelled_share) == (N, N * 4 // 5, N // 5, 1.0)
    assert done.comparison.metric == "f1"
    assert (done.comparison.challenger, done.comparison.pieces) == (1.0, DAYS // 5)
    assert done.message.startswith("tiny:2 was trained anew and is better: f1 is 1.0000")
    assert w.events() == ["retrain_started", "retrain_finished"]
    [started, finished] = w.control.events.find(model="tiny")
    assert (started.message, started.details) == (
        "training anew was started because data drifted",
        {"trigger": "data drifted", "champion": "1"},
    )
    assert (finished.who, finished.details["challenger"], finished.details["comparison"]["metric"]) == ("ann@desk", "2", "f1")
    assert w.control.leases.holder(lease_of("tiny")) is None


@pytest.mark.parametrize("makes", [(1, 1, -1), (0, 1, 0)])
def test_a_version_that_is_not_better_than_a_good_champion_is_rejected_and_stays(world, makes):
    w = world(champion=(1, 1, -1))
    w.makes = makes
    done = w.retraining().run("tiny")
    assert done.outcome == "rejected"
    assert done.message.endswith("it stays registered, and no rollout starts")
    assert w.registry.has("tiny", "2")
    assert w.control.aliases.get("tiny") == {"champion": "1"}
    assert w.events() == ["retrain_started", "retrain_rejected"]


def test_the_margin_of_the_spec_must_be_passed(world):
    w = world()
    low = w.retraining().run("tiny").comparison.low
    strict = MonitorSpec(min_rows=100, retrain=RetrainSpec(margin=low + 1e-6))
    w.spec = msgspec.structs.replace(w.spec, monitor=strict)
    w.register("9", (1, 0, 0))
    w.control.aliases.set("tiny", "champion", "9")
    assert w.retraining().run("tiny").outcome == "rejected"


def test_the_script_sees_nothing_of_what_judges(world):
    w = world()
    w.retraining().run("tiny")
    [(module, rows)] = w.learnt
    assert module == "training.tiny"
    assert rows.n == N * 4 // 5
    judged_from = START + DAYS * DAY_S * 4 / 5
    assert rows.times.max() < np.datetime64(int(judged_from), "s")


def test_the_rows_say_where_they_are_from(world):
    w = world()
    w.retraining().run("tiny", window_s=100 * DAY_S, until=START + 110 * DAY_S)
    [(_, rows)] = w.learnt
    lineage = dict(rows.lineage)
    assert lineage.pop("data_sha256") == rows.fingerprint()
    assert lineage == {
        "retrained_from": "tiny:1",
        "since": "2024-10-14T00:00:00+00:00",
        "until": "2025-01-22T00:00:00+00:00",
        "answered": 2000,
        "labelled_share": 1.0,
        "held_back": 400,
        "trigger": "by hand",
    }


def test_the_module_and_the_window_are_those_of_the_spec(world):
    w = world()
    w.spec = msgspec.structs.replace(w.spec, monitor=MonitorSpec(min_rows=10, retrain=RetrainSpec(module="mine.train", window="30d")))
    w.register("7", (1, 0, 0))
    w.control.aliases.set("tiny", "champion", "7")
    w.retraining().run("tiny")
    assert w.learnt[0][0] == "mine.train"
    assert w.rows.asked == [("tiny", w.now - 30 * DAY_S, w.now)]


def test_the_metric_is_the_specs(world):
    assert world(quality=QualitySpec(metric="log_loss")).retraining().run("tiny").comparison.metric == "log_loss"


def test_a_look_trains_nothing_and_leaves_no_trace(world):
    w = world()
    found = w.retraining().look("tiny")
    assert (found.outcome, found.challenger, found.rows) == ("dry_run", None, N * 4 // 5)
    assert found.message.startswith("2,400 rows of tiny were answered from 2024-10-04T00:00:00+00:00 to 2025-02-01")
    assert w.events() == []
    assert w.learnt == []


def test_two_do_not_train_a_model_at_once(world):
    w = world()

    def train(module, file):
        with pytest.raises(RetrainingError, match="tiny is being trained anew by desk:1"):
            w.retraining(holder="desk:2").run("tiny")
        return w.train(module, file)

    assert w.retraining(train=train).run("tiny").outcome == "better"
    assert w.events() == ["retrain_started", "retrain_finished"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RetrainingError("training.tiny failed: no"), "training anew failed: training.tiny failed: no"),
        (ValueError("no"), "training anew failed: ValueError: no"),
        (KeyboardInterrupt(), "training anew failed: it was stopped"),
    ],
)
def test_what_fails_is_among_the_events_and_frees_the_lease(world, error, text):
    w = world()

    def train(module, file):
        raise error

    with pytest.raises(type(error)):
        w.retraining(train=train).run("tiny", trigger="age")
    failed = w.control.events.find(model="tiny")[-1]
    assert (failed.kind, failed.message, failed.details) == ("retrain_failed", text, {"trigger": "age"})
    assert w.control.leases.holder(lease_of("tiny")) is None


def test_too_few_rows_are_a_failure_too(world):
    w = world()
    with pytest.raises(RetrainingError, match=r"400 rows with ground truth .* 500 are needed"):
        w.retraining().run("tiny", window_s=20 * DAY_S)
    assert w.events() == ["retrain_started", "retrain_failed"]


@pytest.mark.parametrize("tag", ["tiny:1", "plane:1"])
def test_a_script_must_make_a_new_version_of_the_model(world, plane_artifact, tag):
    w = world()
    w.registry.register(plane_artifact.path, tag="plane:1")
    with pytest.raises(RetrainingError, match=f"says that it made {tag}; it must make a new version of tiny"):
        w.retraining(train=lambda module, file: tag).run("tiny")


def test_a_model_that_there_is_not(world):
    w = world()
    with pytest.raises(VersionNotFound):
        w.retraining().run("none")
    assert w.events() == []


def test_what_the_models_folder_says_is_in_force_at_once(world, tmp_path):
    w = world()
    monitor = MonitorSpec(min_rows=10, retrain=RetrainSpec(module="mine.train", window="30d"))
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    (tmp_path / "models" / "tiny" / "model.yaml").write_text(dump_spec(msgspec.structs.replace(w.spec, monitor=monitor)))
    w.retraining(folder=tmp_path / "models").run("tiny")
    assert w.learnt[0][0] == "mine.train"
    assert w.rows.asked == [("tiny", w.now - 30 * DAY_S, w.now)]


def test_versions_that_take_other_inputs_cannot_be_compared(world):
    w = world()
    held = window_of(w.rows, w.spec, since=0, until=w.now).table
    [champion] = WatchedVersions(w.control, w.registry, None).of("tiny")
    inputs = (*w.spec.inputs[:3], InputSpec(name="d2", type="float"))
    w.spec = msgspec.structs.replace(w.spec, inputs=inputs)
    artifact = w._artifact
    golden = [{("d2" if name == "d" else name): value for name, value in row.items()} for row in artifact.golden_rows().rows]
    w._artifact = type("Other", (), {"path": artifact.path, "manifest": artifact.manifest, "golden_rows": lambda s: Golden(golden)})()
    w.register("5", (1, 0, 0))
    with pytest.raises(RetrainingError, match="tiny:5 does not take the inputs that the champion takes"):
        compared(champion, w.registry.resolve("tiny:5"), held, w.registry.policy)


class Golden(msgspec.Struct):
    rows: list


def test_what_is_active_is_refused_with_what_to_do(world):
    w = world()
    refuse_active(w.control, "tiny")
    rollout = Rollout(id="tiny-1", model="tiny", champion="1", challenger="2", plan=default_plan(), created=w.now, created_by="ann")
    w.control.rollouts.commit(Change(model="tiny", rollout=rollout))
    with pytest.raises(RetrainingError, match=r"tiny-1 is active.*`ekiben rollout abort tiny`.*--no-rollout"):
        refuse_active(w.control, "tiny")
    refuse_active(w.control, "other")
