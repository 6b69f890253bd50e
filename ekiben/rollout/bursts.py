"""Bursts: requests of one moment are slow together, so that a hundred of them say less than a hundred apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

FEWEST_BLOCKS: Final = 5
"""With fewer stretches of time nothing can be said of how they differ."""


def design_effect(blocks: Sequence[tuple[int, int]]) -> float | None:
    """How many requests count as one: the design effect of Kish, "Survey Sampling", 1965, with stretches of time as clusters.

    It is estimated as in McCullagh and Nelder, "Generalized Linear Models", 1989, section 4.5: Pearson's statistic of the
    stretches' shares over its degrees of freedom. At least 1.

    Args:
        blocks: For each stretch of time, the requests that have a property, and all.

    Returns:
        None where there are fewer than `FEWEST_BLOCKS` stretches with requests.
    """
    filled = [(k, n) for k, n in blocks if n]
    if len(filled) < FEWEST_BLOCKS:
        return None
    share = sum(k for k, _ in filled) / sum(n for _, n in filled)
    if not 0 < share < 1:
        return 1.0
    pearson = sum((k - n * share) ** 2 / (n * share * (1 - share)) for k, n in filled)
    return max(1.0, pearson / (len(filled) - 1))
