import msgspec
import pytest

from ekiben.errors import RolloutRefused
from ekiben.model import CardSpec, InputSpec, ModelSpec, OutputSpec
from ekiben.rollout.fitting import check_fit

A, B = InputSpec(name="a", type="float"), InputSpec(name="b", type="int")
SPEC = ModelSpec(name="m", task="regression", inputs=(A, B), card=CardSpec(owner="tests"))
IMAGE = InputSpec(name="image", type="tensor", dtype="float32", shape=(8, 8))
TENSOR = ModelSpec(
    name="m", task="tensor", inputs=(IMAGE,), outputs=(OutputSpec(name="y", dtype="float32", shape=(2,)),), card=CardSpec(owner="tests")
)


def test_what_clients_do_not_notice_fits():
    other = msgspec.structs.replace(
        SPEC, description="new", latency_budget_ms=1, inputs=(msgspec.structs.replace(A, min=0.0, max=9.0, description="an a"), B)
    )
    check_fit(SPEC, "1", other, "2")
    check_fit(TENSOR, "1", TENSOR, "2")


@pytest.mark.parametrize(
    ("one", "changes", "said"),
    [
        (SPEC, {"task": "binary_classification", "labels": ("n", "y")}, "its task is binary_classification, not regression"),
        (SPEC, {"inputs": (A,)}, "it has no input 'b'"),
        (SPEC, {"inputs": (A, B, InputSpec(name="c", type="int"))}, "it has an input 'c' more"),
        (SPEC, {"inputs": (B, A)}, "the order of its inputs is b, a, not a, b"),
        (SPEC, {"inputs": (A, InputSpec(name="b", type="float"))}, "type of its input 'b' is float, not int"),
        (SPEC, {"inputs": (InputSpec(name="a", type="float", dtype="float64"), B)}, "dtype of its input 'a' is float64, not float32"),
        (SPEC, {"inputs": (A, InputSpec(name="b", type="int", nullable=True))}, "nullable of its input 'b' is True, not False"),
        (TENSOR, {"inputs": (msgspec.structs.replace(IMAGE, shape=(4, 4)),)}, r"shape of its input 'image' is \[4, 4\], not \[8, 8\]"),
        (TENSOR, {"outputs": (OutputSpec(name="y", dtype="int64", shape=(2,)),)}, "dtype of its output 'y' is int64, not float32"),
        (TENSOR, {"outputs": (OutputSpec(name="z", dtype="float32", shape=(2,)),)}, "it has an output 'z' more"),
    ],
)
def test_what_clients_would_notice_is_refused_with_what_would_be_right(one, changes, said):
    with pytest.raises(RolloutRefused, match=f"m:2 cannot answer in place of 1: {said}.*/v1/models/m/versions/2:predict.*new name"):
        check_fit(one, "1", msgspec.structs.replace(one, **changes), "2")
