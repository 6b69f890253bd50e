import numpy as np
import pytest

from ekiben.rollout.bursts import FEWEST_BLOCKS, design_effect


def test_with_few_stretches_nothing_is_said():
    assert design_effect([]) is None
    assert design_effect([(1, 10)] * (FEWEST_BLOCKS - 1) + [(0, 0)] * 20) is None
    assert design_effect([(1, 10)] * FEWEST_BLOCKS) == 1.0


@pytest.mark.parametrize("share", [0, 10])
def test_where_all_are_alike_each_counts(share):
    assert design_effect([(share, 10)] * 8) == 1.0


def test_independent_requests_count_each():
    rng = np.random.default_rng(1)
    found = [design_effect([(int(rng.binomial(30, 0.1)), 30) for _ in range(60)]) for _ in range(200)]
    assert np.mean(found) == pytest.approx(1.06, abs=0.06)  # it is cut at 1


def test_requests_that_come_alike_in_groups_count_once_a_group():
    rng = np.random.default_rng(2)
    # Ten requests at a time are all slow, or none of them is.
    found = [design_effect([(10 * int(rng.binomial(3, 0.1)), 30) for _ in range(60)]) for _ in range(200)]
    assert np.mean(found) == pytest.approx(10, rel=0.1)
