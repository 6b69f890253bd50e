from __future__ import annotations

import shutil

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from ekiben.model import InputSpec
from ekiben.model.artifact import MANIFEST
from ekiben.model.guard_spec import BreakerSpec
from ekiben.model.rollout_spec import RoutingSpec
from ekiben.monitoring.metrics import Metrics
from ekiben.serving.control_view import ControlView
from ekiben.serving.loaded_version import VersionRecord
from ekiben.serving.snapshot import Snapshot, _standby, snapshot_of, wanted_of
from ekiben.state.routes import Arm, Kept, Route, Shadow, SlotRange

METRICS = Metrics(CollectorRegistry())
ALL = (SlotRange(0, 10_000, "challenger"),)


@pytest.fixture
def versions(registry, another, tiny_artifact):
    """tiny in the versions 1 to 4, 1 of which is the champion."""
    registry.register(tiny_artifact.path, tag="tiny:1")
    for version in ("2", "3", "4"):
        registry.register(another(tiny_artifact, version).path, tag=f"tiny:{version}")
    return registry


def view(*, routes=None, loads=None, **aliases) -> ControlView:
    return ControlView((1,), {"tiny": aliases}, loads or {}, {"tiny": routes} if routes else {})


class Loaded:
    """What a snapshot looks at of a version in memory."""

    def __init__(self, version, spec):
        self.model, self.version, self.spec = spec.name, version, spec
        self.record = VersionRecord(METRICS, spec, version)


def loaded(spec, *versions):
    """What is in memory, as far as a snapshot looks at it."""
    return {("tiny", v): Loaded(v, spec) for v in versions}


# what should be loaded ───────────────────────────────────────────────────────────────────────────────────────────────


def test_champion_and_challenger_and_what_a_route_names(versions):
    route = Route(arms=(Arm("challenger", "2"),), shadows=(Shadow("3"),), kept=(Kept("4", 0.0), Kept("1", 0.0)))
    wanted = wanted_of(view(champion="1", challenger="2", routes=route), versions, ["tiny"])
    assert {alias: v.version for alias, v in wanted.versions["tiny"].items()} == {"champion": "1", "challenger": "2"}
    assert [v.version for v in wanted.routed["tiny"]] == ["3", "4"]
    assert wanted.problems == {}
    # The champion first, and each once.
    assert list(wanted.all()) == [("tiny", "1"), ("tiny", "2"), ("tiny", "3"), ("tiny", "4")]


def test_without_aliases_the_latest_is_champion(versions):
    wanted = wanted_of(ControlView(), versions, ["tiny"])
    assert list(wanted.versions["tiny"]) == ["champion"]
    assert wanted.problems == {}


def test_the_database_is_not_asked(versions):
    versions.aliases.fail()
    assert list(wanted_of(view(champion="2"), versions, ["tiny"]).all()) == [("tiny", "2")]


def test_what_was_unloaded_is_not_wanted_and_what_was_loaded_beyond_the_folder_is(versions, plane_artifact):
    versions.register(plane_artifact.path, tag="plane:1")
    route = Route(arms=(Arm("challenger", "2"),))
    wanted = wanted_of(view(champion="1", routes=route, loads={"tiny": False, "plane": True}), versions, ["tiny"])
    assert list(wanted.all()) == [("plane", "1")]
    assert wanted.unloaded == {"tiny"}
    assert list(wanted.versions) == ["plane"]


def test_a_route_of_a_model_that_is_not_served_loads_nothing(versions):
    assert wanted_of(view(champion="1", routes=Route(arms=(Arm("challenger", "2"),))), versions, []).all() == {}


def test_what_cannot_be_read_is_a_problem_and_the_rest_is_wanted(versions):
    (versions.folder_of("tiny:2") / MANIFEST).write_text("{")
    shutil.rmtree(versions.folder_of("tiny:3"))
    route = Route(arms=(Arm("blue", "3"), Arm("green", "4")))
    wanted = wanted_of(view(champion="1", challenger="2", routes=route), versions, ["tiny", "ghost"])
    assert list(wanted.all()) == [("tiny", "1"), ("tiny", "4")]
    assert sorted(wanted.problems) == ["ghost", "tiny:2", "tiny:3"]
    assert MANIFEST in wanted.problems["tiny:2"]
    assert "no version or alias '3'" in wanted.problems["tiny:3"]


def test_a_champion_that_cannot_be_read_is_a_problem_of_the_model_too(versions):
    (versions.folder_of("tiny:1") / MANIFEST).write_text("{")
    wanted = wanted_of(view(champion="1"), versions, ["tiny"])
    assert sorted(wanted.problems) == ["tiny", "tiny:1"]


