from __future__ import annotations

import pytest

from ekiben.rollout.evidence import Evidence
from ekiben.rollout.metric_rates import error_rate, invalid_rate
from ekiben.rollout.plan import ResolvedMetric
from ekiben.state.windows import Window

ERRORS = ResolvedMetric(name="errorRate", max=0.05)
INVALID = ResolvedMetric(name="invalidRate", max=0.05)


def window(n, failed=0, invalid=0, kind="PredictionFailed"):
    return Window(ok=n - failed, errors={kind: failed} if failed else {}, invalid=invalid)


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
        (window(10, 1), window(190), "Inconclusive"),
        (window(49, 49), window(900), "Inconclusive"),
        (window(50, 50), window(900), "Failed"),
        (window(100), window(1900), "Successful"),
        (window(60), window(1900), "Inconclusive"),
        (window(60, 3), window(1900), "Inconclusive"),
        (window(2000, 160), window(38_000, 760), "Failed"),
        (window(2000, 160), window(38_000, 3040), "Inconclusive"),
        (window(2000, 160), window(10), "Inconclusive"),
        (window(20_000, 600), window(20_000, 600), "Successful"),
        (window(20_000, 600), window(20_000), "Successful"),
    ],
)
def test_a_challenger_fails_only_if_it_is_above_the_limit_and_above_the_champion(challenger, champion, outcome):
    assert error_rate(ERRORS, evidence(challenger, champion)).outcome == outcome


def test_one_error_in_ten_requests_fails_nothing_even_where_ten_are_enough_to_judge():
    metric = ResolvedMetric(name="errorRate", max=0.05, min_requests=1)

    assert error_rate(metric, evidence(window(10, 1), window(190))).outcome == "Inconclusive"
    assert error_rate(metric, evidence(window(10, 1), Window())).outcome == "Inconclusive"


def test_a_finding_tells_the_numbers():
    found = error_rate(ERRORS, evidence(window(2000, 160), window(38_000, 760)))

    assert found.message == (
        "8 % (5.4 to 11.2 %) of the challenger's 2,000 requests failed, mostly with PredictionFailed, above 5 % "
        "and above the champion's 2 % (1.7 to 2.4 %) of 38,000"
    )
    assert found.challenger is not None
    assert found.champion is not None
    assert (found.challenger.n, found.champion.n, found.limit) == (2000, 38_000, 0.05)
    assert found.challenger.low > 0.05
    assert "too few requests to judge: the challenger has 10 of 50" in error_rate(ERRORS, evidence(window(10, 1), window(190))).message
    both = error_rate(ERRORS, evidence(window(2000, 160), window(38_000, 3040)))
    assert "but the champion's 8 %" in both.message


def test_where_the_challenger_has_all_traffic_the_champions_earlier_requests_are_compared():
    ill = window(2000, 160)

    assert error_rate(ERRORS, evidence(ill, Window(), window(10_000, 200))).outcome == "Failed"
    assert error_rate(ERRORS, evidence(ill, Window(), window(10_000, 800))).outcome == "Inconclusive"
    assert error_rate(ERRORS, evidence(ill, window(2000, 160), window(100_000))).outcome == "Inconclusive"


def test_without_any_request_of_the_champion_the_limit_alone_decides():
    found = error_rate(ERRORS, evidence(window(2000, 160), Window()))

    assert found.outcome == "Failed"
    assert found.champion is None
    assert "the champion has no requests to compare with" in found.message


@pytest.mark.parametrize(
    ("challenger", "champion", "outcome"),
    [
        (window(20, invalid=29), window(500), "Inconclusive"),
        (window(500), window(20, invalid=29), "Inconclusive"),
        (window(200), window(2000), "Successful"),
        (window(2000, invalid=1000), window(2000, invalid=1000), "Inconclusive"),
        (window(9000, invalid=1000), window(9000, invalid=1000), "Successful"),
        (window(1000, invalid=300), window(9000, invalid=1000), "Failed"),
        (window(50, invalid=50), window(900), "Failed"),
        (window(1000, invalid=65), window(9000), "Inconclusive"),
    ],
)
def test_a_challenger_fails_if_it_refuses_more_than_the_champion(challenger, champion, outcome):
    assert invalid_rate(INVALID, evidence(challenger, champion)).outcome == outcome


def test_each_row_that_a_shadow_refuses_is_a_difference():
    refused = window(1000, invalid=300)

    assert invalid_rate(INVALID, evidence(refused, window(9000, invalid=2000))).outcome == "Inconclusive"
    found = invalid_rate(INVALID, evidence(refused, window(9000, invalid=2000), is_shadow=True))
    assert found.outcome == "Failed"
    assert "23.1 %" in found.message
    assert invalid_rate(INVALID, evidence(window(200), Window(), is_shadow=True)).outcome == "Successful"


def test_metrics_without_a_limit_have_the_built_in_one():
    assert error_rate(ResolvedMetric(name="errorRate"), evidence(window(100), window(100))).limit == 0.05
    assert invalid_rate(ResolvedMetric(name="invalidRate"), evidence(window(200), window(200))).limit == 0.05
