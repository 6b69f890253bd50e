"""Whether users were split as the weights say: a sequential test for a sample ratio mismatch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from ekiben.rollout.experiment_view import Split

SPLIT_ALPHA: Final = 0.01
"""How often, at most, a split that is right is ever called wrong, however often one looks."""

_CONCENTRATION: Final = 100.0
"""Of the prior around the weights: shares that are off by about five points are what it looks for first."""


def split_of(users: Mapping[str, int], weights: Mapping[str, float]) -> Split:
    """Compares how users were split with how they should have been.

    Args:
        users: Arm → different routing keys that it answered.
        weights: Arm → its weight, above 0; of the same arms.
    """
    p = split_p_value(list(users.values()), [weights[arm] for arm in users])
    total, whole = sum(users.values()), sum(weights.values())
    if not total:
        return Split(alpha=SPLIT_ALPHA, message="no users yet")
    shares = ", ".join(f"{arm} {n} ({100 * n / total:.1f} %, should be {100 * weights[arm] / whole:.1f} %)" for arm, n in users.items())
    if p > SPLIT_ALPHA:
        return Split(p_value=p, alpha=SPLIT_ALPHA, message=f"users are split as they should be: {shares}")
    return Split(
        is_right=False,
        p_value=p,
        alpha=SPLIT_ALPHA,
        message=f"users are not split as they should be: {shares}, p = {p:.2g}; something loses users of an arm, trust no result",
    )


def split_p_value(counts: list[int], weights: list[float]) -> float:
    """The anytime-valid p-value of counts against weights.

    It is the inverse of the Bayes factor of a Dirichlet mixture around the weights against the weights themselves, which is a
    martingale where they hold: it ever falls to alpha with a probability of alpha at most. Lindon, Malek: "Anytime-Valid
    Inference for Multinomial Count Data", NeurIPS 2022.

    Args:
        counts: How often each came up.
        weights: How likely each should be, in any unit; above 0.
    """
    whole, n = sum(weights), sum(counts)
    log_factor = math.lgamma(_CONCENTRATION) - math.lgamma(_CONCENTRATION + n)
    for count, weight in zip(counts, weights, strict=True):
        prior = _CONCENTRATION * weight / whole
        log_factor += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(weight / whole)
    return math.exp(min(-log_factor, 0.0))
