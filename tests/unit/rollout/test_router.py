from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekiben.errors import RolloutRefused
from ekiben.model.rollout_spec import RoutingSpec
from ekiben.rollout.router import RoutingTable, hash_of, reallocated, seed_of
from ekiben.state.routes import SLOTS, Arm, HeaderCondition, HeaderRule, Route, Shadow, SlotRange

LOADED = ("1", "2", "3", "4")


def table(route: Route | None, loaded=LOADED, **routing) -> RoutingTable:
    return RoutingTable("1", route, RoutingSpec(**routing), loaded)


def route_of(*arms: str, **fields) -> Route:
    """A route whose arms have the versions 2, 3, …"""
    return Route(salt="7.m", arms=tuple(Arm(name, str(n)) for n, name in enumerate(arms, 2)), **fields)


def owners(route: Route) -> list[str | None]:
    """Whose each slot is; it is asserted that no slot is given twice and that ranges are sorted."""
    found: list[str | None] = [None] * SLOTS
    last = 0
    for part in route.slots:
        assert last <= part.start < part.stop <= SLOTS
        last = part.stop
        found[part.start : part.stop] = [part.arm] * (part.stop - part.start)
    return found


def keys(n: int) -> list[str]:
    return [f"user-{i}" for i in range(n)]


# weights ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("percent", [0, 0.01, 0.5, 1, 5, 12.34, 33.33, 50, 99.99, 100])
def test_a_weight_is_that_share_of_the_slots_exactly(percent):
    route = reallocated(route_of("challenger"), {"challenger": percent})
    assert owners(route).count("challenger") == round(percent * 100)
    assert route.weight("challenger") == percent


def test_the_share_of_users_is_the_share_of_slots():
    answers = table(reallocated(route_of("challenger"), {"challenger": 20}))
    met = sum(answers.by_key(key).arm == "challenger" for key in keys(10_000))
    # Four standard deviations of a binomial share.
    assert abs(met - 2000) < 4 * math.sqrt(10_000 * 0.2 * 0.8)


hundredths = st.integers(0, SLOTS)


@settings(max_examples=40)
@given(st.lists(hundredths, min_size=1, max_size=6))
def test_a_weight_that_grows_takes_nobody_back_and_moves_no_more_than_it_must(weights):
    route = route_of("challenger")
    before = owners(route)
    for weight in weights:
        was = before.count("challenger")
        route = reallocated(route, {"challenger": weight / 100})
        after = owners(route)
        moved = [slot for slot in range(SLOTS) if before[slot] != after[slot]]
        assert after.count("challenger") == weight
        assert len(moved) == abs(weight - was)
        assert {after[slot] for slot in moved} <= ({"challenger"} if weight > was else {None})
        before = after


shares = st.tuples(hundredths, hundredths, hundredths).map(lambda cuts: [b - a for a, b in pairwise([0, *sorted(cuts)])])


@settings(max_examples=25)
@given(st.lists(shares, min_size=1, max_size=5))
def test_of_several_arms_too(sequence):
    names = ("blue", "green", "red")
    route = route_of(*names)
    before = owners(route)
    for weights in sequence:
        route = reallocated(route, {name: weight / 100 for name, weight in zip(names, weights, strict=True)})
        after = owners(route)
        assert [after.count(name) for name in names] == weights
        for name, weight in zip(names, weights, strict=True):
            was, now = ({slot for slot, owner in enumerate(o) if owner == name} for o in (before, after))
            # An arm gains or loses, and nothing is exchanged.
            assert now >= was if weight >= len(was) else now < was
        before = after


@settings(max_examples=40)
@given(st.lists(hundredths, min_size=2, max_size=5).map(sorted), st.text(max_size=20))
def test_while_a_weight_grows_whoever_met_the_challenger_meets_it_again(weights, key):
    route, has_met = route_of("challenger"), False
    for weight in weights:
        route = reallocated(route, {"challenger": weight / 100})
        meets = table(route).by_key(key).arm == "challenger"
        assert meets or not has_met
        has_met = meets


def test_an_arm_that_is_left_out_gives_all_back():
    route = reallocated(route_of("blue", "green"), {"blue": 30, "green": 30})
    assert reallocated(route, {"green": 30}).slots == tuple(part for part in route.slots if part.arm == "green")
    assert reallocated(route, {}).slots == ()


