from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.errors import InvalidRows
from ekiben.model import CardSpec, InputSpec, ModelSpec, OutputSpec
from ekiben.serving.truth_items import TruthItems
from ekiben.state.truth import Truth

NOW = 1_800_000_000.0
X = (InputSpec(name="x", type="float"),)
CARD = CardSpec(owner="tests")


def classifier(*labels):
    task = "binary_classification" if len(labels) == 2 else "multiclass_classification"
    return ModelSpec(name="m", task=task, labels=labels, inputs=X, card=CARD)


YES_NO = classifier("no", "yes")
REGRESSOR = ModelSpec(name="m", task="regression", inputs=X, card=CARD)
TENSOR = ModelSpec(name="m", task="tensor", inputs=X, outputs=(OutputSpec(name="y", dtype="float32"),), card=CARD)


def read(spec, *items, **options):
    return TruthItems("m", spec, **options).read(items, now=NOW)


def fault_of(spec, item, **options):
    with pytest.raises(InvalidRows) as e:
        read(spec, item, **options)
    (fault,) = e.value.details
    return fault.field, fault.rule


def test_an_item_with_and_without_what_may_be_left_out():
    assert read(YES_NO, {"request_id": "r", "actual": "yes"}) == [Truth(model="m", request_id="r", row=0, time=NOW, actual="yes")]
    everything = {"request_id": "r", "row": 3, "actual": "no", "outcome": 2.5, "time": NOW - 5}
    assert read(YES_NO, everything) == [Truth(model="m", request_id="r", row=3, time=NOW - 5, actual="no", outcome=2.5)]
    nulls = {"request_id": 7, "row": None, "actual": None, "outcome": True, "time": None}
    assert read(YES_NO, nulls) == [Truth(model="m", request_id="7", row=0, time=NOW, outcome=1.0)]


def test_a_users_feedback_is_an_outcome_and_a_comment():
    up, down = read(TENSOR, {"request_id": "r", "feedback": "up", "comment": "é" * 4000}, {"request_id": "r", "feedback": "down"})
    assert (up.outcome, up.comment, up.actual) == (1.0, "é" * 4000, None)
    assert (down.outcome, down.comment) == (0.0, None)
    assert read(YES_NO, {"request_id": "r", "comment": "slow"})[0].comment == "slow"
    assert read(YES_NO, {"request_id": "r", "feedback": "up", "actual": "no"}, numbers_as_text=True)[0].outcome == 1.0


@pytest.mark.parametrize(
    ("labels", "given_", "kept"),
    [
        (("0", "1"), 1, "1"),
        (("0", "1"), 1.0, "1"),
        (("0", "1"), "0", "0"),
        (("0", "1"), True, "1"),
        (("1.0", "2.0"), 2, "2.0"),
        (("False", "True"), False, "False"),
        (("false", "true", "1", "0"), True, "true"),
        (("false", "true", "1", "0"), 0, "0"),
        (("a", "b", "nan"), "nan", "nan"),
        (("no", "yes"), 1, "yes"),
        (("no", "yes"), False, "no"),
        (("a", "b", "c"), "b", "b"),
    ],
)
def test_a_label_may_be_given_as_what_it_is_called_after(labels, given_, kept):
    assert read(classifier(*labels), {"request_id": "r", "actual": given_})[0].actual == kept


@pytest.mark.parametrize("actual", ["Yes", "1", "true", 2, 0.5, [], {}, "", ["yes"], float("nan")])
def test_what_is_no_label(actual):
    assert fault_of(YES_NO, {"request_id": "r", "actual": actual}) == ("actual", "must be one of the model's labels: no, yes")


def test_true_is_not_the_label_2_and_many_labels_are_not_all_listed():
    field, rule = fault_of(classifier(*(str(n) for n in range(2, 15))), {"request_id": "r", "actual": True})
    assert field == "actual"
    assert rule.endswith("2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 3 more")


def test_a_regressors_actual_is_a_finite_number():
    assert read(REGRESSOR, {"request_id": "r", "actual": -3})[0].actual == -3.0
    for actual in ("3", True, float("nan"), float("inf"), 10**400, [1]):
        assert fault_of(REGRESSOR, {"request_id": "r", "actual": actual})[0] == "actual"


