import msgspec

from ekiben.monitoring.check_figures import ColumnFigures, Figures, figures_of
from ekiben.state.checks import Check


def check(report):
    return Check(model="m", version="1", kind="quality", time=1.0, since=0.0, until=1.0, rows=7, outcome="ok", summary="", report=report)


def test_what_is_there_is_read_and_what_is_not_known_is_left_out():
    found = figures_of(
        check(
            {
                "columns": [{"name": "a", "kind": "input", "psi": 0.3, "drifted": True, "ignored": False, "statistic": 1.0}],
                "metric": "f1",
                "metrics": {"f1": {"value": 0.5, "low": None, "high": 0.6}, "roc_auc": {"value": None}},
                "coverage": {"rows": 10, "labelled": 4, "by_age": []},
                "holdout": {"f1": 0.6},
            }
        )
    )
    assert found.columns == (ColumnFigures("a", "input", psi=0.3, drifted=True),)
    assert (found.metric, found.metrics["f1"].value, found.metrics["roc_auc"].value) == ("f1", 0.5, None)
    assert found.coverage.share == 0.4


def test_a_report_of_another_form_has_no_figures():
    assert figures_of(check({"columns": "none"})) == figures_of(check({})) == Figures()


def test_the_share_is_of_the_rows_that_are_due_where_any_are():
    coverage = figures_of(check({"coverage": {"rows": 10, "labelled": 4, "due": 5, "due_labelled": 3}})).coverage
    assert coverage.share == 0.6
    assert msgspec.structs.replace(coverage, rows=0, due=0).share is None
