from __future__ import annotations

import json
import os

import pytest
from unit.serving.inprocess import Trouble, troubled

from ekiben.errors import StateError
from ekiben.serving.control_view import ControlView, LastKnown, read_view
from ekiben.state import memory_control
from ekiben.state.rollouts import Change
from ekiben.state.routes import Arm, HeaderCondition, HeaderRule, Kept, Route, Shadow, SlotRange

ROUTE = Route(
    rollout="tiny-3",
    salt="3.tiny",
    arms=(Arm("challenger", "2"),),
    slots=(SlotRange(0, 500, "challenger"),),
    shadows=(Shadow("2", 0.5),),
    rules=(HeaderRule("beta", "challenger", (HeaderCondition("x-beta", "exact", "1"),)),),
    kept=(Kept("0", 12.5),),
    fallback=False,
)
VIEW = ControlView((3, 1, 2), {"tiny": {"champion": "1", "challenger": "2"}}, {"tiny": True, "grid": False}, {"tiny": ROUTE})


@pytest.fixture
def known(tmp_path):
    return LastKnown(tmp_path, "memory")


def test_it_reads_what_aliases_loads_and_routes_say(registry):
    control = memory_control(aliases=registry.aliases, loads=registry.loads)
    assert read_view(control, registry) == ControlView((0, 0, 0))
    registry.aliases.set("tiny", "champion", "1")
    registry.loads.set("grid", loaded=False)
    control.rollouts.commit(Change(model="tiny", route=ROUTE))
    view = read_view(control, registry)
    assert view == ControlView((1, 1, 1), {"tiny": {"champion": "1"}}, {"grid": False}, {"tiny": ROUTE})
    assert view.generation == control.generation()


def test_the_generation_is_read_before_the_rest(registry):
    """What changes while the rest is read is then seen the next time, not missed for ever."""
    control = memory_control(aliases=registry.aliases, loads=registry.loads)
    original = registry.aliases.all

    def changing():
        registry.aliases.all = original
        registry.aliases.set("tiny", "champion", "2")
        return original()

    registry.aliases.all = changing
    assert read_view(control, registry).generation != control.generation()


@pytest.mark.parametrize("method", ["generation", "all"])
def test_a_database_that_is_away_is_no_view(registry, method):
    trouble = Trouble()
    control = troubled(memory_control(aliases=registry.aliases), trouble)
    trouble.methods = {method}
    with pytest.raises(StateError):
        read_view(control, registry)


def test_what_was_kept_is_read_again(known, tmp_path):
    assert known.read() is None
    known.write(ControlView())
    known.write(VIEW)
    assert known.read() == VIEW
    assert LastKnown(tmp_path, "memory").read() == VIEW
    assert [file.name for file in tmp_path.iterdir()] == ["last_known_routes.json"]


def test_what_is_of_another_database_is_not_used(known, tmp_path):
    known.write(VIEW)
    assert LastKnown(tmp_path, "another").read() is None


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b"{}", b'{"database": "memory"}', b'{"database": "memory", "view": 7}',
        b'{"view": {}, "database": "\xff"}', b'{"database": "memory", "view": {"routes": {"tiny": {"slots": 3}}}}', b"\x00\xff\xfe",
    ],
)  # fmt: skip
def test_a_file_that_is_broken_is_none(known, tmp_path, content):
    (tmp_path / "last_known_routes.json").write_bytes(content)
    assert known.read() is None


def test_a_file_that_a_later_release_wrote_is_read_as_far_as_it_is_known(known, tmp_path):
    known.write(VIEW)
    file = tmp_path / "last_known_routes.json"
    content = json.loads(file.read_bytes())
    content["view"]["more"] = content["later"] = 1
    file.write_text(json.dumps(content))
    assert known.read() == VIEW


def test_where_there_is_no_folder_none_is_made(tmp_path):
    known = LastKnown(tmp_path / "home", "memory")
    known.write(VIEW)
    assert not (tmp_path / "home").exists()
    assert known.read() is None


def test_a_disk_that_takes_nothing_stops_nothing(known, tmp_path, monkeypatch):
    known.write(VIEW)
    (tmp_path / f"last_known_routes.json.{os.getpid()}").mkdir()
    known.write(ControlView())
    assert known.read() == VIEW
