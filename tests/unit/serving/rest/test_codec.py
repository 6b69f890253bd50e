import asyncio
import threading

import pytest

from ekiben.errors import InvalidRequest
from ekiben.model import InputSpec
from ekiben.model.signature import Batch, Signature
from ekiben.serving.rest.codec import Decoded, decoded_in_turn, rows_payload, untyped


def test_untyped():
    assert untyped(b'{"a": [1, null]}') == {"a": [1, None]}


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b'"\xff"', b'{"a" 1}', b"\x00", b"1e999", b"9" * 5000])
def test_what_is_not_json(body):
    with pytest.raises(InvalidRequest, match="is not JSON"):
        untyped(body)


def test_nesting_without_end():
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        untyped(b"[" * 100_000)


def test_rows_stay_rows_and_tensors_become_arrays():
    scalars = Signature((InputSpec(name="a", type="float"),))
    rows = scalars.parse_rows([[1.0]])
    assert rows_payload(scalars, rows) is rows
    tensors = Signature((InputSpec(name="t", type="tensor", dtype="float32", shape=(2,)),))
    batch = rows_payload(tensors, tensors.parse_rows([[1.0, 2.0]]))
    assert isinstance(batch, Batch)
    assert batch.columns["t"].tolist() == [[1.0, 2.0]]
    assert rows_payload(tensors, []) == []


def test_a_small_body_is_decoded_at_once_and_a_large_one_in_a_thread():
    threads = []

    class Noting:
        def decode(self, body, headers):
            threads.append(threading.current_thread())
            if body.startswith(b"bad"):
                raise InvalidRequest("bad")
            return Decoded([len(body)])

    for size in (10, 10_000_000):
        assert asyncio.run(decoded_in_turn(Noting(), bytes(size), {})).payload == [size]
        with pytest.raises(InvalidRequest):
            asyncio.run(decoded_in_turn(Noting(), b"bad" + bytes(size), {}))

    assert [thread is threading.main_thread() for thread in threads] == [True, True, False, False]
