import pytest

from ekiben.rollout.evidence import Evidence
from ekiben.rollout.metric_monitor import monitor
from ekiben.rollout.plan import ResolvedMetric
from ekiben.state.checks import Check

METRIC = ResolvedMetric(name="monitor")


def check(version, kind, outcome, *, arm="", time=1.0) -> Check:
    return Check(
        model="m", version=version, kind=kind, arm=arm, time=time, since=0.0, until=1.0, rows=100, outcome=outcome,
        summary=f"{version} {kind} {outcome}",
    )  # fmt: skip


def found(*checks):
    return monitor(METRIC, Evidence(model="m", champion_version="1", challenger_version="2", task="regression", checks=checks))


@pytest.mark.parametrize(
    "checks",
    [
        (),
        (check("1", "quality", "bad"),),
        (check("2", "quality", "unknown"), check("2", "drift", "unknown")),
        (check("2", "quality", "bad", arm="shadow"),),
    ],
)
def test_without_a_check_that_says_something_it_does_not_apply(checks):
    assert found(*checks) is None


def test_good_checks():
    finding = found(check("2", "quality", "ok"), check("2", "drift", "ok"), check("1", "drift", "bad"))
    assert (finding.outcome, finding.message) == ("Successful", "2 quality ok; 2 drift ok")


def test_the_latest_check_counts():
    assert found(check("2", "quality", "bad"), check("2", "quality", "ok", time=2.0)).outcome == "Successful"
    assert found(check("2", "quality", "ok"), check("2", "quality", "bad", time=2.0)).outcome == "Failed"
    # One that says nothing does not take back what an earlier one said.
    assert found(check("2", "quality", "bad"), check("2", "quality", "unknown", time=2.0)).outcome == "Failed"


def test_bad_quality_fails_whatever_the_champions_is():
    finding = found(check("1", "quality", "bad"), check("2", "quality", "bad"))
    assert (finding.outcome, finding.message) == ("Failed", "2 quality bad")


@pytest.mark.parametrize(("champions", "outcome"), [(None, "Failed"), ("ok", "Failed"), ("unknown", "Failed"), ("bad", "Successful")])
def test_drift_fails_where_the_challenger_alone_has_it(champions, outcome):
    theirs = (check("1", "drift", champions),) if champions else ()
    assert found(check("2", "drift", "bad"), *theirs).outcome == outcome
