import msgspec
import pytest
from unit.monitoring.monitor_world import MODEL, MONITOR, SPEC, World

from ekiben.model.monitor_spec import AlertSpec
from ekiben.monitoring.alert_rules import Verdict
from ekiben.monitoring.alerts import REPEAT_S, after
from ekiben.state.alerts import ALERT, QUEUE, Alert
from ekiben.state.checks import Check

RULE = AlertSpec(when="error_rate", checks=3, to=("webhook", "email"), severity="critical")
NEW = Alert(model=MODEL, name="error_rate")


def verdict(holds, time, version=""):
    return Verdict(holds=holds, time=time, message=f"found at {time}", value=0.5, version=version)


def course(*looks, rule=RULE, alert=NEW):
    """How an alert stands after looks at (holds, time), each now, and what was told."""
    told = []
    for holds, time in looks:
        alert, news = after(alert, rule, verdict(holds, time), time)
        told.append(news)
    return alert, told


# how a rule stands ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_fires_once_it_held_for_so_many_looks_in_a_row():
    alert, told = course((True, 1.0), (True, 2.0))
    assert (alert.state, alert.since, alert.held, told) == ("pending", 1.0, 2, ["", ""])
    alert, told = course((True, 1.0), (True, 2.0), (True, 3.0), (True, 4.0))
    assert (alert.state, alert.since, alert.told, told) == ("firing", 3.0, 3.0, ["", "", "firing", ""])
    assert (alert.severity, alert.to, alert.message) == ("critical", ("webhook", "email"), "found at 4.0")


def test_one_look_fires_where_one_is_enough():
    assert course((True, 1.0), rule=AlertSpec(when="drift"))[1] == ["firing"]


def test_a_pause_begins_the_row_anew_and_nobody_is_told():
    alert, told = course((True, 1.0), (True, 2.0), (False, 3.0), (True, 4.0))
    assert (alert.state, alert.held, told) == ("pending", 1, [""] * 4)


def test_the_same_look_counts_once():
    alert, _ = course((True, 1.0), (True, 1.0), (True, 1.0))
    assert (alert.state, alert.held) == ("pending", 1)


def test_where_nothing_can_be_said_it_stays():
    alert, told = course((True, 1.0), (None, 2.0), (True, 3.0), (True, 4.0), (None, 5.0))
    assert (alert.state, alert.held, told[-2:]) == ("firing", 3, ["firing", ""])


def test_it_is_over_once_and_can_come_back():
    looks = [(True, 1.0), (True, 2.0), (True, 3.0), (False, 4.0), (False, 5.0), (True, 6.0), (True, 7.0), (True, 8.0)]
    _, told = course(*looks)
    assert told == ["", "", "firing", "resolved", "", "", "", "firing"]
    assert course(*looks[:5])[0].since == 4.0


def test_it_is_told_again_once_a_day_while_it_lasts_also_where_nothing_new_is_known():
    first, day = 3.0, REPEAT_S
    looks = [
        (True, 1.0),
        (True, 2.0),
        (True, first),
        (True, first + day - 1),
        (True, first + day),
        (None, first + 2 * day),
        (True, first + 2 * day + 1),
    ]
    assert course(*looks)[1] == ["", "", "firing", "", "repeated", "repeated", ""]


def test_another_version_begins_a_row_of_its_own_but_ends_nothing():
    alert, _ = after(NEW, RULE, verdict(True, 1.0, "v1"), 1.0)
    alert, _ = after(alert, RULE, verdict(True, 2.0, "v1"), 2.0)
    assert alert.held == 2
    alert, _ = after(alert, RULE, verdict(True, 3.0, "v2"), 3.0)
    assert (alert.held, alert.version) == (1, "v2")
    firing = msgspec.structs.replace(alert, state="firing", held=3, told=3.0)
    assert after(firing, RULE, verdict(True, 4.0, "v3"), 4.0)[0].state == "firing"


def test_what_is_quiet_is_not_written_again_and_again():
    quiet = msgspec.structs.replace(NEW, revision=1)
    assert after(quiet, RULE, verdict(False, 9.0), 9.0)[0] is quiet


# models ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def spec(*rules):
    return msgspec.structs.replace(SPEC, monitor=msgspec.structs.replace(MONITOR, alerts=rules))


def check(world, kind="drift", outcome="bad", arm="", version="v1", psi=0.5):
    report = {
        "columns": [{"name": "a", "psi": psi, "drifted": outcome == "bad"}],
        "metric": "accuracy",
        "metrics": {"accuracy": {"value": psi}},
    }
    world.control.checks.add(
        Check(
            model=MODEL,
            version=version,
            kind=kind,
            arm=arm,
            time=world.now,
            since=0.0,
            until=world.now,
            rows=500,
            outcome=outcome,
            summary=f"the {kind} of {version}",
            report=report,
        )
    )


