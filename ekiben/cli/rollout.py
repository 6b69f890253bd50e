"""``ekiben rollout``: a new version reaches users in steps, watched, and goes back by itself when it is worse."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ekiben.cli.printing import json_option, print_json, print_table
from ekiben.cli.server_options import ServerOption, operations_of, server_options

if TYPE_CHECKING:
    from ekiben.model.rollout_spec import PlanSpec
    from ekiben.rollout.interface import RolloutOperations
    from ekiben.rollout.views import StatusView

_plan_option = click.option("--plan", "plan_file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="A plan, in YAML.")
_watch_option = click.option("--watch", is_flag=True, help="Follow it until it ends: exit code 0 Completed, 3 rolled back or aborted.")
_limit_option = click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="The most that are shown.")


@click.group()
def rollout() -> None:
    """Roll a new version out in steps, watched; it goes back by itself when it is worse."""


@rollout.command()
@click.argument("name")
@click.option("--to", required=True, metavar="VERSION", help="The version on trial: VERSION, NAME:VERSION, latest or an alias.")
@_plan_option
@_watch_option
@server_options
@json_option
def start(name: str, *, to: str, plan_file: Path | None, watch: bool, server: ServerOption | None, as_json: bool) -> None:
    """Start a rollout of model NAME.

    The plan is that of --plan, else `rollout:` in models/NAME/model.yaml, else the one the version was made with, else the
    default plan; `ekiben rollout plan NAME` shows it. The steps are carried out by running servers or `ekiben controller`.
    """
    operations = operations_of(server)
    view = operations.start(name, to, plan=_read(plan_file))
    if watch:
        _follow(operations, view, server, as_json=as_json)
    elif as_json:
        print_json(view)
    else:
        click.echo(f"{view.id}: {view.model} goes from {view.champion} to {view.challenger}:")
        for step in view.steps:
            click.echo(f"  {step.index + 1}. {step.what}")
        click.echo(f"next: {view.next}\nwatch it: {_again(view, server)}\nstop it: {_command('abort', name, server)}")


@rollout.command()
@click.argument("name", metavar="[NAME-or-ID]", required=False)
@_watch_option
@server_options
@json_option
def status(name: str | None, *, watch: bool, server: ServerOption | None, as_json: bool) -> None:
    """Show the rollout of model NAME, or with an ID; left out, of all that are active."""
    operations = operations_of(server)
    if name is not None:
        views = [operations.status(name)]
    else:
        views = [operations.status(found.id) for found in operations.rollouts(active=True) if found.kind == "rollout"]
    if watch:
        if len(views) != 1:
            raise click.UsageError(f"{', '.join(v.model for v in views) or 'nothing'} is active; give a NAME to watch")
        _follow(operations, views[0], server, as_json=as_json)
    elif as_json:
        print_json(views[0] if name is not None else views)
    elif views:
        for view in views:
            _show(view)
    else:
        click.echo("no rollout is active; `ekiben rollout list` shows those that ended")


@rollout.command()
@click.argument("name")
@click.option("--full", is_flag=True, help="Past all steps: the challenger becomes champion at once.")
@server_options
@json_option
def promote(name: str, *, full: bool, server: ServerOption | None, as_json: bool) -> None:
    """Go on to the next step without waiting; approve."""
    _answer(operations_of(server).promote(name, full=full), as_json=as_json)


@rollout.command()
@click.argument("name")
@server_options
@json_option
def pause(name: str, *, server: ServerOption | None, as_json: bool) -> None:
    """Stop where it stands, until `resume`. A challenger that fails is rolled back nevertheless."""
    _answer(operations_of(server).pause(name), as_json=as_json)


@rollout.command()
@click.argument("name")
@server_options
@json_option
def resume(name: str, *, server: ServerOption | None, as_json: bool) -> None:
    """Go on where it was paused."""
    _answer(operations_of(server).resume(name), as_json=as_json)


@rollout.command()
@click.argument("name")
@click.option("--reason", default="", metavar="TEXT", help="Why; goes into the events.")
@server_options
@json_option
def abort(name: str, *, reason: str, server: ServerOption | None, as_json: bool) -> None:
    """End it: the champion answers everything again, within a second."""
    _answer(operations_of(server).abort(name, reason=reason), as_json=as_json)


@rollout.command()
@click.argument("name")
@_limit_option
@server_options
@json_option
def history(name: str, *, limit: int, server: ServerOption | None, as_json: bool) -> None:
    """Show what happened to model NAME: when, who, what and why."""
    events = operations_of(server).history(name, limit=limit)
    if as_json:
        print_json(events)
    elif events:
        print_table(("TIME", "WHO", "ROLLOUT", "WHAT", "WHY"), [(_time(e.time), e.who, e.rollout, e.kind, e.message) for e in events])
    else:
        click.echo(f"nothing happened to {name} yet")


@rollout.command("list")
@click.argument("name", required=False)
@click.option("--active", is_flag=True, help="Only those that are active.")
@_limit_option
@server_options
@json_option
def list_(name: str | None, *, active: bool, limit: int, server: ServerOption | None, as_json: bool) -> None:
    """List rollouts and experiments, of all models or of NAME, the latest first."""
    found = operations_of(server).rollouts(model=name, active=True if active else None, limit=limit)
    if as_json:
        print_json(found)
    elif found:
        rows = [(r.id, f"{r.champion} → {_on_trial(r)}", r.status, _time(r.created), r.created_by, r.message) for r in found]
        print_table(("ID", "VERSIONS", "STATUS", "STARTED", "BY", ""), rows)
    else:
        click.echo("there are no rollouts; `ekiben rollout start NAME --to VERSION` starts one")


@rollout.command()
@click.argument("name", required=False)
@_plan_option
@server_options
@json_option
def plan(name: str | None, *, plan_file: Path | None, server: ServerOption | None, as_json: bool) -> None:
    """Print the plan that a rollout would have, as YAML: that of --plan once it is checked, of NAME, or the default plan."""
    import msgspec  # noqa: PLC0415  commands import what they need when they run
    import yaml  # noqa: PLC0415

    from ekiben.rollout.plan import default_plan  # noqa: PLC0415

    found = _read(plan_file)
    if found is None:
        found = default_plan() if name is None else operations_of(server).plan(name)
    if as_json:
        print_json(found)
    else:
        click.echo(yaml.safe_dump(msgspec.to_builtins(found), sort_keys=False, allow_unicode=True), nl=False)


def _read(plan_file: Path | None) -> PlanSpec | None:
    if plan_file is None:
        return None
    from ekiben.rollout.plan import read_plan  # noqa: PLC0415  commands import what they need when they run

    return read_plan(plan_file)


def _follow(operations: RolloutOperations, view: StatusView, server: ServerOption | None, *, as_json: bool) -> None:
    from ekiben.cli.rollout_watch import watch  # noqa: PLC0415  commands import what they need when they run

    raise click.exceptions.Exit(watch(lambda: operations.status(view.id), as_json=as_json, sleep=time.sleep, again=_again(view, server)))


def _show(view: StatusView) -> None:
    from ekiben.cli.rollout_view import print_status  # noqa: PLC0415  commands import what they need when they run

    print_status(view)


def _answer(view: StatusView, *, as_json: bool) -> None:
    if as_json:
        print_json(view)
        return
    click.echo(f"{view.id} is {view.status}" + (f": {view.message}" if view.message else ""))
    if view.next and not view.ended:
        click.echo(f"next: {view.next}")


def _again(view: StatusView, server: ServerOption | None) -> str:
    return f"{_command('status', view.model, server)} --watch"


def _command(verb: str, name: str, server: ServerOption | None) -> str:
    """A command that asks whom this one asked; the key is left for the person to give."""
    return f"ekiben rollout {verb} {name}" + (f" --server {server.url} --key-file FILE" if server is not None else "")


def _on_trial(found: Any) -> str:
    return found.challenger or ", ".join(f"{arm.name} {arm.version}" for arm in found.arms)


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
