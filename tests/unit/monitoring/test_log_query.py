import re
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from unit.monitoring.log_files import DATE, NOON, TEMP, WHO, Open, head, reader, row, segment

from ekiben.errors import LogError
from ekiben.monitoring.compaction import compact
from ekiben.monitoring.kept import Compacted
from ekiben.monitoring.log_folder import LogFolder
from ekiben.monitoring.log_query import LogQuery, truth_table
from ekiben.monitoring.log_schema import LoggedField
from ekiben.monitoring.log_storage import LogStorage
from ekiben.state.truth import MemoryTruths, Truth


def truth(request_id, *, model="m", n=0, **said):
    return Truth(model=model, request_id=request_id, row=n, **{"time": NOON + 100, **said})


@pytest.fixture
def folder(tmp_path):
    return LogFolder(tmp_path / "inference_log")


@pytest.fixture
def truths():
    return MemoryTruths()


@pytest.fixture
def ask(folder, truths):
    def ask(sql, *, storage=None, **more):
        return LogQuery(reader(folder, storage), truths).run(sql, **more).to_pylist()

    return ask


def to_parquet(folder, model="m"):
    compact(folder, model, now=NOON, done=Compacted())


def test_an_empty_log_has_its_views(ask):
    for view in ("predictions", "shadows", "ground_truth", "joined"):
        assert ask(f"SELECT count(*) AS n FROM {view}") == [{"n": 0}]
    assert ask("SELECT request_id, time, arm FROM joined WHERE outcome > 1") == []


def test_rows_of_files_and_of_what_is_still_written(folder, ask):
    segment(folder, "w-1", [row("a", temp=1.5, who="ann"), row("a", NOON + 1, arm="shadow")])
    to_parquet(folder)
    writer = Open(segment(folder, "w-2", [row("b", NOON + 2, temp=2.5)]))
    assert ask("SELECT model, request_id, features.temp AS t, outputs.prediction AS p FROM predictions ORDER BY time") == [
        {"model": "m", "request_id": "a", "t": 1.5, "p": "yes"},
        {"model": "m", "request_id": "b", "t": 2.5, "p": "yes"},
    ]
    assert ask("SELECT request_id, arm, latency_s FROM shadows") == [{"request_id": "a", "arm": "shadow", "latency_s": None}]
    writer.close()


def test_a_query_may_look_at_a_view_twice(folder, ask):
    segment(folder, "w-1", [row("a"), row("b")])
    to_parquet(folder)
    assert ask("SELECT count(*) AS n FROM predictions x, predictions y") == [{"n": 4}]
    assert ask("SELECT 1; SELECT 2 AS x") == [{"x": 2}]


def test_a_time(folder, truths, ask):
    segment(folder, "w-1", [row(str(n), NOON + n) for n in range(4)])
    to_parquet(folder)
    truths.report([truth("1", actual="no", time=NOON + 2), truth("2", actual="no", time=NOON + 50)])
    span = {"since": NOON + 1, "until": NOON + 3}
    assert ask("SELECT list(request_id ORDER BY time) AS x FROM predictions", **span) == [{"x": ["1", "2"]}]
    assert ask("SELECT request_id FROM ground_truth", **span) == [{"request_id": "1"}]
    assert ask("SELECT request_id, actual FROM joined ORDER BY time", **span) == [
        {"request_id": "1", "actual": "no"},
        {"request_id": "2", "actual": "no"},
    ]


def test_times_are_utc(folder, ask):
    segment(folder, "w-1", [row("a", NOON)])
    assert ask("SELECT time::VARCHAR AS t, hour(time) AS h FROM predictions") == [{"t": f"{DATE} 12:00:00+00", "h": 12}]


def test_what_happened_is_joined_by_request_and_row(folder, truths, ask):
    segment(folder, "w-1", [row("a", n=0), row("a", n=1), row("b"), row("b", arm="shadow")])
    truths.report(
        [truth("a", n=1, actual="no", outcome=2.5, comment="late"), truth("b", model="other", actual="x"), truth("z", actual="no")]
    )
    assert ask("SELECT request_id, row, actual, outcome, epoch(truth_time) - epoch(time) AS age FROM joined ORDER BY ALL") == [
        {"request_id": "a", "row": 0, "actual": None, "outcome": None, "age": None},
        {"request_id": "a", "row": 1, "actual": "no", "outcome": 2.5, "age": 100.0},
        {"request_id": "b", "row": 0, "actual": None, "outcome": None, "age": None},
    ]
    assert ask("SELECT request_id, comment FROM ground_truth ORDER BY 1") == [
        {"request_id": "a", "comment": "late"},
        {"request_id": "z", "comment": None},
    ]


