"""The control database as a whole: one object for each thing it keeps."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from ekiben.state.alerts import Alerts, MemoryAlerts
from ekiben.state.aliases import Aliases, MemoryAliases
from ekiben.state.checks import Checks, MemoryChecks
from ekiben.state.deliveries import Deliveries, MemoryDeliveries
from ekiben.state.events import Events, MemoryEvents
from ekiben.state.keys import Keys, MemoryKeys
from ekiben.state.leases import Leases, MemoryLeases
from ekiben.state.loads import Loads, MemoryLoads
from ekiben.state.measurements import Measurements, MemoryMeasurements
from ekiben.state.rollouts import MemoryRollouts, Rollouts
from ekiben.state.routes import MemoryRoutes, Routes
from ekiben.state.truth import MemoryTruths, Truths
from ekiben.state.windows import MemoryWindows, Windows
from ekiben.state.workers import MemoryWorkers, Workers


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that workers, controller and commands share.

    Attributes:
        name: The database, as people may see it.
        aliases: The database's own; in a Bento, the registry's have those it was built with beneath them.
    """

    name: str
    aliases: Aliases
    loads: Loads
    routes: Routes
    rollouts: Rollouts
    measurements: Measurements
    windows: Windows
    events: Events
    leases: Leases
    workers: Workers
    truths: Truths
    deliveries: Deliveries
    checks: Checks
    alerts: Alerts
    keys: Keys

    def generation(self) -> tuple[int, ...]:
        """Changes with every change of aliases, loads and routes, which decide what is loaded. Cheap: every worker asks twice a second.

        Raises:
            StateError: The control database cannot be read.
        """
        return self.aliases.generation(), self.loads.generation(), self.routes.generation()


def memory_control(wall: Callable[[], float] = time.time, *, aliases: Aliases | None = None, loads: Loads | None = None) -> Control:
    """A control database that lives as long as the object.

    Args:
        wall: Seconds since the epoch.
        aliases: Aliases that are there already.
        loads: Loads that are there already.
    """
    aliases = aliases if aliases is not None else MemoryAliases()
    routes, events, measurements, deliveries = MemoryRoutes(), MemoryEvents(), MemoryMeasurements(), MemoryDeliveries()
    return Control(
        name="memory",
        aliases=aliases,
        loads=loads if loads is not None else MemoryLoads(),
        routes=routes,
        rollouts=MemoryRollouts(aliases, routes, events, measurements),
        measurements=measurements,
        windows=MemoryWindows(),
        events=events,
        leases=MemoryLeases(wall),
        workers=MemoryWorkers(wall),
        truths=MemoryTruths(),
        deliveries=deliveries,
        checks=MemoryChecks(),
        alerts=MemoryAlerts(events, deliveries),
        keys=MemoryKeys(events),
    )
