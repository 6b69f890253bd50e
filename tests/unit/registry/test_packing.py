import msgspec
import pytest

from ekiben.errors import RegistryError, VersionNotFound
from ekiben.model.artifact import MANIFEST
from ekiben.registry import FolderRegistry
from ekiben.registry.packing import aliases_of_labels, choose
from ekiben.state import MemoryAliases


@pytest.fixture
def registry(tmp_path):
    return FolderRegistry(tmp_path / "store", MemoryAliases())


@pytest.fixture
def register(registry, make_artifact):
    def register(tag, *, framework="onnx", day=1):
        folder = make_artifact(tag.split(":")[0], created=f"2026-01-0{day}T00:00:00.000000+00:00")
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes())
        manifest["model"]["framework"] = framework
        (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
        registry.register(folder, tag=tag)

    return register


def test_champion_and_challenger_are_packed_and_nothing_else(registry, register):
    for day, version in enumerate(("1", "2", "3"), start=1):
        register(f"tiny:{version}", day=day)
    register("plane:7")
    registry.set_alias("tiny", "champion", "2")
    registry.set_alias("tiny", "challenger", "3")
    registry.set_alias("tiny", "former", "1")
    packed = choose(["tiny", "plane"], registry)
    assert packed.tags == ["plane:7", "tiny:2", "tiny:3"]
    assert packed.aliases == {"plane": {"champion": "7"}, "tiny": {"champion": "2", "challenger": "3"}}
    assert packed.labels == {"champion.plane": "7", "champion.tiny": "2", "challenger.tiny": "3"}
    assert aliases_of_labels({"project": "ekiben", "owner.tiny": "me", **packed.labels}) == packed.aliases


def test_without_a_champion_the_latest_is_packed_as_champion(registry, register):
    register("tiny:1")
    register("tiny:2", day=2)
    registry.remove_alias("tiny", "champion")
    assert choose(["tiny"], registry).aliases == {"tiny": {"champion": "2"}}


def test_a_version_that_is_both_is_packed_once(registry, register):
    register("tiny:1")
    registry.set_alias("tiny", "challenger", "1")
    packed = choose(["tiny"], registry)
    assert packed.tags == ["tiny:1"]
    assert packed.aliases == {"tiny": {"champion": "1", "challenger": "1"}}


def test_versions_asked_for_replace_those_of_their_model_only(registry, register):
    register("tiny:1")
    register("tiny:2", day=2)
    register("plane:7")
    registry.set_alias("tiny", "challenger", "2")
    packed = choose(["plane", "tiny"], registry, ["tiny@challenger"])
    assert packed.tags == ["plane:7", "tiny:2"]
    # The champion was not asked for: what was asked for first answers, and is challenger to nobody's surprise.
    assert packed.aliases["tiny"] == {"champion": "2", "challenger": "2"}
    assert choose(["tiny"], registry, ["tiny:2", "tiny:1"]).aliases["tiny"] == {"champion": "1", "challenger": "2"}


def test_frameworks_are_those_of_the_packed_versions(registry, register):
    register("tiny:1")
    register("tiny:2", framework="torch", day=2)
    register("plane:7", framework="sklearn")
    assert choose(["tiny"], registry).frameworks == ["onnx"]
    assert choose(["tiny", "plane"], registry, ["tiny:1", "tiny:2"]).frameworks == ["onnx", "sklearn", "torch"]


def test_what_cannot_be_packed_is_an_error(registry, register):
    register("tiny:1")
    with pytest.raises(VersionNotFound, match="models/plane cannot be packed: there is no model 'plane'"):
        choose(["tiny", "plane"], registry)
    with pytest.raises(RegistryError, match="grid:1 is to be packed, but there is no models/grid; there are tiny"):
        choose(["tiny"], registry, ["grid:1"])
    with pytest.raises(VersionNotFound, match="no version or alias '9'"):
        choose(["tiny"], registry, ["tiny:9"])