def test_ground_truth_is_read_only_where_it_is_asked_for(folder, ask, monkeypatch):
    monkeypatch.setattr(MemoryTruths, "find", None)
    assert ask("SELECT count(*) AS n FROM predictions") == [{"n": 0}]


def test_models_side_by_side_and_alone(folder, truths, ask):
    segment(folder, "w-1", [row("a", temp=1.0)])
    segment(folder, "w-1", [row("b", who="x")], described=head(model="n", inputs=(WHO, LoggedField("n", "int", "int32"))))
    to_parquet(folder)
    to_parquet(folder, "n")
    assert ask("SELECT model, features FROM predictions ORDER BY model") == [
        {"model": "m", "features": {"temp": 1.0, "who": None, "n": None}},
        {"model": "n", "features": {"temp": None, "who": "x", "n": 0}},
    ]
    assert ask("SELECT features FROM predictions", model="n") == [{"features": {"who": "x", "n": 0}}]
    assert ask("SELECT count(*) AS n FROM joined", model="gone") == [{"n": 0}]


def test_versions_whose_types_differ(folder, ask):
    image = LoggedField("image", "tensor", "float16", (2,))
    wide = LoggedField("image", "tensor", "float32", (3,))
    segment(
        folder,
        "w-1",
        [row("a", temp="cold", image=[1.0, 0.5])],
        described=head("1", inputs=(LoggedField("temp", "string", "object"), image)),
    )
    segment(folder, "w-2", [row("b", NOON + 1, temp=0.5, image=[1.0, 2.0, 3.0])], described=head("2", inputs=(TEMP, wide)))
    expected = [{"features": {"temp": "cold", "image": [1.0, 0.5]}}, {"features": {"temp": "0.5", "image": [1.0, 2.0, 3.0]}}]
    assert ask("SELECT features FROM predictions ORDER BY time") == expected
    to_parquet(folder)
    assert ask("SELECT features FROM predictions ORDER BY time") == expected


def test_a_version_that_keeps_no_inputs(folder, ask):
    segment(folder, "w-1", [row("a")], described=head("1", inputs=()))
    segment(folder, "w-2", [row("b", NOON + 1, temp=0.5)], described=head("2"))
    expected = [{"features": None}, {"features": {"temp": 0.5, "who": None}}]
    assert ask("SELECT features FROM predictions ORDER BY time") == expected
    to_parquet(folder)
    assert ask("SELECT features FROM predictions ORDER BY time") == expected


def test_names_that_need_quoting(folder, ask):
    odd = LoggedField('it\'s "odd" Ünd.so', "float", "float32")
    segment(folder, "w-1", [row("a", **{odd.name: 2.0})], described=head(inputs=(odd,)))
    segment(folder, "w-2", [row("b", NOON + 1)], described=head("2"))
    to_parquet(folder)
    assert ask('SELECT features."it\'s ""odd"" Ünd.so" AS x FROM predictions ORDER BY time') == [{"x": 2.0}, {"x": None}]


def test_shipped_files(folder, ask, tmp_path):
    storage = LogStorage(f"file://{tmp_path}/fleet")
    segment(folder, "w-1", [row("there", temp=1.5)])
    to_parquet(folder)
    (file,) = folder.files("m")
    storage.upload(folder.file(file), file)
    folder.remove(file)
    segment(folder, "w-2", [row("here")])
    to_parquet(folder)
    assert ask("SELECT request_id, features.temp AS t FROM predictions ORDER BY 1", storage=storage) == [
        {"request_id": "here", "t": None},
        {"request_id": "there", "t": 1.5},
    ]


