import msgspec
import pytest

from ekiben.errors import StateError
from ekiben.guards.audit import MOST_REFUSED, REFUSED_PER_S, AdminAction, AuditTrail, trail
from ekiben.state.events import Event, MemoryEvents

ACTION = AdminAction(who="key:ab12cd34@192.0.2.7", method="POST", route="/rollouts/{model}/abort", parts={"model": "tiny"}, status=200)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def events():
    return MemoryEvents()


@pytest.fixture
def audit(events, clock):
    return AuditTrail(events, wall=clock, clock=clock)


def tried(audit, status=403):
    if audit.takes_refused():
        audit.refused(msgspec.structs.replace(ACTION, who="anonymous@192.0.2.7", status=status))


def test_what_was_done_says_who_what_and_how_it_ended(audit, events):
    audit.done(ACTION)
    [event] = trail(events)
    assert (event.time, event.who, event.kind, event.model) == (1000.0, "key:ab12cd34@192.0.2.7", "admin", "")
    assert event.message == "POST /rollouts/{model}/abort (model=tiny) was answered 200"
    assert event.details == {"method": "POST", "route": "/rollouts/{model}/abort", "model": "tiny", "status": 200}
    audit.done(AdminAction(who="admin-key", method="POST", route="", status=404))
    assert trail(events)[1].message == "POST of no route was answered 404"


def test_who_was_refused_is_kept_at_a_bounded_rate_and_the_rest_is_counted(audit, events, clock):
    for _ in range(MOST_REFUSED + 25):
        tried(audit)
    assert len(events.find()) == MOST_REFUSED
    assert events.find()[0].details["refused"] is True
    audit.done(ACTION)  # whom it lets in is never left out
    assert len(events.find()) == MOST_REFUSED + 1
    clock.now += REFUSED_PER_S
    tried(audit)
    tried(audit)
    first, second = events.find()[-2:]
    assert first.details["left_out_before"] == 25
    assert "left_out_before" not in second.details


def test_the_trail_is_of_the_admin_api_and_of_keys_alone(audit, events):
    audit.done(ACTION)
    events.append([Event(time=1.0, who="kim", model="tiny", kind="promoted", message="on")])
    for kind in ("key-created", "key-revoked", "key-rotated"):
        events.append([Event(time=1.0, who="kim", model="", kind=kind, message="on")])
    assert [event.kind for event in trail(events)] == ["admin", "key-created", "key-revoked", "key-rotated"]
    assert [event.kind for event in trail(events, limit=2)] == ["key-revoked", "key-rotated"]
    assert [event.id for event in trail(events, after=3)] == [4, 5]
    assert trail(events, limit=0) == []


def test_while_the_database_is_away_it_stands_in_the_log(clock, caplog):
    class Away(MemoryEvents):
        def append(self, events):
            raise StateError("away")

    AuditTrail(Away(), wall=clock, clock=clock).done(ACTION)
    assert "key:ab12cd34@192.0.2.7: POST /rollouts/{model}/abort (model=tiny) was answered 200, which cannot be kept: away" in caplog.text
