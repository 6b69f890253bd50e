"""What every registry promises, on the BentoML store and on its twin."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ekiben.errors import ArtifactError, ChecksumMismatch, RegistryError, StateError, VersionExists, VersionNotFound
from ekiben.registry import BentoRegistry, FolderRegistry
from ekiben.state import MemoryAliases

NOON = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


class UnwritableAliases(MemoryAliases):
    def set(self, model, alias, version, *, replace=True):
        raise StateError("the control database cannot be written")


@pytest.fixture(params=["folder", "bento"])
def open_store(request, tmp_path):
    def open_one(aliases):
        if request.param == "folder":
            return FolderRegistry(tmp_path / "store", aliases, clock=lambda: NOON)
        return BentoRegistry(aliases, home=tmp_path / "bentoml", clock=lambda: NOON)

    return open_one


@pytest.fixture
def registry(open_store):
    return open_store(MemoryAliases())


@pytest.fixture
def three(registry, make_artifact):
    """Version 2 is the oldest, 10 the latest; 2 is champion."""
    for version, day in (("2", 1), ("1", 2), ("10", 3)):
        registry.register(make_artifact(created=f"2026-01-0{day}T00:00:00+00:00"), tag=f"flight_delay:{version}")
    return registry


def files_of(folder):
    return {p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file()}


def test_a_registered_version_is_the_artifact(registry, make_artifact):
    source = make_artifact()
    made = registry.register(source, tag="flight_delay:2013.04")
    assert (made.model, made.version, made.tag) == ("flight_delay", "2013.04", "flight_delay:2013.04")
    assert made.path.name == "2013.04"
    assert files_of(made.path) - {"model.yaml"} == files_of(source)
    made.artifact().verify()
    assert made.created == "2026-01-01T00:00:00.000000+00:00"
    assert made.size_bytes == sum(p.stat().st_size for p in made.path.rglob("*") if p.is_file())


def test_a_version_without_tag_is_named_after_the_time(registry, make_artifact):
    assert [registry.register(make_artifact()).version for _ in range(3)] == ["20260131-120000", "20260131-120000-2", "20260131-120000-3"]


def test_the_first_version_becomes_champion_and_no_later_one(three):
    assert three.aliases.all() == {"flight_delay": {"champion": "2"}}
    assert three.resolve("flight_delay").aliases == ("champion",)


def test_a_champion_that_was_taken_away_does_not_come_back_by_registering(three, make_artifact):
    three.remove_alias("flight_delay", "champion")
    three.register(make_artifact(), tag="flight_delay:11")
    assert three.aliases.all() == {}


def test_the_first_version_replaces_a_champion_that_is_gone(registry, make_artifact):
    registry.aliases.set("flight_delay", "champion", "deleted")
    registry.register(make_artifact(), tag="flight_delay:1")
    assert registry.aliases.get("flight_delay") == {"champion": "1"}


def test_a_taken_tag_is_refused_and_the_version_unchanged(registry, make_artifact):
    first = registry.register(make_artifact(), tag="flight_delay:1")
    before = (first.path / "artifact.json").read_bytes()
    with pytest.raises(VersionExists, match="flight_delay:1 exists already"):
        registry.register(make_artifact(created="2026-02-01T00:00:00+00:00"), tag="flight_delay:1")
    assert (first.path / "artifact.json").read_bytes() == before


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("flight_delay", "must be NAME:VERSION, for example flight_delay:1.0"),
        (":1", "must be NAME:VERSION"),
        ("other:1", "is of the model 'other', the artifact is of 'flight_delay'; give flight_delay:1"),
        ("flight_delay:", "cannot be a version"),
        ("flight_delay:V1", "give lower-case letters"),
        ("flight_delay:1/2", "cannot be a version"),
        ("flight_delay:..", "cannot be a version"),
        ("flight_delay:" + "1" * 64, "63 at most"),
        ("flight_delay:latest", "moves from version to version"),
        ("flight_delay:champion", "moves from version to version"),
        ("flight_delay:stable", "has an alias 'stable'"),
    ],
)
def test_a_tag_that_cannot_be_one_is_refused(registry, make_artifact, tag, message):
    registry.aliases.set("flight_delay", "stable", "1")
    with pytest.raises(RegistryError, match=message):
        registry.register(make_artifact(), tag=tag)
    assert registry.versions() == []


def test_a_name_the_store_cannot_hold_is_refused(registry, make_artifact):
    with pytest.raises(RegistryError, match="ending with a letter or digit"):
        registry.register(make_artifact("trailing_"))


def test_what_is_no_sound_artifact_is_refused(registry, make_artifact, tmp_path):
    with pytest.raises(ArtifactError, match="no artifact"):
        registry.register(tmp_path)
    broken = make_artifact()
    (broken / "model.onnx").write_bytes(b"A model")
    with pytest.raises(ChecksumMismatch, match=r"model\.onnx has changed"):
        registry.register(broken)
    assert registry.versions() == []


def test_a_version_whose_alias_cannot_be_written_is_taken_back(open_store, make_artifact):
    registry = open_store(UnwritableAliases())
    with pytest.raises(StateError):
        registry.register(make_artifact())
    assert registry.versions() == []


def test_a_store_that_cannot_be_written_is_named(open_store, make_artifact, tmp_path):
    (tmp_path / "store").touch()
    (tmp_path / "bentoml").touch()
    with pytest.raises(RegistryError, match=r"the model store cannot take flight_delay:1: .*(store|bentoml)"):
        open_store(MemoryAliases()).register(make_artifact(), tag="flight_delay:1")


@pytest.mark.parametrize(
    ("reference", "version"),
    [
        ("flight_delay", "2"),
        ("flight_delay:1", "1"),
        ("flight_delay:10", "10"),
        ("flight_delay:latest", "10"),
        ("flight_delay@latest", "10"),
        ("flight_delay:champion", "2"),
        ("flight_delay@champion", "2"),
        ("flight_delay:challenger", "1"),
        ("flight_delay@challenger", "1"),
    ],
)
def test_references(three, reference, version):
    three.set_alias("flight_delay", "challenger", "1")
    assert three.resolve(reference).tag == f"flight_delay:{version}"


def test_a_name_alone_means_the_latest_where_there_is_no_champion(three):
    three.remove_alias("flight_delay", "champion")
    assert three.resolve("flight_delay").version == "10"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("other", "no model 'other' in the store; there are flight_delay"),
        ("flight_delay:3", "no version or alias '3'; its versions are 1, 10, 2; its aliases are champion"),
        ("flight_delay@1", "no alias '1'"),
        ("flight_delay@challenger", "no alias 'challenger'"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(three, reference, message):
    with pytest.raises(VersionNotFound, match=message):
        three.resolve(reference)


@pytest.mark.parametrize("reference", ["", ":", "a:", ":1", "@champion", "a@", "A", "../x", "a:../x", "a:b:c", "a b"])
def test_what_is_no_reference_is_refused(three, reference):
    with pytest.raises(RegistryError, match="names no version; give NAME"):
        three.resolve(reference)


def test_an_empty_store_says_so(registry):
    assert registry.versions() == []
    assert registry.dangling() == []
    with pytest.raises(VersionNotFound, match="which is empty"):
        registry.resolve("flight_delay")


def test_a_dangling_alias_is_an_error_and_only_the_bare_name_falls_back(three):
    three.aliases.set("flight_delay", "champion", "gone")
    for reference in ("flight_delay@champion", "flight_delay:champion"):
        with pytest.raises(VersionNotFound, match="names the version gone, which is no longer in the store"):
            three.resolve(reference)
    assert three.resolve("flight_delay").version == "10"
    assert three.dangling() == [("flight_delay", "champion", "gone")]


def test_versions_are_listed_from_the_oldest_to_the_latest(three, make_artifact):
    three.register(make_artifact("digits"), tag="digits:1")
    assert [v.tag for v in three.versions()] == ["digits:1", "flight_delay:2", "flight_delay:1", "flight_delay:10"]
    assert [v.version for v in three.versions("flight_delay")] == ["2", "1", "10"]
    assert [v.aliases for v in three.versions("flight_delay")] == [("champion",), (), ()]
    assert three.versions("none") == []


def test_a_broken_version_hides_no_other(three):
    (three.resolve("flight_delay:10").path / "artifact.json").write_text("{")
    assert [v.version for v in three.versions()] == ["2", "1"]
    assert three.resolve("flight_delay:latest").version == "1"
    with pytest.raises(ArtifactError, match="cannot be read"):
        three.resolve("flight_delay:10")


def test_only_broken_versions_have_no_latest(registry, make_artifact):
    made = registry.register(make_artifact(), tag="flight_delay:1")
    (made.path / "artifact.json").write_text("{")
    with pytest.raises(VersionNotFound, match=r"can be read; `ekiben models verify"):
        registry.resolve("flight_delay:latest")


def test_find_gives_the_latest_of_a_recipe(registry, make_artifact):
    for version, recipe in (("1", "r"), ("2", "r"), ("3", "s"), ("4", None)):
        registry.register(make_artifact(created=f"2026-01-0{version}T00:00:00+00:00", recipe=recipe), tag=f"flight_delay:{version}")
    assert registry.find("flight_delay", "r").version == "2"
    assert registry.find("flight_delay", "t") is None
    assert registry.find("none", "r") is None


def test_aliases_move_and_go(three):
    assert three.set_alias("flight_delay", "challenger", "10").aliases == ("challenger",)
    assert three.set_alias("flight_delay", "champion", "latest").aliases == ("challenger", "champion")
    three.remove_alias("flight_delay", "challenger")
    assert three.aliases.get("flight_delay") == {"champion": "10"}
    with pytest.raises(RegistryError, match="no alias 'challenger'; its aliases are champion"):
        three.remove_alias("flight_delay", "challenger")


@pytest.mark.parametrize(
    ("alias", "version", "error", "message"),
    [
        ("champion", "3", VersionNotFound, "no version or alias '3'"),
        ("latest", "1", RegistryError, "cannot be set"),
        ("Best", "1", RegistryError, "cannot be an alias"),
        ("v9", "1", RegistryError, "has a version 'v9'"),
    ],
)
def test_an_alias_that_cannot_be_is_refused(three, make_artifact, alias, version, *, error, message):
    three.register(make_artifact(), tag="flight_delay:v9")
    with pytest.raises(error, match=message):
        three.set_alias("flight_delay", alias, version)
    assert three.aliases.get("flight_delay") == {"champion": "2"}


def test_deleting(three):
    three.delete("flight_delay:10")
    assert [v.version for v in three.versions()] == ["2", "1"]
    with pytest.raises(RegistryError, match="flight_delay:2 is champion; first give another version"):
        three.delete("flight_delay:2")
    with pytest.raises(VersionNotFound, match="no version flight_delay:champion to delete"):
        three.delete("flight_delay:champion")
    with pytest.raises(VersionNotFound, match="the versions of none are none"):
        three.delete("none:1")
    with pytest.raises(RegistryError, match="does not say which version"):
        three.delete("flight_delay")
    three.remove_alias("flight_delay", "champion")
    three.delete("flight_delay:2")
    three.delete("flight_delay:1")
    assert three.versions() == []


def test_the_models_of_a_store_are_listed_by_name(registry, make_artifact):
    assert registry.models() == []
    registry.register(make_artifact(), tag="flight_delay:1")
    assert registry.models() == ["flight_delay"]
