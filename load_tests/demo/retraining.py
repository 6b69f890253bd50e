"""``python -m load_tests.demo.retraining --data FILE --json``: the training script of the demo, which `ekiben retrain` calls.

A month of flights was answered in seconds. The rows' times are stretched to days again, so that whole days tune and judge the new
version as they did the first one. All else is that of `training.flight_delay`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import numpy.typing as npt

from ekiben.settings import Settings
from training.command import execute, training_options
from training.datasets import Dataset
from training.flight_delay import FOLDER, flight_job
from training.job import Job
from training.logged import load_logged
from training.progress import Steps

WINDOW_DAYS: Final = 60
_DAY_MIN: Final = 1440


@click.command()
@training_options
def main(*, tag: str | None, seed: int, if_missing: bool, data_file: Path | None, as_json: bool) -> None:
    """Train flight_delay on what the demo's server was asked."""
    if data_file is None:
        raise click.UsageError("--data FILE is missing; `ekiben retrain flight_delay` makes the file")

    def prepare(_settings: Settings, steps: Steps) -> Job:
        return flight_job(stretched(load_logged(data_file, FOLDER, steps)), framework="sklearn", seed=seed)

    execute(prepare, tag=tag, if_missing=if_missing, as_json=as_json)


def stretched(data: Dataset) -> Dataset:
    """The same rows, as many each day, over `WINDOW_DAYS` days that end with the last row's."""
    if data.times is None or data.n == 0:
        return data
    back_min: npt.NDArray[Any] = (np.arange(data.n)[::-1] * (WINDOW_DAYS * _DAY_MIN) // data.n).astype(np.int64)
    return replace(data, times=data.times[-1] - back_min.astype("timedelta64[m]"))


if __name__ == "__main__":
    main()
