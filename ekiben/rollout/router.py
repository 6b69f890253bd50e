"""Which version answers a request: one immutable table per model, asked for every request.

A request's routing key falls into one of 10,000 slots, by a hash that every worker and replica computes alike. Each slot
belongs to an arm or, by default, to the champion. A weight is a number of slots, and `reallocated` moves as few of them as
it can: while a weight grows, nobody who met the challenger meets the champion again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec
from xxhash import xxh3_64_intdigest

from ekiben.errors import RolloutRefused
from ekiben.model.rollout_spec import RoutingSpec
from ekiben.state.routes import SLOTS, HeaderCondition, Route, SlotRange

CHAMPION_ARM: Final = "champion"
CHALLENGER_ARM: Final = "challenger"
PINNED_ARM: Final = "pinned"
ROUTING_KEY: Final = b"x-routing-key"

Headers = Mapping[bytes, bytes]


class Choice(msgspec.Struct, frozen=True):
    """What answers: an arm and its version."""

    arm: str
    version: str


class RoutingTable:
    """Who answers which requests of one model.

    Args:
        champion: The version that answers by default.
        route: What deviates from it; None where nothing does.
        routing: What keeps a user on one version.
        loaded: The versions that can answer; an arm or shadow of another version is left out, the champion answers instead.

    Attributes:
        champion: The champion's choice.
        shadows: Versions that get the champion's rows too.
        is_split: Whether the routing key matters.
        falls_back: Whether the champion answers where an arm fails.
        query: The query's parameter that holds the routing key where no header does; empty for none.
        key_input: The input that holds the routing key where neither header nor query does; empty for none.
        heads: Headers that may decide something: a request without any of them is told apart by what is known of it later.
        slots: Who answers in each slot; a key's slot is its hash modulo `SLOTS`.
        seed: Of the hash, see `hash_of`.
    """

    def __init__(self, champion: str, route: Route | None, routing: RoutingSpec, loaded: Collection[str]) -> None:
        route = route or Route()
        self.champion = Choice(CHAMPION_ARM, champion)
        self.falls_back = route.fallback
        self.shadows = tuple(s for s in route.shadows if s.version in loaded and s.version != champion)
        arms = {arm.name: Choice(arm.name, arm.version) for arm in route.arms if arm.version in loaded}
        self._rules = [(_conditions(rule.conditions), arms[rule.arm]) for rule in route.rules if rule.arm in arms]
        self._header = routing.header.lower().encode()
        slots = [self.champion] * SLOTS
        for part in route.slots:
            if part.arm in arms:
                slots[part.start : part.stop] = [arms[part.arm]] * (part.stop - part.start)
        self.slots = slots
        self.is_split = any(choice is not self.champion for choice in slots)
        self.is_plain = not self.is_split and not self._rules
        of_rules = {c.header.encode() for rule in route.rules for c in rule.conditions}
        self.heads = frozenset({ROUTING_KEY, self._header, *of_rules} - {b""})
        self.seed = seed_of(route.salt)
        self.query = routing.query
        self.key_input = routing.input

    def by_headers(self, headers: Headers) -> Choice | None:
        """The arm that a header rule sends a request to; None where no rule fits."""
        for fits, choice in self._rules:
            if fits(headers):
                return choice
        return None

    def key_of(self, headers: Headers, query: bytes) -> str | None:
        """The routing key that the head of a request brings, or None."""
        raw = headers.get(ROUTING_KEY) or (headers.get(self._header) if self._header else None)
        if raw:
            return raw.decode("latin-1")
        return _parameter(query, self.query) if query and self.query else None

    def by_key(self, key: str) -> Choice:
        """The arm that a routing key meets, always the same."""
        return self.slots[hash_of(self.seed, key) % SLOTS]


def hash_of(seed: int, key: str) -> int:
    """The hash of a routing key, 64 bits; modulo 10,000 it is the slot. Seeded, so that two rollouts draw their users independently."""
    try:
        return xxh3_64_intdigest(key.encode(), seed)
    except UnicodeEncodeError:  # JSON can say half a surrogate pair
        return xxh3_64_intdigest(key.encode("utf-8", "surrogatepass"), seed)


def seed_of(salt: str) -> int:
    """The seed that a route's salt stands for."""
    return xxh3_64_intdigest(salt.encode())


