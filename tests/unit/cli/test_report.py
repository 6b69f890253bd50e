import json
import sys
import time
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from unit.monitoring.answered import MemoryLog, binary_outputs, logged

from ekiben.cli import main
from ekiben.registry import FolderRegistry
from ekiben.state import memory_control
from ekiben.state.truth import Truth

needs_evidently = pytest.mark.skipif(find_spec("evidently") is None, reason="Evidently is not installed: pip install 'ekiben[report]'")
N = 1000
DAY_S = 86_400.0
NOW = 1_800_000_000.0


@pytest.fixture
def log():
    """Answers of tiny:1 over ten days; in the last ones its input is another."""
    days = np.linspace(0, 10, N, endpoint=False)
    a = np.random.default_rng(0).normal(np.where(days > 7, 5.0, 0.0), 1.0)
    features = pa.StructArray.from_arrays([pa.array(a, pa.float32())], names=["a"])
    # `logged` puts a row a second.
    times = NOW - 10 * DAY_S + days * DAY_S - np.arange(N)
    return MemoryLog(logged(binary_outputs(np.tile([0.2, 0.4, 0.6, 0.8], N // 4)), times=times, features=features))


@pytest.fixture
def run(tmp_path, monkeypatch, tiny_artifact, log):
    """``run(*arguments)``: the command, beside a store with tiny:1 and the truth of all rows."""
    control = memory_control()
    registry = FolderRegistry(tmp_path / "store", control.aliases)
    registry.register(tiny_artifact.path, tag="tiny:1")
    actual = ["no", "no", "yes", "no"]
    control.truths.report([Truth(model="tiny", request_id=f"r{n}", row=0, time=NOW, actual=actual[n % 4]) for n in range(N)])
    monkeypatch.setattr("ekiben.registry.open_registry", lambda settings: registry)
    monkeypatch.setattr("ekiben.state.opening.open_control", lambda settings: control)
    monkeypatch.setattr("ekiben.monitoring.log_reader.open_log", lambda settings: log)
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setenv("DO_NOT_TRACK", "1")

    def command(*arguments, code=0):
        done = CliRunner().invoke(main, ["report", *arguments])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.output
        return done

    return command


@pytest.fixture
def file(tmp_path):
    return tmp_path / "report.html"


@needs_evidently
def test_a_report_is_written(run, file):
    done = run("tiny", "--html", str(file), "--since", "3d")
    assert done.stdout.splitlines() == [
        f"file           {file}",
        "version        tiny:1",
        "rows           300, answered from 2027-01-12 08:00 to 2027-01-15 08:00",
        "compared with  the version's oldest rows in the log: 300, answered from 2027-01-05 08:00 to 2027-01-08 08:00",
        "truth          known of 300 of the 300 rows shown",
        "not shown      b: the log does not hold it",
        "not shown      c: the log does not hold it",
        "not shown      d: the log does not hold it",
    ]
    html = file.read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    for shown in ("Dataset Drift", "Dataset Summary", "Confusion Matrix", "ROC Curve"):
        assert f"&quot;{shown}&quot;" in html


@needs_evidently
def test_json_says_what_is_in_the_file(run, file, log):
    log.problem = "the store of shipped files does not answer"
    done = run("tiny", "--html", str(file), "--version", "latest", "--since", "20d", "--until", "1d", "--json")
    found = json.loads(done.stdout)
    assert (found["file"], found["model"], found["version"]) == (str(file), "tiny", "1")
    assert (found["rows"], found["shown"], found["labelled"], found["reference_rows"]) == (900, 900, 900, 0)
    assert (found["since"], found["until"], found["reference_since"]) == (NOW - 21 * DAY_S, NOW - DAY_S, None)
    assert "html" not in found
    assert done.stderr == "note: the store of shipped files does not answer\n"


@needs_evidently
def test_of_no_rows_nothing_is_written(run, file):
    assert (
        "error: tiny:1 answered no row from 2026-01-01 00:00 to 2026-02-01 00:00"
        in run("tiny", "--html", str(file), "--since", "2026-01-01", "--until", "2026-02-01", code=1).stderr
    )
    assert not file.exists()


@needs_evidently
def test_a_file_that_cannot_be_written_is_said_to_be(run, tmp_path):
    taken = "x" * 300
    assert "File name too long" in run("tiny", "--html", str(tmp_path / taken), code=1).stderr


def test_without_evidently_it_says_how_to_install_it(run, file, monkeypatch):
    monkeypatch.setitem(sys.modules, "evidently", None)
    done = run("tiny", "--html", str(file), code=1)
    assert done.stderr == "error: a report needs Evidently, which is not installed; `pip install 'ekiben[report]'`\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Missing option '--html'"),
        (["--html", "nowhere/at/all.html"], "there is no folder 'nowhere/at'"),
        (["--html", "a.html", "--since", "soon"], "'soon' is neither a duration (7d, 12h) nor a time (2026-03-01T12:00Z)"),
        (["--html", "a.html", "--since", "2026-12-02", "--until", "2026-12-01"], "--since must be before --until"),
    ],
)
def test_wrong_usage(run, options, message):
    assert message in run("tiny", *options, code=2).stderr
