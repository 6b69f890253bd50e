import numpy as np
import pyarrow as pa
import pytest
from unit.monitoring.answered import TENSOR, binary_outputs, class_outputs, classifier, logged, number_outputs, regressor

from ekiben.monitoring.answers import answers_of, column_of


def with_actual(table, actual, kind=None):
    return table.append_column("actual", pa.array(actual, kind))


def test_a_binary_classifiers_answers():
    table = with_actual(logged(binary_outputs([0.9, 0.2, 0.7, 0.1])), ["yes", "yes", None, "other"])
    answers, known = answers_of(table, classifier("no", "yes"))
    assert known.tolist() == [True, True, False, False]
    assert (answers.predicted.tolist(), answers.actual.tolist(), answers.is_binary) == ([1, 0], [1, 1], True)
    assert answers.probabilities == pytest.approx(np.array([[0.1, 0.9], [0.8, 0.2]]), abs=1e-6)
    assert answers.take(np.array([1])).predicted.tolist() == [0]


@pytest.mark.parametrize(("actual", "kind"), [([1.0, 0.0], pa.float64()), (["yes", "no"], pa.string()), ([True, False], pa.bool_())])
def test_an_actual_may_be_what_a_label_is_called_after(actual, kind):
    answers, known = answers_of(with_actual(logged(binary_outputs([0.9, 0.2])), actual, kind), classifier("no", "yes"))
    assert (answers.actual.tolist(), known.all()) == ([1, 0], True)


def test_several_classes():
    labels = ("a", "b.c", "d")
    table = with_actual(logged(class_outputs([[0.2, 0.3, 0.5], [0.1, 0.8, 0.1]], labels)), ["b.c", "b.c"])
    answers, _ = answers_of(table, classifier(*labels))
    assert (answers.predicted.tolist(), answers.actual.tolist(), answers.is_binary) == ([2, 1], [1, 1], False)
    assert answers.probabilities.sum(axis=1).tolist() == pytest.approx([1.0, 1.0], abs=1e-12)


def test_without_probabilities_there_are_none():
    only = pa.StructArray.from_arrays([pa.array(["a", "b"])], names=["prediction"])
    table = with_actual(logged(only), ["a", "b"])
    assert answers_of(table, classifier("a", "b"))[0].probabilities is None
    assert answers_of(table, classifier("a", "b", "c"))[0].probabilities is None
    nulls = pa.StructArray.from_arrays([pa.array(["yes", "no"]), pa.array([None, 0.1], pa.float32())], names=["prediction", "score"])
    assert answers_of(with_actual(logged(nulls), ["yes", "no"]), classifier("no", "yes"))[0].probabilities is None
    older = class_outputs([[0.2, 0.8]], ("a", "b"))
    assert answers_of(with_actual(logged(older), ["a"]), classifier("a", "b", "c"))[0].probabilities is None


@pytest.mark.parametrize(("actual", "kind"), [([1.5, None, 2.0], pa.float64()), (["1.5", "x", "2"], pa.string())])
def test_a_regressors_answers(actual, kind):
    answers, known = answers_of(with_actual(logged(number_outputs([1.0, 2.0, np.inf])), actual, kind), regressor())
    assert (answers.predicted.tolist(), answers.actual.tolist(), known.tolist()) == ([1.0], [1.5], [True, False, False])


def test_what_answers_neither_a_class_nor_a_number():
    lists = pa.StructArray.from_arrays([pa.array([[1.0, 2.0]])], names=["prediction"])
    for outputs, spec in ((lists, regressor()), (number_outputs([1.0]), TENSOR)):
        answers, known = answers_of(with_actual(logged(outputs), [1.0]), spec)
        assert (answers, known.tolist()) == (None, [False])
    bare = with_actual(logged(number_outputs([1.0])), [1.0]).drop_columns(["outputs"])
    assert answers_of(bare, regressor())[0] is None


@pytest.mark.parametrize("spec", [classifier("no", "yes"), regressor()])
def test_of_no_rows_there_are_no_answers(spec):
    outputs = binary_outputs([]) if spec.is_classifier else number_outputs([])
    answers, known = answers_of(with_actual(logged(outputs), [], pa.string()), spec)
    assert (len(answers.actual), len(known)) == (0, 0)


def test_an_input_that_no_segment_of_the_log_had_is_null_in_every_row():
    table = logged(binary_outputs([0.5])).append_column("features", pa.array([{"temp": None}]))
    assert column_of(table, "features", "temp").to_pylist() == [None]
    assert column_of(table, "features", "other") is None
