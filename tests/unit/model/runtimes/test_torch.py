from __future__ import annotations

import numpy as np
import pytest
import torch

from ekiben.errors import ArtifactError, PredictionFailed
from ekiben.model import CardSpec, InputSpec, ModelSpec, OutputSpec, Predictor
from ekiben.model.runtimes.base import TensorInfo
from ekiben.model.runtimes.torch import TorchRuntime


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 3)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, x):
        return torch.softmax(self.drop(self.layer(x)), dim=1)


class Two(torch.nn.Module):
    def forward(self, x, ids):
        return {"sum": x + ids.to(x.dtype), "is_big": x > 1}


class Half(torch.nn.Module):
    def forward(self, x):
        return (x.to(torch.bfloat16) * 2, x.to(torch.float16))


class Number(torch.nn.Module):
    def forward(self, x, k):
        return x * k


@pytest.fixture
def opened(tmp_path):
    def run(module, args, dynamic=None):
        file = tmp_path / "model.pt2"
        torch.export.save(torch.export.export(module.eval(), args, dynamic_shapes=dynamic), file)
        return TorchRuntime(file)

    return run


@pytest.fixture
def net(opened):
    return opened(Net(), (torch.zeros(2, 4),), ({0: torch.export.Dim("n")},))


def test_names_dtypes_and_dynamic_dimensions_come_from_the_program(net):
    assert net.inputs == (TensorInfo("x", "float32", (None, 4)),)
    assert net.outputs == (TensorInfo("output_0", "float32", (None, 3)),)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("n", [1, 2, 7])
def test_it_computes_what_the_module_computes_in_eval_mode(net, n):
    x = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    given = net.run({"x": x}, ["output_0"])["output_0"]

    with torch.no_grad():
        assert np.allclose(given, Net().eval()(torch.tensor(x)).numpy(), atol=1e-6)


def test_a_dict_names_its_outputs_and_only_those_asked_for_are_given(opened):
    n = torch.export.Dim("n")
    runtime = opened(Two(), (torch.zeros(2), torch.zeros(2, dtype=torch.int64)), ({0: n}, {0: n}))

    assert [(i.name, i.dtype) for i in runtime.inputs] == [("x", "float32"), ("ids", "int64")]
    assert [(o.name, o.dtype) for o in runtime.outputs] == [("sum", "float32"), ("is_big", "bool")]
    feeds = {"ids": np.array([1, 2, 3]), "x": np.array([0.5, 1.5, 2.5], np.float32)}
    assert {k: v.tolist() for k, v in runtime.run(feeds, ["is_big"]).items()} == {"is_big": [False, True, True]}
    assert runtime.run(feeds, ["sum"])["sum"].tolist() == [1.5, 3.5, 5.5]


def test_read_only_and_reversed_arrays_are_taken(net):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = net.run({"x": x[::-1].copy()}, ["output_0"])["output_0"]
    x.flags.writeable = False

    assert np.array_equal(net.run({"x": x[::-1]}, ["output_0"])["output_0"], expected)


def test_bfloat16_is_carried_as_float32(opened):
    runtime = opened(Half(), (torch.zeros(2),))

    assert [o.dtype for o in runtime.outputs] == ["float32", "float16"]
    given = runtime.run({"x": np.array([1, 2], np.float32)}, ["output_0", "output_1"])
    assert given["output_0"].tolist() == [2.0, 4.0]
    assert given["output_1"].dtype == np.float16


def test_a_shape_the_program_refuses_is_a_failed_prediction(net):
    with pytest.raises(PredictionFailed, match="torch failed"):
        net.run({"x": np.zeros((2, 5), np.float32)}, ["output_0"])
    with pytest.raises(PredictionFailed, match="torch failed"):
        net.run({}, ["output_0"])


def test_what_is_no_tensor_is_refused(opened):
    with pytest.raises(ArtifactError, match="must take and give tensors"):
        opened(Number(), (torch.zeros(2), 3))


def test_a_file_that_is_no_program_is_refused(tmp_path):
    file = tmp_path / "weights.pt2"
    torch.save({"a": 1}, file)

    with pytest.raises(ArtifactError, match=r"weights\.pt2: torch .* cannot load it as an exported program"):
        TorchRuntime(file)


def test_one_output_serves_the_spec_under_the_spec_s_name(net):
    item = InputSpec(name="pixels", type="tensor", dtype="float32", shape=(4,))
    card = CardSpec(owner="o")
    tensor = ModelSpec(
        name="n", task="tensor", inputs=(item,), outputs=(OutputSpec(name="scores", dtype="float32", shape=(3,)),), card=card
    )
    classes = ModelSpec(name="n", task="multiclass_classification", inputs=(item,), labels=("a", "b", "c"), card=card)

    assert list(Predictor(tensor, net).predict([[0, 0, 0, 0]])[0]) == ["scores"]
    assert Predictor(classes, net).predict([[0, 0, 0, 0]])[0]["prediction"] in "abc"
