import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from ekiben.model.profile import bin_shares, even_edges, moments, quantile_edges
from ekiben.monitoring.drift_columns import column_drift
from ekiben.monitoring.log_columns import LogColumn

RNG = np.random.default_rng(3)
NORMAL = RNG.normal(10, 2, 20_000)


def numeric(values):
    edges = quantile_edges(values[np.isfinite(values)])
    return {"kind": "numeric", **moments(values), "edges": edges, "shares": bin_shares(values, edges)}


def of_numbers(values, reference, m=20_000, against=None):
    other = None if against is None else LogColumn("x", "input", "float", pa.chunked_array([pa.array(against)]))
    return column_drift(LogColumn("x", "input", "float", pa.chunked_array([pa.array(values)])), reference, m, other)


def of_texts(values, shares, *, other=0.0, missing=0.0, m=20_000):
    reference = {"kind": "categorical", "n": m, "missing": missing, "shares": shares, "other": other}
    return column_drift(LogColumn("x", "input", "string", pa.chunked_array([pa.array(values, pa.string())])), reference, m)


def test_ks_in_bins_is_close_to_that_of_the_values_and_never_above():
    for shift in (0, 0.3, 2):
        window = RNG.normal(10 + shift, 2, 800)
        exact = stats.ks_2samp(window, NORMAL)
        found = of_numbers(window, numeric(NORMAL))
        assert exact.statistic * 0.6 <= found.statistic <= exact.statistic + 1e-9
        assert found.test == "ks"


def test_against_rows_it_is_that_of_the_values():
    window = RNG.normal(10.2, 2, 800)
    found = of_numbers(window, numeric(NORMAL), against=NORMAL)
    exact = stats.ks_2samp(window, NORMAL, method="asymp")
    assert (found.statistic, found.p_value) == pytest.approx((exact.statistic, exact.pvalue))


def test_numbers_that_moved_are_said_to_have_moved_that_far():
    reference = numeric(NORMAL)
    found = of_numbers(RNG.normal(11, 2, 5000), reference)
    assert found.wasserstein == pytest.approx(0.5, abs=0.05)
    assert found.psi == pytest.approx(0.25, abs=0.05)
    assert of_numbers(NORMAL[:5000], reference).wasserstein < 0.05
    assert of_numbers(NORMAL[:5000] + 100, reference).wasserstein == pytest.approx(50, abs=0.5)
    assert of_numbers(NORMAL[:5000] + 100, reference).jensen_shannon > 0.8


def test_values_outside_of_the_reference_are_counted_and_tell():
    few = numeric(np.repeat([1.0, 2.0, 3.0], 1000))
    assert of_numbers(np.repeat([1.0, 2.0, 3.0], 100), few, 3000).out_of_range == 0
    found = of_numbers(np.repeat([0.0, 2.0, 4.0], 100), few, 3000)
    assert found.out_of_range == pytest.approx(2 / 3)
    assert found.psi > 1
    assert found.p_value < 1e-10


def test_a_constant_that_changes_is_found():
    constant = numeric(np.full(500, 5.0))
    assert of_numbers(np.full(300, 5.0), constant, 500).p_value == 1
    found = of_numbers(np.full(300, 5.5), constant, 500)
    assert found.statistic == 1
    assert found.psi > 1
    assert found.wasserstein is None


def test_missing_values_are_part_of_the_drift():
    window = RNG.normal(10, 2, 1000)
    assert of_numbers(window, numeric(NORMAL)).p_value > 0.001
    window[:200] = np.nan
    found = of_numbers(window, numeric(NORMAL))
    assert (found.missing, found.missing_reference) == (0.2, 0)
    assert found.p_value < 1e-20
    assert found.psi > 0.5
    assert found.statistic < 0.06  # those that are there have not moved


def test_missing_values_that_were_always_missing_are_no_drift():
    values = np.where(np.arange(20_000) % 4, NORMAL, np.nan)
    found = of_numbers(values[:1000], numeric(values))
    assert found.p_value > 0.01
    assert found.psi < 0.03
    rare = np.where(np.arange(20_000) % 10_000, NORMAL, np.nan)
    assert of_numbers(rare[1:500], numeric(rare)).p_value > 0.001


