import msgspec
import pytest

from ekiben.errors import RolloutChanged
from ekiben.model.rollout_spec import PlanSpec, StepSpec
from ekiben.state.rollouts import ACTIVE, Rollout, check_revision
from ekiben.state.routes import Arm, Kept, Route, Shadow, SlotRange

ROLLOUT = Rollout(
    id="m-1", model="m", champion="1", challenger="2", plan=PlanSpec(steps=(StepSpec(set_weight=5),)), created=1.0, created_by="me"
)


def test_a_rollout_is_active_while_it_has_something_to_do():
    states = ("Progressing", "Paused", "Completed", "RolledBack", "Aborted")
    assert [s for s in states if msgspec.structs.replace(ROLLOUT, status=s).is_active] == list(ACTIVE)


@pytest.mark.parametrize(("there", "wanted"), [(None, 1), (1, 0), (2, 1), (1, 2)])
def test_another_revision_is_refused(there, wanted):
    kept = None if there is None else msgspec.structs.replace(ROLLOUT, revision=there)
    with pytest.raises(RolloutChanged, match="ekiben rollout status m"):
        check_revision(msgspec.structs.replace(ROLLOUT, revision=wanted), kept, [])


def test_another_active_one_is_refused_unless_the_wanted_one_is_over():
    other = msgspec.structs.replace(ROLLOUT, id="m-0")
    with pytest.raises(RolloutChanged, match="m-0 is active; end it first"):
        check_revision(ROLLOUT, None, [other])
    check_revision(msgspec.structs.replace(ROLLOUT, status="Aborted"), None, [other])
    check_revision(ROLLOUT, None, [ROLLOUT, msgspec.structs.replace(other, model="n"), msgspec.structs.replace(other, status="Aborted")])


def test_a_route_says_weights_and_what_is_loaded():
    route = Route(
        arms=(Arm("challenger", "2"),),
        slots=(SlotRange(0, 10, "challenger"), SlotRange(500, 990, "challenger"), SlotRange(10, 20, "b")),
        shadows=(Shadow("3"),),
        kept=(Kept("0", 9.0),),
    )
    assert (route.weight("challenger"), route.weight("b"), route.weight("none")) == (5.0, 0.1, 0)
    assert route.versions() == {"0", "2", "3"}
