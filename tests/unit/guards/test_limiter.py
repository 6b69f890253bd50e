import pytest
from unit.guards.in_loop import in_loop
from unit.guards.limit_worlds import Clock

from ekiben.errors import NotReady, PayloadTooLarge, TooManyRequests
from ekiben.guards import limiter as module
from ekiben.guards.counts import MemoryCounts, Place
from ekiben.guards.limiter import Limiter, counted_address
from ekiben.guards.principal import ANONYMOUS_ID, Principal
from ekiben.guards.rates import Standing
from ekiben.model.guard_spec import LimitsSpec, RateSpec

ANN, BOB, NOBODY = (Principal(name, frozenset()) for name in ("key:ann", "key:bob", ANONYMOUS_ID))
IP = "192.0.2.1"


class Heard:
    def __init__(self):
        self.refused = []

    def limited(self, model, rule):
        self.refused.append((model, rule))


class World:
    def __init__(self, everywhere=None):
        self.clock, self.heard = Clock(), Heard()
        self.counts = MemoryCounts(wall=self.clock)
        self.limiter = Limiter(self.counts, everywhere, heard=self.heard)

    async def enters(self, times, limits, who=ANN, ip=IP, model="m"):
        """How many of so many requests come in, which stay."""
        return len(await self.held(times, limits, who, ip, model))

    async def held(self, times, limits, who=ANN, ip=IP, model="m"):
        found = []
        for _ in range(times):
            try:
                found.append(await self.limiter.enter(model, limits, who, ip))
            except TooManyRequests as e:
                self.error = e
        return found


def limits(*rates, **fields):
    return LimitsSpec(rates=tuple(RateSpec(**rate) for rate in rates), **fields)


@pytest.mark.parametrize(
    ("per", "expected"),
    [
        # Ann, Ann elsewhere, Bob where Ann is, nobody there, nobody elsewhere
        ("key", (3, 0, 3, 3, 3)),
        ("ip", (3, 3, 0, 0, 0)),
        ("model", (3, 0, 0, 0, 0)),
    ],
)
@in_loop
async def test_each_has_a_count_of_their_own(per, expected):
    world, spec = World(), limits({"requests": 3, "per": per})
    asked = ((ANN, IP), (ANN, "192.0.2.2"), (BOB, IP), (NOBODY, IP), (NOBODY, "192.0.2.2"))
    assert tuple([await world.enters(5, spec, who, ip) for who, ip in asked]) == expected
    assert await world.enters(5, spec, ANN, IP, model="another") == 3


@in_loop
async def test_a_refusal_says_what_when_and_how_much_and_nothing_is_counted_for_it():
    world, spec = World(), limits({"requests": 2, "every": "10s"})
    assert await world.enters(5, spec) == 2
    error = world.error
    assert str(error) == "too many requests: the limit is 2 requests every 10s for each key; try again in 5 s"
    assert (error.retry_after_s, error.limit, error.window_s, error.capacity, error.left, error.reset_s) == pytest.approx(
        (5, 2, 10, 2, 0, 10)
    )
    assert world.heard.refused == [("m", "key:requests:10s")] * 3
    world.clock.now += error.retry_after_s
    assert await world.enters(2, spec) == 1


@in_loop
async def test_all_rates_must_hold_and_what_one_refuses_the_others_do_not_count():
    world, spec = World(), limits({"requests": 2}, {"requests": 5, "every": "1h"})
    assert await world.enters(9, spec) == 2
    world.clock.now += 10
    assert await world.enters(9, spec) == 2
    world.clock.now += 10
    assert await world.enters(9, spec) == 1
    assert world.error.window_s == 3600


@in_loop
async def test_limits_for_all_models_are_of_all_together_and_beside_each_models_own():
    world = World(limits({"requests": 4}, {"requests": 3, "per": "model", "every": "1h"}, concurrent=9))
    assert await world.enters(9, limits(), model="one") == 3
    assert await world.enters(9, limits({"requests": 100}), model="two") == 1
    assert [rule for _, rule in world.heard.refused[-1:]] == ["all:key:requests:1s"]
    assert await world.enters(9, limits({"requests": 2}), BOB, model="two") == 2


@in_loop
async def test_only_so_many_are_under_way_and_who_leaves_makes_room():
    world, spec = World(), limits(concurrent=2)
    held = await world.held(4, spec)
    assert len(held) == 2
    assert (world.error.limit, world.error.window_s, world.error.retry_after_s) == (2, 0, 1)
    assert "2 at once for each key" in str(world.error)
    assert await world.enters(4, spec, BOB) == 2
    world.limiter.leave(held[0])
    world.limiter.leave(held[0])
    assert await world.enters(4, spec) == 1
    assert set(world.heard.refused) == {("m", "key:concurrent")}


@in_loop
async def test_who_is_refused_holds_no_place():
    world, spec = World(limits(concurrent=5)), limits({"requests": 1, "every": "1h"}, concurrent=3)
    held = await world.held(9, spec)
    assert len(held) == 1
    world.limiter.leave(held[0])
    assert world.counts._held == {}


@in_loop
async def test_rows_count_by_their_number_all_or_none():
    world, spec = World(), limits({"rows": 100})
    first, second = await world.held(2, spec)
    await world.limiter.rows(first, 70)
    with pytest.raises(TooManyRequests, match=r"too many rows: the limit is 100 rows every 1s for each key; try again in 0\.01 s"):
        await world.limiter.rows(second, 31)
    await world.limiter.rows(second, 30)
    await world.limiter.rows(second, 0)
    with pytest.raises(TooManyRequests):
        await world.limiter.rows(second, 1)