@pytest.mark.parametrize("nothing", [np.full(300, np.nan), np.full(300, np.inf)])
def test_nothing_on_one_side(nothing):
    found = of_numbers(nothing, numeric(NORMAL))
    assert (found.missing, found.statistic, found.wasserstein) == (1, 0, None)
    assert found.p_value < 1e-100
    came = of_numbers(NORMAL[:300], numeric(nothing), 300)
    assert (came.missing_reference, came.wasserstein, came.out_of_range) == (1, None, None)
    assert came.p_value < 1e-100
    assert came.psi > 1
    assert of_numbers(nothing, numeric(nothing), 300).p_value == 1
    assert of_numbers(NORMAL[:300], numeric(nothing), 300, against=nothing).statistic == 0


def test_categories():
    shares = {"a": 0.6, "b": 0.3, "c": 0.1, "never": 0.0}
    steady = of_texts(["a"] * 60 + ["b"] * 30 + ["c"] * 10, shares)
    assert (steady.test, steady.statistic, steady.p_value, steady.psi, steady.unseen) == ("chi2", pytest.approx(0, abs=1e-9), 1, 0, 0)
    moved = of_texts(["a"] * 40 + ["b"] * 30 + ["c"] * 30, shares)
    assert moved.psi > 0.2
    assert moved.p_value < 1e-6
    assert of_texts(["a"] * 90 + ["never"] * 5 + ["new"] * 5, shares).unseen == pytest.approx(0.1)
    assert of_texts([None] * 25 + ["a"] * 75, shares, missing=0.25).missing == 0.25
    assert of_texts([None] * 100, shares).p_value < 1e-10


def test_unseen_categories_are_not_known_where_not_all_were_kept():
    found = of_texts(["a"] * 50 + ["rare"] * 50, {"a": 0.5}, other=0.5)
    assert found.unseen is None
    assert found.p_value == 1


def test_a_new_category_is_found_among_many_rare_ones():
    names = [f"c{i}" for i in range(200)]
    shares = dict.fromkeys(names, 1 / 200)
    assert of_texts(names * 2, shares).p_value > 0.5
    found = of_texts(names * 2 + ["new"] * 80, shares)
    assert found.p_value < 1e-10
    assert found.psi > 0.2


def test_tensors_are_compared_by_the_mean_of_each_row():
    pixels = RNG.normal(0, 1, (4000, 12))
    means = pixels.mean(axis=1)
    edges = even_edges(means)
    reference = {"kind": "tensor", **moments(pixels), "edges": edges, "shares": bin_shares(means, edges)}

    def of(rows):
        # Of `reference` as it is then.
        values = pa.chunked_array([pa.array(list(rows), pa.list_(pa.float64()))])
        return column_drift(LogColumn("x", "input", "tensor", values), reference, 4000)

    same = of(pixels[:500])
    assert same.p_value > 0.01
    assert same.wasserstein < 0.15
    brighter = of(pixels[:500] + 1)
    assert brighter.p_value < 1e-50
    assert brighter.wasserstein == pytest.approx(1 / means.std(), rel=0.1)
    broken = pixels[:500].copy()
    broken[:, 0] = np.nan
    broken[0, 1] = 99
    assert of(broken).missing == pytest.approx(1 / 12)
    assert of(broken).out_of_range == pytest.approx(1 / 5500)
    assert (
        column_drift(LogColumn("x", "input", "tensor", pa.chunked_array([pa.array([[1.0]])])), reference | {"min": None}, 9).out_of_range
        is None
    )


def test_elements_of_one_row_are_no_evidence_of_their_own():
    reference = {"kind": "categorical", "n": 3000, "missing": 0.0, "shares": {"a": 0.5, "b": 0.5}, "other": 0.0}
    tensors = pa.chunked_array([pa.array([["a"] * 30] * 11 + [["b"] * 30] * 9, pa.list_(pa.string()))])
    assert column_drift(LogColumn("x", "input", "tensor", tensors), reference, 100).p_value > 0.3
    empty = pa.chunked_array([pa.array([[], []], pa.list_(pa.string()))])
    assert column_drift(LogColumn("x", "input", "tensor", empty), reference, 100).missing == 0


def test_numbers_are_not_compared_with_categories():
    reference = {"kind": "categorical", "n": 5, "missing": 0.0, "shares": {"1": 1.0}, "other": 0.0}
    assert of_numbers(NORMAL[:10], reference) is None
