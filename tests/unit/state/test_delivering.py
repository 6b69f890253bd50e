import msgspec
import pytest

from ekiben.state import memory_control
from ekiben.state.deliveries import Delivery
from ekiben.state.delivering import FAILED, Deliverer, Tried, wait_s
from ekiben.state.events import Event

EVENT = Event(id=3, time=1.0, who="monitor", model="m", kind="alert", message="drift")


@pytest.fixture
def make(clock):
    """A function that gives a deliverer of the queue ``alerts`` whose tries go as they are listed."""

    def made(tries, *results):
        control, answers = memory_control(clock), iter(results)
        control.deliveries.add([Delivery(event=EVENT, url="email", queue="alerts"), Delivery(event=EVENT, url="http://other")])
        deliverer = Deliverer(
            "alerts",
            control.deliveries,
            control.events,
            who="monitor",
            wall=clock,
            attempt=lambda _: next(answers),
            name=lambda delivery: f"the channel {delivery.url}",
            tries=tries,
        )
        return control, deliverer

    return made


def test_waits_grow_to_five_minutes():
    assert [wait_s(n) for n in (1, 2, 3, 9, 10, 50)] == [1, 2, 4, 256, 300, 300]


def test_any_number_of_tries_has_a_wait():
    assert wait_s(5000) == 300


def test_what_arrives_is_not_tried_again_and_other_queues_are_left(make):
    control, deliverer = make(3, Tried())
    assert [deliverer.deliver(), deliverer.deliver()] == [1, 0]
    assert [d.url for d in control.deliveries.due(1e9)] == ["http://other"]
    assert control.events.find() == []


def test_what_fails_is_tried_after_a_wait_until_it_is_given_up(make, clock):
    control, deliverer = make(2, Tried("busy"), Tried("still busy"))
    assert [deliverer.deliver(), deliverer.deliver()] == [1, 0]
    [waiting] = control.deliveries.due(1e9, queue="alerts")
    assert (waiting.attempts, waiting.due, waiting.problem) == (1, clock() + 1, "busy")
    clock.now += 1
    assert deliverer.deliver() == 1
    assert control.deliveries.due(1e9, queue="alerts") == []
    [event] = control.events.find()
    assert (event.kind, event.who, event.model) == (FAILED, "monitor", "m")
    assert event.message == "the channel email did not get 'alert' in 2 tries: still busy"
    assert event.details == {"event": 3, "attempts": 2, "problem": "still busy"}


def test_what_is_of_no_use_is_not_repeated(make):
    control, deliverer = make(9, Tried("gone", is_final=True))
    deliverer.deliver()
    assert control.deliveries.due(1e9, queue="alerts") == []
    assert "in 1 try: gone" in control.events.find()[0].message


def test_a_result_compares_by_what_it_says():
    assert msgspec.structs.astuple(Tried()) == ("", False)
