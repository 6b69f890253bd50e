import itertools
import json
import threading
import time

import msgspec
import pytest
from unit.rollout.world import MODEL, World, plan

from ekiben.errors import StateError
from ekiben.rollout.hooks import TRIES, Hooks
from ekiben.state.alerts import ALERT
from ekiben.state.deliveries import MemoryDeliveries
from ekiben.state.delivering import FAILED
from ekiben.state.events import Event

URL = "http://hooks.example/T0/secret-path"


class Listener:
    """What posts, and remembers it."""

    def __init__(self):
        self.got = []
        self.answers = {}

    def __call__(self, url, body, headers):
        self.got.append((url, json.loads(body)["type"], headers))
        answer = self.answers.get(url, 200)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def listener():
    return Listener()


@pytest.fixture
def make_hooks(world, listener):
    def make(url=URL, secret_file=None, control=None):
        return Hooks(control or world.control, url=url, secret_file=secret_file, wall=world.wall, send=listener)

    return make


def test_every_transition_is_told_once_in_order_to_the_settings_hook_and_to_the_plans(world, listener, make_hooks):
    hooks = make_hooks()
    world.controller = world.make_controller(hooks=hooks)
    mine = plan({"setWeight": 20}, {"pause": "1s"}, hooks=[{"url": "http://team.example"}])
    world.operations().start(MODEL, "v2", plan=mine)
    world.pass_time(20)
    while hooks.deliver():
        pass
    kinds = ["started", "loaded", "step", "pause-over", "promoted"]
    for url in (URL, "http://team.example"):
        assert [kind for where, kind, _ in listener.got if where == url] == [f"rollout.{kind}" for kind in kinds]
    hooks.collect()
    assert hooks.deliver() == 0


def test_without_hooks_nothing_piles_up(world, make_hooks):
    hooks = make_hooks(url="")
    world.operations().start(MODEL, "v2")
    hooks.collect()
    assert world.control.deliveries.due(world.now + 1e9) == []
    assert world.control.deliveries.last_event() == 1


def test_alerts_are_left_to_the_monitor(world, listener, make_hooks):
    hooks = make_hooks()
    world.control.events.append([Event(time=1.0, who="monitor", model=MODEL, kind=ALERT, message="drift")])
    hooks.collect()
    assert hooks.deliver() == 0
    assert world.control.deliveries.last_event() == 1


def test_what_fails_is_tried_again_later_with_the_same_id_and_then_given_up(world, listener, make_hooks):
    listener.answers[URL] = 500
    hooks = make_hooks()
    world.operations().start(MODEL, "v2")
    hooks.collect()
    times = []
    for _ in range(4000):
        if hooks.deliver():
            times.append(world.now)
        world.now += 1
    assert len(times) == TRIES
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert len({headers["webhook-id"] for _, _, headers in listener.got}) == 1
    assert len({headers["webhook-timestamp"] for _, _, headers in listener.got}) == TRIES
    last = world.control.events.find(model=MODEL)[-1]
    assert (last.kind, last.details["problem"], last.rollout) == (FAILED, "it answered 500", "tiny-1")
    assert "secret-path" not in last.message
    # Nobody is told that nobody could be told.
    hooks.collect()
    assert hooks.deliver() == 0


def test_a_hook_that_comes_back_hears_it(world, listener, make_hooks):
    listener.answers[URL] = OSError("connection refused")
    hooks = make_hooks()
    world.operations().start(MODEL, "v2")
    hooks.collect()
    hooks.deliver()
    del listener.answers[URL]
    world.now += 2
    assert hooks.deliver() == 1
    assert world.control.deliveries.due(world.now + 1e9) == []
    assert world.kinds() == ["started"]


def test_a_hook_that_is_gone_is_given_up_at_once(world, listener, make_hooks):
    listener.answers[URL] = 410
    hooks = make_hooks()
    world.operations().start(MODEL, "v2")
    hooks.collect()
    hooks.deliver()
    assert world.kinds() == ["started", FAILED]


