import os
import sys
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score
from unit.monitoring.answered import classifier, regressor

from ekiben.errors import LogError
from ekiben.monitoring.evidently_pages import EvidentlyPages
from ekiben.monitoring.report_frames import Answers, Frames

needs_evidently = pytest.mark.skipif(find_spec("evidently") is None, reason="Evidently is not installed: pip install 'ekiben[report]'")
N = 300


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)


@pytest.fixture
def pages():
    return EvidentlyPages()


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def frame(rng, mean):
    temp = np.where(rng.uniform(size=N) < 0.1, np.nan, rng.normal(mean, 1, N))
    carrier = np.where(rng.uniform(size=N) < 0.1, None, rng.choice(["UA", "AA"], N))
    return pd.DataFrame({"temp": temp, "carrier": carrier})


@needs_evidently
def test_data_are_compared_where_there_is_a_reference(pages, rng):
    current, reference = frame(rng, 9.0), frame(rng, 0.0)
    page = pages.of_data(Frames(current, reference, ["temp"], ["carrier"], {}))
    assert '"Dataset Drift"' in page
    assert '"temp"' in page
    alone = pages.of_data(Frames(current, None, ["temp"], ["carrier"], {}))
    assert '"Dataset Drift"' not in alone
    assert '"temp"' in alone
    # A page is whole: no script or style is anywhere else.
    assert "<script src" not in page
    assert "<link" not in page


def answers(rng, *labels, n=N, probabilities=()):
    columns = {"prediction": rng.choice(labels, n), "actual": rng.choice(labels, n)}
    shares = rng.dirichlet(np.ones(max(len(probabilities), 2)), n)
    return pd.DataFrame(columns | {name: shares[:, i] for i, name in enumerate(probabilities)})


@needs_evidently
@pytest.mark.parametrize("has_reference", [False, True])
@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [(("no", "yes"), ["score"]), (("no", "yes"), []), (("a", "b", "c"), ["a", "b", "c"]), (("a", "b", "c"), [])],
)
def test_classes(pages, rng, labels, probabilities, has_reference):
    current, reference = (answers(rng, *labels, probabilities=probabilities) for _ in range(2))
    page = pages.of_answers(Answers(current, reference if has_reference else None, probabilities), classifier(*labels))
    assert "Confusion Matrix" in page
    assert ("ROC AUC" in page) == bool(probabilities)


@needs_evidently
def test_a_class_that_occurs_nowhere_is_no_error(pages, rng):
    current = answers(rng, "a", "b", "c")
    assert "Confusion Matrix" in pages.of_answers(Answers(current, None, []), classifier("a", "b", "c", "d"))


@needs_evidently
def test_what_it_cannot_draw_is_said_to_be(pages):
    """All errors are the same, and it finds no bins for them."""
    actual = np.linspace(0, 1, N)
    current = pd.DataFrame({"prediction": actual + 1, "actual": actual})
    with pytest.raises(LogError, match=r"^Evidently cannot draw it: ValueError: "):
        pages.of_answers(Answers(current, None, []), regressor())


@needs_evidently
@pytest.mark.parametrize("threshold", [None, 0.2])
def test_predictions_are_those_of_the_versions_threshold(pages, rng, threshold):
    """Evidently makes them anew from the probabilities, and F1 must be that of the answers all the same."""
    limit = threshold or 0.5
    score = np.round(rng.uniform(size=N), 2)  # 0.2 and 0.5 occur: from the threshold on it is positive
    actual = np.where(rng.uniform(size=N) < 0.4 * score, "yes", "no")
    current = pd.DataFrame({"prediction": np.where(score >= limit, "yes", "no"), "actual": actual, "score": score})
    expected = f1_score(actual == "yes", score >= limit)
    found, other = (pages.of_answers(Answers(current, None, ["score"]), classifier("no", "yes"), tried) for tried in (threshold, 0.8))
    shown = f'"value": "{round(expected, 3)}"'
    assert shown in found
    assert shown not in other


@needs_evidently
def test_numbers(pages, rng):
    actual = rng.normal(size=N)
    current = pd.DataFrame({"prediction": actual + rng.normal(size=N), "actual": actual})
    assert '"label": "MAE"' in pages.of_answers(Answers(current, current, []), regressor())


@needs_evidently
def test_nothing_is_reported_to_its_makers(pages):
    from evidently.telemetry import event_logger

    assert os.environ["DO_NOT_TRACK"] == "1"
    assert not event_logger.is_enabled()


@pytest.fixture
def other_evidently(monkeypatch, tmp_path):
    """``other_evidently(line)``: for this test it is a package of one line; the real one cannot be imported twice."""

    def write(line):
        names = {"evidently", "evidently.presets", "evidently.metrics"}
        for name in names | {name for name in sys.modules if name.startswith("evidently.")}:
            monkeypatch.setitem(sys.modules, name, None)
            del sys.modules[name]
        (tmp_path / "evidently").mkdir()
        (tmp_path / "evidently" / "__init__.py").write_text(line)
        for name in ("presets", "metrics"):
            (tmp_path / "evidently" / f"{name}.py").touch()
        monkeypatch.syspath_prepend(tmp_path)

    return write


def test_pandas_is_left_as_it_was(other_evidently):
    from pandas.core.dtypes import common

    before = set(dir(common))
    other_evidently("from pandas.core.dtypes.common import infer_dtype_from_object")
    EvidentlyPages()
    assert set(dir(common)) == before


def test_pandas_that_still_has_the_name_keeps_it(other_evidently, monkeypatch):
    from pandas.core.dtypes import common

    monkeypatch.setattr(common, "infer_dtype_from_object", str, raising=False)
    other_evidently("from pandas.core.dtypes.common import infer_dtype_from_object as f; assert f is str")
    EvidentlyPages()
    assert common.infer_dtype_from_object is str


def test_a_missing_evidently_is_said_to_be(monkeypatch):
    monkeypatch.setitem(sys.modules, "evidently", None)
    with pytest.raises(LogError, match=r"^a report needs Evidently, which is not installed; `pip install 'ekiben\[report\]'`$"):
        EvidentlyPages()


@pytest.mark.parametrize("line", ["import no_such_library", "from json import no_such_name"])
def test_an_evidently_that_does_not_work_is_said_to_be(other_evidently, line):
    other_evidently(line)
    with pytest.raises(LogError, match=r"^Evidently does not work here: .*no_such_.*; `pip install 'ekiben\[report\]'` brings "):
        EvidentlyPages()
