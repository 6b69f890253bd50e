from ekiben.state import memory_control
from ekiben.state.rollouts import Change
from ekiben.state.routes import Route


def test_the_generation_changes_with_aliases_with_loads_and_with_routes():
    control = memory_control()
    seen = [control.generation()]
    control.aliases.set("flight_delay", "champion", "1")
    seen.append(control.generation())
    for _ in range(2):  # asking again is a change too
        control.loads.set("flight_delay", loaded=False)
        seen.append(control.generation())
    control.rollouts.commit(Change(model="flight_delay", route=Route()))
    seen.append(control.generation())
    assert len(set(seen)) == 5
