import time

import pytest
from unit.guards.in_loop import in_loop

from ekiben.errors import Forbidden, SettingError, TooManyRequests, Unauthenticated
from ekiben.guards.auth import Authenticator
from ekiben.guards.gate import NO_LIMITS, open_gate
from ekiben.guards.key_operations import ControlKeys
from ekiben.guards.principal import PREDICT, READ
from ekiben.model.guard_spec import LimitsSpec, RateSpec
from ekiben.settings import Settings
from ekiben.state import memory_control

PEER = ("192.0.2.1", 1234)


class Heard:
    def __init__(self):
        self.refused, self.is_up = [], None

    def limited(self, model, rule):
        self.refused.append((model, rule))

    def backend_up(self, up):
        self.is_up = up


class World:
    """A gate and what is around it."""

    def __init__(self, home, **settings):
        self.control, self.heard = memory_control(), Heard()
        made = Settings(home=home, database_url="sqlite://", workers=1, **settings)
        self.authenticator = Authenticator.of(made, self.control)
        self.gate = open_gate(made, self.authenticator, self.heard, folder=home)

    def key(self, *scopes):
        return ControlKeys(self.control, who="test", wall=time.time).create("test", scopes).key


@in_loop
async def test_an_open_gate_lets_everybody_in(tmp_path):
    world = World(tmp_path)
    visit = await world.gate.enter(PREDICT, "m", {}, PEER, NO_LIMITS)
    assert world.gate.is_open
    assert visit.principal.is_anonymous
    assert visit.held is None
    assert await world.gate.enter(READ, None, {}, None) is visit
    world.gate.leave(visit)
    world.gate.leave(None)
    await world.gate.close()


@in_loop
async def test_a_closed_gate_lets_in_who_has_the_scope(tmp_path):
    world = World(tmp_path, auth="required")
    key = world.key("predict:m").encode()
    await world.authenticator.start()
    assert not world.gate.is_open
    with pytest.raises(Unauthenticated):
        await world.gate.enter(PREDICT, "m", {}, PEER)
    visit = await world.gate.enter(PREDICT, "m", {b"x-api-key": key}, PEER)
    assert visit.principal.id.startswith("key:")
    with pytest.raises(Forbidden):
        await world.gate.enter(PREDICT, "other", {b"x-api-key": key}, PEER)
    await world.authenticator.stop()
    await world.gate.close()


@in_loop
async def test_addresses_have_limits_of_their_own_and_models_counters_of_theirs(tmp_path):
    (tmp_path / "limits.yaml").write_text("rates: [{per: ip, requests: 1, every: 1h}]")
    world = World(tmp_path)
    await world.gate.enter(PREDICT, "m", {}, PEER, NO_LIMITS)
    with pytest.raises(TooManyRequests):
        await world.gate.enter(PREDICT, "m", {}, PEER, NO_LIMITS)
    await world.gate.enter(PREDICT, "m", {}, ("192.0.2.2", 1), NO_LIMITS)
    assert [model for model, _ in world.heard.refused] == ["m"]
    assert world.heard.is_up
    await world.gate.close()


@in_loop
async def test_what_nobody_limits_is_not_counted(tmp_path):
    world = World(tmp_path)
    limits = LimitsSpec(rates=(RateSpec(requests=1, every="1h"),))
    await world.gate.enter(PREDICT, "m", {}, PEER, limits)
    assert (await world.gate.enter(PREDICT, "m", {}, PEER)).held is None
    await world.gate.close()


def test_proxies_that_cannot_be_are_refused_at_the_start(tmp_path):
    with pytest.raises(SettingError, match="EKIBEN_TRUSTED_PROXIES"):
        World(tmp_path, trusted_proxies="everybody")


@in_loop
async def test_what_is_known_here_lets_in_at_once(tmp_path):
    world = World(tmp_path, auth="required")
    key = {b"x-api-key": world.key("predict:m").encode()}
    await world.authenticator.start()
    with pytest.raises(Unauthenticated):
        world.gate.enter_now(PREDICT, "m", {b"x-api-key": b"ekb_no"}, PEER)
    assert world.gate.enter_now(PREDICT, "m", key, PEER).held is None
    # Who may not is told why by `enter`, and so is who is limited and not known yet.
    assert world.gate.enter_now(PREDICT, "other", key, PEER) is None
    assert world.gate.enter_now(PREDICT, "m", {}, PEER) is None
    limits = LimitsSpec(rates=(RateSpec(requests=1_000_000),), concurrent=100)
    assert world.gate.enter_now(PREDICT, "m", key, PEER, limits) is None
    world.gate.leave(await world.gate.enter(PREDICT, "m", key, PEER, limits))
    visit = world.gate.enter_now(PREDICT, "m", key, PEER, limits)
    assert visit.principal.id.startswith("key:")
    assert len(visit.held.places) == 1
    assert world.gate.rows_now(visit.held, 3)
    world.gate.leave(visit)
    assert not visit.held.places
    await world.authenticator.stop()
    await world.gate.close()
