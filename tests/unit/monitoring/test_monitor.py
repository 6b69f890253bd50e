import threading
import time

import msgspec
import pytest
from unit.monitoring.monitor_world import MODEL, MONITOR, SPEC, World

from ekiben.errors import LogError, StateError
from ekiben.model.monitor_spec import AlertSpec
from ekiben.monitoring import monitor as module
from ekiben.monitoring.monitor import CHECKS_KEPT_S, LEASE, TTL_S, Monitor
from ekiben.state.alerts import QUEUE
from ekiben.state.checks import Check
from ekiben.state.delivering import Deliverer, Tried

ALERTS = (AlertSpec(when="drift"), AlertSpec(when="error_rate"))


class Retrains:
    def __init__(self):
        self.asked, self.stopped = [], 0

    def run_if_due(self, model):
        self.asked.append(model)

    def stop(self):
        self.stopped += 1


class Keeper:
    def __init__(self, keep_log, take_in):
        self.run_once, self.take_in = keep_log, take_in


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, msgspec.structs.replace(SPEC, monitor=msgspec.structs.replace(MONITOR, alerts=ALERTS)))


@pytest.fixture
def sent():
    return []


@pytest.fixture
def make(world, sent):
    def made(holder="host:1", keep_log=lambda: None, take_in=lambda goes_on: None, retrain=None):
        def attempt(delivery):
            sent.append(delivery.event.message)
            return Tried()

        control = world.control
        deliverer = Deliverer(
            QUEUE, control.deliveries, control.events, who="monitor", wall=world.wall, attempt=attempt, name=lambda d: d.url, tries=9
        )
        return Monitor(
            control,
            watched=world.watched,
            checker=world.checker,
            alerting=world.alerting,
            deliverer=deliverer,
            keeper=Keeper(keep_log, take_in),
            holder=holder,
            wall=world.wall,
            clock=world.wall,
            retrain=retrain,
        )

    return made


def kinds(world):
    return [(c.kind, c.outcome) for c in world.control.checks.latest(MODEL)]


def test_a_tick_looks_after_the_log_checks_judges_and_asks_for_training(world, make, sent):
    kept, retrain = [], Retrains()
    monitor = make(keep_log=lambda: kept.append(1), retrain=retrain)
    world.answer(600, shift=1.5)
    monitor.tick()
    monitor.send()
    assert kinds(world) == [("drift", "bad"), ("quality", "unknown")]
    assert (kept, retrain.asked, monitor.is_holding) == ([1], [MODEL], True)
    [message] = sent
    assert message.startswith("tiny:v1: drift fires: a (PSI ")
    monitor.tick()
    monitor.send()
    assert len(sent) == 1


def test_who_has_not_the_lease_looks_after_its_own_log_only(world, make, sent, caplog):
    caplog.set_level("INFO")
    kept = []
    first, other = make(), make("host:2", keep_log=lambda: kept.append(1))
    world.answer(600, shift=1.5)
    first.tick()
    other.tick()
    other.tick()
    other.send()
    assert (other.is_holding, kept, sent) == (False, [1, 1], [])
    assert caplog.text.count("host:2 waits: another process checks models") == 1
    first.release()
    other.tick()
    assert other.is_holding
    assert world.control.leases.holder(LEASE) == "host:2"


def test_what_cannot_be_checked_is_logged_and_its_alerts_are_judged_all_the_same(world, make, caplog):
    monitor = make()
    world.log.broken = LogError("the log is not there")
    world.happen(ok=0, failed=100)
    monitor.tick()
    assert [a.name for a in world.control.alerts.find() if a.state == "firing"] == ["error_rate"]
    assert "tiny: LogError: the log is not there; it is tried again" in caplog.text
    caplog.clear()
    world.now += 30
    monitor.tick()
    assert caplog.text == ""
    world.now += 31
    monitor.tick()
    assert "LogError" in caplog.text


def test_errors_of_one_model_do_not_stop_another(world, make, monkeypatch, caplog):
    models, of = ["broken", MODEL], world.watched.of

    def failing(model):
        if model == "broken":
            raise ValueError("odd")
        return of(model)

    monkeypatch.setattr(world.watched, "models", lambda: models)
    monkeypatch.setattr(world.watched, "of", failing)
    world.answer(600)
    make().tick()
    assert "broken: ValueError: odd" in caplog.text
    assert len(kinds(world)) == 2


def test_without_the_libraries_it_looks_after_the_log_and_leaves_the_lease_to_others(world, make, caplog):
    world.answer(600)
    world.checker.missing = ["scipy"]
    kept = []
    monitor = make(keep_log=lambda: kept.append(1))
    monitor.tick()
    monitor.tick()
    assert (len(kept), kinds(world), world.control.leases.holder("monitor")) == (2, [], None)
    assert caplog.text.count("without scipy this monitor looks after this host's log and leaves checks") == 1


def test_without_pyarrow_it_says_that_the_log_is_shipped_as_it_is_and_takes_nothing_in(world, make, caplog):
    world.checker.missing, taken = ["pyarrow", "scipy"], []
    make(take_in=taken.append).tick()
    assert taken == []
    assert (
        "without pyarrow and scipy this monitor ships and prunes this host's log as it is and leaves Parquet files, checks, alerts and "
        "retraining to one over the same control database and EKIBEN_LOG_URI, where 'ekiben[monitor]' is installed"
    ) in caplog.text


