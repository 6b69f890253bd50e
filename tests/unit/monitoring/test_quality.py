import msgspec
import numpy as np
import pyarrow as pa
import pytest
from unit.monitoring.answered import TENSOR, MemoryLog, binary_outputs, class_outputs, classifier, logged, number_outputs, regressor

from ekiben.model.rollout_spec import QualitySpec
from ekiben.monitoring.ground_truth import joined
from ekiben.monitoring.quality import QualityReport, quality_of
from ekiben.monitoring.segments import Segment
from ekiben.state.truth import MemoryTruths, Truth

YES_NO = classifier("no", "yes")


def join(table, said, *, now=1e6, **options):
    truths = MemoryTruths()
    truths.report([Truth(model="m", request_id=f"r{n}", row=0, time=1.0, **what) for n, what in said.items()])
    return joined(MemoryLog(table), truths, "m", since=0, until=1e9, now=now, **options)


def binary(n, right, **options):
    """Rows that are predicted yes with 0.9 or no with 0.1 in turns; every ``right``-th answer is wrong."""
    scores = np.where(np.arange(n) % 2, 0.9, 0.1)
    said = {i: {"actual": "yes" if (i % 2 == 1) == (i % right != 0) else "no"} for i in range(n)}
    return join(logged(binary_outputs(scores), **options), said)


def report(found, spec=YES_NO, **options):
    return quality_of(found, spec, **{"since": 0, "until": 1e9, **options})


def test_a_report_says_all_and_is_json():
    found = report(binary(100, 10), version="1", holdout={"f1": 0.91, "rows": 1000.0, "roc_auc": 0.9})
    assert (found.model, found.version, found.predictions, found.labelled) == ("m", "1", 100, 100)
    assert found.metrics["accuracy"].value == 0.9
    assert (found.metric, found.threshold, found.outcome, found.holdout["f1"]) == ("f1", None, "ok", 0.91)
    assert found.summary.startswith("f1 is 0.9091 (0.85")
    assert found.summary.endswith("no more than chance; truth of 100 of 100 rows (100 %), of 100 % of the 100 that are due")
    assert sum(b.rows for b in found.calibration) == 100
    assert msgspec.json.decode(msgspec.json.encode(found), type=QualityReport) == found


def test_bad_is_what_lies_beyond_the_threshold_or_far_below_the_held_out_rows():
    strict = classifier("no", "yes", quality=QualitySpec(metric="accuracy", threshold=0.99))
    assert report(binary(100, 10), strict).outcome == "bad"
    assert (report(binary(100, 10), strict).metric, report(binary(100, 10), strict).threshold) == ("accuracy", 0.99)
    assert report(binary(100, 10), holdout={"f1": 0.999, "rows": 1e6}).outcome == "bad"
    assert report(binary(100, 10), classifier("no", "yes", quality=QualitySpec(metric="accuracy", threshold=0.91))).outcome == "ok"
    assert report(binary(100, 10)).outcome == "unknown"


def test_too_little_truth_is_unknown_and_no_error():
    found = report(join(logged(binary_outputs([0.9] * 50)), {0: {"actual": "yes"}}), holdout={"f1": 0.9})
    assert found.outcome == "unknown"
    assert (
        found.summary
        == "f1 is unknown: the truth of 1 rows is known, and it takes 20; truth of 1 of 50 rows (2 %), of 2 % of the 50 that are due"
    )
    none = report(join(logged(binary_outputs([])), {}))
    assert (none.outcome, none.metrics, none.predictions) == ("unknown", {}, 0)
    assert none.summary.endswith("truth of 0 of 0 rows")
    young = report(join(logged(binary_outputs([0.9] * 5)), {}, now=10.0))
    assert young.summary.endswith("truth of 0 of 5 rows (0 %), none of them due yet")


def test_one_class_only_is_unknown():
    found = report(join(logged(binary_outputs([0.1] * 30)), {n: {"actual": "no"} for n in range(30)}))
    assert found.outcome == "unknown"
    assert "no row was 'yes', nor predicted so" in found.summary
    assert found.metrics["accuracy"].value == 1


