"""What the two scripts promise of their jobs."""

from __future__ import annotations

import pytest

from training import flight_delay
from training.command import MODELS
from training.datasets import load_digits, load_flights
from training.digits import digit_job
from training.flight_delay import flight_job


@pytest.fixture(scope="module")
def january(tmp_path_factory):
    return load_flights(tmp_path_factory.mktemp("home"), last_month=1)


def test_max_rows_limits_what_is_learnt_from_and_not_what_the_export_is_compared_on(january):
    job = flight_job(january, framework="sklearn", seed=0, max_rows=3_000)
    parts = (job.split.train, job.split.validation, job.split.test)
    assert sum(part.n for part in parts) == 3_000
    assert job.data.n == january.n > job.min_parity_rows == 5_000
    assert job.parameters["max_rows"] == 3_000


def test_frameworks_and_seeds_have_recipes_of_their_own(january):
    jobs = [flight_job(january, framework=framework, seed=seed) for framework in ("sklearn", "torch") for seed in (0, 1)]
    assert len({job.recipe() for job in jobs}) == 4
    assert {job.rounds for job in jobs} == {flight_delay.TREES["trees"], flight_delay.NETWORK["epochs"]}
    assert "max_rows" not in jobs[0].parameters


def test_all_digits_are_compared_as_there_are_no_5000(tmp_path):
    job = digit_job(load_digits(tmp_path), runtime="onnx", seed=0)
    assert job.min_parity_rows == 1797
    assert job.floors == {"accuracy": 0.97}
    assert job.folder == MODELS / "digits"


def test_digits_of_all_seeds_are_judged_by_the_same_images(tmp_path):
    data = load_digits(tmp_path)
    first, second = (digit_job(data, runtime="onnx", seed=seed) for seed in (0, 1))
    assert first.split.test.fingerprint() == second.split.test.fingerprint()
    assert first.recipe() != second.recipe()
    assert digit_job(data, runtime="torch", seed=0).recipe() != first.recipe()
