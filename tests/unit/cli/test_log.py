import csv
import io
import json
import sys
import time

import pytest
from click.testing import CliRunner
from unit.monitoring.log_files import NOON, Open, head, row, segment

from ekiben.cli import main
from ekiben.model.monitor_spec import LogSpec
from ekiben.monitoring.log_folder import LogFolder
from ekiben.registry import FolderRegistry
from ekiben.state import memory_control
from ekiben.state.truth import Truth


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EKIBEN_HOME", str(tmp_path))
    monkeypatch.delenv("EKIBEN_LOG_URI", raising=False)
    return LogFolder(tmp_path / "inference_log")


@pytest.fixture
def control(monkeypatch):
    control = memory_control()
    monkeypatch.setattr("ekiben.state.opening.open_control", lambda settings: control)
    return control


@pytest.fixture
def run(folder, control, tmp_path, monkeypatch, tiny_artifact):
    registry = FolderRegistry(tmp_path / "store", control.aliases)
    registry.register(tiny_artifact.path, tag="tiny:1")
    monkeypatch.setattr("ekiben.registry.open_registry", lambda settings: registry)
    return lambda *arguments: CliRunner().invoke(main, ["log", *arguments])


def test_the_newest_rows_are_seen_at_once(run, folder):
    writer = Open(segment(folder, "w-1", [row("a", temp=1.5), row("b")]))
    done = run("query", "SELECT request_id, features.temp AS temp FROM predictions ORDER BY 1")
    assert (done.exit_code, done.stdout) == (0, "request_id  temp\na           1.5\nb\n"), done.output
    writer.close()


def test_answers_as_json_and_csv(run, folder):
    segment(folder, "w-1", [row("a", temp=1.5, who='x "y"')])
    sql = "SELECT request_id, time, features, cached, 1/3 AS third, 'nan'::FLOAT AS nothing FROM predictions"
    (found,) = json.loads(run("query", sql, "--json").stdout)
    assert found["request_id"] == "a"
    assert found["time"] == "2024-10-04T12:00:00Z"
    assert found["features"] == {"temp": 1.5, "who": 'x "y"'}
    assert found["nothing"] is None
    (read,) = csv.DictReader(io.StringIO(run("query", sql, "--csv").stdout))
    assert json.loads(read["features"]) == found["features"]
    assert (read["cached"], read["third"], read["nothing"]) == ("false", str(1 / 3), "nan")
    assert read["time"] == "2024-10-04T12:00:00+00:00"
    assert run("query", sql, "--csv", "--json").exit_code == 2


def test_nothing_to_print(run):
    done = run("query", "")
    assert (done.exit_code, done.stdout) == (0, "")


def test_what_happened(run, folder, control):
    segment(folder, "w-1", [row("a"), row("b")])
    control.truths.report([Truth(model="m", request_id="a", row=0, time=NOON + 1, actual="no")])
    done = run("query", "SELECT request_id, actual FROM joined ORDER BY 1", "--model", "m", "--csv")
    assert done.stdout == "request_id,actual\na,no\nb,\n"


def test_a_time_of_the_rows(run, folder):
    now = time.time()
    for name, when in (("w-1", now - 7200), ("w-2", now - 60)):
        date = time.strftime("%Y-%m-%d", time.gmtime(when))
        segment(folder, name, [row(name, when)], date=date)
    sql = "SELECT request_id FROM predictions"
    assert run("query", sql, "--since", "1h", "--csv").stdout == "request_id\nw-2\n"
    assert run("query", sql, "--since", "3h", "--until", "1h", "--csv").stdout == "request_id\nw-1\n"
    assert run("query", sql, "--since", "soon").exit_code == 2


@pytest.mark.parametrize("sql", ["SELEKT 1", "SELECT * FROM nowhere", "COPY (SELECT 1) TO 'x.csv'"])
def test_sql_that_cannot_be_answered(run, sql):
    done = run("query", sql)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: the query cannot be answered: ")
    assert done.stderr.count("\n") == 1


def test_export(run, folder, tmp_path):
    segment(folder, "w-1", [row("a"), row("a", arm="shadow")])
    file = tmp_path / "out.csv"
    assert run("export", "m", str(file)).stdout == f"1 rows of m are in {file}\n"
    assert run("export", "m", str(file), "--shadows").stdout.startswith("2 rows")
    assert run("export", "m", str(file), "--since", "1h").stdout.startswith("0 rows")
    done = run("export", "m", str(tmp_path / "out.txt"))
    assert (done.exit_code, done.stderr.count("ends in .parquet")) == (1, 1)


