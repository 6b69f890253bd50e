import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ekiben.monitoring.drift_tests import adjusted, chi_squared, jensen_shannon, ks_p_value, pooled, population_stability, wasserstein


def test_rare_bins_are_pooled_by_the_rows_of_both():
    shares = np.array([0.5, 0.02, 0.02, 0.02, 0.4, 0.04])
    counts, joined = pooled(np.array([40, 1, 2, 3, 50, 4]), shares, 1000)
    # Of 100 rows the rare bins expect 4 + 2.1 + 2 + 1.9: nearly ten, one group.
    assert counts.tolist() == [40, 50, 10]
    assert joined.tolist() == pytest.approx([0.5, 0.4, 0.1])
    assert pooled(np.array([40, 1, 2, 3, 50, 104]), shares, 1000)[0].tolist() == [40, 50, 104, 6]


def test_groups_of_rare_bins_expect_five_rows_and_few_more():
    counts, shares = pooled(np.ones(100), np.full(100, 0.01), 1000)
    assert counts.tolist() == [9, *[10] * 8, 11]
    assert shares.sum() == pytest.approx(1)


def test_what_is_too_rare_joins_others_and_stands_beside_a_single_bin():
    assert pooled(np.array([50, 46, 4]), np.array([0.5, 0.5, 0.0]), 1000)[0].tolist() == [50, 50]
    assert pooled(np.array([96, 4]), np.array([1.0, 0.0]), 10_000)[0].tolist() == [100]
    assert pooled(np.array([95, 5]), np.array([1.0, 0.0]), 10_000)[0].tolist() == [95, 5]


def test_a_window_of_few_rows_is_one_bin():
    counts, shares = pooled(np.array([1, 2]), np.array([0.5, 0.5]), 50)
    assert (counts.tolist(), shares.tolist()) == ([3], [1.0])
    assert pooled(np.array([0, 0]), np.array([0.5, 0.5]), 50)[0].tolist() == [0]


@given(st.lists(st.integers(0, 200), min_size=1, max_size=30), st.integers(1, 10_000), st.data())
def test_pooling_loses_no_row_and_no_share(counts, m, data):
    weights = np.array(data.draw(st.lists(st.floats(0, 1), min_size=len(counts), max_size=len(counts)))) + 1e-9
    joined, shares = pooled(np.array(counts), weights / weights.sum(), m)
    assert joined.sum() == pytest.approx(sum(counts))
    assert shares.sum() == pytest.approx(1)


def test_bins_found_in_small_samples_raise_no_alarm():
    rng = np.random.default_rng(0)
    rarity = 1 / np.arange(1, 301)
    p_values = []
    for _ in range(300):
        window, reference = (rng.multinomial(n, rarity / rarity.sum()) for n in (600, 700))
        p_values.append(chi_squared(*pooled(window, reference / 700, 700), 700)[1])
    assert np.mean(np.array(p_values) < 0.05) < 0.09


def test_p_values_of_ks_are_those_of_scipy():
    rng = np.random.default_rng(0)
    for n, m, shift in ((300, 5000, 0.1), (1000, 1000, 0.05), (80, 90, 0.3)):
        found = stats.ks_2samp(rng.normal(size=n), rng.normal(shift, size=m), method="exact")
        assert ks_p_value(found.statistic, n, m) == pytest.approx(found.pvalue, rel=0.1)


def test_a_small_reference_proves_little():
    assert ks_p_value(0.1, 1000, 100_000) < 1e-6
    assert ks_p_value(0.1, 1000, 50) > 0.5
    assert ks_p_value(0.5, 0, 50) == 1.0


def test_chi_squared_is_that_of_a_table_of_two_rows():
    counts, reference = np.array([30, 50, 20]), np.array([250, 500, 250])
    expected = stats.chi2_contingency(np.array([counts, reference]), correction=False)
    assert chi_squared(counts, reference / 1000, 1000) == pytest.approx((expected.statistic, expected.pvalue))


@pytest.mark.parametrize(("counts", "shares", "m"), [([9], [1.0], 50), ([9, 0], [1.0, 0.0], 50), ([0, 0], [0.5, 0.5], 50)])
def test_chi_squared_of_nothing_to_compare(counts, shares, m):
    assert chi_squared(np.array(counts), np.array(shares), m) == (0.0, 1.0)


def test_psi_of_large_samples_is_its_formula():
    p, q = np.array([0.3, 0.7]), np.array([0.1, 0.9])
    found = population_stability(np.array([300_000, 700_000]), q, 1_000_000)
    assert found.psi == pytest.approx(np.sum((p - q) * np.log(p / q)), rel=1e-3)
    assert found.psi < found.psi_high < found.psi * 1.02


def test_psi_without_drift_is_free_of_bias_and_its_bound_covers():
    rng = np.random.default_rng(1)
    q = np.full(10, 0.1)
    p = np.array([0.14, 0.06, *[0.1] * 8])
    true = np.sum((p - q) * np.log(p / q))
    raw = [population_stability(rng.multinomial(500, p), rng.multinomial(2000, q) / 2000, 2000) for _ in range(400)]
    assert np.mean([effect.psi for effect in raw]) == pytest.approx(true, abs=0.003)
    assert 0.9 < np.mean([effect.psi_high >= true for effect in raw]) < 0.99


def test_psi_of_an_empty_bin_is_finite_and_grows_with_the_evidence():
    small = population_stability(np.array([100, 0]), np.array([0.8, 0.2]), 10_000).psi
    large = population_stability(np.array([10_000, 0]), np.array([0.8, 0.2]), 10_000).psi
    assert 0.2 < small < large < 5
    assert population_stability(np.array([100]), np.array([1.0]), 50) == (0.0, 0.0)
    assert population_stability(np.array([0, 0]), np.array([0.5, 0.5]), 50) == (0.0, 0.0)


def test_jensen_shannon_goes_from_0_to_1():
    from scipy.spatial.distance import jensenshannon

    p, q = np.array([3, 5, 2]), np.array([0.1, 0.2, 0.7])
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p / 10, q, base=2))
    assert jensen_shannon(np.array([4, 0]), np.array([1.0, 0.0])) == 0
    assert jensen_shannon(np.array([4, 0]), np.array([0.0, 1.0])) == pytest.approx(1)
    assert jensen_shannon(np.array([0, 0]), np.array([0.0, 1.0])) == 0


def test_wasserstein_within_points_and_beyond():
    points = np.array([0.0, 1.0, 2.0])
    assert wasserstein(points, np.array([0.0, 0.5, 0.0])) == pytest.approx(0.5)
    assert wasserstein(points, np.array([0.0, 0.5, 0.0]), 0.5) == pytest.approx(0.5)
    assert wasserstein(points, np.array([0.0, 0.5, 0.0]), 0.8) == pytest.approx(0.8)
    assert wasserstein(points, np.array([0.0, 0.5, 0.0]), -0.2) == pytest.approx(1.2)


def test_p_values_are_adjusted_together():
    assert adjusted([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert adjusted([]) == []
