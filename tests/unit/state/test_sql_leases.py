import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ekiben.state.leases import MemoryLeases
from ekiben.state.sql_leases import SqlLeases

_actions = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.sampled_from("ab"), st.sampled_from([1, 5])),
        st.tuples(st.just("release"), st.sampled_from("ab")),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 1, 5])),
    ),
    max_size=10,
)


@pytest.fixture(params=["memory", "sqlite"])
def leases(request, clock):
    return MemoryLeases(clock) if request.param == "memory" else SqlLeases(request.getfixturevalue("database"))


def test_a_lease_runs_out_when_its_time_is_over(leases, clock):
    assert leases.acquire("controller", "a", 5)
    clock.now += 4.9
    assert (leases.holder("controller"), leases.acquire("controller", "b", 5)) == ("a", False)
    assert leases.acquire("controller", "a", 5)
    clock.now += 4.9
    assert leases.holder("controller") == "a"
    clock.now += 0.1
    assert leases.holder("controller") is None
    assert leases.acquire("controller", "b", 5)
    assert not leases.acquire("controller", "a", 5)
    leases.release("controller", "a")
    assert leases.holder("controller") == "b"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=_actions)
def test_the_database_and_its_twin_answer_alike(new_database, clock, actions):
    database = new_database()
    real, twin = SqlLeases(database), MemoryLeases(clock)
    for action, *arguments in actions:
        if action == "wait":
            clock.now += arguments[0]
        elif action == "acquire":
            assert real.acquire("x", *arguments) == twin.acquire("x", *arguments)
        else:
            real.release("x", *arguments)
            twin.release("x", *arguments)
        assert real.holder("x") == twin.holder("x")
    database.close()
