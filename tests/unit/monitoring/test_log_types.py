import pyarrow as pa
import pytest

from ekiben.monitoring.log_table import COMMON
from ekiben.monitoring.log_types import common_schema, fitted, leaves, narrowed


def features(kind):
    return pa.schema([pa.field("features", kind)])


def common(*kinds):
    return common_schema(features(kind) for kind in kinds).field("features").type


def test_without_rows_the_columns_are_those_of_every_log():
    assert common_schema([]) == pa.schema(list(COMMON))


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([pa.int32(), pa.int64()], pa.int64()),
        ([pa.int64(), pa.float32()], pa.float64()),
        ([pa.bool_(), pa.int8()], pa.int8()),
        ([pa.float16()], pa.float32()),
        ([pa.float16(), pa.float16()], pa.float32()),
        ([pa.string(), pa.float32()], pa.string()),
        ([pa.null(), pa.int8()], pa.int8()),
        ([pa.int8(), pa.null()], pa.int8()),
        ([pa.list_(pa.float16(), 2)], pa.list_(pa.float32(), 2)),
        ([pa.list_(pa.float16())], pa.list_(pa.float32())),
        ([pa.list_(pa.int8(), 2), pa.list_(pa.float32(), 2)], pa.list_(pa.float32(), 2)),
        ([pa.list_(pa.int8(), 2), pa.list_(pa.int8(), 3)], pa.list_(pa.int8())),
        ([pa.list_(pa.int8(), 2), pa.list_(pa.int8())], pa.list_(pa.int8())),
        ([pa.struct([("a", pa.int8())]), pa.float32()], pa.string()),
        (
            [pa.struct([("a", pa.int8())]), pa.struct([("b", pa.string()), ("a", pa.float64())])],
            pa.struct([("a", pa.float64()), ("b", pa.string())]),
        ),
    ],
)
def test_types_that_hold_both(kinds, expected):
    assert common(*kinds) == expected


def test_metadata_of_fields_stays_where_all_agree():
    a, b = (pa.field("x", pa.list_(pa.int8(), 4), metadata={"shape": shape}) for shape in ("2,2", "4"))
    assert common(pa.struct([a]), pa.struct([a])).field("x").metadata == {b"shape": b"2,2"}
    assert common(pa.struct([a]), pa.struct([b])).field("x").metadata is None


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, None], pa.float64(), [1.0, None]),
        ([1.5, None], pa.string(), ["1.5", None]),
        ([True], pa.string(), ["true"]),
        ([[1, 2], None], pa.list_(pa.float32()), [[1.0, 2.0], None]),
        ([[1, 2], None], pa.string(), ["[1,2]", None]),
        ([{"a": 1}], pa.string(), ['{"a":1}']),
        ([{"a": 1}, None], pa.struct([("a", pa.float64()), ("b", pa.string())]), [{"a": 1.0, "b": None}, None]),
        ([{"a": 1}], pa.struct([]), [{}]),
        ([None, None], pa.int8(), [None, None]),
    ],
)
def test_rows_take_the_common_type(values, kind, expected):
    table = fitted(pa.table({"x": pa.array(values)}), pa.schema([("x", kind), ("y", pa.int8())]))
    assert table["x"].type == kind
    assert table.to_pydict() == {"x": expected, "y": [None] * len(values)}


def test_half_floats_become_floats():
    kind = pa.list_(pa.float16(), 2)
    table = pa.table({"x": pa.array([[0.5, 1.0]], kind), "y": pa.array([0.5], pa.float16())})
    done = fitted(table, pa.schema([("x", pa.list_(pa.float32(), 2)), ("y", pa.float32())]))
    assert done.to_pydict() == {"x": [[0.5, 1.0]], "y": [0.5]}


SCHEMA = common_schema([pa.schema([("features", pa.struct([("a", pa.int8()), ("b.c", pa.string())]))])])


def test_columns_are_narrowed_to_what_is_asked_for():
    some = narrowed(SCHEMA, ["features.b.c", "time", "features.a", "features.a", "features.none"])
    assert some.names == ["features", "time"]
    assert [(f.name, f.type) for f in some.field("features").type] == [("b.c", pa.string()), ("a", pa.int8()), ("none", pa.null())]
    assert leaves(SCHEMA, ["features.b.c", "time", "features.none"]) == ["features.b.c", "time"]


def test_the_whole_wins_over_its_parts():
    for asked in (["features.a", "features"], ["features", "features.a"]):
        assert narrowed(SCHEMA, asked).field("features").type.num_fields == 2
    assert leaves(SCHEMA, None) is None
    assert leaves(SCHEMA, ["outputs", "arm"]) == ["arm"]
    assert narrowed(SCHEMA, ["outputs"]).field("outputs").type == pa.struct([])


@pytest.mark.parametrize("name", ["temp", "time.x", "feature.a"])
def test_no_log_has_such_a_column(name):
    with pytest.raises(KeyError, match=name):
        narrowed(SCHEMA, [name])