def test_a_file_that_goes_meanwhile(folder, ask, monkeypatch):
    segment(folder, "w-1", [row("a")])
    to_parquet(folder)
    listed = folder.files("m")
    folder.remove(listed[0])
    monkeypatch.setattr(LogFolder, "files", lambda self, model, **more: listed)
    monkeypatch.setattr(LogFolder, "models", lambda self: ["m"])
    assert ask("SELECT count(*) AS n FROM predictions") == [{"n": 0}]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEKT 1", r"cannot be answered: Parser Error: syntax error at or near \"SELEKT\"$"),
        ("SELECT * FROM nowhere", "Table with name nowhere does not exist"),
        ("SELECT features.gone FROM predictions", 'Could not find key "gone" in struct'),
        ("SELECT 1 / 'x'", "Could not convert"),
    ],
)
def test_wrong_sql_is_one_clear_line(folder, ask, sql, message):
    segment(folder, "w-1", [row("a", temp=1.0)])
    with pytest.raises(LogError, match=message) as raised:
        ask(sql)
    assert "\n" not in str(raised.value)


FORBIDDEN = [
    "COPY predictions TO '{}/x.csv'",
    "COPY (SELECT 1) TO '{}/x.parquet' (FORMAT parquet)",
    "EXPORT DATABASE '{}/x'",
    "ATTACH '{}/x.db'",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '{}/seen.parquet'",
    "SELECT * FROM glob('{}/*')",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET temp_directory = '{}'",
    "RESET lock_configuration",
    "SELECT * FROM sources",
    "PRAGMA enable_profiling",
]


@pytest.mark.parametrize("sql", FORBIDDEN)
def test_a_query_can_reach_nothing_outside(folder, ask, tmp_path, sql):
    folder_of_files = tmp_path / "files"
    folder_of_files.mkdir()
    pa.parquet.write_table(pa.table({"x": [1]}), folder_of_files / "seen.parquet")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(LogError):
        ask(sql.format(folder_of_files))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_query_that_makes_something_makes_it_for_itself(folder, ask):
    segment(folder, "w-1", [row("a")])
    assert ask("CREATE VIEW v AS SELECT * FROM predictions") == []
    assert ask("CREATE TABLE t AS SELECT 1 AS x; SELECT x FROM t") == [{"x": 1}]
    with pytest.raises(LogError):
        ask("DELETE FROM predictions")
    assert ask("SELECT count(*) AS n FROM predictions") == [{"n": 1}]


@pytest.mark.parametrize(
    ("actual", "kind", "expected"),
    [
        ([], pa.string(), []),
        ([None], pa.string(), [None]),
        (["late", None], pa.string(), ["late", None]),
        ([1.5, 2, None], pa.float64(), [1.5, 2.0, None]),
        ([True, None], pa.bool_(), [True, None]),
        (["late", 1.5, True], pa.string(), ["late", "1.5", "true"]),
    ],
)
def test_the_type_of_what_happened(actual, kind, expected):
    table = truth_table([truth("a", actual=value) for value in actual])
    assert table["actual"].type == kind
    assert table["actual"].to_pylist() == expected


def test_the_queries_of_the_documentation(folder, truths, ask):
    page = (Path(__file__).parents[3] / "docs" / "90-inference-log.md").read_text()
    by_version, by_carrier = re.findall(r'ekiben log query "([^"]+)"', page)
    carrier = LoggedField("carrier", "string", "object")
    rows = [row("a", carrier="UA"), row("b", carrier="UA"), row("c", carrier="AA"), row("d", carrier="DL")]
    segment(folder, "w-1", rows, described=head(inputs=(carrier,)))
    to_parquet(folder)
    truths.report([truth("a", actual="yes"), truth("b", actual="no"), truth("c", actual="yes")])
    assert ask(by_version) == [{"version": "1", "n": 4, "score": 0.75}]
    assert ask(by_carrier) == [{"carrier": "UA", "accuracy": 0.5}, {"carrier": "AA", "accuracy": 1.0}]


def test_the_files_are_plain_parquet_for_others(folder):
    segment(folder, "w-1", [row("a", temp=1.5)], described=head("1", inputs=(TEMP,)))
    segment(folder, "w-2", [row("b", who="x")], described=head("2", inputs=(WHO,)))
    to_parquet(folder)
    (code,) = re.findall(r'duckdb\.sql\(\s*"(SELECT [^"]+)"\s*\)', (Path(__file__).parents[3] / "docs" / "90-inference-log.md").read_text())
    found = duckdb.sql(code.replace(".ekiben/inference_log", str(folder.path))).fetchall()
    assert [(model, str(date), n) for model, date, n in found] == [("m", DATE, 2)]
