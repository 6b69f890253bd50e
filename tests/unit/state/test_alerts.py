import msgspec
import pytest

from ekiben.state import memory_control
from ekiben.state.alerts import ALERT, QUEUE, Alert
from ekiben.state.events import Event
from ekiben.state.sql_control import sql_control

EVENT = Event(time=5.0, who="monitor", model="m", kind=ALERT, message="drift: temp drifted", details={"state": "firing"})
NEW = Alert(model="m", name="drift", state="firing", since=5.0, to=("webhook", "email"), held=3, value=0.5, version="1")


@pytest.fixture(params=["memory", "sqlite"])
def control(request):
    return memory_control() if request.param == "memory" else sql_control(request.getfixturevalue("database"))


def test_an_alert_comes_back_whole_with_its_revision(control):
    assert control.alerts.find() == []
    assert control.alerts.keep(NEW)
    [kept] = control.alerts.find("m")
    assert kept == msgspec.structs.replace(NEW, revision=1)
    assert control.alerts.find("other") == []


def test_what_people_are_told_goes_to_each_channel_once(control):
    twice = msgspec.structs.replace(NEW, to=("webhook", "email", "webhook"))
    assert control.alerts.keep(twice, event=EVENT)
    [event] = control.events.find(model="m")
    assert (event.kind, event.message) == (ALERT, EVENT.message)
    due = control.deliveries.due(5.0, queue=QUEUE)
    assert sorted((d.url, d.event.id, d.queue) for d in due) == [("email", event.id, QUEUE), ("webhook", event.id, QUEUE)]


def test_the_controllers_deliveries_are_apart(control):
    control.alerts.keep(NEW, event=EVENT)
    assert control.deliveries.due(1e9) == []


def test_of_two_that_change_it_one_succeeds_and_only_that_one_tells(control):
    assert control.alerts.keep(NEW, event=EVENT)
    assert not control.alerts.keep(NEW, event=EVENT)
    [kept] = control.alerts.find()
    assert control.alerts.keep(msgspec.structs.replace(kept, state="resolved"))
    assert not control.alerts.keep(msgspec.structs.replace(kept, state="pending"), event=EVENT)
    assert [a.state for a in control.alerts.find()] == ["resolved"]
    assert len(control.events.find()) == 1
    assert len(control.deliveries.due(1e9, queue=QUEUE)) == 2


def test_one_that_was_forgotten_cannot_be_changed(control):
    control.alerts.keep(NEW)
    [kept] = control.alerts.find()
    control.alerts.forget("m", "drift")
    control.alerts.forget("m", "drift")
    assert control.alerts.find() == []
    assert not control.alerts.keep(kept)


def test_they_come_by_model_and_name(control):
    for model, name in (("n", "drift"), ("m", "quality"), ("m", "drift")):
        control.alerts.keep(msgspec.structs.replace(NEW, model=model, name=name))
    assert [(a.model, a.name) for a in control.alerts.find()] == [("m", "drift"), ("m", "quality"), ("n", "drift")]
