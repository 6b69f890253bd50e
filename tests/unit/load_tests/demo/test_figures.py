from load_tests.demo.figures import drift_of, quality_of, verdict_of, with_arms
from load_tests.demo.record import Rows

COLUMNS = [
    {"name": "temp", "psi": 3.0, "drifted": True, "ignored": True},
    {"name": "score", "psi": 0.4, "drifted": True, "ignored": False},
    {"name": "carrier", "psi": 0.0, "drifted": False, "ignored": False},
]
CHECKS = [
    {"kind": "drift", "version": "v1", "rows": 9, "outcome": "bad", "summary": "drifted", "report": {"columns": COLUMNS}},
    {"kind": "quality", "version": "v1", "arm": "champion", "outcome": "unknown", "summary": "of an arm"},
    {"kind": "quality", "version": "v1", "arm": "", "outcome": "bad", "summary": "brier is high"},
]


def report(version, arm, predictions, segment=None):
    metrics = {"brier": {"value": 0.2, "low": 0.1, "high": None}, "accuracy": {"value": 1.0, "low": 1.0, "high": 1.0}}
    return {"version": version, "arm": arm, "segment": segment, "predictions": predictions, "labelled": 1, "metrics": metrics}


def test_drift_says_what_drifted_and_what_is_ignored():
    (found,) = drift_of(CHECKS)
    assert (found.drifted, found.ignored) == (["score"], ["temp"])
    assert found.psi == {"temp": 3.0, "score": 0.4, "carrier": 0.0}


def test_the_verdict_is_that_of_all_rows_of_the_champion():
    assert verdict_of(CHECKS, "v1") == ("bad", "brier is high")
    assert verdict_of(CHECKS, "v2")[0] == "unknown"


def test_each_row_is_in_one_figure():
    found = quality_of([report("v1", "", 10), report("v1", "champion", 7), report("v1", "challenger", 3), report("v2", "", 5)])
    assert [(q.version, q.arm, q.predictions) for q in found] == [("v1", "champion", 7), ("v1", "challenger", 3), ("v2", "", 5)]
    assert found[0].metrics == {"brier": (0.2, 0.1, None)}


def test_segments_are_no_figures_of_their_own():
    assert len(quality_of([report("v1", "", 10), report("v1", "", 4, segment={"field": "origin", "value": "JFK"})])) == 1


def test_the_one_arm_of_a_version_is_found_in_the_log():
    found = quality_of([report("v1", "", 10), report("v2", "", 5)])
    rows = [Rows(month=5, version="v1", arm="champion", rows=10), Rows(month=6, version="v1", arm="shadow", rows=1)]
    with_arms(found, rows, 5)
    assert [q.arm for q in found] == ["champion", ""]
