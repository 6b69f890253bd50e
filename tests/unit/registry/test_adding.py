import json

import joblib
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from sklearn.linear_model import LinearRegression

from ekiben.errors import EkibenError, FeatureError, InvalidRows, RegistryError, SpecError, StateError, VersionExists
from ekiben.model import Predictor, Signature, load_spec
from ekiben.model.spec import InputSpec
from ekiben.registry import FolderRegistry
from ekiben.registry.adding import Hints, add_model, golden_rows
from ekiben.registry.model_source import source_of
from ekiben.state import MemoryAliases


@pytest.fixture
def registry(tmp_path):
    return FolderRegistry(tmp_path / "store", MemoryAliases())


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def source(tiny_onnx):
    return source_of("onnx", tiny_onnx)


@pytest.fixture
def sample(tmp_path, tiny_rows):
    def write(n=100, rows=None):
        file = tmp_path / "sample.json"
        file.write_text(json.dumps(rows if rows is not None else tiny_rows(n)))
        return file

    return write


def test_a_model_is_added_with_no_code(registry, models, source, sample, tiny_rows):
    added = add_model(registry, models, "mine", source, sample=sample(), hints=Hints(labels=("no", "yes"), owner="me"), tag="mine:1.0")
    assert added.version.tag == "mine:1.0"
    assert registry.aliases.get("mine") == {"champion": "1.0"}
    assert added.is_new_spec
    spec = load_spec(added.spec_file)
    assert added.spec_file == models / "mine" / "model.yaml"
    assert "inferred from tiny.onnx" in added.spec_file.read_text()
    assert [(i.name, i.type, i.nullable) for i in spec.inputs] == [
        ("a", "float", False), ("b", "float", False), ("c", "float", True), ("d", "float", False)
    ]  # fmt: skip
    assert (spec.task, spec.labels, spec.card.owner) == ("binary_classification", ("no", "yes"), "me")
    predictor = Predictor.open(added.version.path)
    assert predictor.spec == spec
    row = {"a": 3.0, "b": 3.0, "c": None, "d": -3.0}
    assert predictor.predict([row])[0]["prediction"] == "yes"
    manifest = added.version.artifact().manifest
    assert manifest.provenance.data["rows"] == 100
    assert set(manifest.provenance.frameworks) >= {"ekiben", "numpy", "onnxruntime"}
    assert len(added.version.artifact().golden_rows().rows) == 64
    assert added.version.artifact().profile()["rows"] == 100
    assert added.notes[-1] == "64 golden rows from the sample"


def test_without_a_sample_the_golden_rows_are_made_up_and_that_is_said(registry, models, source):
    added = add_model(registry, models, "mine", source)
    assert len(added.version.artifact().golden_rows().rows) == 32
    assert "the 32 golden rows are made up" in added.notes[-1]
    again = add_model(registry, models, "mine", source)
    assert again.version.artifact().golden_rows() == added.version.artifact().golden_rows()


def test_a_spec_that_is_there_is_used_and_not_touched(registry, models, source, sample):
    first = add_model(registry, models, "mine", source, sample=sample())
    refined = first.spec_file.read_text().replace(
        "- name: a\n  type: float\n", "- name: a\n  type: float\n  max: 5\n  description: the a\n"
    )
    assert refined != first.spec_file.read_text()
    first.spec_file.write_text(refined)
    second = add_model(registry, models, "mine", source, sample=sample(), hints=Hints(owner="someone else"), tag="mine:2")
    assert first.spec_file.read_text() == refined
    assert not second.is_new_spec
    assert second.version.artifact().spec.inputs[0].max == 5
    assert any("--owner are not used" in note for note in second.notes)
    assert registry.aliases.get("mine") == {"champion": first.version.version}