# who answers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def snapshot(versions, available, *, refused=None, old=None, **of_view) -> Snapshot:
    wanted = wanted_of(view(**of_view), versions, ["tiny"])
    return snapshot_of(wanted, available, refused or {}, old or Snapshot())


def test_the_champion_answers_when_it_is_loaded(versions, tiny_spec):
    available = loaded(tiny_spec, "1", "2", "3")
    made = snapshot(versions, available, champion="1", challenger="2")
    assert made.default == {"tiny": available["tiny", "1"]}
    assert made.loaded == {key: available[key] for key in (("tiny", "1"), ("tiny", "2"))}
    assert made.aliases == {("tiny", "champion"): "1", ("tiny", "challenger"): "2"}
    assert (made.problems, made.models, made.unloaded) == ({}, ("tiny",), frozenset())
    assert made.ways["tiny"].table.is_plain


def test_until_it_is_loaded_nothing_answers(versions, tiny_spec):
    made = snapshot(versions, loaded(tiny_spec, "2"), champion="1", challenger="2")
    assert (made.default, made.ways) == ({}, {})
    assert made.problems == {"tiny": "is being loaded"}
    assert made.aliases == {("tiny", "challenger"): "2"}


def test_the_former_champion_answers_until_its_successor_is_loaded(versions, tiny_spec):
    available = loaded(tiny_spec, "1")
    old = snapshot(versions, available, champion="1")
    made = snapshot(versions, available, old=old, champion="2")
    assert made.default["tiny"].version == "1"
    assert made.loaded == available
    assert made.problems == {}
    assert made.ways["tiny"].table.champion.version == "1"
    after = snapshot(versions, available | loaded(tiny_spec, "2"), old=made, champion="2")
    assert after.default["tiny"].version == "2"
    assert list(after.loaded) == [("tiny", "2")]


def test_a_champion_that_was_refused_leaves_the_former_one(versions, tiny_spec, caplog):
    available = loaded(tiny_spec, "1")
    old = snapshot(versions, available, champion="1")
    made = snapshot(versions, available, refused={("tiny", "2"): "broken", ("tiny", "3"): "of no interest"}, old=old, champion="2")
    assert made.default["tiny"].version == "1"
    assert made.problems == {"tiny:2": "broken", "tiny": "tiny:2 was refused: broken"}
    assert "1 goes on answering; tiny:2 was refused: broken" in caplog.text
    first = snapshot(versions, {}, refused={("tiny", "2"): "broken"}, champion="2")
    assert (first.default, first.problems["tiny"]) == ({}, "tiny:2 was refused: broken")


def test_a_route_splits_the_traffic_as_far_as_it_is_loaded(versions, tiny_spec):
    route = Route(rollout="tiny-1", arms=(Arm("challenger", "2"),), slots=ALL, shadows=(Shadow("3"),))
    partly = snapshot(versions, loaded(tiny_spec, "1", "3"), champion="1", challenger="2", routes=route)
    assert partly.ways["tiny"].table.by_key("anybody").arm == "champion"
    assert partly.ways["tiny"].table.shadows == route.shadows
    whole = snapshot(versions, loaded(tiny_spec, "1", "2", "3"), champion="1", challenger="2", routes=route)
    assert whole.ways["tiny"].table.by_key("anybody").version == "2"
    assert whole.problems == {}


def test_what_keeps_a_user_on_one_version_is_the_champions_to_say(versions, tiny_spec):
    spec = msgspec.structs.replace(tiny_spec, routing=RoutingSpec(input="a"))
    available = loaded(spec, "1") | loaded(tiny_spec, "2")
    assert snapshot(versions, available, champion="1").ways["tiny"].table.key_input == "a"
    assert snapshot(versions, available, champion="2").ways["tiny"].table.key_input == ""


@pytest.mark.parametrize("route", [Route(arms=(Arm("challenger", "2"),), slots=ALL), Route(shadows=(Shadow("2"),))])
def test_an_arm_that_does_not_fit_the_champion_is_a_problem_and_gets_nothing(versions, tiny_spec, route):
    other = msgspec.structs.replace(tiny_spec, inputs=(*tiny_spec.inputs, InputSpec(name="e", type="float")))
    available = loaded(tiny_spec, "1") | loaded(other, "2")
    made = snapshot(versions, available, champion="1", challenger="2", routes=route)
    assert "it has an input 'e' more" in made.problems["tiny:2"]
    assert made.ways["tiny"].table.is_plain
    assert made.ways["tiny"].table.shadows == ()
    # It stays loaded: its version may be asked by name.
    assert ("tiny", "2") in made.loaded


