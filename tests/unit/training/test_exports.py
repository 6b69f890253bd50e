from __future__ import annotations

import logging
import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ekiben.model.runtimes import open_runtime
from training import exports
from training.exports import save_sklearn, save_torch, sklearn_to_onnx, torch_to_onnx

ROWS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)


@pytest.fixture
def estimator():
    return LogisticRegression().fit(ROWS, (ROWS.sum(axis=1) > 0).astype(int))


@pytest.fixture
def module():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout(0.9), torch.nn.Softmax(dim=1))


def outputs_of(model, folder, feeds):
    runtime = open_runtime(model.framework, folder / model.file)
    name = next(o.name for o in runtime.outputs if o.name in ("probabilities", "output_0"))
    return runtime.run(feeds, [name])[name]


def test_both_forms_of_an_estimator_give_its_probabilities(estimator, tmp_path):
    wanted = estimator.predict_proba(ROWS)
    native = outputs_of(save_sklearn(estimator, tmp_path), tmp_path, {"matrix": ROWS})
    exported = outputs_of(sklearn_to_onnx(estimator, tmp_path, name="numbers", columns=3), tmp_path, {"numbers": ROWS})
    np.testing.assert_allclose(native, wanted)
    np.testing.assert_allclose(exported, wanted, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 50])
def test_both_forms_of_a_module_take_any_number_of_rows_and_drop_nothing_out(module, tmp_path, n):
    with torch.inference_mode():
        wanted = module.eval()(torch.from_numpy(ROWS[:n])).numpy()
    module.train()
    example = torch.from_numpy(ROWS[:2])
    native = save_torch(module, tmp_path, example=example)
    exported = torch_to_onnx(module.train(), tmp_path, example=example, name="numbers", output="probabilities")
    runtime = open_runtime("torch", tmp_path / native.file)
    given = runtime.run({runtime.inputs[0].name: ROWS[:n]}, ["output_0"])["output_0"]
    np.testing.assert_allclose(given, wanted, atol=1e-6)
    np.testing.assert_allclose(outputs_of(exported, tmp_path, {"numbers": ROWS[:n]}), wanted, atol=1e-6)


def test_equal_models_give_equal_graphs(estimator, module, tmp_path):
    example = torch.from_numpy(ROWS[:2])
    made = []
    for _ in range(2):
        sklearn_to_onnx(estimator, tmp_path, name="numbers", columns=3)
        made.append((tmp_path / exports.ONNX).read_bytes())
        torch_to_onnx(module, tmp_path, example=example, name="numbers", output="probabilities")
        made.append((tmp_path / exports.ONNX).read_bytes())
    assert made[:2] == made[2:]


def test_what_converters_warn_of_stays_inside_and_everything_is_as_before_afterwards():
    logger = logging.getLogger("torch")
    before = logger.level

    def convert():
        with exports._quiet():
            warnings.warn("an old numpy type", DeprecationWarning, stacklevel=1)
            assert logger.level == logging.CRITICAL
            raise ValueError("the converter failed")

    with pytest.raises(ValueError, match="converter"):
        convert()
    assert logger.level == before
