import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.guards.in_loop import in_loop
from unit.guards.limit_worlds import Clock

from ekiben.guards.counts import MemoryCounts
from ekiben.guards.rates import rates_of
from ekiben.guards.reserving_counts import ReservingCounts
from ekiben.model.guard_spec import RateSpec

ALGORITHMS = ("token_bucket", "sliding_window")


class Shared(MemoryCounts):
    """Counters that note how often they are asked."""

    def __init__(self, clock):
        super().__init__(wall=clock)
        self.asked = 0

    async def take(self, rates, names, cost):
        self.asked += 1
        return await super().take(rates, names, cost)


class World:
    """So many workers over the same counters."""

    def __init__(self, workers, **rate):
        self.clock = Clock()
        self.shared = Shared(self.clock)
        self.workers = [ReservingCounts(self.shared, workers, clock=self.clock) for _ in range(workers)]
        self.rates = rates_of([RateSpec(**rate)], "m")

    async def pass_(self, worker, times, cost=1.0, name=b"ann"):
        """How many of so many requests pass at a worker."""
        return sum([(await self.workers[worker].take(self.rates, [name], cost)).allowed for _ in range(times)])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@in_loop
async def test_workers_let_pass_what_the_rate_says_and_ask_rarely(algorithm):
    world = World(2, rows=10_000, every="1h", algorithm=algorithm)
    passed = 0
    for n in range(12_000):
        passed += await world.pass_(n % 2, 1)
    assert 9_900 <= passed <= 10_000
    assert world.shared.asked < 10_000 / 20 + 2 * 3_000


@in_loop
async def test_what_one_worker_has_taken_ahead_is_all_that_another_misses():
    world = World(2, requests=1_000, every="1h")
    assert await world.pass_(0, 1) == 1  # and has four more
    assert await world.pass_(1, 2_000) == 995
    assert await world.pass_(0, 10) == 4


@in_loop
async def test_a_small_rate_is_asked_each_time():
    world = World(2, requests=100, every="1h")
    assert await world.pass_(0, 150) == 100
    assert world.shared.asked == 150


@in_loop
async def test_what_is_not_spent_within_a_window_is_let_go():
    world = World(1, requests=1_000, every="10s")
    await world.pass_(0, 1)
    world.clock.now += 10
    await world.pass_(0, 1)
    assert world.shared.asked == 2


@in_loop
async def test_names_have_counters_of_their_own_and_the_oldest_go(monkeypatch):
    monkeypatch.setattr("ekiben.guards.reserving_counts._MOST", 2)
    world = World(1, requests=1_000, every="1h")
    for name in (b"a", b"b", b"c", b"a"):
        await world.pass_(0, 1, name=name)
    assert world.shared.asked == 4
    await world.pass_(0, 1, name=b"c")
    assert world.shared.asked == 4


@in_loop
async def test_the_answer_says_what_is_left_of_all():
    world = World(1, requests=1_000, every="1000s")
    left = [(await world.workers[0].take(world.rates, [b"ann"], cost)).left for cost in (1.0, 2.0)]
    assert left == [999, 997]
    reset_s = (await world.workers[0].take(world.rates, [b"ann"], 1.0)).reset_s
    world.clock.now += 5
    assert (await world.workers[0].take(world.rates, [b"ann"], 1.0)).reset_s == pytest.approx(reset_s - 5)


@in_loop
async def test_places_are_those_of_the_counters():
    world = World(1, requests=1_000)
    counts = world.workers[0]
    place = await counts.hold(b"ann", 1)
    assert await counts.hold(b"ann", 1) is None
    counts.release(place)
    assert await counts.hold(b"ann", 1) is not None
    await counts.close()


@given(
    workers=st.integers(1, 4),
    limit=st.integers(1, 5_000),
    costs=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50)), max_size=120),
    algorithm=st.sampled_from(ALGORITHMS),
)
def test_never_more_passes_than_the_rate_says(workers, limit, costs, algorithm):
    @in_loop
    async def run():
        world = World(workers, rows=limit, every="1h", algorithm=algorithm)
        passed = 0
        for worker, cost in costs:
            if cost <= limit:
                passed += cost * await world.pass_(worker % workers, 1, float(cost))
        assert passed <= limit

    run()
