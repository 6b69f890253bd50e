"""MLServer's types, codecs and stubs against a running server: ``python with_mlserver.py HOST:PORT URL…``."""

from __future__ import annotations

import sys
from urllib.request import Request, urlopen

import grpc
import numpy as np
import pandas as pd
from mlserver import types
from mlserver.codecs import NumpyCodec, PandasCodec, StringCodec
from mlserver.grpc import converters, dataplane_pb2_grpc
from mlserver.grpc import dataplane_pb2 as pb

ROWS = pd.DataFrame({"a": [1.0, -1.0], "b": [2.0, -2.0], "c": [0.0, 0.0], "d": [-3.0, 3.0]})
WORDS = ["ö", "日本"]


def post(url: str, request: types.InferenceRequest) -> types.InferenceResponse:
    body = request.model_dump_json(exclude_none=True).encode()
    with urlopen(Request(url, body, {"Content-Type": "application/json"}), timeout=30) as answer:
        return types.InferenceResponse.model_validate_json(answer.read())


def get(url: str, kind):
    with urlopen(url, timeout=30) as answer:
        return kind.model_validate_json(answer.read())


def image_request() -> types.InferenceRequest:
    values = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    return types.InferenceRequest(id="mine", inputs=[NumpyCodec.encode_input("image", values)])


def words_request() -> types.InferenceRequest:
    return types.InferenceRequest(inputs=[StringCodec.encode_input(name, WORDS, use_bytes=False) for name in "ab"])


def check_image(response: types.InferenceResponse) -> None:
    assert (response.id, response.model_name, response.model_version) == ("mine", "image", "1")
    doubled, total = response.outputs
    assert NumpyCodec.decode_output(doubled).tolist() == (2 * np.arange(12.0).reshape(2, 2, 3)).tolist()
    assert NumpyCodec.decode_output(total).tolist() == [[15], [51]]


def check_tiny(response: types.InferenceResponse) -> None:
    outputs = {output.name: output for output in response.outputs}
    assert StringCodec.decode_output(outputs["prediction"]) == ["yes", "no"]
    assert NumpyCodec.decode_output(outputs["probabilities"]).argmax(axis=1).tolist() == [1, 0]


def ask_rest(url: str) -> None:
    server = get(f"{url}/v2", types.MetadataServerResponse)
    assert (server.name, "binary_tensor_data" in server.extensions) == ("ekiben", True)
    model = get(f"{url}/v2/models/image", types.MetadataModelResponse)
    assert [(i.name, str(i.datatype), i.shape) for i in model.inputs] == [("image", "FP32", [-1, 2, 3])]
    check_image(post(f"{url}/v2/models/image/infer", image_request()))
    check_tiny(post(f"{url}/v2/models/tiny/infer", PandasCodec.encode_request(ROWS)))
    answer = post(f"{url}/v2/models/texts/infer", words_request())
    assert StringCodec.decode_output(answer.outputs[0]) == ["öö", "日本日本"]
    body = types.RepositoryIndexRequest(ready=True).model_dump_json().encode()
    with urlopen(Request(f"{url}/v2/repository/index", body, {"Content-Type": "application/json"}), timeout=30) as reply:
        index = types.RepositoryIndexResponse.model_validate_json(reply.read())
    assert ("tiny", "1", "READY") in {(m.name, m.version, str(m.state)) for m in index.root}


def ask_grpc(address: str) -> None:
    to_message = converters.ModelInferRequestConverter.from_types
    from_message = converters.ModelInferResponseConverter.to_types
    with grpc.insecure_channel(address) as channel:
        stub = dataplane_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ServerLive(pb.ServerLiveRequest()).live
        assert stub.ModelReady(pb.ModelReadyRequest(name="tiny")).ready
        assert stub.ModelMetadata(pb.ModelMetadataRequest(name="image")).outputs[0].name == "doubled"
        for is_raw in (False, True):
            check_image(from_message(stub.ModelInfer(to_message(image_request(), "image", use_raw=is_raw))))
            check_tiny(from_message(stub.ModelInfer(to_message(PandasCodec.encode_request(ROWS), "tiny", use_raw=is_raw))))
            request = types.InferenceRequest(inputs=[StringCodec.encode_input(name, WORDS) for name in "ab"])
            answer = from_message(stub.ModelInfer(to_message(request, "texts", use_raw=is_raw)))
            assert StringCodec.decode_output(answer.outputs[0]) == ["öö", "日本日本"]


if __name__ == "__main__":
    for url in sys.argv[2:]:
        ask_rest(url)
    ask_grpc(sys.argv[1])
    print("ok")