def test_messages_are_signed_with_the_hooks_own_secret_or_the_settings(world, listener, make_hooks, tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_text("one")
    theirs.write_text("two")
    hooks = make_hooks(secret_file=ours)
    mine = plan({"pause": {}}, hooks=[{"url": "http://a", "secretFile": str(theirs)}, {"url": "http://b"}])
    world.operations().start(MODEL, "v2", plan=mine)
    hooks.collect()
    hooks.deliver()
    signatures = {url: headers["webhook-signature"] for url, _, headers in listener.got}
    assert all(signature.startswith("v1,") for signature in signatures.values())
    assert len(set(signatures.values())) == 3  # another id for each hook, at least
    ours.unlink()
    world.now += 1
    world.operations().abort(MODEL)
    hooks.collect()
    hooks.deliver()
    assert [url for url, _, _ in listener.got[3:]] == ["http://a"]
    waiting = world.control.deliveries.due(world.now + 1e9)
    assert {delivery.url for delivery in waiting} == {"webhook", "http://b"}  # the setting's own URL is not in the database
    assert all("the secret that signs it cannot be read" in delivery.problem for delivery in waiting)


def test_a_process_that_ends_between_making_and_noting_makes_none_twice(world, listener, make_hooks):
    class Ending(MemoryDeliveries):
        def set_last_event(self, event):
            raise StateError("away")

    ending = Ending()
    control = msgspec.structs.replace(world.control, deliveries=ending)
    world.operations().start(MODEL, "v2")
    for _ in range(2):
        with pytest.raises(StateError):
            make_hooks(control=control).collect()
    assert len(ending.due(world.now)) == 1


def test_a_slow_hook_delays_no_rollback(world, listener):
    holds, entered = threading.Event(), threading.Event()

    def slow(url, body, headers):
        entered.set()
        holds.wait(20)
        return 200

    hooks = Hooks(world.control, url=URL, secret_file=None, wall=world.wall, send=slow)
    world.controller = world.make_controller(hooks=hooks)
    world.operations().start(MODEL, "v2", plan=plan({"setWeight": 20}, {"pause": "1h"}))
    world.pass_time(10)
    stop = threading.Event()
    thread = threading.Thread(target=hooks.run, args=(stop, lambda: True))
    thread.start()
    assert entered.wait(5)
    world.error_rates["v2"] = 0.9
    world.pass_time(5)
    assert world.rollout.status == "RolledBack"
    assert thread.is_alive()
    assert not holds.is_set()
    stop.set()
    holds.set()
    thread.join(5)


def test_the_thread_sends_only_for_the_one_who_holds_the_lease_and_survives_what_goes_wrong(world, make_hooks, listener, caplog):
    errors = [StateError("away"), ValueError("odd")]

    class Failing(MemoryDeliveries):
        def due(self, now, limit=20, *, queue="rollouts"):
            if errors:
                raise errors.pop(0)
            return super().due(now, limit, queue=queue)

    control = msgspec.structs.replace(world.control, deliveries=Failing())
    hooks = make_hooks(control=control)
    world.operations().start(MODEL, "v2")
    hooks.collect()
    stop, holds = threading.Event(), threading.Event()
    thread = threading.Thread(target=hooks.run, args=(stop, holds.is_set))
    thread.start()
    time.sleep(0.1)
    assert listener.got == []
    assert len(errors) == 2
    holds.set()
    end = time.monotonic() + 10
    while not listener.got and time.monotonic() < end:
        time.sleep(0.02)
    stop.set()
    thread.join(5)
    assert len(listener.got) == 1
    assert "a webhook could not be called" in caplog.text


def test_the_controller_sends_in_a_thread_of_its_own(world, make_hooks, listener):
    hooks = make_hooks()
    controller = world.make_controller(hooks=hooks, clock=time.monotonic)
    world.operations().start(MODEL, "v2")
    stop = threading.Event()
    thread = threading.Thread(target=controller.run, args=(stop,))
    thread.start()
    end = time.monotonic() + 10
    while not listener.got and time.monotonic() < end:
        time.sleep(0.02)
    stop.set()
    thread.join(5)
    assert [kind for _, kind, _ in listener.got] == ["rollout.started"]


def test_the_settings_hook_is_in_the_database_by_name_and_its_plan_twin_is_one(world, listener, make_hooks):
    hooks = make_hooks()
    world.operations().start(MODEL, "v2", plan=plan({"pause": {}}, hooks=[{"url": URL}]))
    hooks.collect()
    assert {delivery.url for delivery in world.control.deliveries.due(world.now + 1)} == {"webhook"}
    make_hooks(url="").deliver()
    assert listener.got == []
    failures = [event.message for event in world.control.events.find(limit=100) if event.kind == FAILED]
    assert failures
    assert all("EKIBEN_WEBHOOK_URL is not set" in message for message in failures)
