from unit.guards.in_loop import in_loop
from unit.guards.limit_worlds import Clock, allowed, rates

from ekiben.guards.counts import MemoryCounts


@in_loop
async def test_beyond_its_size_the_counter_that_was_idle_longest_goes():
    clock = Clock()
    counts = MemoryCounts(wall=clock, most=3)
    (rate,) = rates({"requests": 1, "every": "1h"})
    for name in (b"a", b"b", b"c"):
        assert await allowed(counts, rate, name, 2) == 1
    clock.now += 3601
    assert await allowed(counts, rate, b"a", 2) == 1
    assert await allowed(counts, rate, b"d", 2) == 1
    assert set(counts._states) == {b"c", b"a", b"d"}


@in_loop
async def test_places_that_are_given_back_leave_nothing_behind():
    counts = MemoryCounts()
    places = [await counts.hold(b"k", 2) for _ in range(3)]
    assert places[2] is None
    counts.release(places[0])
    counts.release(places[0])
    third = await counts.hold(b"k", 2)
    assert await counts.hold(b"k", 2) is None
    counts.release(places[1])
    counts.release(third)
    assert counts._held == {}
    await counts.hold(b"k", 1)
    await counts.close()
    assert await counts.hold(b"k", 1) is not None
