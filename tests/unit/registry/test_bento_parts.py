import pytest
from bentoml._internal.configuration.containers import BentoMLContainer

from ekiben.errors import RegistryError, VersionNotFound
from ekiben.registry import FolderRegistry
from ekiben.registry.bento_parts import BentoParts
from ekiben.state import MemoryAliases


@pytest.fixture
def registry(tmp_path, make_artifact):
    registry = FolderRegistry(tmp_path / "store", MemoryAliases())
    for model in ("tiny", "plane"):
        registry.register(make_artifact(model), tag=f"{model}:1")
    registry.register(make_artifact("tiny", created="2026-02-01T00:00:00.000000+00:00"), tag="tiny:2")
    return registry


@pytest.fixture
def parts(registry, tmp_path):
    (tmp_path / "constraints.txt").write_text("bentoml==1.4.41\n")
    return BentoParts(["plane", "tiny"], registry, tmp_path)


@pytest.fixture
def arguments():
    before = BentoMLContainer.bento_arguments.get()
    yield BentoMLContainer.bento_arguments.set
    BentoMLContainer.bento_arguments.set(before)


def test_a_bento_has_each_models_champion(parts):
    assert [str(model.tag) for model in parts.models] == ["plane:1", "tiny:1"]
    assert parts.labels == {"champion.plane": "1", "champion.tiny": "1"}
    image = parts.image
    assert image.base_image == "python:3.11-slim"
    assert image.image_labels["ekiben.models"] == "plane:1 tiny:1"
    requirements = image.python_requirements.split()
    assert "bentoml==1.4.41" in requirements
    assert not [text for text in requirements if text.startswith(("torch=", "scikit-learn="))]


def test_arguments_of_the_build_choose_versions_and_base(parts, arguments):
    arguments({"versions": "tiny:2  tiny:1", "base_image": "mine:1"})
    assert [str(model.tag) for model in parts.models] == ["plane:1", "tiny:2", "tiny:1"]
    assert parts.image.base_image == parts.image.image_labels["org.opencontainers.image.base.name"] == "mine:1"


def test_an_argument_of_the_build_makes_the_image_of_a_monitor(parts, arguments):
    arguments({})
    assert "pyarrow" not in parts.image.python_requirements
    arguments({"extras": "monitor"})
    assert {"pyarrow", "duckdb", "scipy"} <= {text.partition("==")[0] for text in parts.image.python_requirements.split()}
    arguments({"extras": "dev"})
    with pytest.raises(RegistryError, match="no extra 'dev'"):
        _ = parts.image


def test_a_model_without_a_version_fails_the_build_and_nothing_before_it(registry, tmp_path):
    parts = BentoParts(["grid"], registry, tmp_path)
    with pytest.raises(VersionNotFound, match="models/grid cannot be packed"):
        _ = parts.labels
    assert parts.models == []
