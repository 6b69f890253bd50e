from __future__ import annotations

import msgspec
import pytest
import yaml

from ekiben.errors import SpecError
from ekiben.model import load_spec
from ekiben.model.spec import InputSpec, dump_spec, json_schema, spec_from_builtins

GOOD = {
    "name": "tiny",
    "task": "binary_classification",
    "labels": ["no", "yes"],
    "card": {"owner": "me"},
    "inputs": [{"name": "a", "type": "float"}, {"name": "b", "type": "string", "categories": ["x", "y"]}],
}
TENSOR = {"name": "img", "type": "tensor", "dtype": "float32", "shape": [8, -1]}


@pytest.fixture
def written(tmp_path):
    def write(content, folder="tiny"):
        (tmp_path / folder).mkdir(exist_ok=True)
        file = tmp_path / folder / "model.yaml"
        file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return file

    return write


def test_a_good_spec_is_read(written):
    spec = load_spec(written(GOOD))

    assert spec.is_classifier
    assert spec.inputs[1].categories == ("x", "y")
    assert spec.batching.max_batch_size == 128


def test_what_is_dumped_is_read_again_the_same(written):
    spec = load_spec(written({**GOOD, "batching": {"max_batch_size": 7}, "description": "größer"}))
    text = dump_spec(spec)

    assert load_spec(written(text)) == spec
    assert "größer" in text
    assert "timeout_ms" not in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: [", r"tiny/model\.yaml: \(file\): not readable as YAML"),
        ("- 1", r"tiny/model\.yaml: \(top\): Expected `object`"),
        ("", r"tiny/model\.yaml: \(top\): Expected `object`"),
    ],
)
def test_what_is_no_yaml_object_is_refused(written, content, message):
    with pytest.raises(SpecError, match=message):
        load_spec(written(content))