def test_an_arm_that_shrinks_gives_its_last_slots_back():
    half = reallocated(route_of("blue", "green"), {"blue": 50})
    assert half.slots == (SlotRange(0, 5000, "blue"),)
    shrunk = reallocated(half, {"blue": 20})
    assert shrunk.slots == (SlotRange(0, 2000, "blue"),)
    assert reallocated(shrunk, {"blue": 20, "green": 10}).slots == (SlotRange(0, 2000, "blue"), SlotRange(2000, 3000, "green"))
    assert reallocated(shrunk, {"blue": 50}) == half


def test_slots_of_an_arm_that_is_gone_are_the_champions():
    route = route_of("blue", slots=(SlotRange(0, 100, "gone"),))
    assert owners(reallocated(route, {"blue": 1})) == ["blue"] * 100 + [None] * 9900
    assert table(route).by_key("anybody").arm == "champion"


def test_the_rest_of_a_route_stays():
    route = route_of("challenger", rollout="m-7", shadows=(Shadow("3"),), fallback=False)
    changed = reallocated(route, {"challenger": 5})
    assert (changed.rollout, changed.salt, changed.arms, changed.shadows, changed.fallback) == (
        route.rollout, route.salt, route.arms, route.shadows, False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"purple": 5}, "there is no arm 'purple' to give 5 % to; there are blue, green"),
        ({"blue": -1}, "the weight of blue is -1; it must be 0 to 100"),
        ({"blue": 100.5}, "the weight of blue is 100.5"),
        ({"blue": math.nan}, "the weight of blue is nan"),
        ({"blue": math.inf}, "the weight of blue is inf"),
        ({"blue": 60, "green": 40.01}, "the weights are 100.01 % together; 100 is all there is"),
    ],
)
def test_weights_that_cannot_be(weights, says):
    with pytest.raises(RolloutRefused, match=says):
        reallocated(route_of("blue", "green"), weights)


def test_a_route_without_arms_has_none_to_give_weight_to():
    with pytest.raises(RolloutRefused, match="there are none"):
        reallocated(Route(), {"challenger": 5})


# who a key meets ─────────────────────────────────────────────────────────────────────────────────────────────────────


def slot(seed, key):
    return hash_of(seed, key) % SLOTS


@given(st.text(), st.text(st.characters(codec="utf-8"), max_size=100))
def test_a_key_has_one_slot(key, salt):
    assert 0 <= slot(seed_of(salt), key) < SLOTS
    assert slot(seed_of(salt), key) == slot(seed_of(salt), key)


def test_a_key_that_is_no_text_has_a_slot_too():
    assert 0 <= slot(seed_of("salt"), "\ud800") < SLOTS


def test_every_worker_and_release_computes_the_same_slot():
    # Written down: another hash would move every user of every running rollout.
    assert (slot(seed_of("1.churn"), "alice"), slot(seed_of("2.churn"), "alice")) == (7327, 3454)


