"""The three models learn, the same seed gives the same model, and whatever a request may hold gives probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ekiben.model.runtimes import open_runtime
from training.digit_network import fit_digits
from training.digits import PARAMETERS as DIGITS
from training.flight_delay import NETWORK, TREES
from training.flight_network import fit_network
from training.flight_trees import fit_trees

SIZES = (4, 3, 5)
# Rows between two odd ends: codes of unknown categories, and no number at all.
FEATURES = np.random.default_rng(0).normal(size=(3_000, 10)).astype(np.float32)
FEATURES[:, :3] = np.random.default_rng(1).integers(0, SIZES, size=(3_000, 3))
FEATURES[::5, 6] = np.nan
FEATURES[0, :3] = -1
FEATURES[-1, 3:] = np.nan
LATE = (FEATURES[:, 3] + (FEATURES[:, 0] == 2) > 0.7).astype(np.int64)


def trees(seed, told=lambda _: None):
    return fit_trees(FEATURES, LATE, parameters={**TREES, "trees": 25}, seed=seed, advance=told)


def network(seed, told=lambda _: None):
    return fit_network(FEATURES, LATE, sizes=SIZES, parameters={**NETWORK, "epochs": 8}, seed=seed, advance=told)


def probabilities(trained, folder) -> np.ndarray:
    model = trained.export(folder)
    return open_runtime("onnx", folder / model.file).run({"features": FEATURES}, ["probabilities"])["probabilities"]


@pytest.mark.parametrize("fit", [trees, network])
def test_a_flight_model_learns_and_answers_every_row(fit, tmp_path):
    found = probabilities(fit(0), tmp_path)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert ((found[:, 1] > 0.5) == LATE).mean() > 0.9


@pytest.mark.parametrize("fit", [trees, network])
def test_the_seed_decides_the_model(fit, tmp_path):
    first, again, other = (probabilities(fit(seed), tmp_path) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


def test_progress_is_told_in_the_units_that_were_promised():
    grown, epochs = [], []
    trees(0, grown.append)
    network(0, epochs.append)
    assert grown == [10, 10, 5]
    assert epochs == [1] * 8


def test_trees_grown_in_parts_are_those_grown_at_once(tmp_path):
    from sklearn.ensemble import HistGradientBoostingClassifier

    chosen = {name: value for name, value in TREES.items() if name != "trees"}
    at_once = HistGradientBoostingClassifier(**chosen, max_iter=25, early_stopping=False, random_state=0).fit(FEATURES, LATE)
    np.testing.assert_allclose(probabilities(trees(0), tmp_path), at_once.predict_proba(FEATURES), atol=1e-6)


def test_a_category_that_training_never_met_says_nothing(tmp_path):
    seen = FEATURES.copy()
    seen[:, 2] = np.clip(seen[:, 2], 0, 3)
    trained = fit_network(seen, LATE, sizes=SIZES, parameters={**NETWORK, "epochs": 1}, seed=0, advance=lambda _: None)
    model = trained.export(tmp_path)
    rows = np.repeat(FEATURES[1:2], 2, axis=0)
    rows[:, 2] = [4, -1]
    found = open_runtime("onnx", tmp_path / model.file).run({"features": rows}, ["probabilities"])["probabilities"]
    np.testing.assert_array_equal(found[0], found[1])


def digits(seed, *, native=False):
    images = np.zeros((80, 8, 8), np.float32)
    target = np.arange(80) % 10
    images[np.arange(80), target % 8, target // 2] = 16
    return images, fit_digits(images, target, parameters={**DIGITS, "epochs": 60}, seed=seed, advance=lambda _: None, native=native)


def test_the_digits_network_learns_and_its_export_agrees_with_the_program(tmp_path):
    images, trained = digits(0)
    native, exported = trained.save(tmp_path), trained.export(tmp_path)
    assert trained.keep_native
    program = open_runtime("torch", tmp_path / native.file)
    wanted = program.run({program.inputs[0].name: images}, ["output_0"])["output_0"]
    found = open_runtime("onnx", tmp_path / exported.file).run({"image": images}, ["probabilities"])["probabilities"]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert (found.argmax(axis=1) == np.arange(80) % 10).mean() > 0.9


def test_the_digits_network_can_be_served_by_torch_alone():
    assert digits(0, native=True)[1].export is None


def test_training_leaves_torch_as_it_was():
    torch.set_num_threads(2)
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    network(0)
    assert torch.rand(1) == wanted
    assert torch.get_num_threads() == 2
    assert not torch.are_deterministic_algorithms_enabled()
