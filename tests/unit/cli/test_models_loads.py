import json

import pytest
from click.testing import CliRunner

from ekiben.cli import main
from ekiben.errors import VersionNotFound
from ekiben.registry import FolderRegistry
from ekiben.state import MemoryAliases


@pytest.fixture
def registry(tmp_path, monkeypatch, tiny_artifact):
    found = FolderRegistry(tmp_path / "store", MemoryAliases())
    found.register(tiny_artifact.path, tag="tiny:1")
    monkeypatch.setattr("ekiben.registry.open_registry", lambda settings: found)
    return found


def test_what_is_asked_is_written_down(registry):
    assert "tiny is to be unloaded" in CliRunner().invoke(main, ["models", "unload", "tiny"]).stdout
    assert registry.loads.all() == {"tiny": False}
    asked = CliRunner().invoke(main, ["models", "load", "tiny", "--json"])
    assert json.loads(asked.stdout) == {"model": "tiny", "loaded": True}
    assert registry.loads.all() == {"tiny": True}


def test_a_model_that_is_not_in_the_store_is_not_asked_for(registry):
    done = CliRunner().invoke(main, ["models", "load", "ghost"])
    assert done.exit_code == 1
    assert isinstance(done.exception, VersionNotFound | SystemExit)
    assert registry.loads.all() == {}
