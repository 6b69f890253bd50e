"""Trains ``flight_delay``: will a flight that leaves New York arrive more than 15 minutes late?

    python -m training.flight_delay                               trees, January to April
    python -m training.flight_delay --framework torch             a network for the same signature, as a challenger
    python -m training.flight_delay --from 5 --to 8 --tag flight_delay:2013.08
    python -m training.flight_delay --data rows.parquet           what was logged, as `ekiben retrain` calls it

The last 15 % of the days judge the model, the 15 % before them tune its threshold, the rest teach it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import numpy.typing as npt

from ekiben.model import load_spec
from ekiben.model.artifact import FEATURES
from ekiben.model.features import load_transform
from ekiben.model.parity import MIN_ROWS
from ekiben.settings import Settings
from training.command import MODELS, code_of, execute, training_options
from training.datasets import MONTHS, Dataset, load_flights
from training.job import Job, Trained
from training.logged import load_logged
from training.progress import Step, Steps
from training.splits import by_days

FOLDER: Final = MODELS / "flight_delay"
TREES: Final[dict[str, Any]] = {"trees": 100, "learning_rate": 0.06, "max_leaf_nodes": 31, "min_samples_leaf": 300, "max_features": 0.3}
NETWORK: Final[dict[str, Any]] = {"epochs": 5, "batch_rows": 512, "learning_rate": 2e-3, "weight_decay": 1e-4, "hidden": 64}
OBJECTIVE: Final = "highest F1 of late on the validation days"
_FEWEST_ROWS: Final = 2_000


@click.command()
@click.option("--from", "first_month", type=click.IntRange(1, MONTHS), default=1, show_default=True, help="First month of the window.")
@click.option("--to", "last_month", type=click.IntRange(1, MONTHS), default=4, show_default=True, help="Last month, included.")
@click.option("--framework", type=click.Choice(["sklearn", "torch"]), default="sklearn", show_default=True, help="Trees or a network.")
@click.option("--max-rows", type=click.IntRange(min=_FEWEST_ROWS), help="Train on this many rows at most, spread over the window.")
@training_options
def main(
    *,
    first_month: int,
    last_month: int,
    framework: str,
    max_rows: int | None,
    tag: str | None,
    seed: int,
    if_missing: bool,
    data_file: Path | None,
    as_json: bool,
) -> None:
    """Train flight_delay and register it: the first version becomes the champion, later ones do not."""

    def prepare(settings: Settings, steps: Steps) -> Job:
        if data_file is not None:
            return flight_job(load_logged(data_file, FOLDER, steps), framework=framework, seed=seed, max_rows=max_rows)
        with steps.step(f"Read the flights of months {first_month} to {last_month}") as step:
            data = load_flights(settings.home, first_month=first_month, last_month=last_month)
            step.tell(f"{data.n:,} rows, {data.target.mean():.1%} late")
        return flight_job(data, framework=framework, seed=seed, max_rows=max_rows)

    execute(prepare, tag=tag, if_missing=if_missing, as_json=as_json)


def flight_job(data: Dataset, *, framework: str, seed: int, max_rows: int | None = None) -> Job:
    """Describes the training of flight_delay.

    Args:
        data: Flights, as `load_flights` or `load_logged` gives them.
        framework: ``sklearn`` or ``torch``.
        seed: Equal seeds, equal models.
        max_rows: Rows to split into parts, at most; the export is compared on rows of the whole window all the same.
    """
    limit = {} if max_rows is None else {"max_rows": max_rows}
    own = _trees() if framework == "sklearn" else _network()
    return Job(
        folder=FOLDER,
        data=data,
        split=by_days(data if max_rows is None else data.thin(max_rows)),
        fit=partial(own.fit, seed=seed),
        parameters={"framework": framework, **own.parameters, "threshold": OBJECTIVE, "seed": seed, **limit},
        code=code_of(__file__, *own.modules),
        packages=own.packages,
        rounds=own.rounds,
        # A short window of the log has fewer rows: then the export must agree with the original on every one there is.
        min_parity_rows=min(MIN_ROWS, data.n),
    )


@dataclass(frozen=True)
class _Framework:
    """What is a framework's own."""

    fit: Callable[..., Trained]
    parameters: dict[str, Any]
    modules: tuple[str, ...]
    packages: tuple[str, ...]
    rounds: int


def _trees() -> _Framework:
    return _Framework(_fit_trees, TREES, ("flight_trees",), ("scikit-learn", "skl2onnx", "onnx", "numpy"), TREES["trees"])


def _network() -> _Framework:
    packages = ("torch", "onnx", "onnxscript", "onnx-ir", "numpy")
    return _Framework(_fit_network, NETWORK, ("flight_network", "reproducible"), packages, NETWORK["epochs"])


# Each framework takes seconds to import: a run that finds its model registered imports neither.


def _fit_trees(data: Dataset, step: Step, *, seed: int) -> Trained:
    from training.flight_trees import fit_trees  # noqa: PLC0415

    return fit_trees(_features(data), data.target, parameters=TREES, seed=seed, advance=step.advance)


def _fit_network(data: Dataset, step: Step, *, seed: int) -> Trained:
    from training.flight_network import fit_network  # noqa: PLC0415

    sizes = tuple(len(item.categories or ()) for item in load_spec(FOLDER / "model.yaml").inputs if item.type == "string")
    return fit_network(_features(data), data.target, sizes=sizes, parameters=NETWORK, seed=seed, advance=step.advance)


def _features(data: Dataset) -> npt.NDArray[Any]:
    """float32 ``[n, features]``, made by the code that makes them for each request."""
    return load_transform(FOLDER / FEATURES)(data.columns)["features"]


if __name__ == "__main__":
    main()
