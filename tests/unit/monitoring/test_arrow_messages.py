"""Messages that are made here, read by pyarrow."""

import struct

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.monitoring.arrow_columns import Field, FixedSizeList, Number, StructOf, Utf8
from ekiben.monitoring.arrow_messages import batch_message, schema_message

NUMBERS = [("int", 8), ("int", 16), ("int", 32), ("int", 64), ("uint", 8), ("uint", 16), ("uint", 32), ("uint", 64)]
NUMBERS += [("float", 16), ("float", 32), ("float", 64)]
numbers = st.sampled_from([Number(kind, bits) for kind, bits in NUMBERS])
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
types = st.recursive(
    numbers | st.builds(Utf8),
    lambda inner: (
        st.builds(FixedSizeList, inner, st.integers(1, 1000))
        | st.builds(StructOf, st.lists(st.builds(Field, names, inner), max_size=3).map(tuple))
    ),
    max_leaves=5,
)


def arrow_type(kind) -> pa.DataType:
    """The type in pyarrow's own words."""
    if isinstance(kind, Number):
        return getattr(pa, f"{kind.kind}{kind.bits}")()
    if isinstance(kind, FixedSizeList):
        return pa.list_(arrow_type(kind.item), kind.size)
    if isinstance(kind, StructOf):
        return pa.struct([(field.name, arrow_type(field.type)) for field in kind.fields])
    return pa.string()


def schema_of(message: bytes) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(message))


@pytest.mark.parametrize(("kind", "bits"), NUMBERS)
def test_every_number(kind, bits):
    found = schema_of(schema_message([Field("a", Number(kind, bits))], {}))
    assert found.equals(pa.schema([("a", arrow_type(Number(kind, bits)))]), check_metadata=True)


@given(
    fields=st.lists(st.builds(Field, names, types), max_size=5),
    metadata=st.dictionaries(st.binary(min_size=1, max_size=9), st.binary(max_size=40), max_size=3),
)
def test_a_schema_is_what_pyarrows_own_would_be(fields, metadata):
    texts = {key.hex().encode(): value.hex().encode() for key, value in metadata.items()}
    message = schema_message(fields, texts)
    assert len(message) % 8 == 0
    expected = pa.schema([(field.name, arrow_type(field.type)) for field in fields], metadata=texts or None)
    assert schema_of(message).equals(expected, check_metadata=True)


@pytest.mark.parametrize(("nodes", "buffers"), [(1, 2), (2, 5), (7, 20)])
def test_the_places_of_a_batch_are_where_its_numbers_are(nodes, buffers):
    message, places = batch_message(nodes, buffers)
    assert len(message) % 8 == 0
    found = pa.ipc.read_message(pa.py_buffer(message))
    assert (found.type, found.metadata_version) == ("record batch", pa.ipc.MetadataVersion.V5)
    own = {places.body_length, places.length, *range(places.nodes, places.nodes + 16 * nodes, 8)}
    own |= set(range(places.buffers, places.buffers + 16 * buffers, 8))
    assert len(own) == 2 + 2 * nodes + 2 * buffers, "none lies upon another"
    assert max(own) + 8 <= len(message)
    assert all(struct.unpack_from("<q", message, at) == (0,) for at in own)
    lengths = [struct.unpack_from("<I", message, at - 4)[0] for at in (places.nodes, places.buffers)]
    assert lengths == [nodes, buffers]
