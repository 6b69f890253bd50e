from __future__ import annotations

from dataclasses import replace

import pytest

from ekiben.model.artifact import FEATURES


def test_equal_jobs_have_equal_recipes(tiny_job):
    assert tiny_job().recipe() == tiny_job().recipe()


@pytest.mark.parametrize("what", ["parameters", "data", "spec", "features", "code", "packages", "split"])
def test_whatever_decides_the_outcome_changes_the_recipe(tiny_job, tmp_path, what):
    code = tmp_path / "code.py"
    code.write_text("1")
    job = tiny_job(code=(code,))
    before = job.recipe()
    if what == "parameters":
        job = replace(job, parameters={"seed": 1})
    elif what == "data":
        job = replace(job, data=job.data.take(job.data.target >= 0).thin(599))
    elif what == "spec":
        spec = job.folder / "model.yaml"
        spec.write_text(spec.read_text() + "latency_budget_ms: 7\n")
    elif what == "features":
        (job.folder / FEATURES).write_text("def transform(columns):\n    return dict(columns)\n")
    elif what == "code":
        code.write_text("2")
    elif what == "packages":
        job = replace(job, packages=("numpy", "click"))
    else:
        job = replace(job, split=replace(job.split, train=job.split.train.thin(10)))
    assert job.recipe() != before


def test_the_card_does_not_change_the_recipe(tiny_job):
    job = tiny_job()
    before = job.recipe()
    (job.folder / "README.md").write_text("better words")
    assert job.recipe() == before


def test_features_are_there_when_the_file_is(tiny_job):
    job = tiny_job()
    assert job.features is None
    (job.folder / FEATURES).write_text("")
    assert job.features == job.folder / FEATURES
