import msgspec
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from load_tests.bench.models import BenchModel
from load_tests.bench.protocols import echoed_grpc, grpc, on_data_port, own_json, v2_binary, v2_json
from load_tests.open_inference import JSON_LENGTH_HEADER

ROWS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]
MODEL = BenchModel(name="m", file="", task="tensor", rows=ROWS, answers=[[sum(row)] for row in ROWS], decimals=1)


def _y(_model):
    return "y"


def test_several_rows_a_request_are_all_rows_in_turn():
    protocol = own_json(lambda model: f"/{model.name}", lambda rows: rows, lambda answer: answer, takes_rows=True)

    assert [msgspec.json.decode(a.body) for a in protocol.requests(MODEL, 2)] == [MODEL.rows[:2], MODEL.rows[2:]]
    assert [msgspec.json.decode(a.body) for a in protocol.requests(MODEL, 3)] == [MODEL.rows[:3]]
    assert protocol.path(MODEL) == "/m"


def test_v2_json_asks_for_one_output_and_reads_its_first_row():
    protocol = v2_json(_y)

    asked = msgspec.json.decode(protocol.ask(MODEL, MODEL.rows[:2]).body)
    assert asked["outputs"] == [{"name": "y"}]
    assert asked["inputs"] == [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]
    assert protocol.is_right(MODEL, b'{"outputs":[{"name":"z","data":[9]},{"name":"y","data":[3.0005,7]}]}', {}, [3.0])
    assert not protocol.is_right(MODEL, b'{"outputs":[{"name":"y","data":[3.1]}]}', {}, [3.0])
    assert not protocol.is_right(MODEL, b'{"outputs":[{"name":"z","data":[3.0]}]}', {}, [3.0])


def test_all_binary_bodies_of_a_model_share_their_headers():
    protocol = v2_binary(_y)
    asked = protocol.requests(MODEL)

    assert len({msgspec.json.encode(a.headers) for a in asked}) == 1
    length = int(asked[0].headers[JSON_LENGTH_HEADER])
    assert [np.frombuffer(a.body[length:], "<f4").tolist() for a in asked] == MODEL.rows
    head = b'{"outputs":[{"name":"y","datatype":"FP32","parameters":{"binary_data_size":4}}]}'
    assert protocol.is_right(MODEL, head + np.float32([3]).tobytes(), {JSON_LENGTH_HEADER.lower(): str(len(head))}, [3.0])
    assert not protocol.is_right(MODEL, head + np.float32([4]).tobytes(), {JSON_LENGTH_HEADER: str(len(head))}, [3.0])


def test_grpc_asks_with_an_id_so_that_answers_are_of_one_length():
    protocol = grpc(_y)
    request = service_pb2.ModelInferRequest.FromString(protocol.ask(MODEL, MODEL.rows[:1]).body)

    assert (request.model_name, request.id != "", [o.name for o in request.outputs]) == ("m", True, ["y"])
    assert protocol.is_grpc
    assert protocol.on_second_port
    answer = service_pb2.ModelInferResponse(raw_output_contents=[np.float32([3]).tobytes()])
    answer.outputs.add(name="y", datatype="FP32")
    assert protocol.is_right(MODEL, answer.SerializeToString(), {}, [3.0])
    assert not protocol.is_right(MODEL, answer.SerializeToString(), {}, [4.0])
    assert not protocol.is_right(MODEL, b"\xff\xff", {}, [3.0])


def test_the_grpc_echo_must_send_back_what_it_got():
    protocol = echoed_grpc()

    assert protocol.is_right(MODEL, protocol.ask(MODEL, [MODEL.rows[1]]).body, {}, [3.0])
    assert not protocol.is_right(MODEL, protocol.ask(MODEL, [MODEL.rows[1]]).body, {}, [1.0])
    assert not protocol.is_right(MODEL, b"\xff", {}, [1.0])


@pytest.mark.parametrize("protocol", [v2_json(_y), v2_binary(_y)])
def test_the_data_port_is_asked_the_same_elsewhere(protocol):
    moved = on_data_port(protocol)

    assert (moved.name, moved.on_second_port, protocol.on_second_port) == (f"data-{protocol.name}", True, False)
    assert moved.ask(MODEL, MODEL.rows) == protocol.ask(MODEL, MODEL.rows)
    assert moved.path(MODEL) == protocol.path(MODEL) == "/v2/models/m/infer"
