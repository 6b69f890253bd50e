"""``ekiben controller``: carries out rollouts in a process of its own, beside servers or instead of them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import click

from ekiben.cli.log_lines import print_log

if TYPE_CHECKING:
    from ekiben.rollout.controller import Controller
    from ekiben.settings import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line.")
def controller(*, as_json: bool) -> None:
    """Carry out rollouts: go through their steps, watch them, roll back. Of several that run, servers among them, one works.

    Runs until SIGTERM or SIGINT. `EKIBEN_CONTROLLER=off` has servers leave it to this command.
    """
    import signal  # noqa: PLC0415  commands import what they need when they run
    import threading  # noqa: PLC0415

    from ekiben.settings import load_settings  # noqa: PLC0415

    print_log(("ekiben.controller", "ekiben.webhooks"), as_json=as_json)
    made = _controller(load_settings())
    stop = threading.Event()
    former = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        made.run(stop)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        logging.getLogger("ekiben.controller").info("stopped")


def _controller(settings: Settings) -> Controller:
    import os  # noqa: PLC0415
    import socket  # noqa: PLC0415

    from ekiben.registry import open_registry  # noqa: PLC0415
    from ekiben.rollout.opening import open_controller  # noqa: PLC0415
    from ekiben.state.opening import open_control  # noqa: PLC0415

    control = open_control(settings)
    return open_controller(settings, control, open_registry(settings, control=control), f"{socket.gethostname()}:{os.getpid()}")
