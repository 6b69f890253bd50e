"""How many users there are at a moment of a load test."""

from __future__ import annotations

import math
from typing import Final

SHAPES: Final = ("ramp", "spike", "soak", "steady")
DEFAULT_S: Final = {"ramp": 60.0, "spike": 60.0, "soak": 3600.0, "steady": 60.0}
"""How long each takes where nobody says."""
_RAMP_SHARE: Final = 0.8
_SPIKE: Final = (0.4, 0.6)
_SPIKE_BASE_SHARE: Final = 0.1
_SOAK_RAMP_SHARE: Final = 0.02


def users_at(shape: str, elapsed_s: float, *, users: int, run_s: float) -> int | None:
    """The number of users at a moment.

    Args:
        shape: ``ramp`` grows from one user to all of them in four fifths of the time and stays there; ``spike`` has a tenth of them, and
            all between two fifths and three fifths of the time; ``soak`` grows within a fiftieth of the time and stays for long;
            ``steady`` has all from the start.
        elapsed_s: Seconds since the start.
        users: At most.
        run_s: Seconds in all.

    Returns:
        At least one; None when the time is over.
    """
    if elapsed_s >= run_s:
        return None
    part = elapsed_s / run_s
    if shape == "ramp":
        share = min(1.0, part / _RAMP_SHARE)
    elif shape == "spike":
        share = 1.0 if _SPIKE[0] <= part < _SPIKE[1] else _SPIKE_BASE_SHARE
    elif shape == "soak":
        share = min(1.0, part / _SOAK_RAMP_SHARE)
    else:
        share = 1.0
    return max(1, math.ceil(users * share))