def reallocated(route: Route, weights: Mapping[str, float]) -> Route:
    """A route whose arms have other weights, moving as few slots as that takes.

    An arm that shrinks gives its last slots back to the champion; then an arm that grows takes the champion's first ones.

    Args:
        route: The route as it is.
        weights: Arm → its percentage from now on; an arm that is left out has none. Hundredths of a percent are exact.

    Raises:
        RolloutRefused: An arm does not exist, a weight is no percentage, or they are more than 100 together.
    """
    wanted = _slots_of(route, weights)
    owners: list[str | None] = [None] * SLOTS
    for part in route.slots:
        if part.arm in wanted:
            owners[part.start : part.stop] = [part.arm] * (part.stop - part.start)
    for name, n in wanted.items():
        for slot in [slot for slot, owner in enumerate(owners) if owner == name][n:]:
            owners[slot] = None
    for name, n in wanted.items():
        missing = n - owners.count(name)
        for slot in [slot for slot, owner in enumerate(owners) if owner is None][: max(missing, 0)]:
            owners[slot] = name
    return msgspec.structs.replace(route, slots=_ranges(owners))


def _slots_of(route: Route, weights: Mapping[str, float]) -> dict[str, int]:
    """How many slots each arm is to have.

    Raises:
        RolloutRefused: As `reallocated`.
    """
    arms = [arm.name for arm in route.arms]
    for name, weight in weights.items():
        if name not in arms:
            raise RolloutRefused(f"there is no arm {name!r} to give {weight:g} % to; there are {', '.join(arms) or 'none'}")
        if not 0 <= weight <= 100:  # noqa: PLR2004  percent
            raise RolloutRefused(f"the weight of {name} is {weight:g}; it must be 0 to 100 percent")
    wanted = {name: round(weights.get(name, 0.0) * SLOTS / 100) for name in arms}
    if sum(wanted.values()) > SLOTS:
        raise RolloutRefused(f"the weights are {sum(weights.values()):g} % together; 100 is all there is")
    return wanted


def _ranges(owners: list[str | None]) -> tuple[SlotRange, ...]:
    ranges: list[SlotRange] = []
    start = 0
    for slot in range(1, SLOTS + 1):
        if slot == SLOTS or owners[slot] != owners[start]:
            if (owner := owners[start]) is not None:
                ranges.append(SlotRange(start, slot, owner))
            start = slot
    return tuple(ranges)


def _conditions(conditions: tuple[HeaderCondition, ...]) -> Callable[[Headers], bool]:
    tests = [(c.header.encode(), _test(c)) for c in conditions]

    def fit(headers: Headers) -> bool:
        for name, test in tests:
            value = headers.get(name)
            if value is None or not test(value.decode("latin-1")):
                return False
        return True

    return fit


def _test(condition: HeaderCondition) -> Callable[[str], bool]:
    if condition.kind == "exact":
        return condition.value.__eq__
    if condition.kind == "prefix":
        return lambda text: text.startswith(condition.value)
    pattern = re.compile(condition.value)
    return lambda text: pattern.fullmatch(text) is not None


def _parameter(query: bytes, name: str) -> str | None:
    """The first value of a query's parameter that is not empty."""
    from urllib.parse import parse_qsl  # noqa: PLC0415  only where a query holds the key

    try:
        pairs = parse_qsl(query.decode("latin-1"), max_num_fields=1000)
    except ValueError:
        return None  # more fields than anybody means; the request id decides
    return next((value for found, value in pairs if found == name), None)
