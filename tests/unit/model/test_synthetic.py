from hypothesis import given
from hypothesis import strategies as st

from ekiben.model import InputSpec, Signature
from ekiben.model.synthetic import recombined_rows, synthetic_rows

bounds = st.tuples(st.none() | st.integers(-1000, 1000), st.none() | st.integers(0, 500)).map(
    lambda pair: (pair[0], None if pair[1] is None else (pair[0] or 0) + pair[1])
)
numbers = st.builds(
    lambda kind, limits, dtype: {"type": kind, "min": limits[0], "max": limits[1], "dtype": dtype if kind == "int" else None},
    st.sampled_from(["int", "float"]),
    bounds,
    st.sampled_from([None, "int32", "int64"]),
)
tensors = st.builds(
    lambda dtype, shape: {"type": "tensor", "dtype": dtype, "shape": tuple(shape)},
    st.sampled_from(["bool", "uint8", "int8", "int64", "float16", "float32", "string"]),
    st.lists(st.sampled_from([-1, 1, 2]), max_size=3),
)
others = st.sampled_from([{"type": "bool"}, {"type": "string"}, {"type": "string", "categories": ("x", "y")}])
signatures = st.lists(numbers | tensors | others, min_size=1, max_size=4).map(
    lambda items: [InputSpec(name=f"i{n}", **item) for n, item in enumerate(items)]
)


@given(inputs=signatures, free_dim=st.integers(1, 4), below=st.sampled_from([1, 2, 10]))
def test_made_up_rows_are_valid_whatever_the_signature(inputs, free_dim, below):
    signature = Signature(inputs)
    rows = synthetic_rows(inputs, 5, free_dim=free_dim, below=below)
    batch = signature.batch(signature.parse_rows(rows))
    assert signature.check(batch) == []
    assert rows == synthetic_rows(inputs, 8, free_dim=free_dim, below=below)[:5]


def test_only_one_bound_is_kept_too():
    inputs = [InputSpec(name="a", type="int", max=-5), InputSpec(name="b", type="float", max=-5), InputSpec(name="c", type="float", min=7)]
    for row in synthetic_rows(inputs, 20):
        assert row["a"] <= -5
        assert row["b"] <= -5
        assert row["c"] >= 7


def test_integers_stay_small_unless_bounds_say_otherwise():
    rows = synthetic_rows([InputSpec(name="a", type="int"), InputSpec(name="b", type="int", min=100)], 50, below=2)
    assert {row["a"] for row in rows} == {0, 1}
    assert {row["b"] for row in rows} == {100, 101}


def test_seeds_give_other_rows():
    inputs = [InputSpec(name="a", type="float")]
    assert synthetic_rows(inputs, 4) != synthetic_rows(inputs, 4, seed=1)


def test_recombined_rows_have_only_values_there_are():
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    made = recombined_rows(rows, 40)
    assert {(row["a"], row["b"]) for row in made} == {(1, "x"), (1, "y"), (2, "x"), (2, "y")}
    assert made == recombined_rows(rows, 40)
