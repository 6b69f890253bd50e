import math

import msgspec
import numpy as np
import pytest

from load_tests import flights
from load_tests.flights import held_out_questions, is_binary_prediction, is_prediction, is_v1_prediction, questions
from load_tests.open_inference import JSON_LENGTH_HEADER
from training.datasets import Dataset

COLUMNS = {
    "carrier": np.array(["UA", "B6"], object),
    "day_of_week": np.array([2, 7]),
    "temp": np.array([39.5, math.nan], np.float32),
}
DATA = Dataset("flights", COLUMNS, np.array([0, 1]))


def test_each_flight_is_encoded_for_every_protocol():
    first, second = questions(DATA)

    assert msgspec.json.decode(first.v1) == {"instances": [{"carrier": "UA", "day_of_week": 2, "temp": 39.5}]}
    assert msgspec.json.decode(second.v1)["instances"][0]["temp"] is None
    head = msgspec.json.decode(first.binary[: first.json_length])
    assert [(t["name"], t["datatype"], t["shape"]) for t in head["inputs"]] == [
        ("carrier", "BYTES", [1]), ("day_of_week", "INT64", [1]), ("temp", "FP32", [1]),
    ]  # fmt: skip
    assert [i.name for i in second.message.inputs] == list(COLUMNS)
    assert second.message.model_name == "flight_delay"
    assert second.message.raw_input_contents[0] == b"\x02\0\0\0B6"


def test_only_months_after_those_of_training_are_asked(monkeypatch, tmp_path):
    asked = []

    def load(home, *, first_month):
        asked.append((home, first_month))
        return DATA

    monkeypatch.setattr(flights, "load_flights", load)

    assert len(held_out_questions(tmp_path)) == 2
    assert asked == [(tmp_path, 5)]


def test_a_prediction_is_two_probabilities():
    assert is_prediction([0.25, 0.75])
    assert not any(map(is_prediction, ([0.25, 0.7], [1.5, -0.5], [1.0], [], None, "x", [math.nan, 1.0], ["a", "b"])))


def test_answers_of_each_protocol():
    v1 = {"predictions": [{"prediction": "late", "probabilities": {"on_time": 0.25, "late": 0.75}}]}
    head = b'{"outputs":[{"name":"probabilities","datatype":"FP32","parameters":{"binary_data_size":8}}]}'
    headers = {JSON_LENGTH_HEADER: str(len(head))}

    assert is_v1_prediction(msgspec.json.encode(v1))
    assert is_binary_prediction(head + np.float32([0.25, 0.75]).tobytes(), headers)
    assert not is_binary_prediction(head + np.float32([0.25, 0.85]).tobytes(), headers)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"predictions": []}', b'{"predictions": [1]}', b'{"predictions": [{"probabilities": [1]}]}']
)
def test_whatever_else_comes_is_no_prediction(body):
    assert not is_v1_prediction(body)
    assert not is_binary_prediction(body, {JSON_LENGTH_HEADER: str(len(body))})
    assert not is_binary_prediction(b'{"outputs":[]}', {})
