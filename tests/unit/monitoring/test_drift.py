import sys

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from unit.monitoring import drift_world as world

from ekiben.model.monitor_spec import DriftSpec, LogSpec, MonitorSpec
from ekiben.model.profile import empty_profile
from ekiben.monitoring.drift import DriftReport, drift_of

N = 10_000
COLUMNS, SCORE = world.draw(np.random.default_rng(1), N)
PROFILE = world.profile(COLUMNS, SCORE)


def a_window(rng, n, change=None, spec=world.SPEC):
    rows = rng.integers(0, N, n)
    columns = {name: values[rows] for name, values in COLUMNS.items()}
    if change is not None:
        change(columns, rng, n)
    return world.table_of(columns, SCORE[rows], spec)


def half_a_deviation_more(columns, rng, n):
    columns["normal3"] = columns["normal3"] + np.float32(2)


def one_city_thrice_as_often(columns, rng, n):
    columns["city0"] = rng.choice(world.CITIES, n, p=np.array([0.4, 0.3, 0.15, 0.27 / 0.7, 0.05]) * 0.7 / 0.9)


def a_fifth_missing(columns, rng, n):
    columns["gap0"] = np.where(rng.random(n) < 0.2, np.float32("nan"), columns["gap0"])


def with_monitor(**kwargs):
    return msgspec.structs.replace(world.SPEC, monitor=MonitorSpec(drift=DriftSpec(**kwargs)))


def test_a_thousand_windows_of_the_reference_and_hardly_an_alarm():
    rng = np.random.default_rng(2)
    alarms = [report.summary for _ in range(1000) if (report := drift_of(a_window(rng, 1000), world.SPEC, PROFILE)).drifted]
    assert len(alarms) <= 10, alarms


def test_small_windows_do_not_alarm_either():
    rng = np.random.default_rng(3)
    assert sum(drift_of(a_window(rng, 200), world.SPEC, PROFILE).drifted for _ in range(200)) <= 2


def test_small_references_do_not_alarm_either():
    rng = np.random.default_rng(15)
    pairs = ((a_window(rng, 500), a_window(rng, 400)) for _ in range(200))
    assert sum(drift_of(window, world.SPEC, reference, kind="trailing").drifted for window, reference in pairs) <= 2


@pytest.mark.parametrize(
    ("change", "name"), [(half_a_deviation_more, "normal3"), (one_city_thrice_as_often, "city0"), (a_fifth_missing, "gap0")]
)
def test_what_really_shifts_is_found_and_nothing_else(change, name):
    rng = np.random.default_rng(4)
    found = [[c.name for c in drift_of(a_window(rng, 1000, change), world.SPEC, PROFILE).drifted_columns()] for _ in range(100)]
    assert sum(name in names for names in found) >= 99
    assert sum(names not in ([name], []) for names in found) <= 1


def test_the_work_does_not_grow_with_the_rows():
    def lines(n):
        table, count = a_window(np.random.default_rng(5), n), 0

        def trace(frame, event, arg):
            nonlocal count
            count += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            drift_of(table, world.SPEC, PROFILE)
        finally:
            sys.settrace(before)
        return count

    lines(1000)  # imports
    assert lines(50_000) < 2 * lines(1000)


def test_a_report_for_programs_and_for_people():
    report = drift_of(a_window(np.random.default_rng(6), 1000, a_fifth_missing), world.SPEC, PROFILE, version="v1", since=1.0, until=2.0)
    assert (report.model, report.version, report.since, report.until) == ("mixed", "v1", 1, 2)
    assert (report.rows, report.reference, report.reference_rows) == (1000, "training", N)
    assert (report.outcome, report.drifted, report.not_compared) == ("bad", True, {})
    assert [c.kind for c in report.columns] == ["input"] * 18 + ["score", "class"]
    assert report.drifted_columns("score", "class") == ()
    assert [c.name for c in report.drifted_columns("input")] == ["gap0"]
    assert report.summary.startswith("1 of 20 columns drifted in 1000 rows against training: gap0 (PSI 0.")
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(report)), DriftReport) == report
    assert msgspec.to_builtins(report)["columns"][0]["test"] == "ks"


def test_what_is_ignored_is_measured_and_is_no_alarm():
    table = a_window(np.random.default_rng(7), 1000, a_fifth_missing)
    report = drift_of(table, with_monitor(ignore=("gap0",)), PROFILE)
    (gap,) = [c for c in report.columns if c.name == "gap0"]
    assert (gap.drifted, gap.ignored) == (True, True)
    assert (report.outcome, report.drifted, report.drifted_columns()) == ("ok", False, ())
    assert report.summary == "no drift in 1000 rows against training; ignored: gap0"


