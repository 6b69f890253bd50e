import io
import json
import sys
import time
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from ekiben.cli import main
from ekiben.cli.drift import _print
from ekiben.monitoring.drift import DriftReport
from ekiben.monitoring.drift_columns import ColumnDrift
from ekiben.registry import FolderRegistry
from ekiben.state import MemoryAliases

NOW = 1_800_000_000.0


class Log:
    """A log that always holds the same rows, and remembers what was asked for."""

    def __init__(self, rows, shift=0.0):
        self.asked = []
        features = pa.array([{**row, "a": row["a"] + shift} for row in rows])
        score = np.linspace(0.1, 0.9, len(rows))
        outputs = pa.array([{"score": s, "prediction": "yes" if s >= 0.5 else "no"} for s in score])
        self.table = pa.table({"features": features, "outputs": outputs})

    def read(self, model, *, since, until, columns=None, version=None, shadows=False):
        self.asked.append((model, version, since, until))
        return self.table

    def count(self, model, *, since, until):
        return self.table.num_rows


@pytest.fixture
def registry(tmp_path, tiny_artifact, monkeypatch):
    found = FolderRegistry(tmp_path / "store", MemoryAliases())
    for version in ("1", "2"):
        found.register(tiny_artifact.path, tag=f"tiny:{version}")
    monkeypatch.setattr("ekiben.registry.open_registry", lambda settings: found)
    monkeypatch.setattr(time, "time", lambda: NOW)
    return found


@pytest.fixture
def log(registry, tiny_rows, monkeypatch):
    def holds(**kwargs):
        found = Log(tiny_rows(400), **kwargs)
        monkeypatch.setattr("ekiben.monitoring.log_reader.open_log", lambda settings: found)
        return found

    return holds


def run(*arguments, code=0):
    done = CliRunner().invoke(main, ["drift", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done


def test_the_table(log):
    asked = log(shift=9.0)
    done = run("tiny")
    lines = done.stdout.splitlines()
    assert lines[0] == "version    tiny:1"
    assert lines[1] == "rows       400, answered from 2027-01-08 08:00 to 2027-01-15 08:00"
    assert lines[2:4] == ["reference  training, 200 rows", "outcome    bad"]
    assert "columns drifted in 400 rows against training: a (PSI" in lines[4]
    assert lines[6].split("  ")[0] == "COLUMN"
    cells = {line.split()[0]: line.split() for line in lines[7:]}
    assert (cells["a"][1:3], cells["a"][-1]) == (["input", "ks"], "yes")
    assert cells["b"][-1] == "no"
    assert " 25 % (was 25 %)" in next(line for line in lines if line.startswith("c "))
    assert "\x1b" not in done.stdout
    assert asked.asked == [("tiny", "1", NOW - 7 * 86_400, NOW)]


def test_which_version_and_when(log):
    asked = log()
    run("tiny", "--version", "2", "--since", "2026-12-01", "--until", "1d")
    run("tiny", "--version", "latest", "--since", "12h", "--until", "2026-12-01T12:00+02:00")
    first, then = datetime(2026, 12, 1, tzinfo=UTC).timestamp(), datetime(2026, 12, 1, 10, tzinfo=UTC).timestamp()
    assert asked.asked == [("tiny", "2", first, NOW - 86_400), ("tiny", "2", then - 12 * 3600, then)]


def test_against_the_days_before(log):
    asked = log(shift=9.0)
    found = json.loads(run("tiny", "--reference", "trailing", "--json").stdout)
    assert (found["reference"], found["reference_rows"], found["drifted"], found["outcome"]) == ("trailing", 400, False, "ok")
    assert asked.asked[1] == ("tiny", "1", NOW - 35 * 86_400, NOW - 7 * 86_400)


def test_json_has_all(log):
    log(shift=9.0)
    found = json.loads(run("tiny", "--json").stdout)
    assert (found["model"], found["version"], found["rows"], found["drifted"]) == ("tiny", "1", 400, True)
    assert [c["name"] for c in found["columns"]] == ["a", "b", "c", "d", "score", "prediction"]
    assert found["columns"][0]["drifted"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--since", "soon"], "'soon' is neither a duration (7d, 12h) nor a time (2026-03-01T12:00Z)"),
        (["--since", "2026-12-02", "--until", "2026-12-01"], "--since must be before --until"),
        (["--since", "0s"], "--since must be before --until"),
        (["--reference", "nothing"], "'nothing' is not one of"),
    ],
)
def test_wrong_usage(log, options, message):
    log()
    assert message in run("tiny", *options, code=2).stderr


def test_an_unknown_version_is_one_line(log):
    log()
    assert run("tiny", "--version", "9", code=1).stderr.startswith("error: tiny has no version or alias '9'")


REPORT = DriftReport(
    model="m",
    version="1",
    since=0,
    until=60,
    rows=5,
    reference="training",
    reference_rows=9,
    outcome="ok",
    drifted=False,
    not_compared={"b": "the log does not hold it"},
    summary="no drift",
    columns=(
        ColumnDrift(
            name="a",
            kind="input",
            type="string",
            test="chi2",
            statistic=1,
            p_value=0,
            psi=1,
            psi_high=2,
            jensen_shannon=0.5,
            missing=0,
            missing_reference=0,
            unseen=0.125,
            drifted=True,
            ignored=True,
        ),
    ),
)


def test_colours_on_a_terminal(monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    _print(REPORT)
    assert "\x1b[33mignored" in terminal.getvalue()
    assert "12.5 %" in terminal.getvalue()
    assert capsys.readouterr().err == "note: b is not compared: the log does not hold it\n"


def test_a_report_without_columns(capsys):
    import msgspec

    _print(msgspec.structs.replace(REPORT, columns=(), not_compared={}, outcome="unknown"))
    assert "COLUMN" not in capsys.readouterr().out
