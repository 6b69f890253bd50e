from __future__ import annotations

import zipfile

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.io
import sklearn.datasets
import skops.io
from sklearn.cluster import DBSCAN, KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest, RandomForestClassifier, VotingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from ekiben.errors import ArtifactError, PredictionFailed
from ekiben.model.runtimes.sklearn import SklearnRuntime, _estimators, _is_trusted

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = np.where(X[:, 0] > 0.3, "up", np.where(X[:, 1] > 0, "flat", "down")).astype(object)
FRAME = pd.DataFrame({"size": X[:, 0], "kind": pd.Series(np.where(X[:, 1] > 0, "s", "t"), dtype=object), "age": X[:, 2]})


@pytest.fixture
def opened(tmp_path):
    def run(estimator, suffix=".joblib"):
        file = tmp_path / f"model{suffix}"
        (skops.io.dump if suffix == ".skops" else joblib.dump)(estimator, file)
        return SklearnRuntime(file)

    return run


@pytest.mark.parametrize("suffix", [".joblib", ".pkl", ".skops"])
def test_a_classifier_gives_probabilities_in_the_order_of_its_classes(opened, suffix):
    estimator = LogisticRegression().fit(X, Y)
    runtime = opened(estimator, suffix)

    assert [o.name for o in runtime.outputs] == ["probabilities", "prediction"]
    assert runtime.outputs[0].shape == (None, 3)
    assert runtime.inputs == ()
    assert not runtime.wants_frame
    given = runtime.run({"matrix": X}, ["probabilities", "prediction"])
    assert np.array_equal(given["probabilities"], estimator.predict_proba(X))
    assert list(given["prediction"]) == list(estimator.predict(X))


def test_decision_values_are_not_passed_off_as_probabilities(opened):
    estimator = LinearSVC().fit(X, Y)
    given = opened(estimator).run({"matrix": X}, ["probabilities"])["probabilities"]

    assert set(np.unique(given)) == {0.0, 1.0}
    assert list(estimator.classes_[given.argmax(axis=1)]) == list(estimator.predict(X))


@pytest.mark.parametrize("suffix", [".joblib", ".skops"])
def test_a_pipeline_fitted_on_a_table_gets_its_columns_by_name(opened, suffix):
    steps = ColumnTransformer([("hot", OneHotEncoder(), ["kind"])], remainder="passthrough")
    estimator = make_pipeline(steps, HistGradientBoostingClassifier(max_iter=3)).fit(FRAME, Y)
    runtime = opened(estimator, suffix)

    assert runtime.wants_frame
    # In another order, as the spec may list them.
    feeds = {name: FRAME[name].to_numpy() for name in ("age", "size", "kind")}
    assert np.array_equal(runtime.run(feeds, ["probabilities"])["probabilities"], estimator.predict_proba(FRAME))
    with pytest.raises(PredictionFailed, match="fitted with a column 'kind'"):
        runtime.run({"age": X[:, 2], "size": X[:, 0]}, ["probabilities"])


def test_regressors_of_one_and_of_several_targets(opened):
    one = opened(LinearRegression().fit(X, X[:, 0])).run({"matrix": X}, ["prediction"])["prediction"]
    two = opened(LinearRegression().fit(X, X[:, :2])).run({"matrix": X}, ["prediction"])["prediction"]

    assert np.allclose(one, X[:, 0])
    assert np.allclose(two, X[:, :2])


def test_a_classifier_of_several_targets(opened):
    targets = np.stack([Y, X[:, 1] > 0], axis=1)
    estimator = MultiOutputClassifier(LogisticRegression()).fit(X, targets.astype(str))
    runtime = opened(estimator)

    assert [o.name for o in runtime.outputs] == ["prediction", "probabilities_0", "probabilities_1"]
    given = runtime.run({"matrix": X}, ["probabilities_1", "prediction"])
    assert np.array_equal(given["probabilities_1"], estimator.predict_proba(X)[1])
    assert given["prediction"].shape == (60, 2)


def test_a_classifier_of_several_targets_without_probabilities(opened):
    runtime = opened(MultiOutputClassifier(LinearSVC()).fit(X, np.stack([Y, Y[::-1]], axis=1).astype(str)))

    assert [o.name for o in runtime.outputs] == ["prediction"]


@pytest.mark.parametrize("estimator", [KMeans(2, n_init=1), IsolationForest(n_estimators=3)])
def test_what_predicts_without_classes_gives_a_prediction(opened, estimator):
    given = opened(estimator.fit(X)).run({"matrix": X}, ["prediction"])["prediction"]

    assert np.array_equal(given, estimator.predict(X))


def test_transformers_give_dense_arrays(opened):
    scaled = opened(StandardScaler().fit(X)).run({"matrix": X}, ["transformed"])["transformed"]
    sparse = opened(OneHotEncoder().fit(FRAME[["kind"]].to_numpy())).run({"matrix": FRAME[["kind"]].to_numpy()}, ["transformed"])

    assert np.allclose(scaled.mean(axis=0), 0)
    assert sparse["transformed"].shape == (60, 2)


