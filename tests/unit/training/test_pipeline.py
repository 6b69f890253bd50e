from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ekiben.errors import RegistryError, VersionExists
from ekiben.model import Predictor
from training.datasets import DataError
from training.pipeline import NotGoodEnough, run


def never(data, step):
    pytest.fail("trained")


def test_a_version_holds_the_model_its_metrics_and_where_it_comes_from(tiny_job, registry, steps):
    job = tiny_job(parameters={"seed": 5})
    outcome = run(job, registry, steps, tag="tiny:1")
    assert (outcome.tag, outcome.champion, outcome.reused, outcome.framework) == ("tiny:1", True, False, "onnx")
    assert outcome.metrics["rows"] == 200
    assert outcome.metrics["roc_auc"] > 0.8
    version = registry.resolve("tiny:1")
    manifest = version.artifact().manifest
    assert manifest.parity["agrees"]
    assert manifest.provenance.recipe == job.recipe()
    assert manifest.provenance.parameters == {"seed": 5}
    counts = {"rows": 600, "train_rows": 200, "validation_rows": 200, "test_rows": 200}
    assert manifest.provenance.data == {"name": "made up", "made": "up", **counts, "fingerprint": job.data.fingerprint()}
    assert version.artifact().profile()["rows"] == 200
    assert (version.path / "README.md").read_text() == "# tiny\n"
    Predictor.open(version.path)


def test_golden_rows_are_written_as_people_write_numbers(tiny_job, registry, steps):
    run(tiny_job(), registry, steps, tag="tiny:1")
    rows = registry.resolve("tiny:1").artifact().golden_rows().rows
    assert len(rows) == 64
    assert all(len(str(abs(value))) < 14 for row in rows for value in row.values() if value is not None)
    assert any(row["c"] is None for row in rows)


def test_feature_code_goes_along(tiny_job, registry, steps):
    job = tiny_job()
    code = "def transform(columns):\n    return dict(columns)\n"
    (job.folder / "features.py").write_text(code)
    run(job, registry, steps, tag="tiny:1")
    assert (registry.resolve("tiny:1").path / "features.py").read_text() == code


def test_a_second_version_does_not_become_the_champion(tiny_job, registry, steps):
    run(tiny_job(), registry, steps, tag="tiny:1")
    outcome = run(tiny_job(), registry, steps, tag="tiny:2")
    assert not outcome.champion
    assert registry.resolve("tiny").version == "1"


def test_an_equal_version_will_do_when_asked(tiny_job, registry, steps):
    first = run(tiny_job(), registry, steps)
    again = run(tiny_job(fit=never), registry, steps, if_missing=True)
    assert again == replace(first, reused=True)


def test_another_recipe_is_trained(tiny_job, registry, steps):
    run(tiny_job(), registry, steps, tag="tiny:1")
    outcome = run(tiny_job(parameters={"seed": 1}), registry, steps, tag="tiny:2", if_missing=True)
    assert not outcome.reused


def test_an_equal_version_with_changed_files_is_not_trusted(tiny_job, registry, steps, shown):
    run(tiny_job(), registry, steps, tag="tiny:1")
    (registry.resolve("tiny:1").path / "model.onnx").write_bytes(b"changed")
    outcome = run(tiny_job(), registry, steps, tag="tiny:2", if_missing=True)
    assert not outcome.reused
    assert "tiny:1 was made by the same recipe, and cannot be trusted" in shown.getvalue()


def test_a_taken_or_impossible_tag_is_refused_before_the_training(tiny_job, registry, steps):
    run(tiny_job(), registry, steps, tag="tiny:1")
    with pytest.raises(VersionExists, match="tiny:1 exists already"):
        run(tiny_job(fit=never), registry, steps, tag="tiny:1")
    with pytest.raises(RegistryError, match="other:1"):
        run(tiny_job(fit=never), registry, steps, tag="other:1")


def test_a_model_below_its_floor_is_not_registered(tiny_job, registry, steps):
    with pytest.raises(NotGoodEnough, match=r"tiny: roc_auc is 0\.\d+ on the held-out rows, and 0\.999 is the least; not registered"):
        run(tiny_job(floors={"roc_auc": 0.999}), registry, steps)
    assert registry.versions() == []


def test_data_that_break_the_signature_are_refused_before_the_training(tiny_job, registry, steps):
    job = tiny_job(fit=never)
    broken = replace(job.split.train, columns={**job.split.train.columns, "a": np.full(200, np.inf, np.float32)})
    with pytest.raises(DataError, match="field 'a'"):
        run(replace(job, split=replace(job.split, train=broken)), registry, steps)


def test_a_training_that_fails_registers_nothing(tiny_job, registry, steps):
    def fails(data, step):
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="luck"):
        run(tiny_job(fit=fails), registry, steps)
    assert registry.versions() == []
