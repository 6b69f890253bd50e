import numpy as np
import pytest

from ekiben.rollout.split import SPLIT_ALPHA, split_of, split_p_value


def test_the_p_value_is_the_inverse_of_the_dirichlet_multinomial_bayes_factor():
    # By hand, of two draws of the same one of two equal halves: the prior of 100 gives 1/2 * 51/101, the weights 1/4.
    assert split_p_value([2, 0], [1, 1]) == pytest.approx((1 / 4) / (1 / 2 * 51 / 101))
    assert split_p_value([1, 1], [1, 1]) == 1.0  # 1/2 * 50/101 is less than 1/4
    assert split_p_value([0, 0, 0], [50, 25, 25]) == 1.0


def test_a_right_split_is_seldom_ever_called_wrong_however_often_one_looks():
    rng = np.random.default_rng(7)
    weights = [60.0, 30.0, 10.0]
    wrong = 0
    for _ in range(300):
        counts = np.cumsum(rng.multinomial(50, [0.6, 0.3, 0.1], 100), axis=0)
        wrong += any(split_p_value(row, weights) <= SPLIT_ALPHA for row in counts.tolist())
    assert wrong <= 300 * SPLIT_ALPHA + 3


@pytest.mark.parametrize(("counts", "is_right"), [([40, 0], False), ([5, 0], True), ([520, 480], True), ([11_000, 10_000], False)])
def test_a_wrong_split_is_found(counts, is_right):
    split = split_of(dict(zip("ab", counts, strict=True)), {"a": 50, "b": 50})
    assert split.is_right is is_right
    assert (split.p_value > split.alpha) is is_right
    assert ("not split as they should be" in split.message) is not is_right


def test_weights_need_not_be_all_there_is():
    split = split_of({"a": 200, "b": 100}, {"a": 10, "b": 5})
    assert split.is_right
    assert "a 200 (66.7 %, should be 66.7 %)" in split.message
    assert split_of({"a": 0, "b": 0}, {"a": 10, "b": 5}).message == "no users yet"
