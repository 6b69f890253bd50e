import msgspec

from ekiben.state.rollouts import Change
from ekiben.state.routes import Arm, Route
from ekiben.state.schema import ROUTES
from ekiben.state.sql_control import sql_control


def test_routes_are_read_by_model_and_all_together(database):
    control = sql_control(database)
    routes = {model: Route(arms=(Arm("challenger", model),)) for model in ("n", "m")}
    for model, route in routes.items():
        control.rollouts.commit(Change(model=model, route=route))
    assert list(control.routes.all()) == ["m", "n"]
    assert control.routes.all() == routes
    assert (control.routes.get("n"), control.routes.get("none"), control.routes.generation()) == (routes["n"], None, 2)


def test_a_route_that_a_newer_version_wrote_is_followed_as_far_as_it_is_known(database):
    control = sql_control(database)
    control.rollouts.commit(Change(model="m", route=Route(salt="s")))
    raw = {**msgspec.to_builtins(Route(salt="s", arms=(Arm("challenger", "2"),))), "mood": "new"}
    with database.writing() as connection:
        connection.execute(ROUTES.update().values(route=msgspec.json.encode(raw).decode()))
    assert control.routes.get("m") == Route(salt="s", arms=(Arm("challenger", "2"),))
