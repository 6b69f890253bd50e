import msgspec
import pytest

from ekiben.model.rollout_spec import PlanSpec, StepSpec
from ekiben.state.rollouts import Change, Rollout
from ekiben.state.routes import Route
from ekiben.state.schema import ROLLOUTS
from ekiben.state.sql_control import sql_control
from ekiben.state.stored import encoded

ROLLOUT = Rollout(
    id="m-1", model="m", champion="1", challenger="2", plan=PlanSpec(steps=(StepSpec(set_weight=5),)), created=1.0, created_by="me"
)


def test_who_asks_sees_the_columns_people_query(database):
    control = sql_control(database)
    kept = control.rollouts.commit(Change(model="m", rollout=ROLLOUT)).rollout
    control.rollouts.commit(Change(model="m", rollout=msgspec.structs.replace(kept, status="Completed", step=1, ended=9.0)))
    [row] = database.read(ROLLOUTS.select())
    assert (row.id, row.model, row.kind, row.champion, row.challenger) == ("m-1", "m", "rollout", "1", "2")
    assert (row.status, row.step, row.created, row.ended, row.revision) == ("Completed", 1, 1.0, 9.0, 2)


def test_what_a_newer_version_wrote_is_read_and_survives_a_change(database):
    control = sql_control(database)
    kept = control.rollouts.commit(Change(model="m", rollout=ROLLOUT)).rollout
    raw = msgspec.json.decode(encoded(kept))
    raw["plan"]["mood"] = "new"
    with database.writing() as connection:
        connection.execute(ROLLOUTS.update().values(body=encoded(raw)))
    assert control.rollouts.get("m-1") == kept
    control.rollouts.commit(Change(model="m", rollout=msgspec.structs.replace(kept, status="RolledBack")))
    [row] = database.read(ROLLOUTS.select())
    assert msgspec.json.decode(row.body) == {**raw, "status": "RolledBack", "revision": 2}


def test_a_change_that_fails_half_way_leaves_nothing(database):
    control = sql_control(database)
    bad = msgspec.structs.replace(ROLLOUT, message="\ud800")
    with pytest.raises(UnicodeEncodeError):
        control.rollouts.commit(Change(model="m", rollout=bad, route=Route(), aliases={"champion": "1"}))
    assert (control.generation(), control.rollouts.find(), control.routes.all()) == ((0, 0, 0), [], {})
