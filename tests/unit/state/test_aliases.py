from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ekiben.state import MemoryAliases
from ekiben.state.sql_aliases import SqlAliases

_words = st.sampled_from(["a", "b"])
_changes = st.lists(
    st.one_of(
        st.tuples(st.just("set"), _words, _words, st.sampled_from(["1", "2"]), st.booleans()),
        st.tuples(st.just("remove"), _words, _words),
    ),
    max_size=8,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=_changes, number=st.integers(min_value=0))
def test_the_database_and_its_twin_answer_alike_after_any_changes(new_database, changes, number):
    database = new_database()
    real, twin = SqlAliases(database), MemoryAliases()
    for change in changes:
        before = twin.generation()
        if change[0] == "set":
            _, model, alias, version, replace = change
            answers = [a.set(model, alias, version, replace=replace) for a in (real, twin)]
        else:
            answers = [a.remove(*change[1:]) for a in (real, twin)]
        assert answers[0] == answers[1]
        assert (twin.generation() > before) == answers[1]
        assert real.generation() == twin.generation()
        assert real.all() == twin.all()
        assert real.get("a") == twin.get("a") == twin.all().get("a", {})
    database.close()
