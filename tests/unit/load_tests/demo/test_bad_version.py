import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from load_tests.demo.bad_version import opposite


def test_it_says_the_opposite_with_the_same_names():
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["features", "weight"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        ],
        "graph",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.array([[1, -1], [0.5, 2]], np.float32), "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    rows = {"features": np.random.default_rng(1).normal(size=(50, 2)).astype(np.float32)}
    right = onnxruntime.InferenceSession(model.SerializeToString()).run(["probabilities"], rows)[0]
    changed = opposite(model)
    onnx.checker.check_model(changed)
    wrong = onnxruntime.InferenceSession(changed.SerializeToString()).run(["probabilities"], rows)[0]
    np.testing.assert_array_equal(wrong, right[:, ::-1])
