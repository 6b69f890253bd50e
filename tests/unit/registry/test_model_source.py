from pathlib import Path
from zipfile import ZipFile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ekiben.errors import ArtifactError
from ekiben.registry.model_source import source_in, source_of


@pytest.fixture
def with_external_data(tmp_path):
    def make(location="weights.bin"):
        weight = numpy_helper.from_array(np.arange(400, dtype=np.float32).reshape(4, 100), "w")
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 100])],
            [weight],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.save_model(model, tmp_path / "big.onnx", save_as_external_data=True, location=location, size_threshold=0)
        return tmp_path / "big.onnx"

    return make


def an_empty_zip(file):
    """What torch takes for a program at first sight, and the others do not look into."""
    with ZipFile(file, "w"):
        pass


def test_what_is_no_archive_is_no_exported_program(tmp_path):
    (tmp_path / "a.pt2").write_bytes(b"no program")
    with pytest.raises(ArtifactError, match=r"is no exported program; save the model with torch\.export\.save"):
        source_of("torch", tmp_path / "a.pt2")


@pytest.mark.parametrize(
    ("framework", "file", "name"),
    [
        ("onnx", "a.onnx", "model.onnx"),
        ("onnx", "A.ONNX", "model.onnx"),
        ("torch", "a.pt2", "model.pt2"),
        ("sklearn", "a.joblib", "model.joblib"),
        ("sklearn", "a.skops", "model.skops"),
        ("sklearn", "a.pkl", "model.pkl"),
    ],
)
def test_a_file_is_the_model(tmp_path, framework, file, name):
    an_empty_zip(tmp_path / file)
    source = source_of(framework, tmp_path / file)
    assert (source.framework, source.name, source.files) == (framework, name, {name: tmp_path / file})


@pytest.mark.parametrize(
    ("framework", "file", "message"),
    [
        ("onnx", "a.joblib", r"ends in \.onnx; for \.joblib give --sklearn"),
        ("sklearn", "a.onnx", r"ends in \.skops or .*; for \.onnx give --onnx"),
        ("torch", "a.pt", r"a \.pt file is pickled Python: save the model with torch\.export\.save"),
        ("onnx", "a.txt", r"ends in \.onnx$"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, framework, file, message):
    (tmp_path / file).touch()
    with pytest.raises(ArtifactError, match=message):
        source_of(framework, tmp_path / file)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"a\.onnx: there is no such file"):
        source_of("onnx", tmp_path / "a.onnx")
    with pytest.raises(ArtifactError, match="there is no such file"):
        source_of("onnx", tmp_path)


def test_weights_beside_the_file_come_with_it(with_external_data):
    file = with_external_data()
    assert source_of("onnx", file).files == {"model.onnx": file, "weights.bin": file.parent / "weights.bin"}


@pytest.mark.parametrize("length", [120, 124, 130, 200])
def test_a_long_name_of_weights_is_read_whole(with_external_data, length):
    location = "w" * (length - 4) + ".bin"
    assert list(source_of("onnx", with_external_data(location)).files) == ["model.onnx", location]


def test_weights_called_as_the_model_is_in_a_version_are_refused(with_external_data):
    with pytest.raises(
        ArtifactError, match=r"keeps weights in 'model\.onnx', which is what the model itself is called in a version; rename"
    ):
        source_of("onnx", with_external_data("model.onnx"))


def test_weights_that_are_missing_are_named(with_external_data):
    file = with_external_data()
    (file.parent / "weights.bin").unlink()
    with pytest.raises(ArtifactError, match=r"keeps weights in 'weights\.bin', which is not beside it"):
        source_of("onnx", file)


@pytest.mark.parametrize("location", ["../weigh.bin", "/etc/weigh.bi"])
def test_weights_elsewhere_are_refused(with_external_data, location):
    file = with_external_data("some_name.bin"[: len(location)].ljust(len(location), "n"))
    file.write_bytes(file.read_bytes().replace(b"some_name.bin"[: len(location)].ljust(len(location), b"n"), location.encode()))
    with pytest.raises(ArtifactError, match="outside its own folder"):
        source_of("onnx", file)


@pytest.mark.parametrize(
    ("files", "framework"),
    [
        (["saved_model.onnx"], "onnx"),
        (["saved_model.pkl", "model.yaml"], "sklearn"),
        (["deep/m.pt2"], "torch"),
        (["a.onnx", "b.pkl"], "onnx"),
    ],
)
def test_the_model_in_a_folder(tmp_path, files, framework):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        an_empty_zip(tmp_path / file)
    source = source_in(tmp_path, "theirs:1")
    assert (source.framework, source.file) == (framework, tmp_path / files[0])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["saved_model.pt"], r"theirs:1 holds no \.onnx.*it has saved_model\.pt; a \.pt file is pickled Python"),
        (["weights.bin"], r"it has weights\.bin$"),
        (["a.onnx", "b.onnx"], r"holds 2 models \(a\.onnx, b\.onnx\); give one of the files"),
        (["artifact.json", "a.onnx"], "is a version of Ekiben's own already"),
    ],
)
def test_a_folder_without_one_model_is_refused(tmp_path, files, message):
    for file in files:
        (tmp_path / file).touch()
    with pytest.raises(ArtifactError, match=message):
        source_in(Path(tmp_path), "theirs:1")
