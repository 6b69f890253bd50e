"""Who may ask, and how often: what stands before the data plane, for every transport.

    head of the request ─▶ `Gate.enter` (who is it, may they, how often) ─▶ … rows are decoded … ─▶ `Gate.rows` ─▶ … ─▶ `Gate.leave`

Both have a twin that asks nobody, and so need not be awaited: what is known here lets most requests in. A gate through which
everybody may costs a look at two headers.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ekiben.guards.auth import Authenticator
from ekiben.guards.client_address import ClientAddress, TrustedProxies
from ekiben.guards.counts_opening import open_counts
from ekiben.guards.limiter import Heard, Held, Limiter
from ekiben.guards.limits_file import limits_everywhere
from ekiben.guards.principal import PREDICT, Principal
from ekiben.model.guard_spec import LimitsSpec
from ekiben.settings import Settings

Headers = Mapping[bytes, bytes]
NO_LIMITS = LimitsSpec()


class Visit(msgspec.Struct, frozen=True):
    """A request that was let in.

    Attributes:
        principal: Who asks.
        held: What it holds of the limits; None where nothing is limited.
    """

    principal: Principal
    held: Held | None = None


class Gate:
    """Lets requests in.

    Args:
        authenticator: Says who asks.
        limiter: Says whether they have asked too often.
        address: Says from where.

    Attributes:
        is_open: Whether those who say nothing of themselves may predict.
    """

    def __init__(self, authenticator: Authenticator, limiter: Limiter, address: ClientAddress) -> None:
        self._authenticator = authenticator
        self._limiter = limiter
        self._address = address
        self._anonymous = Visit(authenticator.anonymous)
        self.is_open = authenticator.anonymous.may(PREDICT)

    def enter_now(
        self, scope: str, model: str | None, headers: Headers, peer: tuple[str, int] | None, limits: LimitsSpec | None = None
    ) -> Visit | None:
        """As `enter`, where that can be said without asking anybody, as nearly always; None where `enter` must be asked.

        Raises:
            Unauthenticated: As `enter`.
        """
        principal = self._authenticator.known(headers)
        if principal is None or not principal.may(scope, model):
            return None
        if limits is None or not self._limiter.concerns(limits):
            return self._anonymous if principal is self._anonymous.principal else Visit(principal)
        held = self._limiter.enter_now(model or "", limits, principal, self._address.of(peer, headers))
        return None if held is None else Visit(principal, held)

    async def enter(
        self, scope: str, model: str | None, headers: Headers, peer: tuple[str, int] | None, limits: LimitsSpec | None = None
    ) -> Visit:
        """Lets a request in.

        Args:
            scope: What it wants to do.
            model: To which model; None for none.
            headers: The request's, by lower-case name.
            peer: The address of the connection.
            limits: The model's, for what is counted; None for what is not.

        Raises:
            Unauthenticated, Forbidden: As `Authenticator.authorize`.
            TooManyRequests, NotReady: As `Limiter.enter`.
        """
        principal = await self._authenticator.identify(headers)
        self._authenticator.authorize(principal, scope, model)
        if limits is None or not self._limiter.concerns(limits):
            return self._anonymous if principal is self._anonymous.principal else Visit(principal)
        address = self._address.of(peer, headers)
        return Visit(principal, await self._limiter.enter(model or "", limits, principal, address))

    def rows_now(self, held: Held, n: int) -> bool:
        """As `rows`, where that can be said without asking anybody, as nearly always; False where `rows` must be asked."""
        return self._limiter.rows_now(held, n)

    def rows(self, held: Held, n: int) -> Coroutine[Any, Any, None]:
        """Counts the rows of a request that was let in and holds something of the limits; to be awaited.

        Raises:
            PayloadTooLarge, TooManyRequests, NotReady: As `Limiter.rows`.
        """
        return self._limiter.rows(held, n)

    async def close(self) -> None:
        """Lets go of the counters."""
        await self._limiter.close()

    def leave(self, visit: Visit | None) -> None:
        """The request was answered, or nobody waits for it any more; None was not let in."""
        if visit is not None and visit.held is not None:
            self._limiter.leave(visit.held)


class HearsLimits(Heard, Protocol):
    """Hears what limits do."""

    def backend_up(self, up: bool) -> None:  # noqa: FBT001  a gauge of 0 and 1
        """Whether the counters can be reached."""


def open_gate(settings: Settings, authenticator: Authenticator, metrics: HearsLimits, *, folder: Path) -> Gate:
    """The gate of the settings. Make it in the worker, once.

    Args:
        settings: The settings in force.
        authenticator: Says who asks.
        metrics: Hears what limits do.
        folder: Where ``limits.yaml`` may be.

    Raises:
        SettingError, SpecError: Settings or that file say what cannot be.
    """
    counts = open_counts(settings, on_change=metrics.backend_up)
    limiter = Limiter(counts, limits_everywhere(settings, folder), heard=metrics)
    return Gate(authenticator, limiter, ClientAddress(TrustedProxies.parse(settings.trusted_proxies)))
