import msgspec
import pytest
from google.protobuf import json_format

from ekiben.model.spec import BatchingSpec
from ekiben.serving.model_config import model_config


def config(serving, model):
    return model_config(serving.server.host.find(model, None))


def test_a_model_that_takes_batches(steady):
    found = config(steady, "tiny")
    assert found == {
        "name": "tiny",
        "platform": "onnx_ekiben",
        "backend": "ekiben",
        "version_policy": {"specific": {"versions": []}},
        "max_batch_size": 128,
        "input": [{"name": name, "data_type": "TYPE_FP32", "dims": []} for name in "abcd"],
        "output": [
            {"name": "prediction", "data_type": "TYPE_STRING", "dims": []},
            {"name": "confidence", "data_type": "TYPE_FP32", "dims": []},
            {"name": "probabilities", "data_type": "TYPE_FP32", "dims": [2]},
        ],
        "instance_group": [{"name": "tiny", "kind": "KIND_CPU", "count": 1}],
        "parameters": {
            "version": {"string_value": "1"},
            "task": {"string_value": "binary_classification"},
            "framework": {"string_value": "onnx"},
        },
        "dynamic_batching": {
            "max_queue_delay_microseconds": 0,
            "default_queue_policy": {
                "timeout_action": "REJECT",
                "default_timeout_microseconds": 1_000_000,
                "allow_timeout_override": True,
            },
        },
    }
    assert config(steady, "grid")["input"] == [{"name": "image", "data_type": "TYPE_FP32", "dims": [2, 3]}]


def test_limits_are_the_specs(start, registry, another, tiny_artifact):
    batching = BatchingSpec(max_batch_size=16, max_queue_delay_ms=1.5)
    registry.register(another(tiny_artifact, "x", batching=batching, timeout_ms=250.0).path, tag="tiny:1")
    found = config(start("tiny"), "tiny")
    assert found["max_batch_size"] == 16
    assert found["dynamic_batching"]["max_queue_delay_microseconds"] == 1500
    assert found["dynamic_batching"]["default_queue_policy"]["default_timeout_microseconds"] == 250_000


def test_a_model_without_a_rows_dimension_takes_no_batches(start, registry, whole_artifact):
    registry.register(whole_artifact.path, tag="whole:1")
    found = config(start("whole"), "whole")
    assert found["max_batch_size"] == 0
    assert "dynamic_batching" not in found
    assert found["input"] == [{"name": "v", "data_type": "TYPE_FP32", "dims": [3]}]
    assert [(o["name"], o["dims"]) for o in found["output"]] == [("sum", []), ("twice", [3])]


def test_a_model_on_a_gpu_says_so(serving):
    served = serving.server.host.find("tiny", None)
    served.predictor.runtime.device = "CUDA"
    assert model_config(served)["instance_group"][0]["kind"] == "KIND_GPU"


@pytest.mark.parametrize("model", ["tiny", "plane", "grid"])
def test_tritons_message_takes_it_and_loses_nothing(steady, model):
    model_config_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    found = config(steady, model)
    message = json_format.ParseDict(found, model_config_pb2.ModelConfig())
    again = json_format.MessageToDict(message, preserving_proto_field_name=True)
    assert again["name"] == model
    assert message.max_batch_size == found["max_batch_size"]
    assert [list(i.dims) for i in message.input] == [i["dims"] for i in found["input"]]
    assert [o["data_type"] for o in again["output"]] == [o["data_type"] for o in found["output"]]
    assert message.WhichOneof("scheduling_choice") == "dynamic_batching"
    assert msgspec.json.decode(msgspec.json.encode(found)) == found
