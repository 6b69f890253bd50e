import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from unit.monitoring.answered import CARD, TENSOR, binary_outputs, class_outputs, classifier, logged, number_outputs, regressor

from ekiben.model import InputSpec, ModelSpec
from ekiben.model.monitor_spec import LogSpec
from ekiben.monitoring.report_frames import MOST_CATEGORIES, OTHER, answer_frames, data_frames

YES_NO = classifier("no", "yes")


def asked(n=40, *, outputs=None, actual=None, **columns):
    """``n`` rows of the log with what was true beside them."""
    given = {"temp": pa.array(np.arange(n), pa.float32()), "carrier": pa.array(["UA", "AA"] * (n // 2))} | columns
    features = pa.StructArray.from_arrays([v if isinstance(v, pa.Array) else pa.array(v) for v in given.values()], names=list(given))
    table = logged(binary_outputs(np.linspace(0, 1, n)) if outputs is None else outputs, features=features)
    known = pa.nulls(n, pa.string()) if actual is None else pa.array(actual)
    return table.append_column("actual", known).append_column("outcome", pa.nulls(n, pa.float64()))


def test_numbers_and_text_and_what_is_missing():
    table = asked(4, temp=pa.array([1.5, None, 3.0, 4.0], pa.float32()), carrier=pa.array(["UA", None, "AA", "UA"]))
    frames = data_frames(table, None, YES_NO)
    assert (frames.numerical, frames.categorical, frames.reference) == (["temp", "score"], ["carrier", "prediction"], None)
    assert frames.current["temp"].isna().tolist() == [False, True, False, False]
    assert frames.current["temp"].dtype == np.float64
    assert frames.current["carrier"].isna().tolist() == [False, True, False, False]
    assert frames.current["prediction"].tolist() == ["no", "no", "yes", "yes"]
    assert frames.left_out == {}


def test_bools_are_categories_and_tensors_their_means():
    inputs = (InputSpec(name="flag", type="bool"), InputSpec(name="image", type="tensor", dtype="float32", shape=(2,)))
    spec = ModelSpec(name="m", task="regression", inputs=inputs, card=CARD)
    image = pa.FixedSizeListArray.from_arrays(pa.array([1, 3, 5, 7], pa.float32()), 2)
    features = pa.StructArray.from_arrays([pa.array([True, False]), image], names=["flag", "image"])
    frames = data_frames(logged(number_outputs([1, 2]), features=features), None, spec)
    assert (frames.numerical, frames.categorical) == (["mean of image", "prediction"], ["flag"])
    assert frames.current["flag"].tolist() == ["true", "false"]
    assert frames.current["mean of image"].tolist() == [2.0, 6.0]


def test_a_tensor_of_text_is_left_out():
    spec = ModelSpec(name="m", task="regression", inputs=(InputSpec(name="words", type="tensor", dtype="string", shape=(2,)),), card=CARD)
    words = pa.FixedSizeListArray.from_arrays(pa.array(["a", "b"] * 2), 2)
    frames = data_frames(logged(number_outputs([1, 2]), features=pa.StructArray.from_arrays([words], names=["words"])), None, spec)
    assert frames.left_out == {"words": "it is a tensor of text"}


def test_an_output_that_is_called_as_an_input_is():
    inputs = (InputSpec(name="score", type="float"), InputSpec(name="prediction", type="string"))
    spec = ModelSpec(name="m", task="binary_classification", labels=("no", "yes"), inputs=inputs, card=CARD)
    features = pa.StructArray.from_arrays([pa.array([7.0, 8.0]), pa.array(["x", "y"])], names=["score", "prediction"])
    frames = data_frames(logged(binary_outputs([0.1, 0.9]), features=features), None, spec)
    assert frames.current["score"].tolist() == [7.0, 8.0]
    assert frames.current["outputs.score"].tolist() == pytest.approx([0.1, 0.9])
    assert frames.current["outputs.prediction"].tolist() == ["no", "yes"]


def test_both_frames_have_the_same_columns():
    """A column that has no value on either side cannot be compared; one the log never had is said to be so."""
    without = asked(4, temp=pa.nulls(4, pa.float32()))
    for current, reference in ((asked(4), without), (without, asked(4))):
        frames = data_frames(current, reference, YES_NO)
        assert list(frames.current) == list(frames.reference) == ["score", "carrier", "prediction"]
        assert frames.left_out == {"temp": "it has no values"}
    redacted = classifier("no", "yes", log=LogSpec(redact=("fee",)))
    hidden = ModelSpec(
        name="m",
        task="binary_classification",
        labels=("no", "yes"),
        inputs=(*redacted.inputs, InputSpec(name="fee", type="float")),
        card=CARD,
    )
    assert data_frames(asked(4), None, hidden).left_out == {"fee": "the log does not hold it"}


def test_rare_categories_are_one_and_the_same_ones_in_both_frames():
    many = [f"c{n:03}" for n in range(200)]
    current = asked(400, carrier=["often"] * 200 + many)
    reference = asked(400, carrier=["c150"] * 200 + many)
    frames = data_frames(current, reference, YES_NO)
    kept = set(frames.current["carrier"]) | set(frames.reference["carrier"])
    assert len(kept) == MOST_CATEGORIES + 1
    assert {"often", "c150", "c000", OTHER} <= kept
    assert "c149" not in kept
    assert (frames.current["carrier"] == "c150").sum() == 1
    assert data_frames(asked(40, carrier=many[:40]), None, YES_NO).current["carrier"].tolist() == many[:40]


def truth(n, *labels):
    return [labels[i % len(labels)] for i in range(n)]


def test_answers_beside_the_truth():
    actual = [None, *truth(39, "no", "yes")]
    answers = answer_frames(asked(actual=actual), asked(actual=truth(40, "no", "yes")), YES_NO)
    assert (len(answers.current), len(answers.reference), answers.probabilities) == (39, 40, ["score"])
    assert answers.current["actual"].tolist() == actual[1:]
    assert answers.current["prediction"].tolist() == ["no"] * 19 + ["yes"] * 20
    assert answers.current["score"].tolist() == pytest.approx(np.linspace(0, 1, 40)[1:], abs=1e-6)


def test_several_classes_have_a_column_a_label():
    labels = ("a", "b", "c")
    shares = np.tile([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], (20, 1))
    table = asked(outputs=class_outputs(shares, labels), actual=truth(40, "a", "b", "c"))
    answers = answer_frames(table, None, classifier(*labels))
    assert (answers.probabilities, answers.reference) == (["a", "b", "c"], None)
    assert answers.current["c"].tolist() == pytest.approx([0.2, 0.7] * 20)
    # Of a class that nobody was there is no probability to judge; "c" is predicted here.
    table = asked(outputs=class_outputs(shares, labels), actual=truth(40, "a", "b"))
    assert answer_frames(table, None, classifier(*labels)).probabilities == []


def test_a_label_called_as_a_column_of_ours_costs_the_probabilities_only():
    labels = ("actual", "b", "c")
    table = asked(outputs=class_outputs(np.tile([0.5, 0.3, 0.2], (40, 1)), labels), actual=truth(40, *labels))
    answers = answer_frames(table, None, classifier(*labels))
    assert answers.probabilities == []
    assert answers.current["actual"].tolist() == truth(40, *labels)


def test_a_regressor_has_numbers():
    table = asked(outputs=number_outputs(np.arange(40)), actual=np.arange(40) + 0.5)
    answers = answer_frames(table, None, regressor())
    pd.testing.assert_frame_equal(answers.current, pd.DataFrame({"prediction": np.arange(40.0), "actual": np.arange(40) + 0.5}))
    assert answers.probabilities == []


@pytest.mark.parametrize("actual", [None, truth(40, "yes"), [*truth(19, "no", "yes"), *[None] * 21]])
def test_a_reference_with_too_little_truth_is_none(actual):
    assert answer_frames(asked(actual=truth(40, "no", "yes")), asked(actual=actual), YES_NO).reference is None


@pytest.mark.parametrize(
    ("table", "spec", "why"),
    [
        (asked(), YES_NO, "the truth of 0 of the rows is known, and it takes 20 (monitor.min_rows)"),
        (asked(actual=truth(40, "yes")), YES_NO, "all rows whose truth is known were 'yes'"),
        (
            asked(outputs=class_outputs(np.tile([0.6, 0.3, 0.1], (40, 1)), ("a", "b", "c")), actual=truth(40, "a", "b")),
            classifier("a", "b", "c"),
            "of the 3 classes no more than two occur in rows whose truth is known",
        ),
        (asked(outputs=pa.StructArray.from_arrays([pa.array(np.ones(40, np.float32))], names=["y"])), TENSOR, "the model answers neither"),
    ],
)
def test_why_there_is_nothing_to_show(table, spec, why):
    assert answer_frames(table, None, spec).startswith(why)
