import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from ekiben.errors import ArtifactError
from ekiben.model.estimator_facts import EstimatorFacts, estimator_facts
from ekiben.model.infer_spec import infer_spec
from ekiben.model.runtimes import open_runtime

X = np.random.default_rng(0).normal(size=(60, 3))
Y = np.where(X[:, 0] > 0, "up", "down")


@pytest.fixture
def opened(tmp_path):
    def open_saved(estimator):
        joblib.dump(estimator, tmp_path / "model.joblib")
        return open_runtime("sklearn", tmp_path / "model.joblib")

    return open_saved


def test_what_estimators_know(opened, tiny_onnx):
    assert estimator_facts(opened(LogisticRegression().fit(X, Y))) == EstimatorFacts(width=3, classes=("down", "up"))
    table = pd.DataFrame(X, columns=["a", "b", "c"])
    assert estimator_facts(opened(LinearRegression().fit(table, X[:, 0]))) == EstimatorFacts(
        columns=("a", "b", "c"), width=3, is_regressor=True
    )
    several = RandomForestClassifier(n_estimators=2).fit(X, np.column_stack([Y, Y]))
    assert estimator_facts(opened(several)).classes == ()
    assert estimator_facts(open_runtime("onnx", tiny_onnx)) == EstimatorFacts()


def test_a_matrix_model_is_a_tensor_or_named_floats(opened):
    runtime = opened(LogisticRegression().fit(X, Y))
    found = infer_spec("m", runtime)
    assert [(i.name, i.type, i.dtype, i.shape) for i in found.spec.inputs] == [("x", "tensor", "float64", (3,))]
    assert (found.spec.task, found.spec.labels) == ("binary_classification", ("down", "up"))
    named = infer_spec("m", runtime, rows=[{"a": 1, "b": True, "c": 0.5}])
    assert [(i.name, i.type) for i in named.spec.inputs] == [("a", "float"), ("b", "bool"), ("c", "float")]
    whole = infer_spec("m", runtime, rows=[{"a": 1, "b": 2, "c": 0.5}])
    assert [(i.name, i.type, i.dtype) for i in whole.spec.inputs] == [(n, "float", "float64") for n in "abc"]
    assert [i.shape for i in infer_spec("m", runtime, rows=[[1.0, 2.0, 3.0]]).spec.inputs] == [(3,)]
    assert [i.shape for i in infer_spec("m", runtime, rows=[{"x": [1.0, 2.0, 3.0]}]).spec.inputs] == [(3,)]
    with pytest.raises(ArtifactError, match="the sample has 2 columns; the model takes 3"):
        infer_spec("m", runtime, rows=[{"a": 1, "b": 2}])


def test_a_table_model_takes_types_from_the_sample(opened):
    table = pd.DataFrame({"age": X[:, 0], "city": ["a", "b"] * 30})
    encoded = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["city"]), remainder="passthrough")
    runtime = opened(make_pipeline(encoded, LogisticRegression()).fit(table, Y))
    found = infer_spec("m", runtime, rows=[{"city": "a", "age": 1.5}, {"city": "b", "age": 2}])
    assert [(i.name, i.type) for i in found.spec.inputs] == [("age", "float"), ("city", "string")]
    assert found.spec.task == "binary_classification"
    with pytest.raises(ArtifactError, match="give a sample"):
        infer_spec("m", runtime)


def test_a_table_model_of_numbers_needs_no_sample(opened):
    found = infer_spec("m", opened(LinearRegression().fit(pd.DataFrame(X, columns=["a", "b", "c"]), X[:, 0])))
    assert [(i.name, i.type, i.dtype) for i in found.spec.inputs] == [(n, "float", "float64") for n in "abc"]
    assert found.spec.task == "regression"


def test_a_clusterer_is_a_tensor_model(opened):
    found = infer_spec("m", opened(KMeans(2, n_init=1).fit(X)))
    assert (found.spec.task, [(o.name, o.dtype, o.shape) for o in found.spec.outputs]) == ("tensor", [("prediction", "int32", ())])


def test_an_estimator_that_does_not_know_its_width_needs_a_sample(opened):
    estimator = DummyRegressor().fit(X, X[:, 0])
    vars(estimator).pop("n_features_in_", None)
    runtime = opened(estimator)
    with pytest.raises(ArtifactError, match="does not say how many values it takes; give a sample"):
        infer_spec("m", runtime)
    assert infer_spec("m", runtime, rows=[{"a": 1.0}]).spec.task == "regression"