def test_feature_code_and_card_beside_the_spec_are_used(registry, models, source, sample, tiny_rows):
    add_model(registry, models, "mine", source, sample=sample())
    features = models / "mine" / "features.py"
    features.write_text(
        "import numpy as np\ndef transform(columns):\n    return {'x': np.column_stack([columns['a'] + 1, *list(columns.values())[1:]])}\n"
    )
    (models / "mine" / "README.md").write_text("# Mine")
    added = add_model(registry, models, "mine", source, sample=sample(), tag="mine:2")
    assert added.version.artifact().manifest.features_fingerprint
    assert (added.version.path / "README.md").read_text() == "# Mine"
    plain, shifted = (Predictor.open(registry.resolve(reference).path) for reference in ("mine", "mine:2"))
    row = {"a": 0.0, "b": 0.5, "c": 0.0, "d": 0.0}
    assert shifted.predict([row]) == plain.predict([{**row, "a": 1.0}])
    features.write_text("transform = 3")
    with pytest.raises(FeatureError):
        add_model(registry, models, "mine", source, sample=sample())


def test_weights_beside_an_onnx_file_are_part_of_the_artifact(registry, models, save_graph, tmp_path):
    file = save_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        {"w": np.ones((4, 2), np.float32)},
    )
    onnx.save_model(onnx.load(file), file, save_as_external_data=True, location="w.bin", size_threshold=0)
    version = add_model(registry, models, "mine", source_of("onnx", file)).version
    (tmp_path / "w.bin").unlink()
    assert Predictor.open(version.path).predict([[1, 2, 3, 4]]) == [{"y": [10.0, 10.0]}]


def test_scikit_learn(registry, models, tmp_path):
    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0]), tmp_path / "line.joblib")
    version = add_model(registry, models, "line", source_of("sklearn", tmp_path / "line.joblib")).version
    assert Predictor.open(version.path, trusted=True).predict([[2.0]])[0]["prediction"] == pytest.approx(5.0)
    assert version.artifact().manifest.model.file == "model.joblib"


class Broken(FolderRegistry):
    def register(self, artifact_dir, *, tag=None):
        raise StateError("no")


@pytest.mark.parametrize(
    ("known", "error", "message"),
    [
        ({"name": "Not A Name"}, RegistryError, "cannot name a model"),
        ({"name": "trailing_"}, RegistryError, "cannot name a model"),
        ({"name": "../x"}, RegistryError, "cannot name a model"),
        ({"name": "v2"}, RegistryError, "a path the server uses itself"),
        ({"tag": "1.0"}, RegistryError, "must be NAME:VERSION, for example mine:1.0"),
        ({"tag": "other:1"}, RegistryError, "of the model 'other'"),
        ({"tag": "mine:taken"}, VersionExists, "mine:taken exists already"),
        ({"rows": [{"a": 1, "b": 2, "c": 3}]}, EkibenError, "the sample has 3 columns"),
        ({"rows": [{"a": 1, "b": "x", "c": 3, "d": 4}]}, InvalidRows, "field 'b'"),
        ({"rows": [{"a": 1, "b": 2, "c": 3, "d": 4}] * 40 + [{"a": 1, "b": "x", "c": 3, "d": 4}]}, InvalidRows, "row 40, field 'b'"),
        ({"rows": []}, EkibenError, "holds no rows"),
        ({"hints": Hints(labels=("a", "b", "c"))}, EkibenError, "3 labels are given"),
        ({"hints": Hints(labels=("a", "a"))}, SpecError, "a label occurs twice"),
        ({"broken": True}, StateError, "no"),
    ],
)
def test_what_fails_leaves_nothing(registry, models, source, sample, *, known, error, message):
    if known.get("tag") == "mine:taken":
        add_model(registry, models, "mine", source, tag="mine:taken")
        (models / "mine" / "model.yaml").unlink()
        (models / "mine").rmdir()
    before = [v.tag for v in registry.versions()]
    store = Broken(registry._root, registry.aliases) if known.get("broken") else registry
    with pytest.raises(error, match=message):
        add_model(
            store,
            models,
            known.get("name", "mine"),
            source,
            sample=sample(rows=known["rows"]) if "rows" in known else None,
            hints=known.get("hints", Hints()),
            tag=known.get("tag"),
        )
    assert not models.exists() or list(models.iterdir()) == []
    assert [v.tag for v in registry.versions()] == before


