from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.datasets import DataError, Dataset
from training.splits import at_random, by_days


def timed(days: list[int]) -> Dataset:
    times = np.datetime64("2013-01-01T12:00") + np.sort(np.array(days)) * np.timedelta64(1440, "m")
    return Dataset("rows", {"row": np.arange(len(days))}, np.zeros(len(days), np.int64), times.astype("datetime64[m]"))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=200).map(lambda days: [*days, *range(7)]))
def test_every_row_is_in_one_part_and_the_parts_share_no_day(days):
    data = timed(days)
    split = by_days(data)
    parts = [split.train, split.validation, split.test]
    assert np.concatenate([p.columns["row"] for p in parts]).tolist() == list(range(data.n))
    found = [set(p.times.astype("datetime64[D]").tolist()) for p in parts]
    assert all(found)
    assert max(found[0]) < min(found[1])
    assert max(found[1]) < min(found[2])


def test_shares_are_of_days_not_of_rows():
    split = by_days(timed([*range(20), *([0] * 1000)]))
    assert (split.validation.n, split.test.n) == (3, 3)


def test_too_few_days_and_no_times_are_refused():
    with pytest.raises(DataError, match="spans 6 days"):
        by_days(timed(list(range(6))))
    with pytest.raises(DataError, match="no times"):
        by_days(Dataset("rows", {}, np.zeros(9)))


@given(st.integers(4, 200), st.integers(0, 5))
def test_a_random_split_is_a_partition_and_the_same_for_the_same_seed(n, seed):
    data = Dataset("rows", {"row": np.arange(n)}, np.arange(n))
    split, again = at_random(data, seed=seed), at_random(data, seed=seed)
    assert sorted([*split.train.target, *split.test.target]) == list(range(n))
    assert split.test.n == round(n / 4)
    assert split.validation is None
    assert split.test.target.tolist() == again.test.target.tolist()
