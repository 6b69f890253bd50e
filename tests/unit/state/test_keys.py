import msgspec
import pytest

from ekiben.state import memory_control
from ekiben.state.events import Event
from ekiben.state.keys import ApiKey
from ekiben.state.sql_control import sql_control

EVENT = Event(time=5.0, who="kim@desk", model="", kind="key-created", message="made")
NEW = ApiKey(
    prefix="ab12cd34", name="site", digest="00" * 32, scopes=("predict:m", "truth"), created=5.0, created_by="kim@desk", expires=9.0
)


@pytest.fixture(params=["memory", "sqlite"])
def control(request):
    return memory_control() if request.param == "memory" else sql_control(request.getfixturevalue("database"))


def test_a_key_comes_back_whole_with_its_revision_and_its_event(control):
    assert (control.keys.all(), control.keys.generation(), control.keys.get("ab12cd34")) == ([], 0, None)
    assert control.keys.keep([NEW], event=EVENT)
    assert control.keys.get("ab12cd34") == msgspec.structs.replace(NEW, revision=1)
    assert control.keys.get("other123") is None
    assert [e.kind for e in control.events.find()] == ["key-created"]


def test_the_oldest_stands_first(control):
    for prefix, created in (("b", 2.0), ("a", 2.0), ("c", 1.0)):
        assert control.keys.keep([msgspec.structs.replace(NEW, prefix=prefix, created=created)], event=EVENT)
    assert [key.prefix for key in control.keys.all()] == ["c", "a", "b"]


def test_of_two_keys_both_are_kept_or_none(control):
    control.keys.keep([NEW], event=EVENT)
    generation = control.keys.generation()
    successor = msgspec.structs.replace(NEW, prefix="zz99zz99")
    for stale in (0, 2):
        assert not control.keys.keep([successor, msgspec.structs.replace(NEW, revision=stale, revoked=7.0)], event=EVENT)
    assert [key.prefix for key in control.keys.all()] == ["ab12cd34"]
    assert (control.keys.generation(), len(control.events.find())) == (generation, 1)
    assert control.keys.keep([successor, msgspec.structs.replace(NEW, revision=1, revoked=7.0)], event=EVENT)
    assert [(key.prefix, key.revoked, key.revision) for key in control.keys.all()] == [("ab12cd34", 7.0, 2), ("zz99zz99", 0.0, 1)]


def test_the_generation_grows_with_each_change_and_moves_no_model(control):
    before, seen = control.generation(), [control.keys.generation()]
    for prefix in ("a", "b"):
        control.keys.keep([msgspec.structs.replace(NEW, prefix=prefix)], event=EVENT)
        seen.append(control.keys.generation())
    assert seen == sorted(set(seen))
    assert control.generation() == before
