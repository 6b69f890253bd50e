"""``ekiben retrain``: a model learns from what it was asked and what really happened, and is tried before it serves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ekiben.cli.moments import moment_of
from ekiben.cli.printing import json_option, print_fields, print_json
from ekiben.cli.server_options import person

if TYPE_CHECKING:
    from ekiben.model.rollout_spec import PlanSpec
    from ekiben.monitoring.retraining import Retrained, Retraining
    from ekiben.monitoring.training_window import LabelledRows
    from ekiben.registry import Registry
    from ekiben.settings import Settings
    from ekiben.state.control import Control

_MONITOR = "monitor"
_MODELS = Path("models")


def _duration(_ctx: click.Context, _param: click.Parameter, text: str | None) -> float | None:
    from ekiben.model.rollout_spec import seconds  # noqa: PLC0415  commands import what they need when they run

    try:
        found = None if text is None else seconds(text)
    except ValueError as e:
        raise click.BadParameter(str(e)) from None
    if found == 0:
        raise click.BadParameter("is 0; it must be longer, for example 120d")
    return found


def _moment(_ctx: click.Context, _param: click.Parameter, text: str | None) -> float | None:
    import time  # noqa: PLC0415  commands import what they need when they run

    return None if text is None else moment_of(text, time.time(), "--until")


@click.command()
@click.argument("name")
@click.option("--window", "window_s", metavar="DURATION", callback=_duration, help="How far back the rows reach; default: the model's own.")
@click.option("--until", metavar="TIME", callback=_moment, help="Up to when: ISO 8601, or how long ago; left out, now.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained on, and train nothing.")
@click.option("--no-rollout", is_flag=True, help="Train, register and compare only.")
@click.option("--trigger", default="", metavar="REASON", help="What called for it, where no person does; goes into events and lineage.")
@json_option
def retrain(
    name: str, *, window_s: float | None, until: float | None, dry_run: bool, no_rollout: bool, trigger: str, as_json: bool
) -> None:
    """Train model NAME anew on logged rows whose ground truth is known, and put the new version on trial.

    The newest fifth of the rows is held back: where the new version is not surely better on it than the champion, it stays
    registered and no rollout starts. The model's training script is run with the rows, see docs/85-retraining.md.
    """
    import time  # noqa: PLC0415  commands import what they need when they run

    from ekiben.monitoring.retraining import refuse_active  # noqa: PLC0415
    from ekiben.registry import open_registry  # noqa: PLC0415
    from ekiben.settings import load_settings  # noqa: PLC0415
    from ekiben.state.opening import open_control  # noqa: PLC0415

    settings = load_settings()
    control = open_control(settings)
    registry = open_registry(settings, control=control)
    who = _MONITOR if trigger else person()
    retraining = _retraining(settings, control, registry, who)
    if dry_run:
        _show(retraining.look(name, window_s=window_s, until=until), as_json=as_json)
        return
    if not no_rollout:
        refuse_active(control, name)
    with _ended_by_sigterm():
        done = retraining.run(name, window_s=window_s, until=until, trigger=trigger)
    if done.outcome == "better" and not no_rollout:
        done = _tried(done, control, registry, who, time.time)
    _show(done, as_json=as_json)


def _retraining(settings: Settings, control: Control, registry: Registry, who: str) -> Retraining:
    import os  # noqa: PLC0415  commands import what they need when they run
    import socket  # noqa: PLC0415
    import time  # noqa: PLC0415

    from ekiben.monitoring.retraining import Retraining  # noqa: PLC0415
    from ekiben.monitoring.training_script import run_script  # noqa: PLC0415

    def train(module: str, data: Path) -> str:
        return run_script(module, data, tell=lambda line: click.echo(line, err=True))

    rows = labelled_rows(settings, control)
    holder = f"{socket.gethostname()}:{os.getpid()}"
    return Retraining(control, registry, rows=rows, train=train, who=who, holder=holder, wall=time.time, folder=_MODELS)


def labelled_rows(settings: Settings, control: Control) -> LabelledRows:
    """The log joined with ground truth.

    Raises:
        RetrainingError: What reads it is not installed.
    """
    from ekiben.errors import RetrainingError  # noqa: PLC0415  commands import what they need when they run

    try:
        from ekiben.monitoring.ground_truth import joined  # noqa: PLC0415
        from ekiben.monitoring.log_reader import open_log  # noqa: PLC0415
    except ModuleNotFoundError as e:
        raise RetrainingError(f"the package {e.name}, which reads the log, is not installed; `pip install 'ekiben[monitor,train]'`") from e
    log = open_log(settings)

    def rows(model: str, *, since: float, until: float) -> Any:
        return joined(log, control.truths, model, since=since, until=until, columns=("features",)).table

    return rows


def _tried(done: Retrained, control: Control, registry: Registry, who: str, wall: Any) -> Retrained:
    """The outcome with the rollout that was started."""
    import msgspec  # noqa: PLC0415  commands import what they need when they run

    from ekiben.rollout.operations import Operations  # noqa: PLC0415

    assert done.challenger is not None  # what is better was trained
    operations = Operations(control, registry, who=who, wall=wall, plan_folder=_MODELS)
    plan = shadow_first(operations.plan(done.model, to=done.challenger))
    view = operations.start(done.model, done.challenger, plan=plan)
    return msgspec.structs.replace(done, rollout=view.id)


def shadow_first(plan: PlanSpec) -> PlanSpec:
    """A plan that begins in shadow, as it stands or with the default plan's first steps before its own.

    What a machine trained answers nobody before it was watched.
    """
    import msgspec  # noqa: PLC0415  commands import what they need when they run

    from ekiben.rollout.plan import default_plan  # noqa: PLC0415

    if plan.steps and plan.steps[0].shadow is not None:
        return plan
    return msgspec.structs.replace(plan, steps=(*default_plan().steps[:2], *plan.steps))


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does: the training script with it, and the failure is among the events."""
    import signal  # noqa: PLC0415  commands import what they need when they run

    def end(*_: Any) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    former = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _show(done: Retrained, *, as_json: bool) -> None:
    if as_json:
        print_json(done)
        return
    click.echo(done.message)
    print_fields(
        [
            ("champion", done.champion),
            ("new version", done.challenger or ""),
            ("window", f"{_date(done.since)} to {_date(done.until)}"),
            ("rows answered", f"{done.answered:,}, {done.labelled_share:.1%} with ground truth"),
            ("trained on", f"{done.rows:,} rows"),
            ("compared on", f"{done.held_back:,} newer rows"),
        ]
    )
    if done.rollout is not None:
        click.echo(f"{done.rollout} started, in shadow; watch it: ekiben rollout status {done.model} --watch")
    elif done.outcome == "better":
        click.echo(f"try it: ekiben rollout start {done.model} --to {done.challenger}")


def _date(time_s: float) -> str:
    from datetime import UTC, datetime  # noqa: PLC0415  commands import what they need when they run

    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
