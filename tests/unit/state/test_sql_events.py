from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ekiben.state.events import Event, MemoryEvents
from ekiben.state.sql_events import SqlEvents

_events = st.builds(
    Event,
    time=st.floats(0, 9),
    who=st.text(max_size=3).filter(lambda t: "\0" not in t),
    model=st.sampled_from("mn"),
    rollout=st.sampled_from(["", "m-1"]),
    kind=st.sampled_from(["step", "paused"]),
    message=st.just("on we go"),
    details=st.dictionaries(st.text(max_size=2), st.integers(-9, 9), max_size=2),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    appended=st.lists(st.lists(_events, max_size=3), max_size=4),
    model=st.sampled_from([None, "m"]),
    rollout=st.sampled_from([None, "", "m-1"]),
    kind=st.sampled_from([None, "step"]),
    after=st.integers(0, 5),
    limit=st.integers(0, 4),
)
def test_the_database_and_its_twin_answer_alike(new_database, appended, model, rollout, kind, after, limit):
    database = new_database()
    real, twin = SqlEvents(database), MemoryEvents()
    for events in appended:
        assert real.append(events) == twin.append(events)
    wanted = {"model": model, "rollout": rollout, "kind": kind, "after": after, "limit": limit}
    assert real.find(**wanted) == twin.find(**wanted)
    assert real.find() == twin.find()
    database.close()
