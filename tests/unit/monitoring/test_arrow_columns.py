import pytest

from ekiben.monitoring.arrow_columns import Number, number_of


@pytest.mark.parametrize(
    ("dtype", "number"),
    [("uint8", Number("uint", 8)), ("int64", Number("int", 64)), ("float16", Number("float", 16)), (">i4", Number("int", 32))],
)
def test_numbers_of_numpy(dtype, number):
    assert number_of(dtype) == number


@pytest.mark.parametrize("dtype", ["bool", "object", "longdouble", "complex64", "datetime64[s]"])
def test_what_is_no_such_number(dtype):
    with pytest.raises(ValueError, match=r"Arrow has no numbers like numpy's .*; there are int8 to int64"):
        number_of(dtype)
