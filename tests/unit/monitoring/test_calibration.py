import numpy as np
import pytest

from ekiben.monitoring.calibration import BINS, calibration_bins, calibration_error


def by_hand(probabilities, hits):
    """Bin by bin, as the paper writes it."""
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    return sum((bins == b).mean() * abs(hits[bins == b].mean() - probabilities[bins == b].mean()) for b in range(BINS) if (bins == b).any())


def test_the_error_is_the_mean_distance_of_the_bins():
    rng = np.random.default_rng(1)
    probabilities = np.append(rng.random(500), [0.0, 1.0])
    hits = (rng.random(502) < probabilities**2).astype(float)
    assert calibration_error(probabilities, hits) == pytest.approx(by_hand(probabilities, hits))


def test_what_is_right_has_no_error_and_what_is_sure_and_wrong_has_one():
    assert calibration_error(np.array([0.5, 0.5]), np.array([0.0, 1.0])) == pytest.approx(0)
    assert calibration_error(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1)


def test_a_weight_counts_a_row_so_often():
    probabilities, hits = np.array([0.2, 0.7, 0.9]), np.array([0.0, 1.0, 0.0])
    weights = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]])
    for found, counts in zip(calibration_error(probabilities, hits, weights), weights.astype(int), strict=True):
        assert found == pytest.approx(by_hand(np.repeat(probabilities, counts), np.repeat(hits, counts)))


def test_bins_say_what_was_promised_and_what_came():
    found = calibration_bins(np.array([0.01, 0.03, 1.0]), np.array([1.0, 0.0, 1.0]))
    assert [(b.rows, round(b.probability, 3), b.share) for b in found] == [(2, 0.02, 0.5), (1, 1.0, 1.0)]