def test_keys_fill_all_slots_evenly():
    counts = [0] * 100
    for key in keys(20_000):
        counts[slot(seed_of("salt"), key) // 100] += 1
    chi_squared = sum((count - 200) ** 2 / 200 for count in counts)
    # 99 degrees of freedom: above 160 once in ten thousand draws, and these keys are always the same.
    assert chi_squared < 160


def test_two_rollouts_draw_their_users_independently():
    first = table(reallocated(route_of("challenger"), {"challenger": 50}))
    other = Route(salt="8.m", arms=(Arm("challenger", "2"),))
    second = table(reallocated(other, {"challenger": 50}))
    cells = {(a, b): 0 for a in ("champion", "challenger") for b in ("champion", "challenger")}
    for key in keys(20_000):
        cells[first.by_key(key).arm, second.by_key(key).arm] += 1
    assert sum((n - 5000) ** 2 / 5000 for n in cells.values()) < 16  # 3 degrees of freedom: once in a thousand


def test_arms_and_versions():
    answers = table(reallocated(route_of("blue", "green"), {"blue": 50, "green": 50}))
    assert {(c.arm, c.version) for c in map(answers.by_key, keys(100))} == {("blue", "2"), ("green", "3")}
    assert answers.is_split
    assert not answers.is_plain


def test_without_a_route_the_champion_answers_everything():
    for answers in (table(None), table(route_of("challenger"))):
        assert answers.by_key("anybody") is answers.champion
        assert (answers.champion.arm, answers.champion.version) == ("champion", "1")
        assert answers.is_plain
        assert not answers.is_split
        assert answers.by_headers({}) is None
        assert answers.falls_back


def test_an_arm_that_is_not_loaded_is_answered_by_the_champion():
    condition = HeaderCondition("x-beta", "exact", "1")
    route = reallocated(route_of("blue", "green", rules=(HeaderRule("beta", "blue", (condition,)),)), {"blue": 50, "green": 50})
    answers = table(route, loaded=("1", "3"))
    assert {c.arm for c in map(answers.by_key, keys(100))} == {"champion", "green"}
    assert answers.by_headers({b"x-beta": b"1"}) is None
    # And whoever meets green meets it whatever else is loaded.
    complete = table(route)
    assert all(answers.by_key(key).arm == complete.by_key(key).arm for key in keys(100) if complete.by_key(key).arm == "green")


def test_shadows_are_those_loaded_that_are_not_the_champion():
    answers = table(Route(shadows=(Shadow("1"), Shadow("2", 0.5), Shadow("9"))))
    assert answers.shadows == (Shadow("2", 0.5),)
    assert answers.is_plain


def test_an_experiment_stands_alone():
    answers = table(reallocated(route_of("a", rollout="m-3", fallback=False), {"a": 100}))
    assert not answers.falls_back


# header rules ────────────────────────────────────────────────────────────────────────────────────────────────────────


def rule(arm: str, *conditions: tuple[str, str, str]) -> HeaderRule:
    return HeaderRule("rule", arm, tuple(HeaderCondition(*c) for c in conditions))


@pytest.mark.parametrize(
    ("kind", "value", "fits", "misses"),
    [
        ("exact", "beta", [b"beta"], [b"Beta", b"beta2", b"", b" beta"]),
        ("prefix", "eu-", [b"eu-", b"eu-west"], [b"us-eu-", b"EU-west", b"e"]),
        ("regex", "[a-c]+[0-9]", [b"abc1", b"a9"], [b"abc", b"xabc1", b"abc1x", b"", b"abc1\n"]),
        ("exact", "gr\xfc\xdfe", ["grüße".encode("latin-1")], ["grüße".encode()]),
    ],
)
def test_a_condition(kind, value, fits, misses):
    answers = table(route_of("challenger", rules=(rule("challenger", ("x-group", kind, value)),)))
    assert not answers.is_plain
    for found in fits:
        choice = answers.by_headers({b"x-group": found})
        assert choice is not None
        assert (choice.arm, choice.version) == ("challenger", "2")
    for found in misses:
        assert answers.by_headers({b"x-group": found}) is None
    assert answers.by_headers({b"x-other": fits[0]}) is None


def test_all_conditions_of_a_rule_and_the_first_rule_that_fits():
    rules = (rule("blue", ("x-a", "exact", "1"), ("x-b", "prefix", "2")), rule("green", ("x-a", "exact", "1")))
    answers = table(route_of("blue", "green", rules=rules))
    assert answers.by_headers({b"x-a": b"1", b"x-b": b"23"}).arm == "blue"
    assert answers.by_headers({b"x-a": b"1", b"x-b": b"3"}).arm == "green"
    assert answers.by_headers({b"x-b": b"23"}) is None


# routing keys ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_where_the_key_is_looked_for_and_in_which_order():
    answers = table(None, header="X-User-Id", query="user", input="u")
    everything = {b"x-routing-key": b"first", b"x-user-id": b"second"}
    assert answers.key_of(everything, b"user=third") == "first"
    assert answers.key_of({b"x-user-id": b"second"}, b"user=third") == "second"
    assert answers.key_of({}, b"a=1&user=third&user=fourth") == "third"
    assert answers.key_of({}, b"user=th%C3%A9+o") == "thé o"
    assert answers.key_of({}, b"") is None
    assert answers.key_of({}, b"users=1") is None
    assert answers.key_input == "u"


def test_an_empty_key_is_none():
    answers = table(None, header="X-User-Id", query="user")
    assert answers.key_of({b"x-routing-key": b"", b"x-user-id": b"second"}, b"") == "second"
    assert answers.key_of({b"x-user-id": b""}, b"user=&user=third") == "third"
    assert answers.key_of({b"x-user-id": b""}, b"user=") is None


def test_a_model_without_routing_knows_the_one_header_alone():
    answers = table(None)
    assert answers.key_of({b"x-routing-key": b"k", b"": b"no"}, b"=1") == "k"
    assert answers.key_of({b"x-user-id": b"u", b"": b"no"}, b"user=1&=2") is None
    assert answers.key_input == ""


def test_a_query_of_more_fields_than_anybody_means_has_no_key():
    answers = table(None, query="user")
    assert answers.key_of({}, b"user=1&" + b"a=1&" * 998) == "1"
    assert answers.key_of({}, b"user=1&" + b"a=1&" * 2000) is None
