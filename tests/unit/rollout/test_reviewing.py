import pytest
from unit.rollout.world import ANALYSIS, MODEL, World, plan

from ekiben.rollout.reviewing import Reviewer, first_second, is_measured
from ekiben.rollout.standing import standing_of
from ekiben.state.truth import Exposure, Truth


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


class Counting:
    """Counts how often it is asked."""

    def __init__(self, ask):
        self.ask, self.n = ask, 0

    def __call__(self, *arguments):
        self.n += 1
        return self.ask(*arguments)


def reviewer_of(world):
    return Reviewer(world.control, world.registry, lambda spec: None)


def test_nothing_is_read_while_nothing_is_due(world):
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "1h"}, analysis={**ANALYSIS, "interval": "10s"}))
    world.pass_time(30)
    sums = world.control.windows.sum = Counting(world.control.windows.sum)
    found = world.control.measurements.find = Counting(world.control.measurements.find)
    world.pass_time(20)
    assert sums.n == 2
    assert found.n == 0


def test_a_metric_that_does_not_apply_is_asked_for_once_an_interval_and_holds_nothing(world):
    analysis = {"interval": "5s", "metrics": [{"name": "errorRate"}, {"name": "agreement"}, {"name": "quality"}], "minRequests": 20}
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "20s"}, analysis=analysis))
    joined = world.control.truths.joined = Counting(world.control.truths.joined)
    world.pass_time(15)
    assert 1 <= joined.n <= 4
    assert {m.metric for m in world.control.measurements.find("tiny-1")} == {"errorRate"}
    world.pass_time(15)
    assert world.rollout.status == "Completed"


def test_quality_counts_as_soon_as_there_is_truth(world):
    analysis = {"interval": "1s", "metrics": [{"name": "quality", "metric": "accuracy"}], "minRequests": 20}
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 50}, {"pause": "1h"}, analysis=analysis))
    world.pass_time(3)
    exposures, truths = [], []
    for n in range(2000):
        version, arm = ("v1", "champion") if n % 2 else ("v2", "challenger")
        exposure = Exposure(model=MODEL, request_id=f"r{n}", row=0, version=version, arm=arm, key=f"k{n}", time=world.now, prediction="yes")
        exposures.append(exposure)
        truths.append(Truth(model=MODEL, request_id=f"r{n}", row=0, time=world.now, actual="yes" if n % 2 else "no"))
    world.control.truths.expose(exposures)
    world.control.truths.report(truths)
    world.pass_time(3)
    assert world.rollout.status == "RolledBack"
    assert "quality" in world.rollout.message


def test_without_the_version_in_its_store_errors_are_still_watched(world, caplog):
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "1h"}))
    (world.registry.folder_of("tiny:v2") / "artifact.json").write_text("{")
    world.pass_time(3)
    world.error_rates["v2"] = 0.9
    world.pass_time(5)
    assert world.rollout.status == "RolledBack"
    assert "the quality of tiny:v2 is not measured" in caplog.text


def test_another_process_reads_what_was_measured(world):
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "1h"}))
    world.pass_time(10)
    at = standing_of(world.control, world.rollout)
    assert reviewer_of(world).passes(at)
    review = reviewer_of(world).review(at, world.now)
    assert review.fresh == ()
    assert review.verdict.outcome == "Successful"


def test_nothing_is_measured_without_a_stage_or_anybody_sent_there(world):
    world.operations().start(MODEL, "v2", plan=plan({"pause": {}}, {"setWeight": 0}, {"pause": {}}))
    world.pass_time(2)
    assert not is_measured(standing_of(world.control, world.rollout))
    world.operations().promote(MODEL)
    world.pass_time(2)
    assert world.rollout.stage == 1
    assert not is_measured(standing_of(world.control, world.rollout))


def test_the_second_of_a_change_and_the_one_after_are_left_out():
    assert [first_second(t) for t in (100.0, 100.01, 100.99, 101.0)] == [101, 102, 102, 102]
