"""``ekiben monitor``: looks after the log, checks models, tells of alerts; and shows what it found."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ekiben.cli.log_lines import print_log
from ekiben.cli.printing import json_option, print_fields, print_json, print_table

if TYPE_CHECKING:
    from ekiben.monitoring.check_due import Due
    from ekiben.monitoring.checking import Checker
    from ekiben.monitoring.watched import Watched
    from ekiben.state import Control
    from ekiben.state.checks import Check

_LOGGERS: Final = ("ekiben.monitor", "ekiben.webhooks", "ekiben.log")
_WATCH_S: Final = 0.5
_NICE: Final = 10
_PATIENCE_S: Final = 1.0
models_option = click.option(
    "--models",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("models"),
    show_default=True,
    help="The models folder; what its model.yaml files say of `monitor` is in force at once.",
)


@click.group()
def monitor() -> None:
    """Look after what was logged: compact it, check models for drift and quality, tell of alerts."""


@monitor.command("run")
@click.option("--once", is_flag=True, help="Do what is due now, and end.")
@click.option("--with-parent", "parent", type=int, metavar="PID", help="End when that process ends.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line.")
@models_option
def run(*, once: bool, parent: int | None, as_json: bool, models: Path) -> None:
    """Run the monitor, one a host, until SIGTERM or SIGINT. Of several, one checks models; each looks after its own host's log."""
    import os  # noqa: PLC0415  commands import what they need when they run
    import signal  # noqa: PLC0415
    import socket  # noqa: PLC0415
    import threading  # noqa: PLC0415

    from ekiben.monitoring.opening import open_monitor  # noqa: PLC0415
    from ekiben.registry import open_registry  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415
    from ekiben.state.opening import open_control  # noqa: PLC0415

    print_log(_LOGGERS, as_json=as_json)
    if parent is not None:
        os.nice(_NICE)  # who started it has people to answer
    settings = load_settings()
    control = open_control(settings)
    registry, holder = open_registry(settings, control=control), f"{socket.gethostname()}:{os.getpid()}"
    made = open_monitor(settings, control, registry, holder=holder, models=models)
    if once:
        made.tick()
        made.send()
        made.release()
        return
    stop = threading.Event()
    former = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    # A daemon: what takes long is left behind, which is what it is made for.
    worker = threading.Thread(target=made.run, args=(stop,), name="ekiben-monitor", daemon=True)
    worker.start()
    try:
        _wait(stop, parent)
    finally:
        stop.set()
        worker.join(_PATIENCE_S)
        for number, handler in former.items():
            signal.signal(number, handler)
        logging.getLogger("ekiben.monitor").info("stopped")


def _wait(stop: Any, parent: int | None) -> None:
    """Waits until it is to stop, or a process is gone."""
    import os  # noqa: PLC0415  as above

    from ekiben.monitoring.workers import is_alive  # noqa: PLC0415

    is_child = parent is not None and os.getppid() == parent
    while not stop.wait(_WATCH_S):
        if parent is not None and not (os.getppid() == parent if is_child else is_alive(parent)):
            return


@monitor.command("check")
@click.argument("name", metavar="MODEL")
@models_option
@json_option
def check(name: str, *, models: Path, as_json: bool) -> None:
    """Check MODEL now: its champion and the versions on trial."""
    import time  # noqa: PLC0415  commands import what they need when they run

    _, checker, versions = _opened(name, models)
    found = checker.check(versions, time.time())
    if as_json:
        print_json(found)
    else:
        _print_checks(found)


@monitor.command("status")
@click.argument("name", metavar="MODEL")
@models_option
@json_option
def status(name: str, *, models: Path, as_json: bool) -> None:
    """Show the latest checks of MODEL, when the next ones are due, and its alerts."""
    import time  # noqa: PLC0415  commands import what they need when they run

    from ekiben.monitoring.monitor import LEASE  # noqa: PLC0415

    control, checker, versions = _opened(name, models)
    now, holder = time.time(), control.leases.holder(LEASE)
    latest, due = _latest(control, versions), None if checker.missing else checker.due(versions[0], now)
    alerts = [alert for alert in control.alerts.find(name) if alert.state != "resolved"]
    if as_json:
        print_json({"model": name, "champion": versions[0].version, "monitor": holder, "next": due, "checks": latest, "alerts": alerts})
        return
    coming = _elsewhere(checker.missing) if due is None else _next(due, now)
    print_fields([("champion", f"{name}:{versions[0].version}"), ("monitor", holder or "none runs"), ("next check", coming)])
    click.echo()
    if latest:
        _print_checks(latest)
    else:
        click.echo("there are no checks yet")
    if alerts:
        click.echo()
        rows = [(alert.name, alert.state, _time(alert.since), alert.severity, ", ".join(alert.to), alert.message) for alert in alerts]
        print_table(("ALERT", "STATE", "SINCE", "SEVERITY", "TOLD TO", "WHY"), rows)


def _opened(name: str, models: Path) -> tuple[Control, Checker, list[Watched]]:
    """The control database, what checks, and a model's versions that are watched, the champion first."""
    from ekiben.monitoring.opening import open_checker  # noqa: PLC0415
    from ekiben.monitoring.watched import WatchedVersions  # noqa: PLC0415
    from ekiben.registry import open_registry  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415
    from ekiben.state.opening import open_control  # noqa: PLC0415

    settings = load_settings()
    control = open_control(settings)
    registry = open_registry(settings, control=control)
    registry.resolve(name)  # says which models there are where this is none of them
    versions = WatchedVersions(control, registry, models).of(name)
    return control, open_checker(settings, control), versions


def _latest(control: Control, versions: list[Watched]) -> list[Check]:
    watched = {version.version for version in versions}
    return [check for check in control.checks.latest(versions[0].model) if check.version in watched]


def _print_checks(checks: list[Check]) -> None:
    rows = [(c.version, c.kind, c.arm or "all", _time(c.time), str(c.rows), c.outcome, c.summary) for c in checks]
    print_table(("VERSION", "CHECK", "ARM", "DONE", "ROWS", "OUTCOME", "WHAT WAS FOUND"), rows)


def _next(due: Due, now: float) -> str:
    when = "" if due.at is None else "now" if due.at <= now else _time(due.at)
    return f"{when}: {due.why}" if when else due.why


def _elsewhere(missing: Sequence[str]) -> str:
    so = ", and the log is shipped as it is" if "pyarrow" in missing else ""
    return f"checks are made where 'ekiben[monitor]' is installed; here {' and '.join(missing)} is missing{so}"


def _time(moment: float) -> str:
    from datetime import datetime  # noqa: PLC0415  as above

    return f"{datetime.fromtimestamp(moment).astimezone():%Y-%m-%d %H:%M:%S}"
