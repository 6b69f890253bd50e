from datetime import UTC, datetime

import click
import pytest

from ekiben.cli.moments import moment_of


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1h30m", 1000.0 - 5400),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC).timestamp()),
        ("2026-03-01T12:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()),
        ("2026-03-01T12:00+02:00", datetime(2026, 3, 1, 10, tzinfo=UTC).timestamp()),
    ],
)
def test_a_duration_ago_and_a_time(text, moment):
    assert moment_of(text, 1000.0, "--since") == moment


def test_what_is_neither():
    with pytest.raises(click.BadParameter, match="'yesterday' is neither a duration"):
        moment_of("yesterday", 0.0, "--since")
