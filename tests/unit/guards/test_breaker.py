import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.errors import CircuitOpen
from ekiben.guards.breaker import CLOSED, HALF_OPEN, OPEN, Breaker
from ekiben.model.guard_spec import BreakerSpec

SPEC = BreakerSpec(error_rate=0.5, min_requests=10, window="10s", open_for="5s", probes=3)


class World:
    """A breaker, its clock and what it told."""

    def __init__(self, spec=SPEC):
        self.now = 1000.0
        self.changes = []
        self.breaker = Breaker(spec, lambda: self.now, self.changes.append)

    @property
    def state(self):
        return self.breaker.state

    def end(self, *results, queued=None):
        self.breaker.ended([(self.now if queued is None else queued, result) for result in results], self.now)

    def passes(self, deadline_s=1.0):
        if self.breaker.is_closed:
            return True
        try:
            self.breaker.admit(self.now + deadline_s)
        except CircuitOpen as e:
            self.refusal = e
            return False
        return True

    def broken(self):
        self.end(*[False] * 10)
        assert self.state == OPEN
        return self


@pytest.fixture
def world():
    return World()


def test_it_opens_at_the_share_of_failures_and_not_below(world):
    world.end(*[True] * 6, *[False] * 5)
    assert world.state == CLOSED
    assert world.passes()
    world.end(False)
    assert world.state == OPEN
    assert not world.breaker.is_closed
    (change,) = world.changes
    assert (change.before, change.after, change.answered, change.failed) == (CLOSED, OPEN, 6, 6)
    assert change.numbers == "6 of 12 requests failed within 10 s"


def test_so_few_requests_say_nothing(world):
    world.end(*[False] * 9)
    assert world.state == CLOSED
    world.end(False)
    assert world.state == OPEN


def test_whole_batches_count_as_answered(world):
    world.breaker.answered(11, world.now)
    world.end(*[False] * 10)
    assert world.state == CLOSED
    world.end(False)
    assert world.state == OPEN


def test_what_says_nothing_of_the_model_counts_for_nothing(world):
    world.end(*[None] * 100)
    world.end(*[False] * 9)
    assert world.state == CLOSED


def test_what_is_out_of_the_window_is_forgotten(world):
    world.end(*[False] * 9)
    world.now += 9
    world.breaker.answered(1, world.now)
    world.now += 2
    world.end(*[False] * 8)
    assert world.state == CLOSED, "of the first nine nothing is left"
    world.end(False)
    assert world.state == OPEN
    assert world.changes[0].failed == 9


def test_a_long_pause_forgets_everything(world):
    world.end(*[False] * 9)
    world.now += 12_345
    world.end(*[False] * 9)
    assert world.state == CLOSED


def test_one_that_is_disabled_never_opens():
    world = World(BreakerSpec(enabled=False, min_requests=1))
    world.end(*[False] * 1000)
    assert world.breaker.is_closed
    assert world.changes == []


def test_open_refuses_with_what_is_left_and_then_lets_probes_through(world):
    world.broken()
    world.now += 2
    assert not world.passes()
    assert world.refusal.retry_after_s == pytest.approx(3)
    assert "10 of 10 requests failed within 10 s" in str(world.refusal)
    assert "ask again in 3.0 s" in str(world.refusal)
    world.now += 3
    assert [world.passes() for _ in range(5)] == [True, True, True, False, False]
    assert world.state == HALF_OPEN
    assert 0 < world.refusal.retry_after_s <= 5


def test_it_closes_when_all_probes_are_answered(world):
    world.broken()
    world.now += 5
    assert world.passes()
    world.now += 0.1
    world.end(True, True)
    assert world.state == HALF_OPEN
    world.end(True)
    assert world.state == CLOSED
    assert world.breaker.is_closed
    assert [change.after for change in world.changes] == [OPEN, HALF_OPEN, CLOSED]
    world.end(*[False] * 9)
    assert world.state == CLOSED, "it begins to count anew"


def test_the_first_probe_that_fails_opens_it_again(world):
    world.broken()
    world.now += 5
    assert world.passes()
    world.end(True, False, True, True, True)
    assert world.state == OPEN
    assert world.changes[-1].numbers == "1 of 2 requests that tried it failed"
    assert not world.passes()
    world.now += 4.9
    assert not world.passes()
    world.now += 0.2
    assert world.passes()


def test_what_was_queued_before_says_nothing_of_how_it_is_now(world):
    old = world.now
    world.broken()
    world.end(*[False] * 5, *[True] * 5, queued=old)
    world.now += 5
    assert world.passes()
    world.end(False, True, True, True, True, queued=old)
    assert world.state == HALF_OPEN
    world.end(True, True, True)
    assert world.state == CLOSED


def test_a_probe_that_never_reached_the_model_gives_its_place_to_another(world):
    world.broken()
    world.now += 5
    assert [world.passes() for _ in range(4)] == [True, True, True, False]
    world.breaker.returned()
    assert [world.passes() for _ in range(2)] == [True, False]
    world.end(None)  # bad rows
    assert [world.passes() for _ in range(2)] == [True, False]
    for _ in range(9):
        world.breaker.returned()
    assert [world.passes() for _ in range(4)] == [True, True, True, False]


def test_a_place_that_is_given_back_too_often_makes_none(world):
    world.broken()
    world.breaker.returned()
    assert not world.passes()
    world.now += 5
    assert world.passes()
    world.end(True)
    for _ in range(5):
        world.breaker.returned()
    assert [world.passes() for _ in range(3)] == [True, True, False]


def test_probes_whose_clients_hang_up_are_lost_at_their_deadline_and_not_for_ever(world):
    world.broken()
    world.now += 5
    assert [world.passes(deadline_s=2) for _ in range(3)] == [True] * 3
    world.end(True)
    world.now += 1.9
    assert not world.passes()
    world.now += 0.2
    assert [world.passes() for _ in range(3)] == [True, True, False]


def test_a_problem_is_told_as_long_as_it_is_open_and_not_when_nobody_asks_any_more(world):
    assert world.breaker.problem() == ""
    world.broken()
    world.now += 6
    assert world.breaker.problem() == "10 of 10 requests failed within 10 s"
    world.now += 2
    assert world.breaker.problem() == ""
    assert world.passes()
    assert world.breaker.problem() == "10 of 10 requests failed within 10 s"
    world.end(True, True, True)
    assert world.breaker.problem() == ""


@given(
    steps=st.lists(st.tuples(st.floats(0, 4), st.lists(st.sampled_from([True, False, None]), max_size=8), st.integers(0, 4)), max_size=40)
)
def test_it_is_closed_only_while_the_window_is_good_and_never_more_than_the_probes_pass(steps):
    """Against a plain list of all that ended."""
    world = World()
    ended = []
    for pause, results, asked in steps:
        world.now += pause
        before = world.state
        passed = sum(world.passes() for _ in range(asked)) if before != CLOSED else 0
        assert passed <= SPEC.probes
        if world.state == CLOSED:
            ended += [(world.now, r) for r in results if r is not None]
            world.end(*results)
            # The slots are a second each: what is just at the edge may be in or out.
            surely = [r for at, r in ended if int(at) > int(world.now) - 10]
            bad = surely.count(False) >= 5 and len(surely) >= 10 and surely.count(False) >= len(surely) / 2
            assert (world.state == OPEN) == (bad and False in results)
        else:
            world.end(*results)
        if world.state != CLOSED:
            ended = []