def test_status(run, folder):
    assert run("status").stdout == "the log is empty\n"
    assert json.loads(run("status", "--json").stdout) == []
    segment(folder, "w-1", [row("a", NOON), row("b", NOON + 61)])
    (found,) = json.loads(run("status", "--json").stdout)
    assert (found["model"], found["rows"], found["newest"], found["unshipped_files"]) == ("m", 2, NOON + 61, None)
    heading, line = run("status").stdout.splitlines()
    assert heading.split() == ["MODEL", "ROWS", "SIZE", "OLDEST", "NEWEST", "TAILS", "FILES", "NOT", "SHIPPED"]
    assert "2024-10-04 12:00:00  2024-10-04 12:01:01  1      0" in line


def test_compact(run, folder):
    segment(folder, "w-1", [row("years ago")])
    damaged = segment(folder, "w-2", content=b"garbage!" * 9)
    done = run("compact")
    assert done.exit_code == 0, done.output
    compacted, rest = done.stdout.splitlines()
    assert compacted == "1 segments with 1 rows are 1 files now"
    assert rest.startswith("0 files were shipped, 1 deleted (")
    assert f"note: {damaged.name} cannot be read" in done.stderr
    assert json.loads(run("compact", "--json").stdout)["compacted"]["files"] == 0


def test_a_model_keeps_what_its_champion_s_spec_says(run, folder, control, tiny_spec, monkeypatch):
    asked = []
    monkeypatch.setattr("ekiben.monitoring.log_keeper.outlived", lambda files, spec, now: asked.append(spec) or [])
    segment(folder, "w-1", [row("a")], described=head(model="tiny"))
    segment(folder, "w-1", [row("a")], described=head(model="gone"))
    assert run("compact").exit_code == 0
    assert asked == [LogSpec(), tiny_spec.log]


def test_compacting_while_another_does(run, folder):
    with folder.lock():
        done = run("compact")
    assert (done.exit_code, done.stderr) == (1, "error: another process of this host is at it; a monitor does this by itself\n")


def test_an_outage_of_the_storage(run, folder, monkeypatch, tmp_path):
    monkeypatch.setenv("EKIBEN_LOG_URI", f"file://{tmp_path}/fleet")
    recent = time.time() - 60
    segment(folder, "w-1", [row("a", recent)], date=time.strftime("%Y-%m-%d", time.gmtime(recent)))
    (tmp_path / "fleet").write_text("a file where a folder should be")
    done = run("compact")
    assert done.exit_code == 1
    assert "error: m: file://" in done.stderr
    for command in (["query", "SELECT request_id FROM predictions", "--csv"], ["export", "m", str(tmp_path / "out.csv")], ["status"]):
        done = run(*command)
        assert done.exit_code == 0, done.output
        assert "fleet" in done.stderr
        assert done.stderr.startswith("note: ")
    (tmp_path / "fleet").unlink()
    assert run("compact").stdout.splitlines()[1].startswith("1 files were shipped")
    shipped = next(iter(folder.files("m")))
    folder.remove(shipped)
    assert "0 + 1 shipped" in run("status").stdout


def test_what_other_hosts_shipped_as_it_was_becomes_files(run, folder, monkeypatch, tmp_path):
    monkeypatch.setenv("EKIBEN_LOG_URI", f"file://{tmp_path}/fleet")
    recent = time.time() - 60
    segment(folder, "w-1", [row("a", recent)], date=time.strftime("%Y-%m-%d", time.gmtime(recent)))
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "pyarrow", None)
        done = run("compact")
    assert (done.exit_code, done.stdout.splitlines()[1:]) == (
        0,
        ["1 segments were shipped as they are: a monitor elsewhere makes files of them", "0 files were shipped, 0 deleted (0 B)"],
    )
    done = run("compact")
    assert done.stdout.splitlines() == [
        "1 segments with 1 rows are 1 files now",
        "1 of the segments were other hosts', and were shipped as they are",
        "1 files were shipped, 0 deleted (0 B)",
    ]
    assert json.loads(run("compact", "--json").stdout)["taken_in"] == 0
