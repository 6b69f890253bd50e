import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from load_tests.bench.figures import median, median_or_none, percentile, summed


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.floats(0, 100))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(values, percent):
    found = percentile(values, percent)

    needed = max(1, math.ceil(percent / 100 * len(values)))
    assert found in values
    assert sum(v <= found for v in values) >= needed
    assert sum(v < found for v in values) < needed


def test_percentiles_agree_with_numpy_where_both_are_exact():
    values = list(range(1, 101))

    assert percentile(values, 99) == 99
    assert percentile(values, 50) == np.percentile(values, 50, method="inverted_cdf")


def test_of_nothing_there_is_no_figure():
    assert math.isnan(percentile([], 50))
    assert math.isnan(median([]))


def test_counts_are_summed_by_name():
    assert summed([{"503": 2, "timeout": 1}, {}, {"503": 3}]) == {"503": 5, "timeout": 1}


def test_of_nothing_there_is_no_median():
    assert median_or_none(iter([])) is None
    assert median_or_none(iter([1.0, 3.0])) == 2
