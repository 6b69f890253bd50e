"""All limits of one worker: whether a request may begin, whether its rows may be predicted."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Protocol

import msgspec

from ekiben.errors import PayloadTooLarge, TooManyRequests
from ekiben.guards.counts import Counts, Place
from ekiben.guards.principal import Principal
from ekiben.guards.rate_headers import rate_limit_headers
from ekiben.guards.rates import Rate, Standing, rates_of
from ekiben.model.guard_spec import LimitsSpec

EVERYWHERE: Final = "*"
"""The scope of limits for all models together."""

_PLANS: Final = 4096
_ASKERS: Final = 16_384
_IPV6_SITE_BITS: Final = 64


class Heard(Protocol):
    """Hears what is refused, for metrics."""

    def limited(self, model: str, rule: str) -> None:
        """A request was refused by a rule."""


class Unheard:
    """Nobody hears."""

    def limited(self, model: str, rule: str) -> None:
        """As `Heard.limited` says."""


class Held(msgspec.Struct):
    """What a request has of the limits, until it leaves.

    Attributes:
        asker: Who asks, and what limits them.
        places: What it holds of what may be under way at once.
        standing: The rate with the least left, for its answer; None where it has passed none.
    """

    asker: Asker
    places: list[Place] = []
    standing: Standing | None = None

    def passed(self, standing: Standing) -> None:
        """The request has passed other rates, too."""
        if self.standing is None or _share(standing) < _share(self.standing):
            self.standing = standing

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The answer's header fields about the rate with the least left, once half of it is used; see `rate_headers`.

        Before that nobody need slow down, and three more fields an answer cost more than counting does.
        """
        standing = self.standing
        if standing is None or (rate := standing.rate) is None or 2 * standing.left > rate.capacity:
            return []
        return rate_limit_headers(rate.limit, rate.window_s, rate.capacity, standing.left, standing.reset_s)


class Asker(msgspec.Struct, frozen=True):
    """Who asks a model: what limits them, and the names of their counters.

    Attributes:
        plan: What limits them.
        requests, rows: The counter of each rate of requests, and of rows.
        concurrent: How many may be under way, with the name of the counter and the one for metrics.
    """

    plan: Plan
    requests: tuple[bytes, ...]
    rows: tuple[bytes, ...]
    concurrent: tuple[tuple[int, bytes, str], ...]


class RatesOf:
    """The rates of requests, or of rows, of one model.

    Args:
        rates: The rates.
        model: The model.

    Attributes:
        rates: As given.
    """

    def __init__(self, rates: Sequence[Rate], model: str) -> None:
        self.rates = rates
        # What is counted whoever asks is counted for each model, also where the rule is for all.
        self._names = [(rate.per, rate.prefix + (f"{model}|".encode() if rate.per == "model" else b"")) for rate in rates]

    def names(self, key: bytes, address: bytes) -> tuple[bytes, ...]:
        """The counter of each rate, for who asks."""
        return tuple([prefix + (key if per == "key" else address) if per != "model" else prefix for per, prefix in self._names])


class Plan:
    """Everything that limits the requests of one model: what its spec says, and what holds for all models.

    Args:
        model: The model.
        limits: Its own.
        everywhere: Those for all.

    Attributes:
        model, limits: As given.
        requests, rows: What is counted of either.
        concurrent: How many may be under way, with the names of the counters before who is counted, and the names for metrics.
        max_rows: Rows of one request at most; None for any number.
    """

    def __init__(self, model: str, limits: LimitsSpec, everywhere: LimitsSpec) -> None:
        self.model = model
        self.limits = limits
        rates = [*rates_of(limits.rates, model), *rates_of(everywhere.rates, EVERYWHERE)]
        self.requests = RatesOf([rate for rate in rates if rate.unit == "requests"], model)
        self.rows = RatesOf([rate for rate in rates if rate.unit == "rows"], model)
        scopes = ((limits.concurrent, model, ""), (everywhere.concurrent, EVERYWHERE, "all:"))
        self.concurrent = [(most, f"{scope}|".encode(), f"{mark}key:concurrent") for most, scope, mark in scopes if most is not None]
        self.max_rows = min((most for most in (limits.max_rows, everywhere.max_rows) if most is not None), default=None)


