from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper

from ekiben.model import ModelFile, load_spec
from training.choice import checked_batch, choose
from training.datasets import DataError, Dataset


@pytest.fixture
def chosen(tmp_path, steps):
    def run(job):
        work = tmp_path / "work"
        work.mkdir()
        return choose(job, load_spec(job.folder / "model.yaml"), job.fit(job.split.train, None), work, steps)

    return run


@pytest.fixture
def wrong_graph(save_graph):
    """A graph for ``tiny`` that runs, and says always the same."""
    return save_graph(
        [helper.make_node("Gemm", ["x", "weight", "bias"], ["s"]), helper.make_node("Softmax", ["s"], ["probabilities"], axis=1)],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        {"weight": np.zeros((4, 2), np.float32), "bias": np.array([0, -0.25], np.float32)},
        file="wrong.onnx",
    )


def test_an_export_that_agrees_serves(chosen, tiny_job):
    choice = chosen(tiny_job())
    assert choice.model.file == "model.onnx"
    assert list(choice.files) == ["model.onnx"]
    assert choice.parity.agrees
    assert choice.parity.rows == 600


def test_the_original_stays_beside_it_when_asked_for(chosen, tiny_job):
    choice = chosen(tiny_job(keep_native=True))
    assert choice.model.file == "model.onnx"
    assert sorted(choice.files) == ["model.onnx", "native.onnx"]


def test_an_export_that_differs_is_refused_and_the_original_serves(chosen, tiny_job, wrong_graph, shown):
    def export(folder):
        (folder / "model.onnx").write_bytes(wrong_graph.read_bytes())
        return ModelFile(framework="onnx", file="model.onnx")

    choice = chosen(tiny_job(export=export))
    assert choice.model.file == "native.onnx"
    assert list(choice.files) == ["native.onnx"]
    assert not choice.parity.agrees
    assert choice.parity.max_difference > 0.1
    assert "the ONNX export is refused" in shown.getvalue()


def test_too_few_rows_to_believe_an_export_refuse_it(chosen, tiny_job):
    choice = chosen(tiny_job(min_parity_rows=601))
    assert choice.model.file == "native.onnx"
    assert "600 rows only" in choice.parity.reason


def test_a_conversion_that_fails_is_reported_in_one_line(chosen, tiny_job):
    def export(folder):
        raise ValueError("no converter for this\nand a graph of 60,000 lines")

    choice = chosen(tiny_job(export=export))
    assert choice.model.file == "native.onnx"
    assert choice.parity.reason == "the conversion failed: ValueError: no converter for this"


def test_a_file_that_does_not_open_is_reported(chosen, tiny_job):
    def export(folder):
        (folder / "model.onnx").write_bytes(b"no graph")
        return ModelFile(framework="onnx", file="model.onnx")

    choice = chosen(tiny_job(export=export))
    assert choice.model.file == "native.onnx"
    assert choice.parity.reason.startswith("the export does not run: ")


def test_without_an_export_there_is_nothing_to_compare(chosen, tiny_job):
    choice = chosen(tiny_job(export=None))
    assert choice.model.file == "native.onnx"
    assert choice.parity is None


def test_the_predictor_decides_by_the_tuned_threshold(chosen, tiny_job):
    job = tiny_job()
    choice = chosen(job)
    batch = checked_batch(load_spec(job.folder / "model.yaml"), job.split.test)
    outputs = choice.predictor.run(batch)
    assert choice.threshold != 0.5
    np.testing.assert_array_equal(outputs.class_index, outputs.arrays["probabilities"][:, 1] >= choice.threshold)


def test_a_threshold_needs_validation_rows(chosen, tiny_job):
    job = tiny_job()
    with pytest.raises(DataError, match="no validation rows"):
        chosen(replace(job, split=replace(job.split, validation=None)))


def test_data_that_break_the_signature_are_refused(tiny_spec, tiny_data):
    broken = Dataset("broken", {**tiny_data.columns, "d": np.full(tiny_data.n, 11, np.float32)}, tiny_data.target)
    with pytest.raises(DataError, match=r"broken breaks the signature of tiny in 600 places; the first is row 0, field 'd'"):
        checked_batch(tiny_spec, broken)
