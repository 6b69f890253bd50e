import pytest
from unit.monitoring.monitor_world import SPEC

from ekiben.model.monitor_spec import AlertSpec
from ekiben.monitoring.alert_rules import Facts, judge, names_of
from ekiben.state.checks import Check
from ekiben.state.histogram import Histogram
from ekiben.state.windows import Window

NOW = 1_000_030.0
DRIFT = {
    "columns": [
        {"name": "a", "kind": "input", "psi": 0.3, "drifted": True},
        {"name": "b", "kind": "input", "psi": 0.9, "drifted": True, "ignored": True},
        {"name": "score", "kind": "score", "psi": 0.1, "drifted": False},
    ]
}
QUALITY = {"metric": "accuracy", "metrics": {"accuracy": {"value": 0.75}}}


def check(kind, outcome, report):
    return Check(
        model="tiny",
        version="v1",
        kind=kind,
        time=NOW - 100,
        since=0.0,
        until=NOW,
        rows=900,
        outcome=outcome,
        summary="as told",
        report=report,
    )


def verdict(when, *, drift=None, quality=None, requests=None, newest_truth=None, rows=0, above=None, below=None):
    facts = Facts(
        spec=SPEC,
        version="v1",
        now=NOW,
        drift=drift,
        quality=quality,
        requests=requests or Window(),
        newest_truth=newest_truth,
        count=lambda since, until: rows if until == NOW - (above or 7200) and since <= NOW - 2 * (above or 7200) else 0,
    )
    return judge(AlertSpec(when=when, above=above, below=below), facts)


def requests(ok=0, failed=0, latency_s=0.01, **fields):
    return Window(ok=ok, errors={"X": failed} if failed else {}, latency=Histogram.of([latency_s] * ok), **fields)


# checks ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("when", ["drift", "score_drift", "quality"])
def test_without_a_check_nothing_is_said(when):
    assert verdict(when).holds is None
    assert "no" in verdict(when).message


def test_drift_of_inputs_and_of_scores_are_told_apart_and_ignored_inputs_left_out():
    found = verdict("drift", drift=check("drift", "bad", DRIFT))
    assert (found.holds, found.value, found.version, found.time) == (True, 0.3, "v1", NOW - 100)
    assert found.message == "a (PSI 0.30) drifted, in 900 rows"
    found = verdict("score_drift", drift=check("drift", "bad", DRIFT))
    assert (found.holds, found.message) == (False, "neither scores nor classes drifted in 900 rows")


def test_a_threshold_of_ones_own_for_drift():
    assert verdict("drift", drift=check("drift", "bad", DRIFT), above=0.31).holds is False
    assert verdict("score_drift", drift=check("drift", "ok", DRIFT), above=0.05).holds is True


def test_many_columns_are_named_the_worst_first():
    report = {"columns": [{"name": f"c{n}", "psi": n / 10, "drifted": True} for n in range(1, 6)]}
    found = verdict("drift", drift=check("drift", "bad", report))
    assert found.message == "c5 (PSI 0.50), c4 (PSI 0.40), c3 (PSI 0.30) and 2 more drifted, in 900 rows"
    unknown = {"columns": [{"name": "c", "drifted": True}]}
    assert verdict("drift", drift=check("drift", "bad", unknown)).message == "c drifted, in 900 rows"


@pytest.mark.parametrize(("outcome", "report"), [("unknown", DRIFT), ("ok", {})])
def test_a_check_that_knows_nothing_says_nothing(outcome, report):
    found = verdict("drift", drift=check("drift", outcome, report))
    assert (found.holds, found.message) == (None, "as told")


@pytest.mark.parametrize(("outcome", "expected"), [("ok", False), ("bad", True), ("unknown", None)])
def test_quality_is_as_the_check_found_it(outcome, expected):
    found = verdict("quality", quality=check("quality", outcome, QUALITY))
    assert (found.holds, found.value, found.threshold, found.message) == (expected, 0.75, 0.8, "as told")


@pytest.mark.parametrize(
    ("outcome", "below", "above", "expected"),
    [
        ("ok", 0.76, None, True),
        ("bad", 0.75, None, False),
        ("ok", None, 0.74, True),
        ("ok", None, 0.75, False),
        ("unknown", 0.76, None, None),
    ],
)
def test_a_threshold_of_ones_own_for_quality(outcome, below, above, expected):
    found = verdict("quality", quality=check("quality", outcome, QUALITY), below=below, above=above)
    assert (found.holds, found.threshold) == (expected, below if below is not None else above)


def test_quality_that_is_not_defined_is_not_bad():
    assert verdict("quality", quality=check("quality", "ok", {"metric": "accuracy"}), below=0.9).holds is None


# requests ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("ok", "failed", "expected"), [(95, 5, False), (94, 6, True), (10, 9, None), (0, 0, False), (0, 20, True)])
def test_the_share_of_failed_requests(ok, failed, expected):
    assert verdict("error_rate", requests=requests(ok, failed)).holds is expected


def test_a_failure_that_the_champion_answered_instead_is_none():
    assert verdict("error_rate", requests=requests(100, 50, fallbacks=50)).value == 0.0
    assert verdict("error_rate", requests=requests(100, 60, fallbacks=50)).value == pytest.approx(10 / 110)


def test_the_figures_of_failed_requests():
    found = verdict("error_rate", requests=requests(90, 10), above=0.2)
    assert (found.holds, found.threshold, found.time) == (False, 0.2, 1_000_020.0)
    assert found.message == "10.0% of 100 requests failed in 5 minutes"


@pytest.mark.parametrize(("latency_s", "n", "expected"), [(0.06, 30, True), (0.04, 30, False), (0.06, 19, None), (0.06, 0, False)])
def test_p95_over_the_budget(latency_s, n, expected):
    found = verdict("latency", requests=requests(n, latency_s=latency_s))
    assert (found.holds, found.threshold) == (expected, SPEC.latency_budget_ms)


def test_p95_over_a_limit_of_ones_own():
    found = verdict("latency", requests=requests(100, latency_s=0.06), above=100)
    assert found.holds is False
    assert found.value == pytest.approx(60, rel=0.03)


def test_rows_that_the_log_could_not_keep():
    assert verdict("log_dropping", requests=requests(9)).holds is False
    found = verdict("log_dropping", requests=requests(9, unlogged=3))
    assert (found.holds, found.value, found.message) == (True, 3.0, "the inference log could not keep 3 rows in 5 minutes")
    assert verdict("log_dropping", requests=requests(9, unlogged=3), above=3).holds is False


# ground truth ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("age_s", "rows", "expected"), [(7200, 5, False), (7201, 5, True), (7201, 0, False), (None, 5, True), (None, 0, False), (-5, 5, False)]
)
def test_ground_truth_that_should_be_there(age_s, rows, expected):
    assert verdict("ground_truth_age", newest_truth=None if age_s is None else NOW - age_s, rows=rows).holds is expected


def test_what_is_said_of_ground_truth():
    found = verdict("ground_truth_age", newest_truth=NOW - 10_800, rows=5)
    assert found.message == "the newest ground truth is 3 h old, and predictions older than 2 h are without"
    assert (found.value, found.threshold) == (10_800, 7200)
    assert (
        verdict("ground_truth_age", rows=5, above=600).message == "there is no ground truth, and predictions older than 10 min are without"
    )


def test_rules_of_one_kind_have_numbers():
    rules = [AlertSpec(when=when) for when in ("drift", "latency", "drift", "drift")]
    assert names_of(rules) == ["drift", "latency", "drift-2", "drift-3"]
