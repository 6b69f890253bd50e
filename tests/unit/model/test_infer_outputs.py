import numpy as np
import pytest

from ekiben.errors import ArtifactError
from ekiben.model import OutputSpec
from ekiben.model.estimator_facts import EstimatorFacts
from ekiben.model.infer_outputs import infer_outputs
from ekiben.model.outputs import Outputs

NOBODY = EstimatorFacts()


def judge(arrays, *, facts=NOBODY, task=None, labels=(), keys=()):
    """Judges outputs given as arrays ``[n, …]``."""
    run = Outputs(len(next(iter(arrays.values()))), {name: np.asarray(a) for name, a in arrays.items()})
    given = [
        OutputSpec(name=name, dtype="string" if a.dtype.kind in "OU" else a.dtype.name, shape=a.shape[1:]) for name, a in run.arrays.items()
    ]
    return infer_outputs("m", facts, given, run, task=task, labels=labels, keys=dict(keys))


def scores(*highest, classes=3):
    made = np.full((len(highest), classes), 0.1, np.float32)
    made[np.arange(len(highest)), highest] = 1 - 0.1 * (classes - 1)
    return made


def test_a_label_beside_probabilities_is_a_classifier():
    found = judge({"label": np.array([2, 0, 1]), "probabilities": scores(2, 0, 1)})
    assert (found.task, found.labels, found.bound) == ("multiclass_classification", ("0", "1", "2"), {"probabilities": "probabilities"})
    assert found.notes == ()
    two = judge({"scores": scores(1, 0, classes=2), "class": np.array([1, 0])})
    assert (two.task, two.labels, two.bound) == ("binary_classification", ("0", "1"), {"probabilities": "scores"})


def test_the_graphs_own_labels_are_read_off_when_all_are_seen():
    assert judge({"label": np.array(["b", "a", "c", "a"], object), "p": scores(1, 0, 2, 0)}).labels == ("a", "b", "c")
    assert judge({"label": np.array([20, 10]), "p": scores(1, 0, classes=2)}).labels == ("10", "20")


def test_labels_that_cannot_be_told_are_asked_for():
    found = judge({"label": np.array(["b", "a"], object), "p": scores(1, 0)})  # the third was not seen
    assert found.labels == ("0", "1", "2")
    assert "--labels" in found.notes[0]


def test_keys_of_a_map_are_labels_where_nobody_gives_others():
    pair = {"label": np.array(["b", "a"], object), "p": scores(1, 0)}
    assert judge(pair, keys={"p": ("a", "b", "c")}).labels == ("a", "b", "c")
    assert judge(pair, keys={"p": ("a", "b", "c")}, labels=("x", "y", "z")).labels == ("x", "y", "z")
    assert judge(pair, keys={"p": ("a", "b")}).labels == ("0", "1", "2")  # keys of something else


FOLLOWS_NOT = {
    "another label beside the same score": {"label": np.array(["a", "b", "c", "c"], object), "p": scores(0, 1, 2, 0)},
    "one label beside two scores": {"label": np.array(["a", "a"], object), "p": scores(0, 1)},
    "the sign of a decision function": {"label": np.array([-1, 1]), "scores": np.array([[-0.3], [0.2]], np.float32)},
    "a decision function that agrees by chance": {"label": np.array([-1, 1]), "scores": np.array([[-0.3], [7.0]], np.float32)},
}


@pytest.mark.parametrize("name", FOLLOWS_NOT)
def test_a_label_that_does_not_follow_from_the_scores_makes_no_classifier(name):
    found = judge(FOLLOWS_NOT[name])
    assert found.task == "tensor"
    assert "does not follow from its" in found.notes[0]
    with pytest.raises(ArtifactError, match="does not follow from its"):
        judge(FOLLOWS_NOT[name], labels="abc" if "p" in FOLLOWS_NOT[name] else ("no", "yes"))


def test_a_tie_may_go_either_way():
    half = np.array([[0.5, 0.5], [0.2, 0.8], [0.7, 0.3]], np.float32)
    found = judge({"label": np.array([0, 1, 0]), "probabilities": half})
    assert (found.task, found.labels) == ("binary_classification", ("0", "1"))


def test_scores_that_are_not_one_a_class_are_none():
    nothing = {"label": np.array([1, 2]), "scores": np.empty((2, 0), np.float32)}
    assert judge(nothing).task == "tensor"


