import json

import pytest
from click.testing import CliRunner

from ekiben.cli import main
from ekiben.registry import FolderRegistry
from ekiben.state import MemoryAliases


@pytest.fixture
def predict(tmp_path, monkeypatch, tiny_artifact, grid_artifact):
    registry = FolderRegistry(tmp_path / "store", MemoryAliases())
    for artifact in (tiny_artifact, grid_artifact):
        registry.register(artifact.path, tag=f"{artifact.spec.name}:1")
    monkeypatch.setattr("ekiben.registry.open_registry", lambda settings: registry)

    def run(name, text, *options, code=0):
        done = CliRunner().invoke(main, ["predict", name, "-", *options], input=text if isinstance(text, bytes) else json.dumps(text))
        assert done.exit_code == code, done.output
        return done

    return run


def test_rows_become_a_table(predict):
    shown = predict("tiny", [[3, 3, 0, -3], [-3, -3, None, 3]]).stdout.splitlines()
    assert shown[0] == "tiny:1"
    assert shown[1].split() == ["ROW", "PREDICTION", "CONFIDENCE", "PROBABILITIES"]
    assert [line.split()[:2] for line in shown[2:]] == [["0", "yes"], ["1", "no"]]
    assert "[1, 2, 3]" not in shown[2]


def test_tensors_are_shown(predict):
    assert "[[2, 4, 6], [8, 10, 12]]" in predict("grid", [[[1, 2, 3], [4, 5, 6]]]).stdout


def test_json(predict):
    found = json.loads(predict("tiny:1", {"instances": [{"a": 3, "b": 3, "d": -3}]}, "--json").stdout)
    assert (found["model_name"], found["model_version"]) == ("tiny", "1")
    assert found["predictions"][0]["prediction"] == "yes"


def test_a_file(predict, tmp_path):
    (tmp_path / "rows.json").write_text("[[3, 3, 0, -3]]")
    done = CliRunner().invoke(main, ["predict", "tiny", str(tmp_path / "rows.json")])
    assert done.exit_code == 0
    assert "yes" in done.stdout


def test_no_rows_are_no_predictions(predict):
    assert predict("tiny", []).stdout == ""
    assert json.loads(predict("tiny", [], "--json").stdout)["predictions"] == []


def test_each_wrong_row_is_named(predict):
    done = predict("tiny", [[1, 2, 3, 4], [1, "x", 3, 4], [1, 2, 3, 11]], code=1)
    assert done.stdout == ""
    assert done.stderr.startswith("error: row 1, field 'b': must be a finite number")
    several = predict("tiny", [[1, "x", 3, 4], [1, None, 3, "y"]], code=1).stderr.splitlines()
    assert len(several) == 4
    assert several[2].startswith("  row 1, field 'b'")


def test_what_is_no_json_is_said(predict):
    assert predict("tiny", b"{", code=1).stderr.startswith("error: the standard input is not JSON")