@in_loop
async def test_more_rows_than_may_ever_come_are_refused_for_good():
    world = World(limits(max_rows=50))
    (held,) = await world.held(1, limits({"rows": 100, "burst": 20}, max_rows=60))
    with pytest.raises(PayloadTooLarge, match="has 51 rows; one request may have 50"):
        await world.limiter.rows(held, 51)
    with pytest.raises(PayloadTooLarge, match=r"has 21 rows; 20 may come at once .100 rows every 1s for each key.*send them in several"):
        await world.limiter.rows(held, 21)
    await world.limiter.rows(held, 20)
    assert world.heard.refused == [("m", "max_rows"), ("m", "key:rows:1s")]


@in_loop
async def test_answers_tell_of_the_rate_with_the_least_left():
    world, spec = World(), limits({"requests": 10, "every": "1m"}, {"rows": 100, "every": "1m"})
    (held,) = await world.held(1, spec)
    assert held.headers == [], "more than half is left"
    held = (await world.held(5, spec))[-1]
    assert dict(held.headers) == {b"ratelimit-limit": b"10, 10;w=60", b"ratelimit-remaining": b"4", b"ratelimit-reset": b"36"}
    await world.limiter.rows(held, 1)
    assert dict(held.headers)[b"ratelimit-limit"] == b"10, 10;w=60"
    world.clock.now += 18
    (held,) = await world.held(1, spec)
    assert held.headers == []
    await world.limiter.rows(held, 51)
    assert dict(held.headers) == {b"ratelimit-limit": b"100, 100;w=60", b"ratelimit-remaining": b"49", b"ratelimit-reset": b"31"}
    (held,) = await world.held(1, limits(concurrent=3))
    assert held.headers == []


def test_what_limits_nothing_needs_no_call():
    assert not Limiter(MemoryCounts()).concerns(LimitsSpec())
    for spec in (limits({"rows": 1}), limits(max_rows=1), limits(concurrent=1)):
        assert Limiter(MemoryCounts()).concerns(spec)
        assert Limiter(MemoryCounts(), spec).concerns(LimitsSpec())


@in_loop
async def test_where_counters_are_away_a_rate_that_lets_pass_tells_nothing():
    class Away(MemoryCounts):
        async def take(self, rates, names, cost):
            if rates[0].unreachable == "refuse":
                raise NotReady("away")
            return Standing(allowed=True)

    limiter = Limiter(Away())
    held = await limiter.enter("m", limits({"requests": 1}, {"rows": 1}), ANN, IP)
    await limiter.rows(held, 1)
    assert held.headers == []
    with pytest.raises(NotReady):
        await limiter.enter("m", limits({"requests": 1, "unreachable": "refuse"}, concurrent=1), ANN, IP)
    assert limiter._counts._held == {}
    await limiter.close()


@in_loop
async def test_plans_of_versions_that_come_and_go_are_not_kept_for_ever(monkeypatch):
    monkeypatch.setattr(module, "_PLANS", 3)
    world = World()
    specs = [limits({"requests": 6}) for _ in range(5)]
    for spec in specs:
        await world.enters(1, spec)
    assert len(world.limiter._plans) <= 3
    assert await world.enters(9, specs[4]) == 1, "its counter is the model's, whatever the plan"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("local", "local", True),
        ("local", "other", False),
    ],
)
def test_an_address_of_ipv6_counts_as_its_site(one, other, same):
    assert (counted_address(one) == counted_address(other)) is same


# without asking anybody ──────────────────────────────────────────────────────────────────────────────────────────────


class Ready(MemoryCounts):
    """Counters that can say at once what is told to be so."""

    def __init__(self, *, places=9, units=9.0):
        super().__init__()
        self.places, self.units = places, units

    def hold_now(self, name, limit):
        if not self.places:
            return None
        self.places -= 1
        return Place(name)

    def take_now(self, rates, names, cost):
        if self.units < cost:
            return None
        self.units -= cost
        return Standing(True, rates[0], self.units)

    def release(self, place):
        self.places += place.is_held
        place.is_held = False


SPEC = limits({"requests": 100}, {"rows": 100}, concurrent=5, max_rows=4)


@in_loop
async def test_who_is_known_comes_in_at_once_as_long_as_the_counters_can_say():
    counts = Ready(units=2.0)
    limiter = Limiter(counts)
    assert limiter.enter_now("m", SPEC, ANN, IP) is None  # not known yet
    limiter.leave(await limiter.enter("m", SPEC, ANN, IP))
    places = counts.places
    first = limiter.enter_now("m", SPEC, ANN, IP)
    assert (len(first.places), first.standing.left, counts.places) == (1, 1.0, places - 1)
    assert limiter.enter_now("m", SPEC, BOB, IP) is None
    assert limiter.enter_now("m", SPEC, ANN, IP) is not None
    # No unit is left: the place that was taken goes back.
    before = counts.places
    assert limiter.enter_now("m", SPEC, ANN, IP) is None
    assert counts.places == before
    counts.places, counts.units = 0, 9.0
    assert limiter.enter_now("m", SPEC, ANN, IP) is None
    assert counts.units == 9.0


@in_loop
async def test_rows_pass_at_once_as_long_as_the_counters_can_say():
    counts = Ready()
    limiter = Limiter(counts)
    held = await limiter.enter("m", SPEC, ANN, IP)
    assert limiter.rows_now(held, 4)
    assert (held.standing.left, counts.units) == (5.0, 5.0)
    assert limiter.rows_now(held, 0)
    # More than one request may have: `rows` says so.
    assert not limiter.rows_now(held, 5)
    assert counts.units == 5.0
    counts.units = 1.0
    assert not limiter.rows_now(held, 2)
