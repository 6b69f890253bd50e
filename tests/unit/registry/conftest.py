from hashlib import sha256

import msgspec
import pytest

from ekiben.model import InputSpec, Manifest, ModelFile, ModelSpec, Provenance
from ekiben.model.artifact import FORMAT, MANIFEST
from ekiben.model.spec import CardSpec


@pytest.fixture(autouse=True)
def _untracked(monkeypatch):
    monkeypatch.setenv("BENTOML_DO_NOT_TRACK", "1")


@pytest.fixture
def make_artifact(tmp_path_factory):
    """Makes a small artifact's folder. The registry copies files; what is in the model does not matter to it."""

    def make(name="flight_delay", *, created="2026-01-01T00:00:00.000000+00:00", recipe=None):
        folder = tmp_path_factory.mktemp("artifact")
        files = {"model.onnx": b"a model", "golden.json": b'{"rows": [], "outputs": []}', "profile.json": b"{}", "parts/w.bin": b"w"}
        for file, content in files.items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_bytes(content)
        manifest = Manifest(
            format=FORMAT,
            spec=ModelSpec(name=name, task="regression", inputs=(InputSpec(name="x", type="float"),), card=CardSpec(owner="the owner")),
            model=ModelFile(framework="onnx", file="model.onnx"),
            provenance=Provenance(created=created, git_commit="abc", frameworks={"numpy": "2"}, data={"window": "2013-01"}, recipe=recipe),
            checksums={file: sha256(content).hexdigest() for file, content in files.items()},
            metrics={"rmse": 1.5},
        )
        (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
        return folder

    return make
