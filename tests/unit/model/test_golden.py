import pytest

from ekiben.model.golden import GOLDEN_TOLERANCE, HALF_TOLERANCE, differing_rows


@pytest.mark.parametrize(
    ("found", "expected", "tolerance", "differ"),
    [
        ({"y": 1.00005}, {"y": 1.0}, GOLDEN_TOLERANCE, False),
        ({"y": 1.001}, {"y": 1.0}, GOLDEN_TOLERANCE, True),
        ({"y": 1.001}, {"y": 1.0}, HALF_TOLERANCE, False),
        ({"y": 1000.05}, {"y": 1000.0}, GOLDEN_TOLERANCE, False),
        ({"y": [1.0, [2.0]]}, {"y": [1.0, [2.0]]}, GOLDEN_TOLERANCE, False),
        ({"y": [1.0]}, {"y": [1.0, 2.0]}, GOLDEN_TOLERANCE, True),
        ({"y": True}, {"y": 1}, GOLDEN_TOLERANCE, False),
        ({"y": "a"}, {"y": "b"}, GOLDEN_TOLERANCE, True),
        ({"y": float("nan")}, {"y": None}, GOLDEN_TOLERANCE, False),
        ({"y": 1.0}, {"z": 1.0}, GOLDEN_TOLERANCE, True),
        # An output of a tensor model may be called as a classifier's is.
        ({"probabilities": [0.1]}, {"probabilities": [0.9]}, GOLDEN_TOLERANCE, True),
        ({"probabilities": [0.1], "z": 1}, {"probabilities": [0.1], "z": 2}, GOLDEN_TOLERANCE, True),
    ],
)
def test_elements_are_compared_within_the_tolerance(found, expected, tolerance, differ):
    assert differing_rows([found], [expected], tolerance=tolerance) == ([0] if differ else [])


def test_all_differ_where_their_numbers_do():
    assert differing_rows([{"y": 1}], [{"y": 1}, {"y": 2}]) == [0, 1]
