from __future__ import annotations

import pickle

import msgspec
import numpy as np
import pytest
from unit.guards.row_outputs import classes, numbers, ragged, same

from ekiben.guards.cache_codec import RowCodec
from ekiben.model.outputs import Outputs

PLAIN = RowCodec(())
LABELLED = RowCodec(("no", "yes"))


@pytest.mark.parametrize(
    ("codec", "outputs"), [(PLAIN, numbers()), (LABELLED, classes()), (PLAIN, ragged())], ids=["numbers", "classes", "ragged"]
)
def test_rows_come_back_as_they_were(codec, outputs):
    for row in range(outputs.n):
        data = codec.encoded(outputs, row)
        assert data is not None
        assert same(codec.decoded(data), outputs.take(row, row + 1))
        with pytest.raises(ValueError, match="read-only"):
            next(iter(codec.decoded(data).arrays.values()))[...] = 1


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "float64", ">f4"])
def test_numbers_keep_their_type(dtype):
    outputs = Outputs(2, {"y": np.asfortranarray(np.arange(8).reshape(2, 4).astype(dtype))})
    found = PLAIN.decoded(PLAIN.encoded(outputs, 1)).arrays["y"]
    assert found.dtype == np.dtype(dtype)
    assert found.tolist() == outputs.arrays["y"][1:2].tolist()


@pytest.mark.parametrize("value", [{"a": 1}, [1], 3, None])
def test_other_objects_have_no_such_form(value):
    array = np.empty(1, object)
    array[0] = value
    assert PLAIN.encoded(Outputs(1, {"y": array}), 0) is None
    assert PLAIN.encoded(Outputs(1, {"y": np.array(["x"])}), 0) is None


GOOD = msgspec.msgpack.decode(PLAIN.encoded(numbers(1, 2), 0))


def changed(**change) -> bytes:
    dtype, shape, data, values = GOOD[0]["y"]
    array = {"dtype": dtype, "shape": shape, "data": data, "values": values, **change}
    return msgspec.msgpack.encode([{"y": list(array.values())}, None, None])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        pickle.dumps(numbers()),
        PLAIN.encoded(numbers(), 0)[:-1],
        msgspec.msgpack.encode([{}, 0, 0.5]),
        msgspec.msgpack.encode({"arrays": {}}),
        changed(dtype="O8"),
        changed(dtype="V8"),
        changed(dtype="<M8[s]"),
        changed(dtype="nonsense"),
        changed(dtype="<f8", shape=[1, 2]),
        changed(shape=[2]),
        changed(shape=[1, -1, -1]),
        changed(shape=[1, 10**12]),
        changed(dtype="O", shape=[2], values=["a"]),
        changed(dtype="O", shape=[1], values=[3]),
        changed(extra=1),
    ],
)
def test_what_is_no_row_is_none(data):
    assert PLAIN.decoded(data) is None


@pytest.mark.parametrize("index", [-1, 2, None])
def test_a_class_that_the_model_does_not_have_is_none(index):
    arrays, _, threshold = msgspec.msgpack.decode(LABELLED.encoded(classes(), 0))
    assert LABELLED.decoded(msgspec.msgpack.encode([arrays, index, threshold])) is None
    assert PLAIN.decoded(LABELLED.encoded(classes(), 0)) is None
