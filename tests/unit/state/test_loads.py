from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ekiben.state import MemoryLoads
from ekiben.state.sql_loads import SqlLoads


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.sampled_from(["a", "b"]), st.booleans()), max_size=8))
def test_the_database_and_its_twin_answer_alike_after_any_changes(new_database, changes):
    database = new_database()
    real, twin = SqlLoads(database), MemoryLoads()
    for n, (model, loaded) in enumerate(changes, start=1):
        real.set(model, loaded=loaded)
        twin.set(model, loaded=loaded)
        assert real.generation() == twin.generation() == n
        assert real.all() == twin.all() == dict(sorted(dict(changes[:n]).items()))
    database.close()
