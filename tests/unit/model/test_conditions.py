from __future__ import annotations

import pytest

from ekiben.model.conditions import condition


@pytest.mark.parametrize(
    ("text", "holds", "fails"),
    [
        ("result < 0.05", 0.049, 0.05),
        ("result<=0.05", 0.05, 0.051),
        ("result > -1e3", -999, -1000),
        ("result[0] >= 5.", 5, 4.9),
        (" result == .5 ", 0.5, 0.6),
        ("result != +2", 1, 2),
    ],
)
def test_a_condition_holds_or_not(text, holds, fails):
    assert condition(text).holds(holds)
    assert not condition(text).holds(fails)


@pytest.mark.parametrize(
    "text", ["", "result", "result < ", "< 5", "result < x", "result[1] < 5", "5 > result", "result =< 5", "result < 5 && 1"]
)
def test_what_is_no_condition_is_refused_with_what_would_be(text):
    with pytest.raises(ValueError, match=r"is no condition; write result, one of < <= > >= == !=, and a number"):
        condition(text)
