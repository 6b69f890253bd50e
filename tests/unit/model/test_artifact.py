from __future__ import annotations

from hashlib import sha256

import msgspec
import pytest

from ekiben.errors import ArtifactError, ChecksumMismatch
from ekiben.model import read_artifact
from ekiben.model.artifact import sha256_of


def test_an_untouched_artifact_verifies(tiny_artifact):
    tiny_artifact.verify()

    assert read_artifact(tiny_artifact.path).spec.name == "tiny"


@pytest.mark.parametrize("name", ["model.onnx", "golden.json", "profile.json"])
def test_one_changed_bit_in_any_file_is_found(tiny_artifact, name):
    file = tiny_artifact.path / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)

    with pytest.raises(ChecksumMismatch, match=f"tiny: {name} has changed since the version was made"):
        tiny_artifact.verify()


def test_a_missing_and_an_added_file_are_found(tiny_artifact):
    (tiny_artifact.path / "extra.py").write_text("")
    with pytest.raises(ChecksumMismatch, match=r"extra\.py does not belong to it"):
        tiny_artifact.verify()
    (tiny_artifact.path / "model.onnx").unlink()
    with pytest.raises(ChecksumMismatch, match=r"model\.onnx is missing"):
        tiny_artifact.verify()


def test_what_the_store_and_python_add_is_no_change(tiny_artifact):
    (tiny_artifact.path / "model.yaml").write_text("name: tiny")
    (tiny_artifact.path / "__pycache__").mkdir()
    (tiny_artifact.path / "__pycache__" / "features.pyc").write_bytes(b"")

    tiny_artifact.verify()


def test_a_folder_without_a_manifest_is_no_artifact(tiny_artifact):
    (tiny_artifact.path / "artifact.json").unlink()

    with pytest.raises(ArtifactError, match=r"is not an artifact: it has no artifact\.json"):
        read_artifact(tiny_artifact.path)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format": 1}'])
def test_an_unreadable_manifest_is_named(tiny_artifact, content):
    (tiny_artifact.path / "artifact.json").write_bytes(content)

    with pytest.raises(ArtifactError, match=r"artifact\.json of .*tiny cannot be read"):
        read_artifact(tiny_artifact.path)


def test_a_format_from_the_future_is_refused(tiny_artifact):
    file = tiny_artifact.path / "artifact.json"
    manifest = msgspec.json.decode(file.read_bytes())
    file.write_bytes(msgspec.json.encode({**manifest, "format": 2}))

    with pytest.raises(ArtifactError, match="has format 2; this Ekiben reads format 1"):
        read_artifact(tiny_artifact.path)


def test_golden_rows_and_profile_are_read(tiny_artifact):
    golden = tiny_artifact.golden_rows()

    assert len(golden.rows) == len(golden.outputs) == 32
    assert tiny_artifact.profile()["rows"] == 200


def test_a_checksum_is_that_of_the_whole_file(tmp_path):
    file = tmp_path / "large"
    file.write_bytes(b"x" * (2**20 + 1))

    assert sha256_of(file) == sha256(b"x" * (2**20 + 1)).hexdigest()
