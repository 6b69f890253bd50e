import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from ekiben.errors import RegistryError
from ekiben.registry import BentoRegistry
from ekiben.registry import bento as bento_module
from ekiben.registry.bento import load_model
from ekiben.state import MemoryAliases


@pytest.fixture
def registry(tmp_path):
    return BentoRegistry(MemoryAliases(), home=tmp_path / "bentoml")


def test_what_bentoml_shows_can_be_read_by_people(registry, make_artifact):
    made = registry.register(make_artifact(), tag="flight_delay:2013.04")
    shown = registry._bento_store().get("flight_delay:2013.04")
    assert shown.path == str(made.path)
    assert shown.info.labels == {"task": "regression", "framework": "onnx", "owner": "the owner"}
    assert shown.info.metadata == {
        "created": "2026-01-01T00:00:00.000000+00:00",
        "git_commit": "abc",
        "metrics": {"rmse": 1.5},
        "data": {"window": "2013-01"},
        "inputs": ["x"],
    }
    assert shown.info.context.framework_versions == {"numpy": "2"}
    assert shown.info.imported_module.load_model is load_model


def test_bentoml_agrees_on_the_latest(registry, make_artifact):
    for version, day in (("b", 1), ("c", 3), ("a", 2)):
        registry.register(make_artifact(created=f"2026-01-0{day}T00:00:00+00:00"), tag=f"flight_delay:{version}")
    assert registry.resolve("flight_delay:latest").version == "c"
    assert registry._bento_store().get("flight_delay:latest").tag.version == "c"


def test_models_of_others_in_the_store_are_not_seen(registry, make_artifact, tmp_path):
    import bentoml

    with bentoml.models.create("theirs:1", _model_store=registry._bento_store()):
        pass
    registry.register(make_artifact(), tag="flight_delay:1")
    assert [v.tag for v in registry.versions()] == ["flight_delay:1"]
    assert registry.folder_of("theirs:1") == tmp_path / "bentoml" / "models" / "theirs" / "1"


@pytest.mark.parametrize("tag", ["none:1", "Not A Tag"])
def test_a_model_bentoml_does_not_have_is_named(registry, tag):
    with pytest.raises(RegistryError, match=rf"BentoML has no model '{tag}'.*bentoml models list"):
        registry.folder_of(tag)


def test_what_bentoml_refuses_is_said(registry, make_artifact, monkeypatch):
    monkeypatch.setattr(bento_module, "_metadata", lambda artifact: {"data": object()})
    with pytest.raises(RegistryError, match="BentoML refuses flight_delay:1"):
        registry.register(make_artifact(), tag="flight_delay:1")
    assert registry.versions() == []


def _register_slowly(home, artifact, copying):
    def slow(source, target):
        shutil.copyfile(source.path / "model.onnx", target / "model.onnx")
        copying.set()
        time.sleep(60)

    bento_module.copy_artifact = slow
    BentoRegistry(MemoryAliases(), home=home).register(artifact, tag="flight_delay:1")


def test_a_killed_process_leaves_no_half_version(registry, make_artifact, tmp_path):
    spawn = multiprocessing.get_context("fork")
    copying = spawn.Event()
    process = spawn.Process(target=_register_slowly, args=(tmp_path / "bentoml", make_artifact(), copying))
    process.start()
    assert copying.wait(30)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert registry.versions() == []
    assert registry._bento_store().list() == []
    registry.register(make_artifact(), tag="flight_delay:1")
    assert [str(m.tag) for m in registry._bento_store().list()] == ["flight_delay:1"]


def test_of_two_that_register_the_same_tag_one_succeeds(make_artifact, tmp_path, registry):
    script = (
        "import sys; from pathlib import Path; from ekiben.registry import BentoRegistry; from ekiben.state import MemoryAliases\n"
        "from ekiben.errors import VersionExists\n"
        "import bentoml; sys.stdin.readline()\n"
        "try: print(BentoRegistry(MemoryAliases(), home=Path(sys.argv[1])).register(Path(sys.argv[2]), tag='flight_delay:1').tag)\n"
        "except VersionExists: print('exists')"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "bentoml"), str(make_artifact())]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    assert sorted(process.communicate()[0].strip() for process in started) == ["exists", "flight_delay:1"]
    registry.resolve("flight_delay:1").artifact().verify()


def test_importing_the_registry_loads_neither_bentoml_nor_sqlalchemy():
    script = "import ekiben.registry, sys; print(sorted({'bentoml', 'sqlalchemy', 'onnxruntime', 'sklearn', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
