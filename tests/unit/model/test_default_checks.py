import pytest

from ekiben.errors import SpecError
from ekiben.model import OutputSpec
from ekiben.model.default_checks import default_contradictions
from ekiben.model.guard_spec import BreakerSpec
from ekiben.model.spec import spec_from_builtins

OUTPUTS = (OutputSpec(name="v", dtype="int32", shape=(2, -1)), OutputSpec(name="s", dtype="string"))


def found(task, default):
    breaker = BreakerSpec(fallback="default", default=default)
    return [(field, problem) for field, problem, _ in default_contradictions(breaker, task, ("no", "yes"), OUTPUTS)]


@pytest.mark.parametrize(
    ("task", "default"),
    [
        ("binary_classification", {"prediction": "no"}),
        ("binary_classification", {"prediction": "no", "probabilities": {"no": 0.7, "yes": 0.3}}),
        ("binary_classification", {"prediction": "no", "probabilities": {"no": 1, "yes": 0}}),
        ("regression", {"prediction": 1}),
        ("regression", {"prediction": -1.5}),
        ("tensor", {"v": [[1, 2, 3], [4, 5, 6]], "s": "x"}),
        ("tensor", {"s": "x", "v": [[], []]}),
    ],
)
def test_what_the_model_could_give(task, default):
    assert found(task, default) == []


def test_without_a_default_there_is_nothing_to_be_wrong():
    assert default_contradictions(BreakerSpec(), "regression", (), ()) == []


@pytest.mark.parametrize(
    ("task", "default", "field"),
    [
        ("binary_classification", {"prediction": "maybe"}, ".prediction"),
        ("binary_classification", {}, ".prediction"),
        ("binary_classification", {"prediction": "no", "confidence": 1}, ".confidence"),
        ("binary_classification", {"prediction": "no", "probabilities": {"no": 1}}, ".probabilities"),
        ("binary_classification", {"prediction": "no", "probabilities": {"no": 0.9, "yes": 0.3}}, ".probabilities"),
        ("binary_classification", {"prediction": "no", "probabilities": {"no": 2, "yes": -1}}, ".probabilities"),
        ("binary_classification", {"prediction": "no", "probabilities": [0.5, 0.5]}, ".probabilities"),
        ("binary_classification", {"prediction": "no", "probabilities": {"no": True, "yes": False}}, ".probabilities"),
        ("regression", {"prediction": "1"}, ".prediction"),
        ("regression", {"prediction": True}, ".prediction"),
        ("regression", {"prediction": float("nan")}, ".prediction"),
        ("regression", {}, ".prediction"),
        ("regression", {"prediction": 1, "other": 2}, ".other"),
        ("tensor", {"s": "x"}, ".v"),
        ("tensor", {"s": "x", "v": [1, 2]}, ".v"),
        ("tensor", {"s": "x", "v": [[1, 2]]}, ".v"),
        ("tensor", {"s": "x", "v": [[1, 2], [3]]}, ".v"),
        ("tensor", {"s": "x", "v": [["a"], ["b"]]}, ".v"),
        ("tensor", {"s": "x", "v": [[2**40], [1]]}, ".v"),
        ("tensor", {"s": 5, "v": [[1], [2]]}, ".s"),
        ("tensor", {"s": ["x"], "v": [[1], [2]]}, ".s"),
        ("tensor", {"s": "x", "v": [[1], [2]], "w": 1}, ".w"),
    ],
)
def test_what_it_could_not(task, default, field):
    assert [f for f, _ in found(task, default)] == [f"breaker.default{field}"]


def test_the_spec_says_it_when_it_is_read():
    raw = {
        "name": "m",
        "task": "regression",
        "inputs": [{"name": "a", "type": "float"}],
        "card": {"owner": "o"},
        "breaker": {"fallback": "default", "default": {"prediction": "high"}},
    }
    with pytest.raises(SpecError, match=r"breaker\.default\.prediction.*'high'.*finite number"):
        spec_from_builtins(raw, file="m/model.yaml")
