"""The control database as a whole, in a database."""

from __future__ import annotations

from ekiben.state.control import Control
from ekiben.state.database import Database
from ekiben.state.generations import read_generations
from ekiben.state.schema import ALIASES_PART, LOADS_PART, ROUTES_PART
from ekiben.state.sql_alerts import SqlAlerts
from ekiben.state.sql_aliases import SqlAliases
from ekiben.state.sql_checks import SqlChecks
from ekiben.state.sql_deliveries import SqlDeliveries
from ekiben.state.sql_events import SqlEvents
from ekiben.state.sql_keys import SqlKeys
from ekiben.state.sql_leases import SqlLeases
from ekiben.state.sql_loads import SqlLoads
from ekiben.state.sql_measurements import SqlMeasurements
from ekiben.state.sql_rollouts import SqlRollouts
from ekiben.state.sql_routes import SqlRoutes
from ekiben.state.sql_truth import SqlTruths
from ekiben.state.sql_windows import SqlWindows
from ekiben.state.sql_workers import SqlWorkers


class SqlControl(Control, frozen=True, kw_only=True):
    """A control database that all processes share.

    Attributes:
        database: Where everything is; close it to close all connections.
    """

    database: Database

    def generation(self) -> tuple[int, ...]:
        """See `Control`; all in one query."""
        return read_generations(self.database, ALIASES_PART, LOADS_PART, ROUTES_PART)


def sql_control(database: Database) -> SqlControl:
    """Everything that is kept in a database."""
    return SqlControl(
        name=database.name,
        database=database,
        aliases=SqlAliases(database),
        loads=SqlLoads(database),
        routes=SqlRoutes(database),
        rollouts=SqlRollouts(database),
        measurements=SqlMeasurements(database),
        windows=SqlWindows(database),
        events=SqlEvents(database),
        leases=SqlLeases(database),
        workers=SqlWorkers(database),
        truths=SqlTruths(database),
        deliveries=SqlDeliveries(database),
        checks=SqlChecks(database),
        alerts=SqlAlerts(database),
        keys=SqlKeys(database),
    )
