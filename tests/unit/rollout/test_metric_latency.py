from __future__ import annotations

import msgspec
import numpy as np
import pytest

from ekiben.rollout.evidence import Evidence
from ekiben.rollout.metric_latency import latency_p95
from ekiben.rollout.plan import ResolvedMetric
from ekiben.state.histogram import Histogram
from ekiben.state.windows import Window

METRIC = ResolvedMetric(name="latencyP95", max_ratio=2.0)


def window(n, median_ms=10.0, spread=0.5, seed=0, *, of="latency"):
    took = Histogram.of(np.random.default_rng([seed, n]).lognormal(np.log(median_ms / 1000), spread, n))
    return Window(ok=n, **{of: took})


def evidence(challenger, champion, baseline=None, *, is_shadow=False):
    return Evidence(
        model="m",
        champion_version="a",
        challenger_version="b",
        task="regression",
        is_shadow=is_shadow,
        challenger=challenger,
        champion=champion,
        baseline=baseline or Window(),
    )


@pytest.mark.parametrize(
    ("challenger", "champion", "outcome"),
    [
        (window(49), window(1000), "Inconclusive"),
        (window(1000), window(49), "Inconclusive"),
        (window(60), window(1000), "Inconclusive"),
        (window(1000, seed=1), window(1000), "Successful"),
        (window(3000, 30), window(50_000), "Failed"),
        (window(3000, 20), window(50_000), "Inconclusive"),
        (window(60, 30), window(50_000), "Inconclusive"),
    ],
)
def test_a_challenger_fails_if_its_p95_is_surely_more_than_so_many_times_the_champions(challenger, champion, outcome):
    assert latency_p95(METRIC, evidence(challenger, champion)).outcome == outcome


def test_a_few_slow_requests_are_no_slow_p95():
    slow = window(20, 5000) + window(980)

    assert latency_p95(METRIC, evidence(slow, window(1000))).outcome == "Successful"


def test_in_the_shadow_it_is_the_time_of_the_batches_that_counts():
    slow, quick = window(3000, 30, of="compute"), window(3000, of="compute")

    found = latency_p95(METRIC, evidence(slow, quick, is_shadow=True))
    assert found.outcome == "Failed"
    assert "p95 of compute is 6" in found.message
    assert latency_p95(METRIC, evidence(slow, quick)).message == "too few answers to judge: the challenger has 0 of 50"


def test_where_the_challenger_has_all_traffic_the_champions_earlier_requests_are_compared():
    slow = window(3000, 30)

    assert latency_p95(METRIC, evidence(slow, Window(), window(10_000))).outcome == "Failed"
    assert latency_p95(METRIC, evidence(window(3000), Window(), window(10_000))).outcome == "Successful"
    assert latency_p95(METRIC, evidence(slow, Window())).message == "too few answers to judge: the champion has 0 of 50"


def test_the_ratio_is_the_plans():
    metric = ResolvedMetric(name="latencyP95", max_ratio=5.0)

    assert latency_p95(metric, evidence(window(3000, 30), window(50_000))).outcome == "Successful"
    assert latency_p95(ResolvedMetric(name="latencyP95"), evidence(window(3000, 30), window(50_000))).limit == 2.0


def test_a_finding_tells_the_numbers():
    found = latency_p95(METRIC, evidence(window(3000, 30), window(50_000)))

    assert found.challenger is not None
    assert found.champion is not None
    assert (found.challenger.n, found.champion.n) == (3000, 50_000)
    assert found.challenger.low / found.champion.high > 2
    assert "in 3,000 requests, 3 times the champion's" in found.message
    assert found.message.endswith("more than 2 times")


def test_what_takes_no_time_at_all_is_not_slower():
    nothing = Window(ok=500, latency=Histogram.of(np.zeros(500)))

    assert latency_p95(METRIC, evidence(nothing, nothing)).outcome == "Successful"
    assert latency_p95(METRIC, evidence(window(500), nothing)).outcome == "Failed"


# slow together ───────────────────────────────────────────────────────────────────────────────────────────────────────


def seconds_of(*medians_ms, n=60):
    return [window(n, median, spread=0.3, seed=second) for second, median in enumerate(medians_ms)]


def judged(blocks, champion):
    total = blocks[0]
    for block in blocks[1:]:
        total += block
    return latency_p95(METRIC, msgspec.structs.replace(evidence(total, champion), blocks=blocks))


def test_a_moment_that_makes_everything_wait_fails_nobody():
    quick = window(10_000, 10, spread=0.3)
    found = judged(seconds_of(10, 10, 400, 10, 10, 10, 10, 10), quick)
    assert found.outcome == "Inconclusive"
    assert "came in bursts" in found.message
    # The same number of slow requests, in every second alike, is the challenger's own.
    assert judged(seconds_of(30, 30, 30, 30, 30, 30, 30, 30), quick).outcome == "Failed"


def test_the_first_seconds_fail_nobody():
    quick = window(10_000, 10, spread=0.3)
    found = judged(seconds_of(60, 60, 60, 60, n=200), quick)
    assert found.outcome == "Inconclusive"
    assert "only 4 of the 5 seconds" in found.message
    assert judged(seconds_of(60, 60, 60, 60, 60, n=200), quick).outcome == "Failed"


# who only waits ──────────────────────────────────────────────────────────────────────────────────────────────────────


def computing(window_, ms):
    return msgspec.structs.replace(window_, compute=window(window_.ok, ms, of="compute").compute)


def waiting(latency_ms, compute_ms, budget_ms):
    found = evidence(computing(window(3000, latency_ms), compute_ms), computing(window(50_000, 2), 0.2))
    return latency_p95(METRIC, msgspec.structs.replace(found, latency_budget_s=budget_ms / 1000))


def test_a_challenger_that_waits_longer_and_computes_no_longer_passes_within_the_latency_budget():
    found = waiting(6, 0.2, budget_ms=50)
    assert found.outcome == "Successful"
    assert "within the latency budget of 50 ms" in found.message
    assert waiting(6, 0.2, budget_ms=10).outcome == "Failed"  # users would notice
    assert waiting(6, 0.2, budget_ms=0).outcome == "Failed"  # nothing is promised, so twice as long is too long
    assert waiting(6, 0.6, budget_ms=50).outcome == "Failed"  # it is the version itself that is slower