def test_who_has_the_lease_takes_in_what_others_shipped_as_long_as_it_has_it(world, make):
    asked = []

    def take_in(goes_on):
        asked.append(goes_on())
        world.now += TTL_S + 1
        assert world.control.leases.acquire(LEASE, "host:3", TTL_S)
        asked.append(goes_on())

    first, other = make(take_in=take_in), make("host:2", take_in=lambda goes_on: asked.append("not this one"))
    world.control.leases.acquire(LEASE, "host:1", TTL_S)
    other.tick()
    first.tick()
    assert asked == [True, False]


def test_what_cannot_be_taken_in_stops_no_check(world, make, caplog):
    def failing(goes_on):
        raise LogError("the storage is away")

    world.answer(600)
    make(take_in=failing).tick()
    assert len(kinds(world)) == 2
    assert "the inference log: LogError: the storage is away" in caplog.text


def test_it_takes_nothing_in_any_more_once_it_is_to_stop(world, make):
    stop, asked = threading.Event(), []
    stop.set()
    make(take_in=lambda goes_on: asked.append(goes_on())).tick(stop)
    assert asked == [False]


def test_where_nobody_has_named_a_champion_the_version_that_serves_is_watched(world, make):
    world.control.aliases.remove(MODEL, "champion")
    retrain = Retrains()
    make(retrain=retrain).tick()
    assert (kinds(world), retrain.asked) == ([], [MODEL])


@pytest.mark.parametrize("problem", [OSError("the disk is full"), StateError("away")])
def test_a_log_that_cannot_be_kept_stops_no_check(world, make, problem):
    def failing():
        raise problem

    world.answer(600)
    make(keep_log=failing).tick()
    assert len(kinds(world)) == 2


def test_what_was_done_to_the_log_is_logged(make, caplog):
    caplog.set_level("DEBUG")
    make(keep_log=lambda: "3 segments").tick()
    assert "the inference log: 3 segments" in caplog.text


def test_a_database_that_is_away_is_waited_for_and_said_once(world, make, monkeypatch, caplog):
    caplog.set_level("INFO")
    monitor = make()
    monitor.tick()
    world.answer(600)
    acquire = world.control.leases.acquire

    def away(*_):
        raise StateError("it is away")

    monkeypatch.setattr(world.control.leases, "acquire", away)
    for _ in range(3):
        monitor.tick()
    assert caplog.text.count("the control database does not answer") == 1
    assert not monitor.is_holding
    monkeypatch.setattr(world.control.leases, "acquire", acquire)
    for _ in range(2):
        monitor.tick()
    assert caplog.text.count("the control database answers again") == 1
    assert len(kinds(world)) == 2


def test_old_checks_go_now_and_then(world, make):
    def old(ago_s):
        at = world.now - ago_s
        world.control.checks.add(
            Check(model=MODEL, version="v1", kind="drift", time=at, since=0.0, until=at, rows=0, outcome="unknown", summary="")
        )

    old(CHECKS_KEPT_S + 60)
    old(CHECKS_KEPT_S - 60)
    monitor = make()
    monitor.tick()
    assert len(world.control.checks.find(MODEL)) == 1
    world.now += 120
    monitor.tick()
    assert len(world.control.checks.find(MODEL)) == 1
    world.now += 3600
    monitor.tick()
    assert world.control.checks.find(MODEL) == []


def test_told_to_stop_it_leaves_what_is_left(world, make):
    world.answer(600)
    stop = threading.Event()
    stop.set()
    make().tick(stop)
    assert kinds(world) == []


def test_it_runs_until_it_is_told_to_stop_and_gives_the_lease_back(world, make, sent, monkeypatch):
    monkeypatch.setattr(module, "TICK_S", 0.02)
    retrain = Retrains()
    monitor = make(retrain=retrain)
    world.answer(600, shift=1.5)
    stop = threading.Event()
    thread = threading.Thread(target=monitor.run, args=(stop,))
    thread.start()
    end = time.monotonic() + 20
    while not sent and time.monotonic() < end:
        time.sleep(0.02)
    stop.set()
    thread.join(10)
    assert len(sent) == 1
    assert retrain.stopped == 1
    assert world.control.leases.holder(LEASE) is None


def test_one_that_cannot_give_its_lease_back_ends_all_the_same(world, make, monkeypatch):
    def away(*_):
        raise StateError("it is away")

    monkeypatch.setattr(world.control.leases, "release", away)
    stop = threading.Event()
    stop.set()
    make().run(stop)


def test_a_check_that_takes_long_does_not_lose_the_lease(world, make, sent):
    monitor = make()
    world.answer(600, shift=1.5)
    monitor.tick()
    for _ in range(10):
        world.now += TTL_S / 2
        assert monitor._may_send()
    assert world.control.leases.holder(LEASE) == "host:1"
    world.now += TTL_S
    assert make("host:2")._has_lease()
    assert not monitor._may_send()
    assert not monitor.is_holding
