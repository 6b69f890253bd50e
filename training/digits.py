"""Trains ``digits``: which digit is on an 8 x 8 image?

    python -m training.digits                   served by ONNX Runtime, the torch program beside it
    python -m training.digits --runtime torch   served by torch
    python -m training.digits --data FILE       what was logged, as `ekiben retrain` calls it

A quarter of the images, always the same, judges the network; below 97 % nothing is registered.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from ekiben.settings import Settings
from training.command import MODELS, code_of, execute, training_options
from training.datasets import Dataset, load_digits
from training.job import Job, Trained
from training.logged import load_logged
from training.progress import Step, Steps
from training.splits import at_random

FOLDER: Final = MODELS / "digits"
LEAST_ACCURACY: Final = 0.97
PARAMETERS: Final[dict[str, Any]] = {"epochs": 30, "batch_rows": 64, "learning_rate": 2e-3}
PACKAGES: Final = ("torch", "onnx", "onnxscript", "onnx-ir", "scikit-learn", "numpy")


@click.command()
@click.option("--runtime", type=click.Choice(["onnx", "torch"]), default="onnx", show_default=True, help="What serves the model.")
@training_options
def main(*, runtime: str, tag: str | None, seed: int, if_missing: bool, data_file: Path | None, as_json: bool) -> None:
    """Train digits and register it: the first version becomes the champion, later ones do not."""

    def prepare(settings: Settings, steps: Steps) -> Job:
        if data_file is not None:
            return digit_job(load_logged(data_file, FOLDER, steps), runtime=runtime, seed=seed)
        with steps.step("Read the digits") as step:
            data = load_digits(settings.home)
            step.tell(f"{data.n:,} images")
        return digit_job(data, runtime=runtime, seed=seed)

    execute(prepare, tag=tag, if_missing=if_missing, as_json=as_json)


def digit_job(data: Dataset, *, runtime: str, seed: int) -> Job:
    """Describes the training of digits.

    Args:
        data: Images, as `load_digits` or `load_logged` gives them.
        runtime: ``onnx`` or ``torch``.
        seed: Equal seeds, equal models. The split does not depend on it: all versions are judged by the same images.
    """
    return Job(
        folder=FOLDER,
        data=data,
        split=at_random(data),
        fit=partial(_fit, seed=seed, native=runtime == "torch"),
        parameters={**PARAMETERS, "runtime": runtime, "seed": seed},
        code=code_of(__file__, "digit_network", "reproducible"),
        packages=PACKAGES,
        rounds=PARAMETERS["epochs"],
        floors={"accuracy": LEAST_ACCURACY},
        # There are no 5,000 images: the export must agree with the original on every one there is.
        min_parity_rows=data.n,
    )


def _fit(data: Dataset, step: Step, *, seed: int, native: bool) -> Trained:
    # torch takes seconds to import: a run that finds its model registered does not.
    from training.digit_network import fit_digits  # noqa: PLC0415

    return fit_digits(data.columns["image"], data.target, parameters=PARAMETERS, seed=seed, advance=step.advance, native=native)


if __name__ == "__main__":
    main()