def test_a_tensor_model_has_outcomes_only():
    assert read(TENSOR, {"request_id": "r", "outcome": 0})[0].outcome == 0.0
    field, rule = fault_of(TENSOR, {"request_id": "r", "actual": 1})
    assert field == "actual"
    assert "report an outcome" in rule


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ([], None),
        ("r", None),
        (None, None),
        ({"actual": "yes"}, "request_id"),
        ({"request_id": "", "actual": "yes"}, "request_id"),
        ({"request_id": " r", "actual": "yes"}, "request_id"),
        ({"request_id": "r" * 129, "actual": "yes"}, "request_id"),
        ({"request_id": "ü", "actual": "yes"}, "request_id"),
        ({"request_id": True, "actual": "yes"}, "request_id"),
        ({"request_id": 1.5, "actual": "yes"}, "request_id"),
        ({"request_id": "r"}, "actual"),
        ({"request_id": "r", "actual": "yes", "label": "yes"}, "label"),
        ({"request_id": "r", "actual": "yes", "row": -1}, "row"),
        ({"request_id": "r", "actual": "yes", "row": 0.5}, "row"),
        ({"request_id": "r", "actual": "yes", "row": True}, "row"),
        ({"request_id": "r", "actual": "yes", "row": "0"}, "row"),
        ({"request_id": "r", "actual": "yes", "row": 2**31}, "row"),
        ({"request_id": "r", "outcome": "1"}, "outcome"),
        ({"request_id": "r", "outcome": float("inf")}, "outcome"),
        ({"request_id": "r", "feedback": "maybe"}, "feedback"),
        ({"request_id": "r", "feedback": 1}, "feedback"),
        ({"request_id": "r", "feedback": []}, "feedback"),
        ({"request_id": "r", "feedback": "up", "outcome": 1}, "feedback"),
        ({"request_id": "r", "comment": ""}, "comment"),
        ({"request_id": "r", "comment": "é" * 4001}, "comment"),
        ({"request_id": "r", "comment": 5, "actual": "yes"}, "comment"),
        ({"request_id": "r", "outcome": 1, "time": "yesterday"}, "time"),
        ({"request_id": "r", "outcome": 1, "time": True}, "time"),
        ({"request_id": "r", "outcome": 1, "time": {}}, "time"),
        ({"request_id": "r", "outcome": 1, "time": NOW * 1000}, "time"),
        ({"request_id": "r", "outcome": 1, "time": 5}, "time"),
        ({"request_id": "r", "outcome": 1, "time": "0001-01-01"}, "time"),
        ({"request_id": "r", "outcome": 1, "time": "9999-12-31T23:59:59-23:00"}, "time"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(item, field):
    assert fault_of(YES_NO, item)[0] == field


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()),
        ("2026-03-01T12:00:00+02:00", datetime(2026, 3, 1, 10, tzinfo=UTC).timestamp()),
        ("2026-03-01T12:00:00", datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC).timestamp()),
        (datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2))), datetime(2026, 3, 1, 10, tzinfo=UTC).timestamp()),
        (NOW + 3600, NOW + 3600),
        (1_700_000_000, 1_700_000_000.0),
    ],
)
def test_times(time, seconds):
    assert read(YES_NO, {"request_id": "r", "outcome": 1, "time": time})[0].time == seconds


def test_all_faults_are_told_by_the_index_of_their_item():
    with pytest.raises(InvalidRows) as e:
        read(YES_NO, {"request_id": "a", "actual": "yes"}, {"request_id": "b", "actual": "maybe"}, {"request_id": "c"})
    assert [(d.row, d.field) for d in e.value.details] == [(1, "actual"), (2, "actual")]


def test_numbers_as_text_where_all_is_text():
    item = {"request_id": "r", "row": "2", "actual": "3.5", "outcome": "1", "time": str(NOW - 1)}
    expected = Truth(model="m", request_id="r", row=2, time=NOW - 1, actual=3.5, outcome=1.0)
    assert read(REGRESSOR, item, numbers_as_text=True) == [expected]
    assert read(classifier("0", "1"), item | {"actual": "1.0"}, numbers_as_text=True)[0].actual == "1"
    assert read(REGRESSOR, item | {"time": "2026-03-01T00:00:00Z"}, numbers_as_text=True)[0].time == 1_772_323_200
    assert read(YES_NO, item | {"actual": "TRUE"}, numbers_as_text=True)[0].actual == "yes"
    assert read(YES_NO, item | {"actual": "0"}, numbers_as_text=True)[0].actual == "no"
    assert fault_of(YES_NO, item | {"actual": "maybe"}, numbers_as_text=True)[0] == "actual"
    assert fault_of(REGRESSOR, item | {"row": "two"}, numbers_as_text=True)[0] == "row"


_json = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=2))


@given(
    item=_json
    | st.dictionaries(st.sampled_from(["request_id", "row", "actual", "outcome", "feedback", "comment", "time", "x"]), _json, max_size=6),
    spec=st.sampled_from([YES_NO, REGRESSOR, TENSOR]),
    as_text=st.booleans(),
)
def test_whatever_comes_is_a_truth_or_named_faults(item, spec, as_text):
    found = faults = []
    try:
        found = read(spec, item, numbers_as_text=as_text)
    except InvalidRows as e:
        faults = e.details
    says = [any(said is not None for said in (truth.actual, truth.outcome, truth.comment)) for truth in found]
    assert says + [fault.row == 0 for fault in faults] == [True]
