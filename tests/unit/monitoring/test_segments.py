import numpy as np
import pyarrow as pa
import pytest
from unit.monitoring.answered import binary_outputs, logged

from ekiben.monitoring.segments import MOST_VALUES, Segment, in_segment, segments_of


def table(**features):
    n = len(next(iter(features.values())))
    arrays = [pa.array(values) for values in features.values()]
    return logged(binary_outputs([0.5] * n), features=pa.StructArray.from_arrays(arrays, names=list(features)))


def sizes(found, field):
    return {s.value: int(in_segment(found, s).sum()) for s in segments_of(found, field)}


def test_each_value_is_a_segment_the_most_frequent_first():
    found = table(carrier=["UA", "DL", "UA", None, "AA"], flag=[True, False, None, True, True], stops=[1, 2, 1, 1, 1])
    assert list(sizes(found, "carrier").items()) == [("UA", 2), ("AA", 1), ("DL", 1), ("null", 1)]
    assert sizes(found, "flag") == {"true": 3, "false": 1, "null": 1}
    assert sizes(found, "stops") == {"1": 4, "2": 1}
    assert sizes(table(temp=[1.5, 1.5, 2.0]), "temp") == {"1.5": 2, "2": 1}


def test_of_many_values_the_most_frequent_are_taken():
    names = [f"v{n}" for n in range(30) for _ in range(30 - n)]
    assert list(sizes(table(carrier=names), "carrier").items()) == [(f"v{n}", 30 - n) for n in range(MOST_VALUES)]


def test_numbers_of_many_values_are_cut_into_quarters_that_leave_no_row_out():
    found = table(temp=[*(float(n) for n in range(100)), None])
    assert segments_of(found, "temp") == [
        Segment("temp", "up to 24", None, 24.0),
        Segment("temp", "24 to 49", 24.0, 49.0),
        Segment("temp", "49 to 74", 49.0, 74.0),
        Segment("temp", "above 74", 74.0, None),
        Segment("temp", "null"),
    ]
    assert sizes(found, "temp") == {"up to 24": 25, "24 to 49": 25, "49 to 74": 25, "above 74": 25, "null": 1}


def test_a_quarter_that_is_one_value_is_not_twice_there():
    found = table(temp=[0.0] * 90 + [float(n) for n in range(-30, 0)])
    assert sizes(found, "temp") == {"up to -1": 30, "-1 to 0": 90}
    whole = np.sum([in_segment(found, s) for s in segments_of(found, "temp")], axis=0)
    assert whole.tolist() == [1] * 120


@pytest.mark.parametrize("found", [table(temp=[1.0]), logged(binary_outputs([0.5])), table(carrier=["UA"]).slice(0, 0)])
def test_an_input_that_is_not_in_the_log_has_no_segments(found):
    assert segments_of(found, "carrier") == []
    assert not in_segment(found, Segment("carrier", "UA")).any()


def test_an_input_that_is_null_in_all_rows():
    assert sizes(table(temp=[None, None]), "temp") == {"null": 2}
