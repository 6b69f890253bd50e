import pytest

from ekiben.guards.rate_headers import rate_limit_headers


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((10, 1, 10, 3.7, 0.2), (b"10, 10;w=1", b"3", b"1")),
        ((100, 60, 20, 20, 0), (b"20, 100;w=60;burst=20", b"20", b"0")),
        ((10, 0.5, 10, 0, 0.5), (b"10", b"0", b"1")),
        ((10, 1, 10, 2.9999999, 1), (b"10, 10;w=1", b"3", b"1")),
    ],
)
def test_fields_are_whole_numbers_that_promise_no_more_than_there_is(numbers, expected):
    assert rate_limit_headers(*numbers) == list(
        zip((b"ratelimit-limit", b"ratelimit-remaining", b"ratelimit-reset"), expected, strict=True)
    )


def test_what_is_under_way_has_no_window_to_tell_of():
    assert rate_limit_headers(4, 0, 4, 0, 1) == []