def messages(world):
    return [event.message for event in world.control.events.find(model=MODEL) if event.kind == ALERT]


def test_drift_is_told_to_the_rules_channels_with_its_figures(world):
    rules = spec(AlertSpec(when="drift", to=("slack", "email"), severity="info"))
    check(world)
    for _ in range(2):
        world.alerting.judge(MODEL, "v1", rules, world.now)
    assert messages(world) == ["tiny:v1: drift fires: a (PSI 0.50) drifted, in 500 rows"]
    [event] = world.control.events.find()
    assert event.who == "monitor"
    assert event.details == {
        "alert": "drift",
        "state": "firing",
        "repeated": False,
        "severity": "info",
        "version": "v1",
        "value": 0.5,
        "threshold": None,
        "began": world.now,
        "checks": 1,
    }
    assert sorted(d.url for d in world.control.deliveries.due(world.now, queue=QUEUE)) == ["email", "slack"]
    world.now += 600
    check(world, outcome="ok")
    world.alerting.judge(MODEL, "v1", rules, world.now)
    assert messages(world)[1:] == ["tiny:v1: drift is over: no input drifted in 500 rows"]
    assert world.control.events.find()[-1].details["began"] == world.now - 600


def test_only_checks_of_the_champion_and_of_all_its_arms_count(world):
    rules = spec(AlertSpec(when="quality"), AlertSpec(when="drift"))
    check(world, version="v2")
    check(world, "quality", version="v2")
    check(world, "quality", arm="pinned")
    world.alerting.judge(MODEL, "v1", rules, world.now)
    assert messages(world) == []
    check(world, "quality")
    world.alerting.judge(MODEL, "v1", rules, world.now)
    assert messages(world) == ["tiny:v1: quality fires: the quality of v1"]


def test_requests_of_all_versions_count_without_those_of_shadows(world):
    rules = spec(AlertSpec(when="error_rate"))
    world.happen(ok=0, failed=500, arm="shadow")
    world.happen(ok=100, failed=0)
    world.alerting.judge(MODEL, "v1", rules, world.now)
    assert messages(world) == []
    world.now += 60
    world.happen(ok=0, failed=50)
    world.alerting.judge(MODEL, "v1", rules, world.now)
    assert messages(world) == ["tiny: error_rate fires: 33.3% of 150 requests failed in 5 minutes"]


def test_ground_truth_that_does_not_come(world):
    rules = spec(AlertSpec(when="ground_truth_age"))
    world.answer(50)
    world.now += 7100
    world.alerting.judge(MODEL, "v1", rules, world.now)
    assert messages(world) == []
    world.now += 300
    world.alerting.judge(MODEL, "v1", rules, world.now)
    assert messages(world) == ["tiny: ground_truth_age fires: there is no ground truth, and predictions older than 2 h are without"]


def test_what_is_told_again_says_so(world):
    rules = spec(AlertSpec(when="log_dropping"))
    for _ in range(2):
        world.happen(unlogged=5)
        world.alerting.judge(MODEL, "v1", rules, world.now)
        world.now += REPEAT_S
    assert messages(world) == [
        f"tiny: log_dropping {how}: the inference log could not keep 5 rows in 5 minutes" for how in ("fires", "still fires")
    ]
    assert [event.details["repeated"] for event in world.control.events.find()] == [False, True]


def test_of_two_monitors_one_tells(world):
    rules = spec(AlertSpec(when="drift"))
    check(world)
    read = world.control.alerts.find
    before = read(MODEL)
    world.alerting.judge(MODEL, "v1", rules, world.now)
    world.control.alerts.find = lambda model=None: before
    world.alerting.judge(MODEL, "v1", rules, world.now)
    assert len(messages(world)) == 1


def test_a_rule_that_is_taken_away_is_over(world):
    check(world)
    world.alerting.judge(MODEL, "v1", spec(AlertSpec(when="drift"), AlertSpec(when="quality")), world.now)
    world.alerting.judge(MODEL, "v1", spec(AlertSpec(when="latency")), world.now)
    assert messages(world)[1:] == ["tiny:v1: drift is over: the rule, or the model, is no longer there"]
    assert [alert.name for alert in world.control.alerts.find()] == ["latency"]


def test_a_model_that_is_taken_away_has_no_alerts(world):
    check(world)
    world.alerting.judge(MODEL, "v1", spec(AlertSpec(when="drift")), world.now)
    world.alerting.forget({MODEL}, world.now)
    assert len(world.control.alerts.find()) == 1
    world.alerting.forget(set(), world.now)
    assert world.control.alerts.find() == []
    assert "is over" in messages(world)[-1]
