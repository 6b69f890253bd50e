from datetime import UTC, datetime

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from unit.monitoring import drift_world as world

from ekiben.model.monitor_spec import DriftSpec, MonitorSpec
from ekiben.monitoring.drift_check import check_drift

COLUMNS, SCORE = world.draw(np.random.default_rng(1), 4000)
PROFILE = world.profile(COLUMNS, SCORE)
SPEC = msgspec.structs.replace(world.SPEC, monitor=MonitorSpec(drift=DriftSpec(reference="trailing", trailing="7d")))
DAY = 86_400.0


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


class MemoryLog:
    """The log as a list of rows at times, and what was read of it."""

    def __init__(self):
        self.tables = []
        self.windows = []

    def add(self, version, first, last, n, shift=0.0):
        rng = np.random.default_rng(len(self.tables))
        rows = rng.integers(0, 4000, n)
        columns = {name: values[rows] for name, values in COLUMNS.items()}
        columns["normal0"] = columns["normal0"] + np.float32(shift)
        table = world.table_of(columns, SCORE[rows])
        times = np.linspace(first, last, n, endpoint=False)
        self.tables.append(table.append_column("time", pa.array(times)).append_column("version", pa.array([version] * n)))

    def read(self, model, *, since, until, columns=None, version=None, shadows=False):
        assert (model, shadows) == ("mixed", False)
        self.windows.append((since, until, version))
        table = pa.concat_tables(self.tables)
        found = table.filter((pc.field("time") >= since) & (pc.field("time") < until))
        found = found if version is None else found.filter(pc.field("version") == version)
        return found.sort_by("time").select(columns)

    def count(self, model, *, since, until):
        return sum(pc.sum(pc.and_(pc.greater_equal(t["time"], since), pc.less(t["time"], until))).as_py() for t in self.tables)


@pytest.fixture
def log():
    return MemoryLog()


def check(log, kind=None, since="2026-03-10", until="2026-03-12", version="v2", **kwargs):
    return check_drift(log, SPEC, PROFILE, version, since=at(since), until=at(until), kind=kind, **kwargs)


def test_only_the_rows_of_the_version_and_time_are_looked_at(log):
    log.add("v2", at("2026-03-10"), at("2026-03-12"), 600)
    log.add("v1", at("2026-03-10"), at("2026-03-12"), 500, shift=9)
    log.add("v2", at("2026-03-12"), at("2026-03-13"), 400, shift=9)
    report = check(log, "training")
    assert (report.rows, report.outcome, report.reference, report.reference_rows) == (600, "ok", "training", 4000)
    assert (report.version, report.since, report.until) == ("v2", at("2026-03-10"), at("2026-03-12"))
    assert check(log, "training", version="v1").outcome == "bad"


def test_the_spec_says_what_is_compared_with(log):
    log.add("v2", at("2026-03-03"), at("2026-03-10"), 700, shift=9)
    log.add("v2", at("2026-03-10"), at("2026-03-12"), 600, shift=9)
    report = check(log)
    assert (report.reference, report.reference_rows, report.outcome, len(report.columns)) == ("trailing", 700, "ok", 20)
    assert (at("2026-03-03"), at("2026-03-10"), "v2") in log.windows
    assert check(log, "training").outcome == "bad"


def test_a_young_version_compares_its_inputs_with_those_of_all(log):
    log.add("v1", at("2026-03-03"), at("2026-03-10"), 700)
    log.add("v2", at("2026-03-09"), at("2026-03-10"), 100)
    log.add("v2", at("2026-03-10"), at("2026-03-12"), 600)
    report = check(log)
    assert (report.reference_rows, report.outcome, len(report.columns)) == (800, "ok", 18)
    assert set(report.not_compared) == {"score", "prediction"}


def test_versions_that_did_not_have_an_input_are_no_reference_for_it(log):
    log.add("v0", at("2026-03-03"), at("2026-03-08"), 900)
    features = log.tables[0]["features"].combine_chunks()
    nulls = {f.name: pa.nulls(900, f.type) if f.name == "normal1" else features.field(f.name) for f in features.type}
    log.tables[0] = log.tables[0].set_column(0, "features", world.struct_of(nulls))
    log.add("v1", at("2026-03-03"), at("2026-03-10"), 700)
    log.add("v2", at("2026-03-10"), at("2026-03-12"), 600)
    report = check(log)
    assert (report.reference_rows, report.outcome) == (700, "ok")


def test_rows_from_before_a_column_changed_its_type_are_left_out(log):
    log.add("v2", at("2026-03-10"), at("2026-03-12"), 600)
    log.add("v2", at("2024-03-10"), at("2024-03-12"), 500)
    log.add("v2", at("2025-03-10"), at("2025-03-12"), 500)
    whole = log.read

    def read(model, *, since, until, **kwargs):
        table = whole(model, since=since, until=until, **kwargs)
        if until > at("2025-01-01"):
            return table
        features = table["features"].combine_chunks()
        texts = {f.name: features.field(f.name).cast(pa.string()) for f in features.type}
        return table.set_column(0, "features", world.struct_of(texts))

    log.read = read
    report = check(log, "season")
    assert (report.reference_rows, report.outcome, len(report.columns)) == (500, "ok", 20)


@pytest.mark.parametrize(
    ("since", "until", "months"),
    [
        ("2026-03-10", "2026-03-12", [("2023-03-01", "2023-04-01"), ("2024-03-01", "2024-04-01"), ("2025-03-01", "2025-04-01")]),
        ("2026-12-30", "2027-01-02", [("2023-12-01", "2024-02-01"), ("2024-12-01", "2025-02-01"), ("2025-12-01", "2026-02-01")]),
        ("2026-11-20", "2026-12-01", [("2023-11-01", "2023-12-01"), ("2024-11-01", "2024-12-01"), ("2025-11-01", "2025-12-01")]),
        ("2026-02-10", "2027-01-20", [("2023-02-01", "2024-02-01"), ("2024-02-01", "2025-02-01"), ("2025-02-01", "2026-02-01")]),
        ("2026-01-10", "2027-03-20", [("2023-01-01", "2024-04-01"), ("2024-01-01", "2025-04-01"), ("2025-01-01", "2026-01-10")]),
    ],
)
def test_the_season_is_the_same_months_of_former_years(log, since, until, months):
    log.add("v2", at(since), at(until), 300)
    report = check(log, "season", since, until)
    assert (report.outcome, report.reference_rows) == ("unknown", 0)
    assert log.windows[1:4] == [(at(first), at(last), "v2") for first, last in months]


def test_the_season_of_several_years_is_one_reference(log):
    log.add("v2", at("2024-03-01"), at("2024-04-01"), 400, shift=9)
    log.add("v2", at("2025-03-01"), at("2025-04-01"), 400, shift=9)
    log.add("v2", at("2026-03-10"), at("2026-03-12"), 600, shift=9)
    report = check(log, "season")
    assert (report.reference, report.reference_rows, report.outcome) == ("season", 800, "ok")


def test_of_very_many_rows_an_even_sample_is_read_piece_by_piece(log):
    log.add("v2", at("2026-03-10"), at("2026-03-12"), 3000)
    report = check(log, "training", most_rows=1000)
    assert 998 <= report.rows <= 1002
    assert [window[:2] for window in log.windows] == [
        (pytest.approx(at("2026-03-10") + i * 2 * DAY / 3), pytest.approx(at("2026-03-10") + (i + 1) * 2 * DAY / 3)) for i in range(3)
    ]
