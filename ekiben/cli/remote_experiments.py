"""Experiments through a server's admin API."""

from __future__ import annotations

from urllib.parse import quote

from ekiben.cli.remote import AdminClient
from ekiben.rollout.experiment_view import ExperimentView


class RemoteExperiments:
    """`ekiben.rollout.experiment_view.ExperimentOperations`, answered by a server.

    Args:
        client: Asks it.
    """

    def __init__(self, client: AdminClient) -> None:
        self._client = client

    def start(self, model: str, arms: dict[str, str], *, weights: tuple[float, ...] | None = None, metric: str = "") -> ExperimentView:
        """See `ExperimentOperations`."""
        body = {"model": model, "arms": arms, "weights": weights, "metric": metric}
        return self._client.ask("POST", "/experiments", ExperimentView, body=body)

    def status(self, model_or_id: str) -> ExperimentView:
        """See `ExperimentOperations`."""
        return self._client.ask("GET", f"/experiments/{quote(model_or_id, safe='')}", ExperimentView)

    def stop(self, model: str, *, promote: str | None = None, reason: str = "") -> ExperimentView:
        """See `ExperimentOperations`."""
        body = {"promote": promote, "reason": reason}
        return self._client.ask("POST", f"/experiments/{quote(model, safe='')}/stop", ExperimentView, body=body)
