"""The command line that the training scripts share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from ekiben.errors import EkibenError
from ekiben.registry import open_registry
from ekiben.settings import Settings, load_settings
from training.job import Job
from training.pipeline import run
from training.progress import Steps

MODELS: Final = Path(__file__).parent.parent / "models"

_OPTIONS: Final = (
    click.option("--tag", metavar="NAME:VERSION", help="Tag of the new version. Default: made from the time."),
    click.option("--seed", type=int, default=0, show_default=True, help="Equal seeds give equal models."),
    click.option("--if-missing", is_flag=True, help="Train nothing if a version made by the same recipe is registered."),
    click.option(
        "--data",
        "data_file",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="Learn from these rows of the inference log instead; `ekiben retrain` makes the file.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON; progress goes to standard error."),
)


def training_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds --tag, --seed, --if-missing, --data and --json to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def execute(prepare: Callable[[Settings, Steps], Job], *, tag: str | None, if_missing: bool, as_json: bool) -> None:
    """Runs a job from its data to the printed outcome.

    Args:
        prepare: Reads the data and describes the job.
        tag: Tag of the new version.
        if_missing: Whether an equal version that is there will do.
        as_json: Whether to print JSON.

    Raises:
        click.ClickException: Whatever went wrong, as people should read it; the process ends with status 1.
    """
    steps = Steps(Console(stderr=True))
    try:
        settings = load_settings()
        outcome = run(prepare(settings, steps), open_registry(settings), steps, tag=tag, if_missing=if_missing)
    except EkibenError as e:
        raise click.ClickException(str(e)) from e
    if as_json:
        click.echo(outcome.as_json())
    else:
        outcome.show(Console())


def code_of(script: str, *modules: str) -> tuple[Path, ...]:
    """The files of a script and of the modules beside it that decide how its model is trained.

    Args:
        script: The script's ``__file__``.
        modules: Names of modules in ``training``.
    """
    here = Path(__file__).parent
    return (Path(script), *(here / f"{name}.py" for name in (*modules, "datasets", "exports", "metrics", "splits")))
