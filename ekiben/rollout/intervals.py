"""Intervals that hold at every look: each holds the real value at all times together with probability 1 - alpha.

A rollout is looked at every few seconds, and stopped as soon as it looks bad. With the usual intervals, which hold at one
look, a challenger that is no worse would be found worse sooner or later (Armitage, McPherson, Rowe: "Repeated significance
tests on accumulating data", JRSS A 1969). These are confidence sequences: the price is an interval about twice as wide.

The requests must be independent of each other. Requests that suffer together, as those of one batch or of one user do,
count as more than they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from ekiben.state.histogram import Histogram

_HALVINGS: Final = 40


def rate_interval(k: float, n: float, alpha: float, *, near: float = 0.05) -> tuple[float, float]:
    """The interval of a rate, when k of n requests had it.

    The likelihood ratio of a beta mixture of rates against one rate p is a martingale if p is the real rate, so that it ever
    exceeds 1 / alpha with at most probability alpha (Ville's inequality); the interval holds the rates for which it does not.
    From Robbins: "Statistical methods related to the law of the iterated logarithm", Annals of Mathematical Statistics 1970;
    Howard, Ramdas, McAuliffe, Sekhon: "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics
    2021, where it is called the beta-binomial mixture.

    Args:
        k: Requests that had it, 0 to n; a fraction where several count as one.
        n: Requests.
        alpha: Probability that the interval ever misses the real rate.
        near: The rate near which the interval is to be narrow, the mixture's mean, above 0 to 0.5; it holds for any rate.
    """
    if n == 0:
        return 0.0, 1.0
    bound = _log_mixture(k, n, near) + math.log(alpha)

    share = k / n

    def is_out(p: float) -> bool:
        return p >= 1 or k * math.log(p) + (n - k) * math.log1p(-p) < bound

    if k == 0:
        return 0.0, -math.expm1(bound / n)
    return _edge(is_out, 0.0, share), 1.0 if k == n else _edge(is_out, 1.0, share)


def quantile_interval(histogram: Histogram, q: float, alpha: float) -> tuple[float, float]:
    """The interval of the q-quantile of numbers that are 0 or more.

    A number t is left out when it is certain that the share of requests above t is not 1 - q, by the same martingale as in
    `rate_interval`. Right within the histogram's two percent.

    Args:
        histogram: The numbers.
        q: Above 0.5, below 1.
        alpha: Probability that the interval ever misses the real quantile.

    Returns:
        Low and high; 0 and infinity where the numbers are too few to say.
    """
    n = histogram.n
    if n == 0:
        return 0.0, math.inf
    fewest, most = _counts(n, 1 - q, alpha)
    low = histogram.of_rank(n - most) if most < n else 0.0
    high = histogram.of_rank(n - fewest + 1) if fewest > 0 else math.inf
    return low, high


def mean_interval(mean: float, error: float, n: int, alpha: float, *, around: int = 1000) -> tuple[float, float]:
    """The interval of a mean, or of what behaves like one, when there are many numbers.

    Theorem 2.2 and equation (10) of Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: "Time-uniform central limit theory and
    asymptotic confidence sequences", Annals of Statistics 2024. It is asymptotic: with some dozens of skewed numbers it misses
    more often than alpha.

    Args:
        mean: The mean, the difference of two means, or a statistic by the delta method.
        error: Its standard error: of a mean, the numbers' standard deviation over the root of n.
        n: How many numbers; of a difference, those of both sides together.
        alpha: Probability that the interval ever misses the real mean.
        around: With how many numbers the interval is to be narrowest; it holds with any.
    """
    half = error * errors_wide(n, alpha, around=around)
    return mean - half, mean + half


def errors_wide(n: int, alpha: float, *, around: int = 1000) -> float:
    """How many standard errors the interval of `mean_interval` reaches to each side; infinity of no numbers."""
    if n == 0:
        return math.inf
    weight = _weight(n, alpha, around)
    return math.sqrt(2 * (weight + 1) / weight * math.log(math.sqrt(weight + 1) / alpha))


def mean_p_value(mean: float, error: float, n: int, alpha: float, *, around: int = 1000) -> float:
    """The anytime-valid p-value of "the real mean is 0": where it is, this ever falls to x with at most probability x.

    It is at most ``alpha`` exactly where `mean_interval` of the same arguments leaves out 0: that interval's formula, solved for
    the level at which 0 is its edge.
    """
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    weight = _weight(n, alpha, around)
    return math.exp(min(math.log1p(weight) / 2 - (mean / error) ** 2 * weight / (2 * (weight + 1)), 0.0))


def _weight(n: int, alpha: float, around: int) -> float:
    """The numbers times the squared rho that makes the interval narrowest with ``around`` of them."""
    log_alpha = -2 * math.log(alpha)
    return n * (log_alpha + math.log(log_alpha + 1)) / around


def _log_mixture(k: float, n: float, near: float) -> float:
    """Log of the probability of k in n, in one order, when the rate is drawn from Beta(1/2, .) with mean ``near``."""
    a, b = 0.5, 0.5 * (1 - near) / near
    return _log_beta(a + k, b + n - k) - _log_beta(a, b)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _edge(is_out: Callable[[float], bool], out: float, inside: float) -> float:
    """Where the interval ends between a rate outside, or at the very end, and one inside; just outside of it."""
    for _ in range(_HALVINGS):
        middle = (out + inside) / 2
        if is_out(middle):
            out = middle
        else:
            inside = middle
    return out


def _counts(n: int, p: float, alpha: float) -> tuple[int, int]:
    """The fewest and the most of n that are possible when the rate is p."""
    a, b = 0.5, 0.5 * (1 - p) / p
    bound = math.log(alpha) - _log_beta(a, b)
    log_p, log_rest = math.log(p), math.log1p(-p)

    def is_possible(k: int) -> bool:
        return k * log_p + (n - k) * log_rest > _log_beta(a + k, b + n - k) + bound

    expected = int(n * p)
    fewest, most = expected, expected
    low, high = 0, n
    while low < fewest:
        middle = (low + fewest) // 2
        low, fewest = (low, middle) if is_possible(middle) else (middle + 1, fewest)
    while most < high:
        middle = (most + high + 1) // 2
        most, high = (middle, high) if is_possible(middle) else (most, middle - 1)
    return fewest, most
