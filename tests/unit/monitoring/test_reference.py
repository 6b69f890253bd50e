import numpy as np
import pyarrow as pa
import pytest
from unit.monitoring import drift_world as world

from ekiben.model.outputs import Outputs
from ekiben.model.profile import profile_of
from ekiben.model.signature import Batch
from ekiben.model.spec import CardSpec, InputSpec, ModelSpec, OutputSpec
from ekiben.monitoring.reference import distributions, distributions_of


def same(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, dict):
            same(found[key], value)
        elif isinstance(value, str):
            assert found[key] == value
        else:
            assert found[key] == pytest.approx(value), key


def test_a_table_is_described_as_the_profile_of_the_same_rows():
    columns, score = world.draw(np.random.default_rng(0), 3000)
    of_profile = distributions(world.profile(columns, score))
    of_table = distributions_of(world.table_of(columns, score), world.SPEC)
    assert of_table.keys() == of_profile.keys()
    for key, expected in of_profile.items():
        if key == ("input", "place"):  # a profile has the 200 most frequent ones
            found = of_table[key]["shares"]
            assert expected["shares"].items() <= found.items()
            assert sum(found.values()) - sum(expected["shares"].values()) == pytest.approx(expected["other"])
        elif key[0] == "input":
            same(of_table[key], expected)
        else:
            assert of_table[key]["n"] == expected["n"] == 3000
            known = {name: share for name, share in expected["shares"].items() if share} if key[0] == "class" else expected["shares"]
            assert of_table[key]["shares"] == pytest.approx(known)


def test_tensors_and_numbers_of_other_models():
    images = np.random.default_rng(0).normal(size=(200, 2, 3)).astype(np.float32)
    inputs = (InputSpec(name="image", type="tensor", dtype="float32", shape=(2, 3)),)
    outputs = (OutputSpec(name="total", dtype="float32", shape=()), OutputSpec(name="doubled", dtype="float32", shape=(2, 3)))
    spec = ModelSpec(name="grid", task="tensor", inputs=inputs, outputs=outputs, card=CardSpec(owner="tests"))
    given = {"total": images.sum(axis=(1, 2)), "doubled": images * 2}
    profile = profile_of(spec, Batch(200, {"image": images}), Outputs(200, given))
    lists = {name: pa.array(list(array.reshape(200, -1)), pa.list_(pa.float32())) for name, array in (("image", images), *given.items())}
    table = pa.table(
        {
            "features": world.struct_of({"image": lists["image"]}),
            "outputs": world.struct_of({"total": pa.array(given["total"]), "doubled": lists["doubled"]}),
        }
    )
    expected = distributions(profile)
    assert list(expected) == [("input", "image"), ("score", "total"), ("score", "doubled")]
    for key, found in distributions_of(table, spec).items():
        same(found, expected[key])


def test_an_empty_table():
    columns, score = world.draw(np.random.default_rng(0), 10)
    described = distributions_of(world.table_of(columns, score).slice(0, 0), world.SPEC)
    assert described["input", "city0"]["n"] == 0
    assert described["input", "normal0"]["mean"] is None
