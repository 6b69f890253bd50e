"""The monitor that the settings describe."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ekiben.monitoring.alerts import MONITOR, Alerting
from ekiben.monitoring.channels import Channels, send_mail
from ekiben.monitoring.checking import Checker
from ekiben.monitoring.log_keeper import open_keeper
from ekiben.monitoring.monitor import Monitor
from ekiben.monitoring.retrain_triggers import RetrainTriggers
from ekiben.monitoring.unread_log import UnreadLog
from ekiben.monitoring.watched import WatchedVersions
from ekiben.registry.store import Registry
from ekiben.settings import Settings
from ekiben.state.alerts import QUEUE
from ekiben.state.control import Control
from ekiben.state.delivering import Deliverer
from ekiben.state.webhooks import post

if TYPE_CHECKING:
    from ekiben.monitoring.drift_check import LogRows

ALERT_TRIES: Final = 300
"""About a day; then the alert is told anew, where it still fires."""


def open_checker(settings: Settings, control: Control) -> Checker:
    """What checks versions by the log of the settings."""
    return Checker(_rows(settings), control.checks, control.truths)


def open_monitor(settings: Settings, control: Control, registry: Registry, *, holder: str, models: Path | None) -> Monitor:
    """A monitor with the log and the channels of the settings.

    Args:
        settings: The settings in force.
        control: The control database.
        registry: The versions.
        holder: Who it is: ``host:pid``.
        models: The models folder, see `WatchedVersions`.

    Raises:
        LogError: The library for the place that the log is shipped to is not installed.
    """
    log = _rows(settings)
    channels = Channels(settings, wall=time.time, send=post, mail=send_mail)
    watched = WatchedVersions(control, registry, models)
    return Monitor(
        control,
        watched=watched,
        checker=Checker(log, control.checks, control.truths),
        alerting=Alerting(control, lambda model, since, until: log.count(model, since=since, until=until)),
        deliverer=Deliverer(
            QUEUE,
            control.deliveries,
            control.events,
            who=MONITOR,
            wall=time.time,
            attempt=channels.attempt,
            name=lambda delivery: f"the channel {delivery.url}",
            tries=ALERT_TRIES,
        ),
        keeper=open_keeper(settings, watched.log_spec),
        holder=holder,
        wall=time.time,
        clock=time.monotonic,
        retrain=RetrainTriggers(control, registry, wall=time.time, folder=models),
    )


def _rows(settings: Settings) -> LogRows:
    """What reads the log of the settings.

    Raises:
        LogError: The library for the place that it is shipped to is not installed.
    """
    if find_spec("pyarrow") is None:
        return UnreadLog()
    from ekiben.monitoring.log_reader import open_log  # noqa: PLC0415  needs pyarrow

    return open_log(settings)
