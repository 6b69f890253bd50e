import json
import time

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from unit.monitoring.answered import MemoryLog, binary_outputs, logged

from ekiben.cli import main
from ekiben.registry import FolderRegistry
from ekiben.state import memory_control
from ekiben.state.truth import Truth

N = 500


@pytest.fixture
def began():
    return float(int(time.time())) - 3 * 86400


@pytest.fixture
def log(began):
    """Answers of version 1 and, as a shadow, of version gone, which is no longer in the store."""
    features = pa.StructArray.from_arrays([pa.array(np.tile([1.0, 2.0], N // 2), pa.float32())], names=["a"])
    version, arm = ["1"] * 450 + ["gone"] * 50, ["champion"] * 450 + ["shadow"] * 50
    scores = np.where(np.arange(N) % 2, 0.9, 0.1)
    return MemoryLog(logged(binary_outputs(scores), times=began, version=version, arm=arm, features=features))


@pytest.fixture
def quality(tmp_path, monkeypatch, tiny_artifact, log, began):
    """Runs the command, beside a store with tiny:1 and the truth of 300 rows, of which a tenth was answered wrongly."""
    control = memory_control()
    registry = FolderRegistry(tmp_path / "store", control.aliases)
    registry.register(tiny_artifact.path, tag="tiny:1")
    said = [("yes" if n % 2 else "no") if n % 10 else "yes" for n in range(300)]
    control.truths.report([Truth(model="tiny", request_id=f"r{n}", row=0, time=began, actual=a) for n, a in enumerate(said)])
    monkeypatch.setattr("ekiben.registry.open_registry", lambda settings: registry)
    monkeypatch.setattr("ekiben.state.opening.open_control", lambda settings: control)
    monkeypatch.setattr("ekiben.monitoring.log_reader.open_log", lambda settings: log)

    def run(*arguments):
        return CliRunner().invoke(main, ["quality", *arguments])

    return run


def test_each_version_that_answered_is_shown(quality):
    done = quality("tiny")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split() == [
        "VERSION",
        "ARM",
        "SEGMENT",
        "FROM",
        "TO",
        "ROWS",
        "TRUTH",
        "DUE",
        "METRIC",
        "VALUE",
        "HELD",
        "OUT",
        "OUTCOME",
    ]
    assert lines[1].split()[0] == "1"
    assert " 450 " in lines[1]
    assert " 66.7 %  66.7 %  f1 " in lines[1]
    assert lines[2].split()[0] == "gone"
    assert lines[2].split()[-1] == "unknown"
    assert any(line.startswith("accuracy") and "0.9 (0.8" in line for line in lines)
    assert any("truth of 300 of 450 rows (66.7 %), of 66.7 % of the 450 that are due" in line for line in lines)
    assert "no metric" not in done.stderr


def test_why_there_is_no_value_stands_beside_it(quality, log):
    log.table = log.table.slice(1, 1)
    assert "note: 1 has no roc_auc: all rows were 'yes'" in quality("tiny").stderr


def test_rows_that_may_be_missing_are_said_to_be(quality, log):
    log.problem = "the store of shipped files does not answer"
    assert "note: the store of shipped files does not answer" in quality("tiny").stderr


def test_one_version_by_day_and_segment_as_json(quality, log):
    found = json.loads(quality("tiny", "--version", "latest", "--by", "day", "--segment", "a", "--json").stdout)
    whole = [r for r in found if r["segment"] is None]
    assert sum(r["predictions"] for r in whole) == 450
    assert {r["segment"]["value"] for r in found if r["segment"]} == {"1", "2"}
    assert all(r["version"] == "1" for r in found)
    assert log.asked[-1] == ("tiny", ["request_id", "row", "time", "version", "arm", "outputs", "features.a"])


def test_segments_are_lines_and_no_tables(quality):
    lines = quality("tiny", "--version", "1", "--segment", "a").stdout.splitlines()
    assert [line.split()[2:4] for line in lines[2:4]] == [["a", "1"], ["a", "2"]]
    assert sum(line.startswith("tiny:1, ") for line in lines) == 1


def test_a_time_in_which_nothing_was_answered(quality):
    done = quality("tiny", "--until", "2020-01-01")
    assert (done.exit_code, done.stdout) == (0, "tiny answered no row in that time\n")


def test_metrics_on_held_out_rows_stand_beside(quality, monkeypatch):
    monkeypatch.setattr("ekiben.cli.quality._Look._of_version", with_holdout)
    lines = quality("tiny", "--version", "1").stdout.splitlines()
    assert lines[1].split()[-2:] == ["0.999", "bad"]
    assert next(line for line in lines if line.startswith("roc_auc")).endswith("-")


def with_holdout(look, name, version):
    return look._registry.resolve(name).artifact().spec, {"f1": 0.999}


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["ghost"], 1, "ghost"),
        (["tiny", "--version", "7"], 1, "7"),
        (["tiny", "--since", "2026-01-02", "--until", "2026-01-01"], 2, "--since must be before --until"),
        (["tiny", "--since", "yesterday"], 2, "neither a duration"),
        (["tiny", "--segment", "carrier"], 2, "has no input 'carrier'; the inputs are a, b, c, d"),
        (["tiny", "--by", "year"], 2, "--by"),
    ],
)
def test_what_is_refused(quality, arguments, code, problem):
    done = quality(*arguments)
    assert (done.exit_code, problem in done.stderr) == (code, True), done.output
