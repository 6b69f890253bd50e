from __future__ import annotations

import pytest

from ekiben.state.routes import Arm, Kept, Shadow, SlotRange

HALF = (SlotRange(0, 5000, "challenger"),)
ON_TRIAL = {"rollout": "tiny-1", "arms": (Arm("challenger", "2"),)}


@pytest.fixture
def two(start, registry, tiny_artifact, another):
    """A server of tiny in the versions 1, the champion, 2 and 3."""
    registry.register(tiny_artifact.path, tag="tiny:1")
    for version in ("2", "3"):
        registry.register(another(tiny_artifact, version).path, tag=f"tiny:{version}")
    return start("tiny")


def weight(serving, version: str, arm: str) -> float | None:
    return serving.metrics.get_sample_value("ekiben_route_weight", {"model": "tiny", "version": version, "arm": arm})


def exposing(serving) -> set[tuple[str, str]]:
    """Versions and arms whose answers are kept to be joined with what really happened."""
    loaded = serving.server.host.snapshot.loaded
    return {(version, arm) for (_, version), served in loaded.items() for arm, record in served.record.arms.items() if record.exposes}


def shadows(serving, version: str = "1"):
    return serving.server.host.snapshot.loaded["tiny", version].record.shadows


def by_record(serving) -> dict:
    """Whom the champion's batches go to, and at what rate."""
    return {shadow.record: shadow.rate for shadow in shadows(serving)}


# weights ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_weights_are_those_of_the_route(two):
    assert (weight(two, "1", "champion"), weight(two, "2", "challenger")) == (100, None)
    two.route("tiny", **ON_TRIAL, slots=HALF)
    assert (weight(two, "1", "champion"), weight(two, "2", "challenger")) == (50, 50)
    # A version that is no champion has nothing of a champion's.
    assert weight(two, "2", "champion") == 0
    two.route("tiny", **ON_TRIAL)
    assert (weight(two, "1", "champion"), weight(two, "2", "challenger")) == (100, 0)


def test_arms_that_an_experiment_leaves_behind_have_no_weight(two):
    arms = (Arm("old", "1"), Arm("new", "2"))
    split = (SlotRange(0, 5000, "old"), SlotRange(5000, 10_000, "new"))
    two.route("tiny", rollout="tiny-1", arms=arms, slots=split, fallback=False)
    assert [weight(two, version, arm) for version, arm in (("1", "old"), ("2", "new"), ("1", "champion"))] == [50, 50, 0]
    # The second version stays loaded, with nothing to answer.
    two.route("tiny", kept=(Kept("2", 4e9),))
    assert [weight(two, version, arm) for version, arm in (("1", "old"), ("2", "new"), ("1", "champion"))] == [0, 0, 100]


def test_a_promotion_turns_the_weights(two, registry):
    two.route("tiny", **ON_TRIAL, slots=HALF)
    registry.aliases.set("tiny", "champion", "2")
    two.route("tiny")
    assert (weight(two, "2", "champion"), weight(two, "2", "challenger")) == (100, 0)
    # The former champion is gone, and so is its weight.
    assert weight(two, "1", "champion") == 0


def test_of_an_experiment_each_arm_has_its_weight(two):
    two.route("tiny", rollout="tiny-2", arms=(Arm("a", "1"), Arm("b", "3")), slots=(SlotRange(0, 2500, "a"), SlotRange(2500, 5000, "b")))
    assert (weight(two, "1", "a"), weight(two, "3", "b"), weight(two, "1", "champion")) == (25, 25, 50)


# exposures ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_answers_are_exposed_while_a_rollout_runs_and_no_longer(two):
    assert exposing(two) == set()
    two.route("tiny", **ON_TRIAL, slots=HALF)
    two.record("tiny", "1", "pinned")
    two.record("tiny", "1", "fallback")
    assert exposing(two) == {("1", "champion"), ("2", "challenger")}
    two.route("tiny", **ON_TRIAL, shadows=(Shadow("2"),))
    assert {("1", "champion"), ("2", "shadow")} <= exposing(two)
    assert not {("1", "pinned"), ("1", "fallback"), ("2", "champion")} & exposing(two)
    two.route("tiny", arms=ON_TRIAL["arms"])
    assert exposing(two) == set()


def test_an_arm_that_got_another_version(two):
    two.route("tiny", **ON_TRIAL, slots=HALF)
    two.route("tiny", rollout="tiny-2", arms=(Arm("challenger", "3"), Arm("kept", "2")), slots=HALF)
    assert exposing(two) == {("1", "champion"), ("3", "challenger"), ("2", "kept")}
    assert (weight(two, "2", "challenger"), weight(two, "3", "challenger")) == (0, 50)


# shadows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_champions_batches_go_to_its_shadows(two):
    assert shadows(two) == ()
    two.route("tiny", **ON_TRIAL, shadows=(Shadow("2", 0.5), Shadow("3")))
    assert by_record(two) == {two.record("tiny", "2", "shadow"): 0.5, two.record("tiny", "3", "shadow"): 1.0}
    assert shadows(two, "2") == ()


def test_a_shadow_that_stays_is_kept_and_another_rate_begins_it_anew(two):
    two.route("tiny", **ON_TRIAL, shadows=(Shadow("2", 0.5), Shadow("3")))
    before = {shadow.record: shadow for shadow in shadows(two)}
    two.route("tiny", **ON_TRIAL, shadows=(Shadow("2", 0.25), Shadow("3")))
    after = {shadow.record: shadow for shadow in shadows(two)}
    second, third = (two.record("tiny", version, "shadow") for version in ("2", "3"))
    assert by_record(two) == {second: 0.25, third: 1.0}
    assert after[third] is before[third]
    assert (before[second]._is_closed, before[third]._is_closed) == (True, False)


def test_a_shadow_that_goes_is_closed(two):
    two.route("tiny", **ON_TRIAL, shadows=(Shadow("2"),))
    (shadow,) = shadows(two)
    two.route("tiny", **ON_TRIAL, slots=HALF)
    assert shadows(two) == ()
    assert shadow._is_closed


def test_a_new_champion_has_the_shadows_and_the_former_one_none(two, registry):
    two.route("tiny", **ON_TRIAL, shadows=(Shadow("2"),))
    (shadow,) = shadows(two)
    registry.aliases.set("tiny", "champion", "3")
    two.route("tiny", shadows=(Shadow("2"), Shadow("1")))
    assert shadow._is_closed
    assert shadows(two, "1") == ()
    assert {s.record for s in shadows(two, "3")} == {two.record("tiny", v, "shadow") for v in ("2", "1")}


def test_the_stop_ends_all_shadows(two):
    two.route("tiny", **ON_TRIAL, shadows=(Shadow("2"),))
    (shadow,) = shadows(two)
    two.stop()
    assert shadow._is_closed


def test_a_champion_that_is_unloaded_ends_its_shadows(two, registry):
    two.route("tiny", **ON_TRIAL, shadows=(Shadow("2"),))
    (shadow,) = shadows(two)
    registry.loads.set("tiny", loaded=False)
    two.thread.run(two.server.host.refresh())
    assert shadow._is_closed
    assert weight(two, "1", "champion") == 0