def test_what_a_client_does_not_notice_fits(versions, tiny_spec):
    wider = msgspec.structs.replace(
        tiny_spec, inputs=(*tiny_spec.inputs[:3], InputSpec(name="d", type="float", min=-20, max=20)), timeout_ms=5.0
    )
    available = loaded(tiny_spec, "1") | loaded(wider, "2")
    made = snapshot(versions, available, champion="1", routes=Route(arms=(Arm("challenger", "2"),), slots=ALL))
    assert made.problems == {}
    assert made.ways["tiny"].table.by_key("anybody").version == "2"


def test_what_is_only_kept_need_not_fit(versions, tiny_spec):
    other = msgspec.structs.replace(tiny_spec, inputs=tiny_spec.inputs[:2])
    made = snapshot(versions, loaded(tiny_spec, "1") | loaded(other, "4"), champion="1", routes=Route(kept=(Kept("4", 9e9),)))
    assert made.problems == {}
    assert list(made.loaded) == [("tiny", "1"), ("tiny", "4")]


def test_an_arm_of_the_champions_own_version(versions, tiny_spec):
    route = Route(arms=(Arm("a", "1"), Arm("b", "2")), slots=(SlotRange(0, 5000, "a"), SlotRange(5000, 10_000, "b")))
    made = snapshot(versions, loaded(tiny_spec, "1", "2"), champion="1", routes=route)
    assert {made.ways["tiny"].table.by_key(str(n)).arm for n in range(50)} == {"a", "b"}
    arms = made.ways["tiny"].arms
    assert {name: (served.version, record is served.record.arm(name)) for name, (served, record) in arms.items()} == {
        "a": ("1", True),
        "b": ("2", True),
    }


# the former champion, in a broken one's place ────────────────────────────────────────────────────────────────────────

STANDBY = BreakerSpec(fallback="previous")


@pytest.mark.parametrize(("version", "wanted"), [("plain", []), ("standby", ["1"])])
def test_the_former_champion_stays_loaded_where_the_spec_needs_it(versions, another, tiny_artifact, version, wanted):
    versions.register(another(tiny_artifact, "plain").path, tag="tiny:plain")
    versions.register(another(tiny_artifact, "standby", breaker=STANDBY).path, tag="tiny:standby")
    made = wanted_of(view(champion=version, previous="1"), versions, ["tiny"])
    assert [v.version for v in made.routed.get("tiny", [])] == wanted
    assert wanted_of(view(champion=version), versions, ["tiny"]).routed == {}


def test_a_champion_that_cannot_be_read_keeps_nothing_loaded(versions, another, tiny_artifact):
    stored = versions.register(another(tiny_artifact, "standby", breaker=STANDBY).path, tag="tiny:standby")
    (stored.path / MANIFEST).write_text("{")
    assert "1" not in [v.version for v in wanted_of(view(champion="standby", previous="1"), versions, ["tiny"]).routed.get("tiny", [])]


def test_a_champion_that_goes_while_it_is_looked_at_keeps_nothing_loaded(versions):
    stored = versions.resolve("tiny:1", {})
    assert _standby(msgspec.structs.replace(stored, path=stored.path / "gone"), {"previous": "2"}) == set()


def test_it_answers_when_it_is_loaded_and_fits(versions, tiny_spec):
    standby = msgspec.structs.replace(tiny_spec, breaker=STANDBY)
    former = loaded(tiny_spec, "2")
    available = loaded(standby, "1") | former
    route = Route(kept=(Kept("2", 0.0),))
    assert snapshot(versions, available, champion="1", previous="2", routes=route).ways["tiny"].former is former["tiny", "2"]
    assert snapshot(versions, loaded(standby, "1"), champion="1", previous="2", routes=route).ways["tiny"].former is None
    assert snapshot(versions, available, champion="1", routes=route).ways["tiny"].former is None
    assert snapshot(versions, available, champion="1", previous="1", routes=route).ways["tiny"].former is None
    plain = loaded(tiny_spec, "1", "2")
    assert snapshot(versions, plain, champion="1", previous="2", routes=route).ways["tiny"].former is None
    other = msgspec.structs.replace(tiny_spec, inputs=(InputSpec(name="q", type="float"),))
    unfit = snapshot(versions, loaded(standby, "1") | loaded(other, "2"), champion="1", previous="2", routes=route)
    assert unfit.ways["tiny"].former is None
    assert "tiny:2" in unfit.problems
