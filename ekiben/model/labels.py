"""Which class, or number, somebody means who says what was true."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

_TWO = 2


def label_of(actual: str | float | bool, labels: Sequence[str]) -> str | None:  # noqa: FBT001  a value, not a switch
    """The label that somebody means: the label, its number, or, of two, 0 and 1 or false and true.

    Returns:
        None where it is none of them.
    """
    texts = [str(actual)]
    if isinstance(actual, bool):
        texts += [str(actual).lower(), str(int(actual))]
    elif isinstance(actual, int | float) and math.isfinite(actual) and actual == int(actual):
        texts += [str(int(actual)), f"{int(actual)}.0"]
    named = next((text for text in texts if text in labels), None)
    if named is None and not isinstance(actual, str) and len(labels) == _TWO and actual in (0, 1):
        return labels[int(actual)]
    return named


def number_of(value: Any) -> float | None:
    """The finite number that a value is, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
