"""A connection to PostgreSQL that waits only so long for an answer. Importing this imports psycopg."""

from __future__ import annotations

from typing import Any

import psycopg


class PatientConnection(psycopg.Connection[Any]):
    """A connection that is closed when the server takes longer than ``patience_s`` to answer, whatever the network says.

    TCP alone notices only a peer that acknowledges nothing; one that is stopped, or a proxy whose server went away, is waited
    for without end.
    """

    patience_s: float = 5.0

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Waits for one exchange with the server.

        Raises:
            psycopg.OperationalError: No answer came in time, or the connection broke; it is closed then.
        """
        try:
            return super().wait(gen, interval, self.patience_s if timeout is None else timeout)
        except psycopg.OperationalError as e:
            if e.sqlstate is None:  # the client says so and not the server, which then still owes an answer
                self.pgconn.finish()
            raise
