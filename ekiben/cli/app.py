"""``ekiben``: the commands, and how errors leave it: 0 done, 1 an error of ours, 2 wrong usage."""

from __future__ import annotations

from typing import Any

import click

from ekiben import __version__
from ekiben.cli.audit import audit
from ekiben.cli.controller import controller
from ekiben.cli.database import database
from ekiben.cli.drift import drift
from ekiben.cli.experiment import experiment
from ekiben.cli.keys import keys
from ekiben.cli.log import log
from ekiben.cli.models import models
from ekiben.cli.monitor import monitor
from ekiben.cli.predict import predict
from ekiben.cli.printing import print_error
from ekiben.cli.quality import quality
from ekiben.cli.report import report
from ekiben.cli.retrain import retrain
from ekiben.cli.rollback import rollback
from ekiben.cli.rollout import rollout
from ekiben.cli.truth import truth
from ekiben.errors import EkibenError, LogError

_OF_MONITOR = ("pyarrow", "duckdb", "scipy", "sklearn")
"""What the extra ``monitor`` brings: a server has none of it."""


class EkibenGroup(click.Group):
    """A group whose commands' `EkibenError` ends the process with a clear line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command.

        Raises:
            click.ClickException: In place of an `EkibenError`.
        """
        try:
            return super().invoke(ctx)
        except EkibenError as e:
            raise Failed(e) from e
        except ModuleNotFoundError as e:
            name = (e.name or "").partition(".")[0]
            if name not in _OF_MONITOR:
                raise
            raise Failed(LogError(f"this needs {name}, which is not installed here; pip install 'ekiben[monitor]'")) from e


class Failed(click.ClickException):
    """An `EkibenError` on its way to the user."""

    exit_code = 1

    def __init__(self, error: EkibenError) -> None:
        super().__init__(str(error))
        self.error = error

    def show(self, file: Any = None) -> None:
        """Prints the error on stderr."""
        print_error(self.error, file)


@click.group(cls=EkibenGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="ekiben")
def main() -> None:
    """Take a trained model to production: register it, look at it, run it."""


main.add_command(models)
main.add_command(predict)
main.add_command(rollback)
main.add_command(rollout)
main.add_command(experiment)
main.add_command(truth)
main.add_command(log)
main.add_command(quality)
main.add_command(drift)
main.add_command(report)
main.add_command(retrain)
main.add_command(keys)
main.add_command(audit)
main.add_command(controller)
main.add_command(monitor)
main.add_command(database)
