from __future__ import annotations

import math

import pytest

from ekiben.rollout.findings import Estimate, duration_of, number_of, percent, percent_of, too_few


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (0.0003, "0.03 %"), (0.05, "5 %"), (0.0841, "8.4 %"), (0.1234, "12.3 %"), (1, "100 %")]
)
def test_shares_read_as_percent(share, text):
    assert percent(share) == text


def test_estimates_read_with_their_intervals():
    assert percent_of(Estimate(0.084, 0.061, 0.11, 800)) == "8.4 % (6.1 to 11 %)"
    assert duration_of(Estimate(0.012, 0.0111, 0.0139, 9)) == "12 ms (11.1 to 13.9 ms)"
    assert duration_of(Estimate(0.012, 0.0, math.inf, 9)) == "12 ms (0 to any ms)"
    assert number_of(Estimate(0.8125, 0.79, 0.83, 9)) == "0.812 (0.79 to 0.83)"


def test_too_few_says_how_many_there_are_and_must_be():
    assert too_few("challenger", 13, 1500).message == "too few requests to judge: the challenger has 13 of 1,500"
    assert too_few("champion", 1, 2, what="rows").outcome == "Inconclusive"
