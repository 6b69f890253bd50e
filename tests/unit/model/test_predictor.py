from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from ekiben.errors import ArtifactError, ChecksumMismatch, GoldenRowsMismatch, InvalidRows, PredictionFailed
from ekiben.model import CardSpec, InputSpec, ModelFile, ModelSpec, OutputSpec, Predictor, Provenance
from ekiben.model.build import build_artifact
from ekiben.model.features import load_transform
from ekiben.model.predictor import differing_rows
from ekiben.model.runtimes.base import Runtime, TensorInfo
from ekiben.model.spec import BatchingSpec


class Recorder(Runtime):
    """A runtime in memory: doubles what it is given, and remembers it."""

    def __init__(self, inputs=(), wants_frame=False):
        self.inputs = inputs
        self.outputs = (TensorInfo("y", "float32", (None,)),)
        self.wants_frame = wants_frame
        self.fed = []

    def run(self, feeds, outputs):
        self.fed.append(feeds)
        first = next(iter(feeds.values()))
        return {"y": np.asarray(first, np.float32) * 2}


def spec(*names, **more):
    inputs = tuple(InputSpec(name=n, type="float") for n in names)
    return ModelSpec(**{"name": "m", "task": "regression", "inputs": inputs, "card": CardSpec(owner="o"), **more})


def test_an_artifact_predicts_what_its_graph_computes(tiny_predictor):
    (row,) = tiny_predictor.predict([{"a": 1, "b": 1, "c": None, "d": 0}])

    positive = 1 / (1 + np.exp(-(1 + 1 - 0.25)))
    assert row["prediction"] == "yes"
    assert row["confidence"] == row["probabilities"]["yes"] == pytest.approx(positive, abs=1e-6)
    assert sum(row["probabilities"].values()) == pytest.approx(1)


def test_no_rows_give_no_predictions(tiny_predictor):
    assert tiny_predictor.predict([]) == []


def test_bad_rows_are_named_and_nothing_is_computed():
    runtime = Recorder()
    with pytest.raises(InvalidRows, match="row 1, field 'a'"):
        Predictor(spec("a"), runtime).predict([[1], [float("inf")]])

    assert runtime.fed == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_rows_give_the_same_together_as_apart(tiny_predictor, tiny_rows, sizes):
    rows = tiny_rows(sum(sizes))
    signature = tiny_predictor.signature
    starts = np.cumsum([0, *sizes])
    parts = [signature.parse_rows(rows[a:b]) for a, b in pairwise(starts)]

    assert tiny_predictor.run(signature.merge(parts)).rows() == [
        r for part in parts for r in tiny_predictor.run(signature.batch(part)).rows()
    ]