class Limiter:
    """All limits of one worker.

    Args:
        counts: Where counters are.
        everywhere: Limits for all models together, beside each model's own.
        heard: Hears what is refused.
    """

    def __init__(self, counts: Counts, everywhere: LimitsSpec | None = None, *, heard: Heard | None = None) -> None:
        self._counts = counts
        self._everywhere = everywhere or LimitsSpec()
        self._heard = heard or Unheard()
        self._always = limits_anything(self._everywhere)
        self._plans: dict[tuple[str, int], Plan] = {}
        self._askers: dict[tuple[str, int, str, str], Asker] = {}

    def concerns(self, limits: LimitsSpec) -> bool:
        """Whether anything is limited for a model with these limits: where not, nothing else here needs to be called."""
        return self._always or limits_anything(limits)

    def enter_now(self, model: str, limits: LimitsSpec, principal: Principal, ip: str) -> Held | None:
        """As `enter`, where that can be said without asking anybody; None where `enter` must be asked."""
        asker = self._askers.get((model, id(limits), principal.id, ip))
        if asker is None:
            return None
        counts, places, standing = self._counts, [], None
        for most, name, _ in asker.concurrent:
            if (place := counts.hold_now(name, most)) is None:
                break
            places.append(place)
        else:
            if not asker.requests or (standing := counts.take_now(asker.plan.requests.rates, asker.requests, 1.0)) is not None:
                return Held(asker, places, standing)
        for place in places:
            counts.release(place)
        return None

    async def enter(self, model: str, limits: LimitsSpec, principal: Principal, ip: str) -> Held:
        """Counts one request, and takes a place of those that may be under way.

        What is refused counts for nothing.

        Args:
            model: The model asked.
            limits: Its limits.
            principal: Who asks.
            ip: The client's address.

        Raises:
            TooManyRequests: There were too many, or too many are under way.
            NotReady: The counters cannot be reached, and a rate says to refuse then.
        """
        asker = self._askers.get((model, id(limits), principal.id, ip)) or self._asker(model, limits, principal, ip)
        held = Held(asker)
        try:
            for most, name, label in asker.concurrent:
                held.places.append(await self._place(model, name, most, label))
            if asker.requests:
                held.standing = await self._taken(held, asker.plan.requests.rates, asker.requests, 1.0)
        except BaseException:
            self.leave(held)
            raise
        return held

    def rows_now(self, held: Held, n: int) -> bool:
        """As `rows`, where that can be said without asking anybody; False where `rows` must be asked."""
        asker = held.asker
        plan = asker.plan
        if plan.max_rows is not None and n > plan.max_rows:
            return False
        if asker.rows and n > 0:
            standing = self._counts.take_now(plan.rows.rates, asker.rows, n)
            if standing is None:
                return False
            held.passed(standing)
        return True

    async def rows(self, held: Held, n: int) -> None:
        """Counts the rows of a request.

        Args:
            held: What `enter` returned.
            n: How many they are.

        Raises:
            PayloadTooLarge: They are more than may ever come in one request.
            TooManyRequests: There were too many.
            NotReady: The counters cannot be reached, and a rate says to refuse then.
        """
        plan = held.asker.plan
        if plan.max_rows is not None and n > plan.max_rows:
            self._heard.limited(plan.model, "max_rows")
            raise PayloadTooLarge(f"the request has {n} rows; one request may have {plan.max_rows}: send them in several")
        if not plan.rows.rates or n <= 0:
            return
        for rate in plan.rows.rates:
            if n > rate.capacity:
                self._heard.limited(plan.model, rate.label)
                raise PayloadTooLarge(
                    f"the request has {n} rows; {rate.capacity:g} may come at once ({rate}), so it would never pass: send them in several"
                )
        held.passed(await self._taken(held, plan.rows.rates, held.asker.rows, float(n)))

    def leave(self, held: Held) -> None:
        """Gives the places back; a second time does nothing. Never raises."""
        places, held.places = held.places, []
        for place in places:
            self._counts.release(place)

    async def close(self) -> None:
        """Lets go of the counters."""
        await self._counts.close()

    async def _place(self, model: str, name: bytes, most: int, label: str) -> Place:
        place = await self._counts.hold(name, most)
        if place is None:
            self._heard.limited(model, label)
            raise _crowded(most)
        return place

    async def _taken(self, held: Held, rates: Sequence[Rate], names: Sequence[bytes], cost: float) -> Standing:
        standing = await self._counts.take(rates, names, cost)
        if not standing.allowed and standing.rate is not None:
            self._heard.limited(held.asker.plan.model, standing.rate.label)
            held.standing = None  # the error says all
            raise _too_many(standing, standing.rate)
        return standing

    def _asker(self, model: str, limits: LimitsSpec, principal: Principal, ip: str) -> Asker:
        plan = self._plans.get((model, id(limits))) or self._planned(model, limits)
        address = b"ip:" + counted_address(ip)
        key = address if principal.is_anonymous else principal.id.encode()
        if len(self._askers) >= _ASKERS:
            self._askers.clear()
        concurrent = tuple((most, prefix + key, label) for most, prefix, label in plan.concurrent)
        made = Asker(plan, plan.requests.names(key, address), plan.rows.names(key, address), concurrent)
        self._askers[model, id(limits), principal.id, ip] = made
        return made

    def _planned(self, model: str, limits: LimitsSpec) -> Plan:
        if len(self._plans) >= _PLANS:
            self._plans.clear()
            self._askers.clear()
        # NOTE: the plan keeps the limits, so that no others get their id.
        plan = self._plans[model, id(limits)] = Plan(model, limits, self._everywhere)
        return plan


def limits_anything(limits: LimitsSpec) -> bool:
    """Whether these are limits at all."""
    return bool(limits.rates) or limits.concurrent is not None or limits.max_rows is not None


@lru_cache(4096)
def counted_address(ip: str) -> bytes:
    """What an address is counted as: itself, or its /64, for one client of IPv6 has at least so many addresses."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return ip.encode(errors="replace")
    if isinstance(address, ipaddress.IPv4Address):
        return address.packed
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped.packed
    return address.packed[: _IPV6_SITE_BITS // 8]


def _share(standing: Standing) -> float:
    return standing.left / standing.rate.capacity if standing.rate is not None else 1.0


def _too_many(standing: Standing, rate: Rate) -> TooManyRequests:
    return TooManyRequests(
        f"too many {rate.unit}: the limit is {rate}; try again in {standing.wait_s:.3g} s",
        retry_after_s=standing.wait_s,
        limit=rate.limit,
        window_s=rate.window_s,
        capacity=rate.capacity,
        left=standing.left,
        reset_s=standing.reset_s,
    )


def _crowded(most: int) -> TooManyRequests:
    right = "wait for an answer before the next is sent"
    return TooManyRequests(
        f"too many requests under way: {most} at once for each key; {right}", retry_after_s=1.0, limit=most, window_s=0.0
    )
