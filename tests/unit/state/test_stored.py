import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.errors import StateError
from ekiben.model.rollout_spec import AnalysisSpec, MetricSpec, PauseSpec, PlanSpec, StepSpec
from ekiben.state.rollouts import Rollout
from ekiben.state.routes import Arm, Route
from ekiben.state.stored import bounded, decoded, encoded, merged, plain

PLAN = PlanSpec(steps=(StepSpec(set_weight=5), StepSpec(pause=PauseSpec())), analysis=AnalysisSpec(metrics=(MetricSpec(name="drift"),)))
ROLLOUT = Rollout(id="m-1", model="m", champion="1", challenger="2", plan=PLAN, created=1.0, created_by="me", arms=(Arm("a", "1"),))


class Tree(msgspec.Struct, forbid_unknown_fields=True):
    leaves: dict[str, StepSpec] = {}
    one: StepSpec | None = None
    several: tuple[StepSpec, ...] | str = ()
    listed: list[int] = []


def of_a_newer_version(value=ROLLOUT):
    raw = msgspec.json.decode(encoded(value))
    raw["mood"] = "new"
    raw["plan"]["mood"] = {"a": 1}
    raw["plan"]["steps"][0]["mood"] = [1]
    raw["plan"]["analysis"]["metrics"][0]["mood"] = None
    return raw


def test_what_is_written_is_read_again():
    assert decoded(encoded(ROLLOUT), Rollout) == ROLLOUT
    assert decoded(encoded(Route(arms=(Arm("a", "1"),))), Route) == Route(arms=(Arm("a", "1"),))


def test_fields_that_only_a_newer_version_knows_are_left_out():
    assert decoded(encoded(of_a_newer_version()), Rollout) == ROLLOUT
    raw = {"leaves": {"x": {"setWeight": 5, "new": 1}}, "one": {"pause": {"new": 1}}, "several": [{"new": 1}], "listed": [1], "new": 1}
    assert decoded(encoded(raw), Tree) == Tree({"x": StepSpec(set_weight=5)}, StepSpec(pause=PauseSpec()), (StepSpec(),), [1])
    assert decoded(encoded({"several": "text", "new": 1}), Tree) == Tree(several="text")


def test_a_change_by_an_older_version_loses_nothing_that_a_newer_one_wrote():
    raw = of_a_newer_version()
    moved = msgspec.structs.replace(ROLLOUT, status="RolledBack", revision=2, arms=())
    after = msgspec.json.decode(merged(encoded(raw), moved))
    assert after == {**raw, "status": "RolledBack", "revision": 2, "arms": []}
    another = msgspec.structs.replace(moved, plan=PlanSpec(steps=()))
    assert msgspec.json.decode(merged(encoded(raw), another))["plan"] == {"steps": []}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id": 7}', encoded({**of_a_newer_version(), "status": "Dreaming"})])
def test_what_is_nothing_of_the_kind_is_an_error(text):
    with pytest.raises(StateError, match=r"has a Rollout that cannot be read: .*; a newer Ekiben may have written it"):
        decoded(text, Rollout)


@given(st.text(st.characters()))
def test_plain_text_is_taken_by_every_database(text):
    cleaned = plain(text)
    assert "\0" not in cleaned.encode().decode()
    assert plain(cleaned) == cleaned
    assert bounded(text) == bounded(cleaned)


@given(st.text(min_size=150, max_size=300), st.text(min_size=1, max_size=3))
def test_long_texts_stay_different_when_they_are_shortened(text, more):
    assert len(bounded(text)) <= 233
    assert bounded(text + more) != bounded(text)
