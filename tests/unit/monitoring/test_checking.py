import msgspec
import pytest
from unit.monitoring.monitor_world import MODEL, MONITOR, SPEC, START, World

from ekiben.errors import LogError
from ekiben.monitoring.check_figures import figures_of
from ekiben.state.routes import Arm, Route, Shadow


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def checked(world, now=None):
    world.now = now or world.now
    return {(c.version, c.kind, c.arm): c for c in world.checker.check_if_due(world.watched.of(MODEL), world.now)}


def test_nothing_is_checked_before_there_is_enough(world):
    world.answer(99)
    assert checked(world) == {}
    world.answer(1)
    assert set(checked(world)) == {("v1", "drift", ""), ("v1", "quality", "")}


def test_checks_are_kept_and_say_what_they_looked_at(world):
    world.answer(600, truth=0.9)
    found = checked(world)
    drift, quality = found["v1", "drift", ""], found["v1", "quality", ""]
    assert (drift.outcome, drift.rows, drift.time, drift.until) == ("ok", 600, world.now, world.now - 2)
    assert (quality.outcome, quality.rows, quality.until - quality.since) == ("ok", 600, 7200)
    assert figures_of(quality).coverage.labelled == 600
    assert world.control.checks.latest(MODEL) == [drift, quality]


def test_what_drifted_and_what_is_worse_is_bad(world):
    world.answer(600, shift=1.5, truth=0.5)
    found = checked(world)
    assert {c.outcome for c in found.values()} == {"bad"}
    figures = figures_of(found["v1", "drift", ""])
    assert [c.name for c in figures.columns if c.drifted] == ["a"]
    assert figures_of(found["v1", "quality", ""]).metrics["accuracy"].value == pytest.approx(0.5, abs=0.1)


def test_the_next_check_looks_at_the_rows_since_the_last(world):
    world.answer(600, shift=1.5)
    first = checked(world)["v1", "drift", ""]
    world.answer(499)
    assert checked(world) == {}
    world.answer(1)
    second = checked(world)["v1", "drift", ""]
    assert (second.since, second.rows, second.outcome) == (first.until, 500, "ok")


def test_rows_too_few_to_tell_are_looked_at_with_the_next_ones(world):
    world.answer(600)
    checked(world)
    world.answer(50)
    few = checked(world, world.now + 600)["v1", "drift", ""]
    assert (few.outcome, few.rows) == ("unknown", 50)
    world.answer(70)
    more = checked(world, world.now + 600)["v1", "drift", ""]
    assert (more.outcome, more.rows, more.since) == ("ok", 120, few.since)


def test_rows_that_are_being_written_are_left_to_the_next_check(world):
    world.answer(600)
    world.now = START + 60 + 1
    found = checked(world)["v1", "drift", ""]
    assert found.rows == 590


def test_versions_on_trial_are_checked_too_a_shadow_by_what_it_computed(world):
    world.put_route(Route(arms=(Arm("challenger", "v2"),), shadows=(Shadow("v3"),)))
    world.log.add("v2", START, START + 60, 150, arm="challenger", shift=2)
    world.log.add("v3", START, START + 60, 250, arm="shadow")
    world.answer(600)
    found = checked(world)
    outcomes = {version: found[version, "drift", ""].outcome for version in ("v1", "v2", "v3")}
    assert outcomes == {"v1": "ok", "v2": "bad", "v3": "ok"}
    assert (found["v3", "drift", ""].rows, found["v1", "drift", ""].rows) == (250, 600)


def test_quality_is_told_apart_by_arm_and_by_segment(world, tmp_path):
    segmented = msgspec.structs.replace(SPEC, monitor=msgspec.structs.replace(MONITOR, segments=("a",)))
    world.register("v4", segmented)
    world.control.aliases.set(MODEL, "champion", "v4")
    world.answer(300, version="v4", truth=0.9)
    world.answer(300, version="v4", arm="pinned", truth=0.4)
    found = checked(world)
    assert {arm for _, kind, arm in found if kind == "quality"} == {"", "champion", "pinned"}
    assert (found["v4", "quality", "champion"].outcome, found["v4", "quality", "pinned"].outcome) == ("ok", "bad")
    segments = found["v4", "quality", ""].report["segments"]
    assert {part["segment"]["field"] for part in segments} == {"a"}
    assert sum(part["predictions"] for part in segments) == 600
    assert "segments" not in found["v4", "quality", "champion"].report


def test_ground_truth_that_comes_later_is_looked_at_without_new_predictions(world):
    world.answer(600)
    assert checked(world)["v1", "quality", ""].outcome == "unknown"
    assert checked(world, world.now + 600) == {}
    world.answer(600, truth=0.9, seconds=0.1)
    checked(world)
    assert checked(world, world.now + 700) == {}


def test_what_fails_is_not_tried_again_for_a_minute(world):
    world.answer(600)
    versions = world.watched.of(MODEL)
    read, world.log.read = world.log.read, failing(world)
    with pytest.raises(LogError):
        world.checker.check_if_due(versions, world.now)
    world.log.read = read
    assert world.checker.check_if_due(versions, world.now + 59) == []
    assert len(world.checker.check_if_due(versions, world.now + 60)) == 2


def failing(world):
    read = world.log.read

    def only_counts(model, *, columns=None, **window):
        if columns == ["time"]:
            return read(model, columns=columns, **window)
        raise LogError("the log is not there")

    return only_counts


def test_asked_by_a_person_it_checks_at_once(world):
    world.answer(5)
    found = world.checker.check(world.watched.of(MODEL), world.now)
    assert [(c.kind, c.outcome) for c in found] == [("drift", "unknown"), ("quality", "unknown")]
