"""Findings: what one look at one metric shows, with the levels at which it counts and the words in which it is told."""

from __future__ import annotations

from typing import Final

import msgspec

from ekiben.state.measurements import Outcome

FAIL_ALPHA: Final = 0.0005
"""A challenger that is no worse is found Failed, by one metric in one stage, at any of all the looks at it, with at most this probability.

A rollout of four stages with four deciding metrics is then rolled back for nothing in at most 0.8 % of cases; the intervals
being conservative, in fewer.
"""

PASS_ALPHA: Final = 0.05
"""A challenger that is just beyond the limit is found Successful, at any of all the looks at it, with at most this probability.

It is weaker than `FAIL_ALPHA` on purpose. Passing too early is mended by the next stage, which measures anew with more
traffic; and the level decides how many requests an innocent challenger needs: about 100 where none fails and latencies vary little.
"""


class Estimate(msgspec.Struct, frozen=True):
    """A value with its interval, and how many requests or rows it is of."""

    value: float
    low: float
    high: float
    n: int


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at one metric shows; see `Measurement` for the fields."""

    outcome: Outcome
    message: str
    challenger: Estimate | None = None
    champion: Estimate | None = None
    limit: float | None = None


def too_few(of_whom: str, n: int, needed: int, *, what: str = "requests") -> Finding:
    """An Inconclusive finding: there is too little to judge by."""
    return Finding(outcome="Inconclusive", message=f"too few {what} to judge: the {of_whom} has {n:,} of {needed:,}")


def percent(share: float) -> str:
    """A share as people read it: ``8.4 %``, ``0.03 %``."""
    return f"{share * 100:.2g} %" if share < 0.1 else f"{share * 100:.3g} %"  # noqa: PLR2004  a third digit from 10 % on


def percent_of(estimate: Estimate) -> str:
    """A share with its interval: ``8.4 % (6.1 to 11 %)``."""
    return f"{percent(estimate.value)} ({percent(estimate.low)[:-2]} to {percent(estimate.high)})"


def duration_of(estimate: Estimate) -> str:
    """Seconds with their interval, in milliseconds: ``12 ms (11 to 14 ms)``."""
    return f"{_ms(estimate.value)} ms ({_ms(estimate.low)} to {_ms(estimate.high)} ms)"


def number_of(estimate: Estimate) -> str:
    """A number with its interval: ``0.812 (0.79 to 0.83)``."""
    return f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g})"


def _ms(duration_s: float) -> str:
    return f"{duration_s * 1000:.3g}" if duration_s < float("inf") else "any"
