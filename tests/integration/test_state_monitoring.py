"""What checks, alerts and the queues of deliveries promise, on every backend."""

import threading

import msgspec
import pytest

from ekiben.state.alerts import ALERT, QUEUE, Alert
from ekiben.state.checks import Check
from ekiben.state.deliveries import Delivery
from ekiben.state.events import Event

pytestmark = pytest.mark.processes

CHECK = Check(
    model="m",
    version="1",
    kind="drift",
    time=5.25,
    since=1.5,
    until=5.0,
    rows=700,
    outcome="bad",
    summary="temp drifted",
    report={"columns": [{"name": "temp", "psi": 0.3}], "nothing": None},
)
ALERT_OF_M = Alert(model="m", name="drift", state="firing", since=5.0, to=("webhook", "slack"), value=0.3, version="1", message="temp")
EVENT = Event(time=5.0, who="monitor", model="m", kind=ALERT, message="it fires", details={"alert": "drift"})


def check(time, **fields):
    return msgspec.structs.replace(CHECK, time=time, **fields)


def test_checks_come_back_whole_and_the_latest_of_each_first_found(controls):
    one, other = controls().checks, controls().checks
    for made in (CHECK, check(6.0), check(6.0, kind="quality"), check(5.5, kind="quality", arm="an arm" * 30), check(9.0, model="n")):
        one.add(made)
    assert other.find("m", limit=1, kind="drift", version="1") == [check(6.0)]
    assert other.find("m", since=5.25)[0] == CHECK
    assert [(c.kind, c.arm[:6], c.time) for c in other.latest("m")] == [
        ("drift", "", 6.0),
        ("quality", "", 6.0),
        ("quality", "an arm", 5.5),
    ]
    assert other.latest("m", since=5.9) == [check(6.0), check(6.0, kind="quality")]
    again = check(6.0, summary="said anew", outcome="ok")
    other.add(again)
    assert one.find("m", kind="drift") == [CHECK, again]
    assert one.prune(6.0) == 2
    assert len(other.find("m")) == 2


def test_an_alert_is_kept_with_what_is_told_of_it(controls):
    one, other = controls(), controls()
    assert one.alerts.keep(ALERT_OF_M, event=EVENT)
    [kept] = other.alerts.find("m")
    assert kept == msgspec.structs.replace(ALERT_OF_M, revision=1)
    [event] = other.events.find(model="m", kind=ALERT)
    due = other.deliveries.due(5.0, queue=QUEUE)
    assert {(d.url, d.event.id) for d in due} == {("webhook", event.id), ("slack", event.id)}
    assert other.deliveries.due(5.0) == []
    assert other.alerts.keep(msgspec.structs.replace(kept, state="resolved"))
    assert [a.state for a in one.alerts.find()] == ["resolved"]
    other.alerts.forget("m", "drift")
    assert one.alerts.find() == []


@pytest.mark.parametrize("revision", [0, 1])
def test_of_many_that_change_an_alert_at_once_one_tells(controls, revision):
    users = [controls().alerts for _ in range(4)]
    if revision:
        users[0].keep(ALERT_OF_M)
    barrier, answers = threading.Barrier(len(users)), []

    def change(alerts):
        barrier.wait()
        answers.append(alerts.keep(msgspec.structs.replace(ALERT_OF_M, revision=revision), event=EVENT))

    threads = [threading.Thread(target=change, args=(alerts,)) for alerts in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False, False, False, True]
    control = controls()
    assert len(control.events.find(kind=ALERT)) == 1
    assert len(control.deliveries.due(9.0, queue=QUEUE)) == 2


def test_queues_are_apart_also_after_a_try(controls):
    control = controls()
    made = [Delivery(event=msgspec.structs.replace(EVENT, id=n), url="x", queue=queue) for n, queue in ((1, "rollouts"), (2, QUEUE))]
    control.deliveries.add(made)
    tried = msgspec.structs.replace(made[1], attempts=1, problem="busy")
    control.deliveries.update(tried)
    assert control.deliveries.due(9.0) == made[:1]
    assert controls().deliveries.due(9.0, queue=QUEUE) == [tried]
