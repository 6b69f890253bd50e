import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.monitoring.arrow_columns import Field, FixedSizeList, Number, StructOf, Utf8, number_of
from ekiben.monitoring.arrow_stream import StreamEncoder, text_of

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("small", pa.uint8()),
        ("inside", pa.struct([("x", pa.float32()), ("word", pa.string()), ("y", pa.int64())])),
        ("image", pa.list_(pa.float16(), 3)),
    ],
    metadata={b"who": b"me"},
)


FIELDS = (
    Field("id", Utf8()),
    Field("small", Number("uint", 8)),
    Field("inside", StructOf((Field("x", Number("float", 32)), Field("word", Utf8()), Field("y", Number("int", 64))))),
    Field("image", FixedSizeList(Number("float", 16), 3)),
)
METADATA = {b"who": b"me"}


def rows(n: int, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    return [
        {
            "id": f"é-{i}" * int(rng.integers(3)),
            "small": int(rng.integers(256)),
            "inside": {"x": float(np.float32(rng.normal())), "word": "w" * int(rng.integers(5)), "y": int(rng.integers(-9, 9))},
            "image": [float(v) for v in rng.integers(0, 9, 3)],
        }
        for i in range(n)
    ]


def encoded(encoder: StreamEncoder, given_rows: list[dict]) -> bytes:
    inside = [r["inside"] for r in given_rows]
    return encoder.batch(
        len(given_rows),
        [
            text_of([r["id"] for r in given_rows]),
            np.array([r["small"] for r in given_rows], np.uint8).tobytes(),
            np.array([i["x"] for i in inside], np.float32).tobytes(),
            text_of([i["word"] for i in inside]),
            np.array([i["y"] for i in inside], np.int64).tobytes(),
            np.array([r["image"] for r in given_rows], np.float16).tobytes(),
        ],
    )


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_what_is_written_is_what_pyarrow_reads(sizes, seed):
    encoder = StreamEncoder(FIELDS, METADATA)
    parts = [rows(n, seed + i) for i, n in enumerate(sizes)]

    stream = encoder.head + b"".join(encoded(encoder, part) for part in parts)

    table = pa.ipc.open_stream(stream).read_all()
    table.validate(full=True)
    assert table.schema.equals(SCHEMA, check_metadata=True)
    assert table.to_pylist() == [row for part in parts for row in part]


def test_more_lengths_than_are_remembered(monkeypatch):
    monkeypatch.setattr("ekiben.monitoring.arrow_stream._CACHED_LENGTHS", 2)
    encoder = StreamEncoder(FIELDS, METADATA)
    stream = encoder.head + b"".join(encoded(encoder, rows(n)) for n in (1, 2, 3, 3, 1, 4))
    assert pa.ipc.open_stream(stream).read_all().num_rows == 14


def test_numbers_alone():
    encoder = StreamEncoder([Field("a", number_of("float64"))])
    stream = encoder.head + encoder.batch(3, [np.array([1.0, 2.0, 3.0]).tobytes()])
    assert pa.ipc.open_stream(stream).read_all()["a"].to_pylist() == [1.0, 2.0, 3.0]


def test_neighbours_in_one_piece():
    """Each padded to 8 bytes."""
    encoder = StreamEncoder([Field("a", number_of("float32")), Field("b", number_of("float32"))])
    columns = np.array([[1, 2, 3, 0], [4, 5, 6, 0]], np.float32)
    table = pa.ipc.open_stream(encoder.head + encoder.batch(3, [columns.tobytes()])).read_all()
    assert table.to_pydict() == {"a": [1, 2, 3], "b": [4, 5, 6]}


@pytest.mark.parametrize("text", ["", "plain", "é", "日本", "\ud800"])
def test_text(text):
    made = text_of(["a", text, "b"])
    offsets = np.frombuffer(made.offsets, np.int32)
    assert made.data[offsets[1] : offsets[2]].decode() == ("?" if text == "\ud800" else text)
    assert made.data[offsets[2] :] == b"b"


@given(n=st.integers(1, 9), seed=st.integers(0, 99))
def test_numbers_of_every_width_alone_and_in_lists(n, seed):
    names = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)] + ["float16", "float32", "float64"]
    fields = [Field(name, number_of(name)) for name in names] + [Field(f"{name}s", FixedSizeList(number_of(name), 3)) for name in names]
    rng = np.random.default_rng(seed)
    single = [rng.integers(0, 100, n).astype(name) for name in names]
    listed = [rng.integers(0, 100, (n, 3)).astype(name) for name in names]
    encoder = StreamEncoder(fields)
    table = pa.ipc.open_stream(encoder.head + encoder.batch(n, [column.tobytes() for column in (*single, *listed)])).read_all()
    table.validate(full=True)
    assert [str(kind) for kind in table.schema.types[: len(names)]] == [str(pa.from_numpy_dtype(np.dtype(name))) for name in names]
    for field, column in zip(fields, (*single, *listed), strict=True):
        assert table[field.name].to_pylist() == column.tolist()
