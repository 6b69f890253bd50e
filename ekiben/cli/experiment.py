"""``ekiben experiment``: arms that stand side by side, and which of them is better."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ekiben.cli.printing import json_option, print_json
from ekiben.cli.server_options import ServerOption, person, server_options

if TYPE_CHECKING:
    from ekiben.rollout.experiment_view import ExperimentOperations, ExperimentView

_EVERY_S = 2.0
_INTERRUPTED = 130


@click.group()
def experiment() -> None:
    """Compare versions on real users (A/B): each arm gets its share of them, and it is told when one is better."""


@experiment.command()
@click.argument("name")
@click.option("--arm", "arms", metavar="ARM=VERSION", multiple=True, required=True, help="An arm; the others are compared with the first.")
@click.option(
    "--weights", metavar="50,50", help="Percent of the users, an arm each; equal shares of all when left out. The champion has the rest."
)
@click.option("--metric", default="", help="What is compared: accuracy, f1, mae, outcome …; the model's own when left out.")
@server_options
@json_option
def start(
    name: str, *, arms: tuple[str, ...], weights: str | None, metric: str, server: ServerOption | None, as_json: bool
) -> None:  # fmt: skip
    """Start an experiment on model NAME: --arm old=VERSION --arm new=VERSION."""
    found = _operations(server).start(name, _arms(arms), weights=_weights(weights), metric=metric)
    _show(found, as_json=as_json)
    if not as_json:
        click.echo(f"`ekiben experiment status {name} --watch` follows it, `ekiben experiment stop {name}` ends it")


@experiment.command()
@click.argument("name", metavar="NAME-or-ID")
@click.option("--watch", is_flag=True, help="Go on showing it until it ends.")
@server_options
@json_option
def status(name: str, *, watch: bool, server: ServerOption | None, as_json: bool) -> None:
    """Show the experiment on model NAME: its arms, their differences, and whether one may stop now."""
    operations = _operations(server)
    if watch:
        raise click.exceptions.Exit(_watch(operations, name, as_json=as_json))
    _show(operations.status(name), as_json=as_json)


@experiment.command()
@click.argument("name")
@click.option("--promote", metavar="ARM", help="Make this arm's version the champion.")
@click.option("--reason", default="", help="Why, for the history.")
@server_options
@json_option
def stop(name: str, *, promote: str | None, reason: str, server: ServerOption | None, as_json: bool) -> None:
    """Stop the experiment on model NAME; the champion answers everything again."""
    _show(_operations(server).stop(name, promote=promote, reason=reason), as_json=as_json)


def _operations(server: ServerOption | None) -> ExperimentOperations:
    """What answers about experiments: the control database here, or the server."""
    if server is not None:
        from ekiben.cli.remote_experiments import RemoteExperiments  # noqa: PLC0415  httpx takes a while to import

        return RemoteExperiments(server.client())
    import time  # noqa: PLC0415  as the others here: only a local command needs them

    from ekiben.registry import open_registry  # noqa: PLC0415
    from ekiben.rollout.experiment_operations import Experiments  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415
    from ekiben.state.opening import open_control  # noqa: PLC0415

    settings = load_settings()
    return Experiments(open_control(settings), open_registry(settings), who=person(), wall=time.time)


def _arms(given: tuple[str, ...]) -> dict[str, str]:
    arms: dict[str, str] = {}
    for text in given:
        name, equals, version = text.partition("=")
        if not (name and equals and version):
            raise click.UsageError(f"--arm is {text!r}; it must be ARM=VERSION")
        if name in arms:
            raise click.UsageError(f"--arm {name} is given twice; arms have different names")
        arms[name] = version
    return arms


def _weights(given: str | None) -> tuple[float, ...] | None:
    try:
        return None if given is None else tuple(float(weight) for weight in given.split(","))
    except ValueError:
        raise click.UsageError(f"--weights is {given!r}; it must be a percentage for each arm, as in 50,50") from None


def _show(view: ExperimentView, *, as_json: bool) -> None:
    from ekiben.cli.experiment_view import print_experiment  # noqa: PLC0415  commands import what they need when they run

    if as_json:
        print_json(view)
    else:
        print_experiment(view)


def _watch(operations: ExperimentOperations, name: str, *, as_json: bool) -> int:
    """Shows an experiment until it ends: anew every two seconds on a terminal, a line for each change elsewhere.

    A database or server that does not answer is waited for, once it has answered.

    Returns:
        The exit code: 130 where somebody pressed Ctrl-C.
    """
    import time  # noqa: PLC0415  commands import what they need when they run

    import msgspec  # noqa: PLC0415

    from ekiben.cli.experiment_view import print_experiment, state_of, summary_line  # noqa: PLC0415
    from ekiben.errors import StateError  # noqa: PLC0415

    is_live = sys.stdout.isatty() and not as_json
    last: object = None
    view = operations.status(name)
    try:
        while True:
            if is_live:
                click.clear()
                print_experiment(view)
            elif state_of(view) != last:
                last = state_of(view)
                click.echo(msgspec.json.encode(view) if as_json else summary_line(view))
            if view.ended:
                return 0
            time.sleep(_EVERY_S)
            try:
                view = operations.status(name)
            except StateError as e:
                click.echo(f"waits: {e}", err=True)
    except KeyboardInterrupt:
        return _INTERRUPTED