def test_everything_inside_is_set_to_one_job(opened):
    forest = RandomForestClassifier(3, n_jobs=2)
    voting = VotingClassifier([("forest", forest), ("line", LogisticRegression())], voting="soft")
    pipeline = make_pipeline(StandardScaler(), voting).fit(X, Y)
    # Set after the fit, which would start processes for it.
    voting.n_jobs = 2
    runtime = opened(pipeline)

    inner = list(_estimators(runtime._estimator))
    # The fitted forest is another object than the one in the constructor's parameters: both are reached, and its trees.
    assert sum(isinstance(e, RandomForestClassifier) for e in inner) >= 2
    assert {e.n_jobs for e in inner if hasattr(e, "n_jobs")} <= {None, 1}


def test_what_cannot_predict_is_refused(opened):
    with pytest.raises(ArtifactError, match="DBSCAN, which has neither predict nor transform"):
        opened(DBSCAN().fit(X))
    with pytest.raises(ArtifactError, match=r"without classes_; fit it"):
        opened(LogisticRegression())


class Duck:
    """Follows scikit-learn's conventions without its base classes."""

    classes_ = ("a", "b")

    def predict(self, table):
        return np.full(len(table), "a", object)

    def predict_proba(self, table):
        return np.tile([0.75, 0.25], (len(table), 1))


def test_an_estimator_of_another_library(opened):
    given = opened(Duck()).run({"matrix": X}, ["probabilities"])["probabilities"]

    assert given.shape == (60, 2)


def test_a_failing_estimator_is_a_failed_prediction(opened):
    runtime = opened(LogisticRegression().fit(X, Y))

    with pytest.raises(PredictionFailed, match="ValueError: X has 1 features"):
        runtime.run({"matrix": X[:, :1]}, ["probabilities"])


@pytest.mark.parametrize("suffix", [".joblib", ".skops"])
def test_a_broken_file_is_refused_with_its_name(tmp_path, suffix):
    file = tmp_path / f"broken{suffix}"
    file.write_bytes(b"nonsense")

    with pytest.raises(ArtifactError, match=f"broken{suffix}: "):
        SklearnRuntime(file)


def test_a_skops_file_of_another_schema_is_refused(tmp_path):
    file = tmp_path / "odd.skops"
    skops.io.dump(LogisticRegression().fit(X, Y), file)
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    arrays = [name for name in content if name.endswith(".npy")]
    with zipfile.ZipFile(file, "w") as archive:
        for name, old in content.items():
            archive.writestr(name, b"broken" if name in arrays else old)

    with pytest.raises(ArtifactError, match=r"odd\.skops: skops cannot load it"):
        SklearnRuntime(file)


def ours(x):
    return x


@pytest.mark.parametrize(("function", "named"), [(ours, r"test_sklearn\.ours"), (eval, r"builtins\.eval"), (np.load, "numpy.load")])
def test_skops_types_from_elsewhere_are_refused_by_name(opened, function, named):
    with pytest.raises(ArtifactError, match=f"{named}, which is not of sklearn, numpy, scipy"):
        opened(FunctionTransformer(function).fit(X), ".skops")


@pytest.mark.parametrize("function", [np.save, np.savetxt, np.fromfile, np.rec.fromfile, scipy.io.loadmat, sklearn.datasets.fetch_openml])
def test_skops_takes_no_function_that_opens_files_or_asks_servers(opened, function):
    with pytest.raises(ArtifactError, match="which is not of sklearn, numpy, scipy, or opens files or runs code"):
        opened(FunctionTransformer(function).fit(X), ".skops")


@pytest.mark.parametrize(
    ("name", "trusted"),
    [
        ("numpy.abs", True),
        ("numpy.ravel", True),
        ("numpy.float64", True),
        ("numpy.ndarray.sum", True),
        ("scipy.sparse._csr.csr_matrix", True),
        ("sklearn.linear_model._base.LinearRegression", True),
        ("builtins.dict", True),
        ("builtins.open", False),
        ("numpy.ndarray.tofile", False),
        ("numpy.memmap", False),
        ("numpy.lib._npyio_impl.savetxt", False),
        ("numpy._core.multiarray.fromfile", False),
        ("numpy._core.records.fromfile", False),
        ("numpy.core.multiarray.fromfile", False),
        ("sklearn.utils.os", False),
        ("sklearn.os.environ.get", False),
        ("sklearn.os.system", False),
        ("numpy.nothing", False),
        ("numpy.nothing.more", False),
        ("os.system", False),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_who_is_trusted_is_what_a_name_means(name, trusted):
    assert _is_trusted(name) is trusted


def test_skops_takes_a_numpy_function(opened):
    given = opened(FunctionTransformer(np.abs).fit(X), ".skops").run({"matrix": X}, ["transformed"])["transformed"]

    assert np.array_equal(given, np.abs(X))


def test_text_of_one_column(opened):
    texts = np.array(["one two", "two three"] * 5, object)
    estimator = make_pipeline(FunctionTransformer(np.ravel), TfidfVectorizer(), LogisticRegression()).fit(texts, ["x", "y"] * 5)
    given = opened(estimator).run({"matrix": texts.reshape(-1, 1)}, ["prediction"])["prediction"]

    assert list(given) == ["x", "y"] * 5