def test_a_missing_file_and_a_folder_of_another_name_are_refused(written, tmp_path):
    with pytest.raises(SpecError, match=r"gone/model\.yaml: \(file\): there is no such file"):
        load_spec(tmp_path / "gone" / "model.yaml")
    with pytest.raises(SpecError, match=r"name: is 'tiny'; the folder is 'other'"):
        load_spec(written(GOOD, folder="other"))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "Tiny"}, "name"),
        ({"name": "v2"}, "name"),
        ({"inputs": []}, "inputs"),
        ({"task": "guessing"}, "task"),
        ({"colour": "red"}, "(top)"),
        ({"card": {}}, "card"),
        ({"labels": ["yes"]}, "labels"),
        ({"labels": ["yes", "yes"]}, "labels"),
        ({"task": "multiclass_classification", "labels": ["one"]}, "labels"),
        ({"task": "regression"}, "labels"),
        ({"outputs": [{"name": "y", "dtype": "float32"}]}, "outputs"),
        ({"task": "tensor", "labels": []}, "outputs"),
        ({"latency_budget_ms": 0}, "latency_budget_ms"),
        ({"timeout_ms": -1}, "timeout_ms"),
        ({"batching": {"max_batch_size": 0}}, "batching.max_batch_size"),
        ({"batching": {"max_queue_rows": 0}}, "batching.max_queue_rows"),
        ({"batching": {"max_queue_delay_ms": -1}}, "batching.max_queue_delay_ms"),
        ({"inputs": [{"name": "a", "type": "flot"}]}, "inputs[0].type"),
        ({"inputs": [{"name": "a", "type": "float"}, {"name": "a", "type": "int"}]}, "inputs[1].name"),
        ({"inputs": [{"name": "a", "type": "float", "dtype": "int32"}]}, "inputs[0].dtype"),
        ({"inputs": [{"name": "a", "type": "string", "dtype": "string"}]}, "inputs[0].dtype"),
        ({"inputs": [{"name": "a", "type": "int", "shape": [1]}]}, "inputs[0].shape"),
        ({"inputs": [{"name": "a", "type": "string", "min": 1}]}, "inputs[0].min"),
        ({"inputs": [{"name": "a", "type": "bool", "max": 1}]}, "inputs[0].max"),
        ({"inputs": [{"name": "a", "type": "int", "min": 2, "max": 1}]}, "inputs[0].min"),
        ({"inputs": [{"name": "a", "type": "float", "max": float("nan")}]}, "inputs[0].max"),
        ({"inputs": [{"name": "a", "type": "int", "categories": ["x"]}]}, "inputs[0].categories"),
        ({"inputs": [{"name": "a", "type": "string", "categories": ["x", "x"]}]}, "inputs[0].categories"),
        ({"inputs": [{"name": "a", "type": "tensor"}]}, "inputs[0].dtype"),
        ({"inputs": [{**TENSOR, "shape": [0]}]}, "inputs[0].shape"),
        ({"inputs": [{**TENSOR, "name": 'a"b'}]}, "inputs[0].name"),
        ({"inputs": [{**TENSOR, "name": "a\\b"}]}, "inputs[0].name"),
        ({"inputs": [{**TENSOR, "name": "a\tb"}]}, "inputs[0].name"),
        ({"inputs": [{**TENSOR, "name": ""}]}, "inputs[0].name"),
        ({"inputs": [{**TENSOR, "shape": [-2]}]}, "inputs[0].shape"),
        ({"inputs": [{**TENSOR, "dtype": "int32", "nullable": True}]}, "inputs[0].nullable"),
        ({"inputs": [{**TENSOR, "dtype": "bool", "min": 0}]}, "inputs[0].min"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(change, field):
    with pytest.raises(SpecError) as caught:
        spec_from_builtins({**GOOD, **change}, file="tiny/model.yaml")

    assert caught.value.field == field
    assert caught.value.file == "tiny/model.yaml"


def test_an_unknown_field_lists_those_there_are():
    with pytest.raises(SpecError, match="a model has the fields name, task, inputs"):
        spec_from_builtins({**GOOD, "colour": "red"}, file="f")


def test_a_tensor_with_a_varying_dimension_is_fine():
    assert spec_from_builtins({**GOOD, "inputs": [TENSOR]}, file="f").inputs[0].shape == (8, -1)


@pytest.mark.parametrize(
    ("item", "dtype"),
    [
        (InputSpec(name="a", type="bool"), "bool"),
        (InputSpec(name="a", type="bool", nullable=True), "float64"),
        (InputSpec(name="a", type="int"), "int64"),
        (InputSpec(name="a", type="int", dtype="int32"), "int32"),
        (InputSpec(name="a", type="int", dtype="int32", nullable=True), "float64"),
        (InputSpec(name="a", type="float"), "float32"),
        (InputSpec(name="a", type="float", dtype="float64", nullable=True), "float64"),
        (InputSpec(name="a", type="string"), "object"),
        (InputSpec(name="a", type="tensor", dtype="uint8", shape=(1,)), "uint8"),
        (InputSpec(name="a", type="tensor", dtype="string", shape=(1,)), "object"),
    ],
)
def test_the_dtype_of_a_column_follows_from_its_type(item, dtype):
    assert item.array_dtype == dtype


@pytest.mark.parametrize("name", ["input.1", "x:0", "a/b", "with space", "é日本🍱", "class", "no", "1", "x" * 300, "'", "a: b", "# c"])
def test_odd_names_survive_the_file(tmp_path, name):
    spec = spec_from_builtins({**GOOD, "inputs": [{**TENSOR, "name": name}]}, file="f")
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "model.yaml").write_text(dump_spec(spec), encoding="utf-8")

    assert load_spec(folder / "model.yaml").inputs[0].name == name


def test_editors_get_a_schema_that_knows_the_fields():
    schema = json_schema()

    assert "inputs" in schema["$defs"]["ModelSpec"]["properties"]
    msgspec.json.encode(schema)


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ({"type": "string", "max_length": 0}, "0 leaves no string"),
        ({"type": "float", "max_length": 5}, "only strings have a length"),
        ({"type": "tensor", "dtype": "float32", "shape": [2], "max_length": 5}, "only strings have a length"),
    ],
)
def test_only_strings_have_a_largest_length(item, problem):
    raw = {"name": "m", "task": "regression", "inputs": [{"name": "x", **item}], "card": {"owner": "me"}}
    with pytest.raises(SpecError, match=problem):
        spec_from_builtins(raw, file="m/model.yaml")


@pytest.mark.parametrize("item", [{"type": "string"}, {"type": "tensor", "dtype": "string", "shape": [2]}])
def test_a_largest_length_is_kept_and_the_usual_one_is_not_written(item):
    raw = {"name": "m", "task": "regression", "inputs": [{"name": "x", **item}], "card": {"owner": "me"}}
    assert "max_length" not in dump_spec(spec_from_builtins(raw, file="m/model.yaml"))
    raw["inputs"][0]["max_length"] = 10
    assert "max_length: 10" in dump_spec(spec_from_builtins(raw, file="m/model.yaml"))