def test_a_folder_that_was_there_before_a_failure_stays(registry, models, source):
    (models / "mine").mkdir(parents=True)
    (models / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(StateError):
        add_model(Broken(registry._root, registry.aliases), models, "mine", source)
    assert [p.name for p in (models / "mine").iterdir()] == ["notes.txt"]


def test_a_spec_that_cannot_be_written_is_named(registry, models, source):
    models.write_text("a file")
    with pytest.raises(EkibenError, match=r"mine/model\.yaml cannot be written"):
        add_model(registry, models, "mine", source)
    assert registry.versions() == []


def test_a_wrong_spec_is_refused(registry, models, source):
    (models / "mine").mkdir(parents=True)
    (models / "mine" / "model.yaml").write_text("name: other")
    with pytest.raises(SpecError):
        add_model(registry, models, "mine", source)
    assert registry.versions() == []


def test_the_next_version_with_the_spec_that_was_written_answers_from_the_same_output(registry, models, save_graph):
    """Two outputs could be the probabilities by their shape; only the name of the second says it is."""
    f = TensorProto.FLOAT
    file = save_graph(
        [helper.make_node("Neg", ["x"], ["logits"]), helper.make_node("Softmax", ["x"], ["my_probs"], axis=1)],
        [helper.make_tensor_value_info("x", f, ["n", 2])],
        [helper.make_tensor_value_info("logits", f, ["n", 2]), helper.make_tensor_value_info("my_probs", f, ["n", 2])],
    )
    first = add_model(registry, models, "mine", source_of("onnx", file), hints=Hints(labels=("no", "yes")))
    second = add_model(registry, models, "mine", source_of("onnx", file), tag="mine:2")
    assert not second.is_new_spec
    answers = [Predictor.open(added.version.path).predict([[1.0, 3.0]]) for added in (first, second)]
    assert answers[0] == answers[1]
    assert answers[1][0]["prediction"] == "yes"


def test_a_model_of_large_tensors_has_fewer_made_up_rows(registry, models, save_graph):
    f = TensorProto.FLOAT
    file = save_graph(
        [helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)],
        [helper.make_tensor_value_info("x", f, [1, 400, 500])],
        [helper.make_tensor_value_info("y", f, [1, 400])],
        {"axes": np.array([2])},
    )
    added = add_model(registry, models, "mine", source_of("onnx", file))
    assert len(added.version.artifact().golden_rows().rows) == 10
    assert "the 10 golden rows are made up" in added.notes[-1]


SIGNATURE = Signature([InputSpec(name="a", type="int"), InputSpec(name="b", type="string")])


def test_few_rows_of_a_sample_are_completed_with_their_own_values():
    rows, note = golden_rows(SIGNATURE, [], [{"a": 1, "b": "x"}, [2, "y"]])
    assert len(rows) == 32
    assert rows[:2] == [{"a": 1, "b": "x"}, [2, "y"]]
    assert {(row["a"], row["b"]) for row in rows[2:]} == {(1, "x"), (1, "y"), (2, "x"), (2, "y")}
    assert note == "2 golden rows from the sample, 30 recombined from its values"


def test_few_rows_of_a_single_input_are_repeated():
    signature = Signature([InputSpec(name="x", type="tensor", dtype="float32", shape=(-1,))])
    rows, note = golden_rows(signature, [], [[1.0], [1.0, 2.0], [3.0]])
    assert rows == [[1.0], [3.0]] * 16
    assert note == "2 golden rows from the sample, repeated to make 32"