def test_only_the_rows_that_are_meant():
    features = pa.StructArray.from_arrays([pa.array(["UA", "DL"] * 20)], names=["carrier"])
    versions, arms = ["1", "1", "2", "2"] * 10, ["champion"] * 30 + ["shadow"] * 10
    table = logged(binary_outputs([0.1] * 40), version=versions, arm=arms, features=features)
    found = join(table, {n: {"actual": "no"} for n in range(40)}, shadows=True)
    assert report(found, version="1").predictions == 20
    assert report(found, version="2", arm="shadow").predictions == 6
    assert report(found, arm="shadow").predictions == 10
    assert report(found, since=10, until=20.5).predictions == 11
    united = report(found, version="1", segment=Segment("carrier", "UA"))
    assert (united.predictions, united.segment) == (10, Segment("carrier", "UA"))
    assert report(found, version="3").predictions == 0


def test_rows_whose_actual_is_no_label_are_not_labelled():
    found = report(join(logged(binary_outputs([0.9] * 30)), {n: {"actual": "yes" if n < 25 else "maybe"} for n in range(30)}))
    assert (found.labelled, found.coverage.labelled, found.predictions) == (25, 25, 30)


def test_the_same_row_reported_again_counts_once():
    truths = MemoryTruths()
    for actual in ("no", "yes", "yes"):
        truths.report([Truth(model="m", request_id=f"r{n}", row=0, time=1.0, actual=actual) for n in range(30)])
    table = logged(binary_outputs([0.9] * 30))
    found = report(joined(MemoryLog(table), truths, "m", since=0, until=1e9, now=1e6))
    assert (found.labelled, found.metrics["accuracy"].value) == (30, 1.0)


def test_feedback_is_the_share_of_thumbs_up():
    said = {n: {"outcome": 1.0 if n < 6 else 0.0} for n in range(8)}
    found = report(join(logged(binary_outputs([0.9] * 30)), said))
    assert (found.metrics["outcome"].value, found.labelled) == (0.75, 0)
    assert 0.4 < found.metrics["outcome"].low < 0.75 < found.metrics["outcome"].high < 1


def test_a_tensor_model_is_known_by_its_outcomes():
    found = report(
        join(logged(number_outputs([1.0] * 30)), {n: {"outcome": float(n)} for n in range(30)}), TENSOR, holdout={"outcome": 14.0}
    )
    assert (found.metric, found.labelled, found.metrics["outcome"].value, found.outcome) == ("outcome", 30, 14.5, "ok")


def test_a_regressor():
    said = {n: {"actual": float(n)} for n in range(30)}
    spec = regressor(quality=QualitySpec(metric="mae", threshold=0.1))
    found = report(join(logged(number_outputs(np.arange(30) + 0.5)), said), spec)
    assert (found.metrics["mae"].value, found.metrics["bias"].value, found.outcome) == (0.5, 0.5, "bad")
    assert found.calibration == ()


def test_held_out_metrics_of_several_classes_are_found_under_their_names():
    labels = ("a", "b", "c")
    probabilities = np.eye(3)[np.arange(60) % 3] * 0.7 + 0.1
    said = {n: {"actual": labels[n % 3] if n % 5 else "a"} for n in range(60)}
    spec = classifier(*labels, quality=QualitySpec(metric="f1"))
    found = report(join(logged(class_outputs(probabilities, labels)), said), spec, holdout={"macro_f1": 0.9999, "rows": 1e5})
    assert (found.holdout["f1"], found.metric, found.outcome) == (0.9999, "f1", "bad")
    assert sum(b.rows for b in found.calibration) == 60


@pytest.mark.parametrize("holdout", [{"f1": 0.9}, {"f1": 0.9, "rows": 0.0}])
def test_held_out_rows_whose_number_is_not_known(holdout):
    assert report(binary(100, 10), holdout=holdout).outcome == "ok"