def test_ignored_columns_do_not_soften_the_correction_of_the_others():
    table = a_window(np.random.default_rng(8), 1000, a_fifth_missing)
    counted = {c.name: c.p_adjusted for c in drift_of(table, with_monitor(ignore=("gap0",)), PROFILE).columns}
    shifted = {c.name: c.p_adjusted for c in drift_of(table, world.SPEC, PROFILE).columns}
    assert min(p for name, p in counted.items() if name != "gap0") >= min(p for name, p in shifted.items() if name != "gap0")
    assert counted["gap0"] < shifted["gap0"]


def test_an_effect_that_is_certain_and_small_is_none():
    def a_little_more(columns, rng, n):
        columns["normal0"] = columns["normal0"] + np.float32(0.1)

    table = a_window(np.random.default_rng(9), 40_000, a_little_more)
    (normal,) = [c for c in drift_of(table, world.SPEC, PROFILE).columns if c.name == "normal0"]
    assert normal.p_adjusted < 1e-6
    assert not normal.drifted
    (strict,) = [c for c in drift_of(table, with_monitor(effect=0.005), PROFILE).columns if c.name == "normal0"]
    assert strict.drifted


def test_many_that_drifted_are_summed_up():
    def all_doubled(columns, rng, n):
        columns |= {name: values * 2 for name, values in columns.items() if name.startswith("normal")}

    table = a_window(np.random.default_rng(10), 1000, all_doubled)
    summary = drift_of(table, with_monitor(effect=0.01), PROFILE).summary
    assert summary.startswith("6 of 20 columns drifted")
    assert summary.endswith(" and 1 more")


def test_against_other_rows_of_the_log():
    rng = np.random.default_rng(11)
    reference = a_window(rng, 5000)
    quiet = drift_of(a_window(rng, 1000), world.SPEC, reference, kind="trailing")
    assert (quiet.outcome, quiet.reference, quiet.reference_rows, len(quiet.columns)) == ("ok", "trailing", 5000, 20)
    shifted = drift_of(a_window(rng, 1000, half_a_deviation_more), world.SPEC, reference, kind="trailing")
    assert [c.name for c in shifted.drifted_columns()] == ["normal3"]
    inputs_only = drift_of(a_window(rng, 1000), world.SPEC, reference.drop_columns("outputs"), kind="season")
    assert inputs_only.not_compared == {"score": "the reference does not hold it", "prediction": "the reference does not hold it"}
    assert len(inputs_only.columns) == 18


def test_too_little_says_nothing():
    rng = np.random.default_rng(12)
    few = drift_of(a_window(rng, 199, a_fifth_missing), world.SPEC, PROFILE)
    assert (few.outcome, few.drifted, len(few.columns)) == ("unknown", False, 20)
    assert not any(c.drifted for c in few.columns)
    assert few.summary == "drift is unknown: 199 rows were answered, and 200 are needed (monitor.min_rows)"
    none = drift_of(a_window(rng, 5).slice(0, 0), world.SPEC, PROFILE)
    assert (none.outcome, none.columns) == ("unknown", ())
    small = drift_of(a_window(rng, 300), world.SPEC, a_window(rng, 50), kind="season")
    assert small.summary == "drift is unknown: the reference (season) has 50 rows, and 200 are needed (monitor.min_rows)"
    assert drift_of(a_window(rng, 300), world.SPEC, a_window(rng, 5).slice(0, 0), kind="season").outcome == "unknown"


def test_without_a_profile_it_is_unknown_and_says_why():
    report = drift_of(a_window(np.random.default_rng(13), 300), world.SPEC, empty_profile())
    assert (report.outcome, report.drifted, report.reference_rows) == ("unknown", False, 0)
    assert "came without a sample of its training inputs" in report.summary


def test_what_cannot_be_compared_says_why():
    table = a_window(np.random.default_rng(14), 300)
    features = {f.name: table["features"].combine_chunks().field(f.name) for f in table["features"].type}
    features["normal1"] = pa.array(["x"] * 300)
    del features["normal2"]
    table = pa.table({"features": world.struct_of(features), "outputs": table["outputs"]})
    spec = msgspec.structs.replace(world.SPEC, log=LogSpec(hash=("city0",)))
    report = drift_of(table, spec, PROFILE)
    assert report.not_compared == {
        "normal1": "it is string here, and of another kind in the reference",
        "normal2": "the log does not hold it",
        "city0": "the log holds keyed hashes of it, the profile its values",
    }
    assert len(report.columns) == 17
    assert "city0" in {c.name for c in drift_of(table, spec, table, kind="trailing").columns}
    nothing = drift_of(pa.table({"x": [1] * 300}), world.SPEC, PROFILE)
    assert (nothing.outcome, nothing.columns) == ("unknown", ())
    assert "none of the columns" in nothing.summary