@pytest.mark.parametrize("n", [1, 4, 5, 9])
def test_no_run_is_larger_than_the_model_s_batches(n):
    runtime = Recorder()
    found = Predictor(spec("a", batching=BatchingSpec(max_batch_size=4)), runtime).predict([[float(i)] for i in range(n)])

    assert found == [{"prediction": 2.0 * i} for i in range(n)]
    assert max(len(feeds["matrix"]) for feeds in runtime.fed) <= 4
    assert len(runtime.fed) == -(-n // 4)


def test_a_frame_gets_its_columns_under_the_estimator_s_names():
    runtime = Recorder(wants_frame=True)
    Predictor(spec("a", "b"), runtime, input_names={"b": "column b"}).predict([[1, 2]])

    assert {name: column.tolist() for name, column in runtime.fed[0].items()} == {"a": [1.0], "column b": [2.0]}


def test_a_matrix_of_mixed_inputs_keeps_their_order():
    runtime = Recorder()
    inputs = (InputSpec(name="b", type="bool"), InputSpec(name="i", type="int"), InputSpec(name="f", type="float"))
    Predictor(spec(inputs=inputs, task="tensor", outputs=(OutputSpec(name="y", dtype="float32"),)), runtime).predict([[True, 2, 0.5]])

    assert runtime.fed[0]["matrix"].tolist() == [[1.0, 2.0, 0.5]]


def test_a_table_model_is_never_fed_a_bare_row():
    runtime = Recorder()
    Predictor(spec("a", batching=BatchingSpec(enabled=False)), runtime).predict([[1], [2]])

    assert all(feeds["matrix"].ndim == 2 for feeds in runtime.fed)


# ── features ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def transform(tmp_path, body):
    (tmp_path / "features.py").write_text(f"import numpy as np\n\n\ndef transform(columns):\n    {body}\n")
    return load_transform(tmp_path / "features.py")


def test_the_model_gets_what_features_make(tmp_path):
    runtime = Recorder()
    made = transform(tmp_path, "return {'sum': columns['a'] + columns['b'], 'a': columns['a']}")
    Predictor(spec("a", "b"), runtime, transform=made).predict([[1, 2]])

    assert runtime.fed[0]["matrix"].tolist() == [[3.0, 1.0]]


def test_features_may_make_the_whole_matrix(tmp_path):
    runtime = Recorder((TensorInfo("x", "float32", (None, 2)),))
    made = transform(tmp_path, "return {'any': np.stack([columns['a'], columns['a']], axis=1)}")
    Predictor(spec("a"), runtime, transform=made).predict([[3]])

    assert runtime.fed[0]["x"].tolist() == [[3.0, 3.0]]


def test_named_inputs_get_named_features(tmp_path):
    runtime = Recorder((TensorInfo("p", "float64", (None, 1)), TensorInfo("q", "int64", (None,))))
    made = transform(tmp_path, "return {'P': columns['a'], 'q': columns['a'] + 1}")
    Predictor(spec("a"), runtime, transform=made, input_names={"P": "p"}).predict([[3]])

    assert {name: (a.dtype.name, a.tolist()) for name, a in runtime.fed[0].items()} == {"p": ("float64", [[3.0]]), "q": ("int64", [4])}
    stray = Predictor(spec("a"), runtime, transform=transform(tmp_path, "return {'z': columns['a'], 'q': columns['a']}"))
    with pytest.raises(ArtifactError, match=r"features\.py gives 'z'; the model takes p, q"):
        stray.predict([[1]])


def test_failing_features_are_a_failed_prediction(tmp_path):
    with pytest.raises(PredictionFailed, match="transform failed: ZeroDivisionError"):
        Predictor(spec("a"), Recorder(), transform=transform(tmp_path, "return 1 / 0")).predict([[1]])


# ── opening and golden rows ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_corrupt_file_is_refused_before_it_is_run(tiny_artifact):
    (tiny_artifact.path / "model.onnx").write_bytes(b"evil")

    with pytest.raises(ChecksumMismatch, match=r"model\.onnx has changed"):
        Predictor.open(tiny_artifact.path)


def test_a_model_that_no_longer_gives_its_golden_outputs_is_refused_with_the_rows(tiny_artifact):
    golden = tiny_artifact.golden_rows()
    for index in (3, 5):
        golden.outputs[index]["probabilities"]["yes"] += 0.01
    (tiny_artifact.path / "golden.json").write_bytes(msgspec.json.encode(golden))

    predictor = Predictor.open(tiny_artifact.path, check=False)
    with pytest.raises(GoldenRowsMismatch, match=r"tiny: 2 of 32 golden rows .*\(rows 3, 5\); row 3 must give {'prediction'") as caught:
        predictor.replay(tiny_artifact)
    assert caught.value.rows == [3, 5]


def test_fewer_golden_outputs_than_rows_are_refused(tiny_artifact):
    golden = tiny_artifact.golden_rows()
    golden.outputs.clear()
    (tiny_artifact.path / "golden.json").write_bytes(msgspec.json.encode(golden))

    with pytest.raises(GoldenRowsMismatch, match="row 0 must give nothing"):
        Predictor.open(tiny_artifact.path, check=False).replay(tiny_artifact)


def test_another_threshold_in_the_manifest_is_noticed(tiny_artifact):
    file = tiny_artifact.path / "artifact.json"
    text = file.read_text()
    file.write_text(text.replace('"format": 1,', '"format": 1, "threshold": 0.9,'))

    with pytest.raises(GoldenRowsMismatch):
        Predictor.open(tiny_artifact.path)


@pytest.mark.parametrize("kind", ["tiny_artifact", "plane_artifact", "grid_artifact"])
def test_the_fixtures_open_with_all_checks(request, kind):
    artifact = request.getfixturevalue(kind)

    Predictor.open(artifact.path, providers=("CPUExecutionProvider",))


def test_outputs_json_cannot_hold_are_recorded_as_null(tmp_path, save_graph):
    graph = save_graph(
        [helper.make_node("Log", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    artifact = build_artifact(
        tmp_path / "log",
        spec=spec("x"),
        model=ModelFile(framework="onnx", file="m.onnx"),
        files={"m.onnx": graph},
        provenance=Provenance(created="now"),
        golden_rows=[[-1.0], [0.0]] * 16,
        reference=[[-1.0], [1.0]],
    )

    assert artifact.golden_rows().outputs[:2] == [{"prediction": None}, {"prediction": None}]
    assert artifact.profile()["outputs"]["prediction"]["missing"] == 0.5
    Predictor.open(artifact.path)


def element(label, p):
    return {"prediction": label, "confidence": p, "probabilities": {"no": 1 - p, "yes": p}}


@pytest.mark.parametrize(
    ("found", "expected", "threshold", "differ"),
    [
        ({"y": 1.0}, {"y": 1.00005}, None, False),
        ({"y": 1.0}, {"y": 1.001}, None, True),
        ({"y": 10000.0}, {"y": 10000.5}, None, False),
        ({"y": float("nan")}, {"y": None}, None, False),
        ({"y": 1.0}, {"y": None}, None, True),
        ({"y": float("nan")}, {"y": 1.0}, None, True),
        ({"y": "a"}, {"y": "b"}, None, True),
        ({"y": [1, [2.0]]}, {"y": [1, [2.0]]}, None, False),
        ({"y": [1]}, {"y": [1, 2]}, None, True),
        ({"y": 1.0}, {"z": 1.0}, None, True),
        ({"y": True}, {"y": 1.00001}, None, True),
        ({"y": "a"}, {"y": 1.0}, None, True),
        (element("no", 0.29999), element("yes", 0.30001), 0.3, False),
        (element("no", 0.4), element("yes", 0.4), 0.3, True),
        (element("no", 0.5), element("yes", 0.50001), None, False),
        (element("no", 0.4), element("maybe", 0.4), None, True),
        (element("yes", 0.6), element("no", 0.6), None, True),
    ],
)
def test_which_elements_differ(found, expected, threshold, differ):
    assert differing_rows([found], [expected], threshold=threshold) == ([0] if differ else [])
