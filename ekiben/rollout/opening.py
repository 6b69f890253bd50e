"""The controller that the settings describe."""

from __future__ import annotations

import time

from ekiben.registry.store import Registry
from ekiben.rollout.controller import Controller
from ekiben.rollout.hooks import Hooks
from ekiben.rollout.prometheus import PrometheusQuery
from ekiben.settings import Settings
from ekiben.state.control import Control
from ekiben.state.webhooks import post


def open_controller(settings: Settings, control: Control, registry: Registry, holder: str) -> Controller:
    """A controller with the Prometheus server and the webhooks of the settings.

    Args:
        settings: The settings in force.
        control: The control database.
        registry: The versions.
        holder: Who it is: ``host:pid``, or a worker's id.
    """
    return Controller(
        control,
        registry,
        holder=holder,
        wall=time.time,
        clock=time.monotonic,
        query=PrometheusQuery(settings.prometheus_url),
        hooks=Hooks(control, url=settings.webhook_url, secret_file=settings.webhook_secret_file, wall=time.time, send=post),
    )
