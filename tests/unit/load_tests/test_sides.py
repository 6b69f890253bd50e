import pytest

from ekiben.model.rollout_spec import RoutingSpec
from ekiben.rollout.router import Choice, RoutingTable
from load_tests.bench.sides import (
    CHAMPION_VERSION,
    GUARDED,
    IN_CLOSED_LOOP,
    PLAIN,
    SECOND_VERSION,
    SHADOWED,
    SIDES,
    UNLOGGED,
    on_trial,
    route_of,
    there_and_back,
    to_and_fro,
)

KEYS = [str(n) for n in range(400)]


def _table(side):
    return RoutingTable(CHAMPION_VERSION, route_of(side, "m"), RoutingSpec(), {CHAMPION_VERSION, SECOND_VERSION})


@pytest.mark.parametrize(("side", "version"), [("ekiben-aa", CHAMPION_VERSION), ("ekiben-split", SECOND_VERSION)])
def test_half_of_the_requests_go_to_the_arm_on_trial(side, version):
    table, route = _table(side), route_of(side, "m")

    chosen = [table.by_key(key) for key in KEYS]

    trial = on_trial(side)
    assert trial is not None
    assert {(c.arm, c.version) for c in chosen} == {("champion", CHAMPION_VERSION), (trial.arm, version)}
    assert 150 < sum(c.arm == trial.arm for c in chosen) < 250
    assert route.weight(trial.arm) == trial.percent == 50
    assert route.rollout, "answers are kept only where something runs"


def test_through_the_router_alone_everyone_meets_another_arm_of_the_same_version():
    table, route = _table("ekiben-routed"), route_of("ekiben-routed", "m")

    assert {table.by_key(key) for key in KEYS} == {Choice("challenger", CHAMPION_VERSION)}
    assert not table.is_plain
    assert on_trial("ekiben-routed").percent == 100
    assert route.rollout, "answers are kept only where something runs"


@pytest.mark.parametrize("side", IN_CLOSED_LOOP)
def test_a_header_rule_is_looked_at_and_fits_no_request_of_the_benchmark(side):
    table = _table(side)

    assert table.by_headers({b"content-type": b"application/json"}) is None
    assert table.by_headers({b"x-beta": b"on"}).arm == "challenger"


def test_a_shadow_gets_all_rows_and_answers_nobody():
    table = _table(SHADOWED)

    assert [(s.version, s.rate) for s in table.shadows] == [(SECOND_VERSION, 1.0)]
    assert table.is_plain
    assert (on_trial(SHADOWED).version, on_trial(SHADOWED).arm) == (SECOND_VERSION, "shadow")


def test_the_plain_side_has_no_route():
    assert route_of(PLAIN, "m") is None
    assert on_trial(PLAIN) is None
    assert all(route_of(side, "m") is not None for side in SIDES if side not in (UNLOGGED, GUARDED))


def test_sides_take_turns_there_and_back():
    assert there_and_back(("a", "b", "c")) == ("a", "b", "c", "b", "a")
    assert there_and_back(("a", "b")) == ("a", "b", "a")


def test_sides_take_turns_to_and_fro():
    assert to_and_fro(("a", "b", "c"), 3) == ("a", "b", "c", "c", "b", "a", "a", "b", "c")
    positions = {side: [n for n, taken in enumerate(to_and_fro("abcd", 4)) if taken == side] for side in "abcd"}
    assert {sum(found) / len(found) for found in positions.values()} == {7.5}, "a trend moves all alike"