def test_given_labels_count():
    found = judge({"label": np.array([0, 1]), "p": scores(0, 1, classes=2)}, labels=("no", "yes"))
    assert (found.task, found.labels) == ("binary_classification", ("no", "yes"))
    with pytest.raises(ArtifactError, match=r"3 labels are given \(a, b, c\); the model has 2 classes"):
        judge({"label": np.array([0, 1]), "p": scores(0, 1, classes=2)}, labels=("a", "b", "c"))


def test_one_output_is_a_classifier_only_when_someone_says_so():
    alone = {"softmax": scores(0, 1, 2)}
    assert judge(alone).task == "tensor"
    assert judge(alone, labels=("a", "b", "c")).task == "multiclass_classification"
    said = judge(alone, task="multiclass_classification")
    assert (said.labels, said.bound) == (("0", "1", "2"), {"probabilities": "softmax"})
    assert "--labels" in said.notes[0]


def test_one_probability_a_row_is_that_of_the_second_class():
    for shape in ((3,), (3, 1)):
        found = judge({"p": np.array([0.1, 0.9, 0.5], np.float32).reshape(shape)}, task="binary_classification", labels=("no", "yes"))
        assert (found.task, found.labels, found.notes) == ("binary_classification", ("no", "yes"), ())


def test_probabilities_are_preferred_by_name_among_several():
    found = judge({"embedding": np.ones((2, 3), np.float32), "my_probs": scores(0, 1), "extra": np.ones((2, 3), np.float32)}, labels="abc")
    assert found.bound == {"probabilities": "my_probs"}


def test_of_two_scores_that_are_no_probabilities_the_higher_decides():
    """A threshold at one half would call the second row 0."""
    found = judge({"label": np.array([0, 1]), "margin": np.array([[3, -1], [-2, 0.3]], np.float32)})
    assert (found.task, found.labels) == ("multiclass_classification", ("0", "1"))
    assert "are no probabilities" in found.notes[0]


def test_a_number_beside_an_embedding_is_no_classifier():
    assert judge({"count": np.array([3, 4]), "embedding": np.array([[3, -1], [-2, 5]], np.float32)}).task == "tensor"


def test_a_task_that_does_not_go_with_the_outputs_is_refused():
    with pytest.raises(ArtifactError, match="has 3 classes; its task is multiclass_classification, not binary"):
        judge({"p": scores(0, 1)}, task="binary_classification")
    with pytest.raises(ArtifactError, match="a classifier gives one probability a class; the model gives 'n' \\(int64 \\[\\]\\)"):
        judge({"n": np.array([1, 2])}, task="binary_classification")
    with pytest.raises(ArtifactError, match="a regression model has no labels"):
        judge({"p": scores(0, 1)}, task="regression", labels=("a", "b", "c"))
    with pytest.raises(ArtifactError, match="a regressor gives one number a row; the model gives 'p'"):
        judge({"p": scores(0, 1)}, task="regression")


def test_two_classes_may_be_called_multiclass():
    assert judge({"p": scores(0, 1, classes=2)}, task="multiclass_classification").task == "multiclass_classification"


def test_regressors():
    one = {"variable": np.array([[1.5], [2.5]], np.float32)}
    assert (judge(one).task, judge(one).bound) == ("regression", {"prediction": "variable"})
    named_otherwise = {"y": np.array([1.5, 2.5], np.float32)}
    assert judge(named_otherwise).task == "tensor"
    assert judge(named_otherwise, task="regression").bound == {"prediction": "y"}
    assert judge({"variable": np.ones((2, 2), np.float32)}).task == "tensor"


def test_what_an_estimator_says_counts():
    pair = {"probabilities": scores(0, 1).astype(float), "prediction": np.array(["x", "y"], object)}
    assert judge(pair, facts=EstimatorFacts(classes=("x", "y", "z"))).labels == ("x", "y", "z")
    regressor = EstimatorFacts(is_regressor=True)
    assert judge({"prediction": np.array([1.0, 2.0])}, facts=regressor).task == "regression"
    assert judge({"prediction": np.ones((2, 3))}, facts=regressor).task == "tensor"
    assert judge({"prediction": np.array([1, 2])}).task == "tensor"


def test_a_tensor_model_keeps_all_outputs():
    found = judge({"a": np.ones((2, 3), np.float32), "b": np.array(["x", "y"], object), "c": np.array([1, 2])}, task="tensor")
    assert [(o.name, o.dtype, o.shape) for o in found.outputs] == [("a", "float32", (3,)), ("b", "string", ()), ("c", "int64", ())]
