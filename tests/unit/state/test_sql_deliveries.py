import msgspec
import pytest

from ekiben.state.deliveries import Delivery, MemoryDeliveries
from ekiben.state.events import Event
from ekiben.state.sql_deliveries import SqlDeliveries

EVENT = Event(id=1, time=1.0, who="me", model="m", kind="step", message="on we go", details={"weight": 5})


@pytest.fixture(params=["memory", "sqlite"])
def deliveries(request):
    return MemoryDeliveries() if request.param == "memory" else SqlDeliveries(request.getfixturevalue("database"))


def test_an_event_goes_to_each_webhook_once(deliveries):
    made = [Delivery(event=EVENT, url=url) for url in ("http://a", "http://b")]
    deliveries.add(made)
    deliveries.add(made)
    assert sorted(d.url for d in deliveries.due(0.0)) == ["http://a", "http://b"]
    deliveries.update(msgspec.structs.replace(made[0], state="given-up", problem="refused"))
    deliveries.add(made)
    assert deliveries.due(0.0) == made[1:]


def test_a_delivery_that_was_not_added_is_kept_too(deliveries):
    delivery = Delivery(event=EVENT, url="http://a", due=3.0)
    deliveries.update(delivery)
    assert (deliveries.due(2.9), deliveries.due(3.0), deliveries.due(3.0, limit=0)) == ([], [delivery], [])
