"""Times as people type them."""

from __future__ import annotations

import click


def moment_of(text: str, now: float, option: str) -> float:
    """Seconds since the epoch of a time, or of a duration before ``now``.

    Raises:
        click.BadParameter: It is neither.
    """
    from datetime import UTC, datetime  # noqa: PLC0415  `ekiben --help` reads no times

    from ekiben.model.rollout_spec import seconds  # noqa: PLC0415

    try:
        return now - seconds(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a duration (7d, 12h) nor a time (2026-03-01T12:00Z)", param_hint=option) from None
    # A time without a zone is UTC, as everywhere.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
