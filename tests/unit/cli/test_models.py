import io
import json
import sys

import pytest
from click.testing import CliRunner

from ekiben.cli import main
from ekiben.cli.printing import print_table
from ekiben.registry import FolderRegistry
from ekiben.state import MemoryAliases


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry in a folder, which the commands use in place of the BentoML store."""
    found = FolderRegistry(tmp_path / "store", MemoryAliases())
    monkeypatch.setattr("ekiben.registry.open_registry", lambda settings: found)
    return found


@pytest.fixture
def run():
    def invoke(*arguments, code=0, **kwargs):
        done = CliRunner().invoke(main, [str(a) for a in arguments], **kwargs)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.output
        return done

    return invoke


@pytest.fixture
def tiny(registry, tiny_artifact):
    for version in ("1", "2"):
        registry.register(tiny_artifact.path, tag=f"tiny:{version}")
    return registry


def test_an_empty_store_says_what_to_do(registry, run):
    assert run("models", "list").stdout == "there are no models; `ekiben models add` adds one\n"
    assert run("models", "list", "none").stdout == "there are no versions of none\n"
    assert json.loads(run("models", "list", "--json").stdout) == []


def test_list(tiny, run, plane_artifact):
    tiny.register(plane_artifact.path, tag="plane:9")
    lines = run("models", "list").stdout.splitlines()
    assert lines[0].split() == ["VERSION", "ALIASES", "TASK", "FRAMEWORK", "METRICS", "SIZE", "CREATED"]
    assert [line.split()[0] for line in lines[1:]] == ["plane:9", "tiny:1", "tiny:2"]
    assert lines[2].split()[1:4] == ["champion", "binary_classification", "onnx"]
    assert all(line == line.rstrip() for line in lines)
    assert [item["tag"] for item in json.loads(run("models", "list", "tiny", "--json").stdout)] == ["tiny:1", "tiny:2"]


def test_list_notes_a_dangling_alias(tiny, run):
    tiny.aliases.set("tiny", "champion", "gone")
    tiny.aliases.set("other", "challenger", "gone")
    noted = run("models", "list").stderr
    assert "tiny@champion names the version gone, which is no longer in the store" in noted
    assert "until then tiny alone means its latest version" in noted
    assert "other@challenger" in noted
    assert "other@challenger" not in run("models", "list", "tiny").stderr


def test_show_json_has_all(tiny, run):
    found = json.loads(run("models", "show", "tiny", "--json").stdout)
    assert (found["tag"], found["aliases"], found["labels"]) == ("tiny:1", ["champion"], ["no", "yes"])
    assert found["inputs"][2:] == [
        {"name": "c", "type": "float", "nullable": True},
        {"name": "d", "type": "float", "min": -10.0, "max": 10.0},
    ]
    assert [(o["name"], o["type"]) for o in found["outputs"]] == [
        ("prediction", "string"),
        ("confidence", "float"),
        ("probabilities", "tensor"),
    ]
    assert set(found["checksums"]) == {"model.onnx", "golden.json", "profile.json"}
    assert found["golden_rows"] == 32
    assert {"metrics", "parity", "provenance", "card", "batching", "path", "size_bytes"} <= set(found)
    assert found["card"]["owner"] == "tests"


def test_show_other_tasks(registry, run, plane_artifact, grid_artifact):
    registry.register(plane_artifact.path)
    registry.register(grid_artifact.path)
    assert json.loads(run("models", "show", "plane", "--json").stdout)["outputs"] == [{"name": "prediction", "type": "float"}]
    assert json.loads(run("models", "show", "grid", "--json").stdout)["outputs"] == [
        {"name": "doubled", "type": "tensor", "dtype": "float32", "shape": [2, 3]},
        {"name": "total", "type": "tensor", "dtype": "float32", "shape": [1]},
    ]
    assert "image  float32 [2, 3]" in run("models", "show", "grid").stdout


def test_show_is_readable(tiny, run):
    shown = run("models", "show", "tiny:2").stdout
    assert "version         tiny:2\n" in shown
    assert "owner           tests\n" in shown
    assert "\nc      float  may be null\n" in shown
    assert "\nd      float  min -10, max 10\n" in shown
    assert "\x1b" not in shown


def test_an_unknown_version_is_one_line_on_stderr(tiny, run):
    done = run("models", "show", "tiny:3", code=1)
    assert done.stdout == ""
    assert done.stderr == "error: tiny has no version or alias '3'; its versions are 1, 2; its aliases are champion\n"


def test_verify(tiny, run):
    assert run("models", "verify", "tiny", "tiny:2").stdout == "".join(f"tiny:{n} is sound: 4 files, 32 golden rows\n" for n in (1, 2))
    model = tiny.resolve("tiny:1").path / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    done = run("models", "verify", "tiny:1", "tiny:2", "tiny:3", code=1)
    assert done.stdout == "tiny:2 is sound: 4 files, 32 golden rows\n"
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["tiny:1", "tiny:3"]
    assert "model.onnx has changed" in done.stderr
    verdicts = json.loads(run("models", "verify", "tiny:1", "tiny:2", "--json", code=1).stdout)
    assert [verdict["ok"] for verdict in verdicts] == [False, True]
    assert "model.onnx has changed" in verdicts[0]["error"]


def test_alias(tiny, run):
    assert run("models", "alias", "tiny", "challenger", "latest").stdout == "tiny@challenger is tiny:2\n"
    assert json.loads(run("models", "alias", "tiny", "champion", "2", "--json").stdout)["aliases"] == {"challenger": "2", "champion": "2"}
    assert run("models", "alias", "tiny", "challenger", "--remove").stdout == "tiny@challenger is removed\n"
    assert tiny.aliases.get("tiny") == {"champion": "2"}
    for wrong in (("models", "alias", "tiny", "challenger"), ("models", "alias", "tiny", "challenger", "1", "--remove")):
        assert "give a VERSION, or --remove" in run(*wrong, code=2).stderr
    assert "no alias 'challenger'" in run("models", "alias", "tiny", "challenger", "--remove", code=1).stderr


def test_delete(tiny, run):
    assert run("models", "delete", "tiny:2").stdout == "tiny:2 is deleted\n"
    assert "tiny:1 is champion" in run("models", "delete", "tiny:1", code=1).stderr
    run("models", "alias", "tiny", "champion", "--remove")
    assert json.loads(run("models", "delete", "tiny:1", "--json").stdout) == {"deleted": "tiny:1"}


def test_schema(run):
    schema = json.loads(run("models", "schema").stdout)
    assert "ModelSpec" in schema["$defs"]
    assert json.loads(run("models", "schema", "--json").stdout) == schema


def test_add(registry, run, tmp_path, tiny_onnx, tiny_rows):
    sample = tmp_path / "sample.json"
    sample.write_text(json.dumps(tiny_rows(40)))
    models = tmp_path / "models"
    words = ("--sample", sample, "--labels", "no, yes", "--owner", "me", "--models-dir", models)
    shown = run("models", "add", "mine", "--onnx", tiny_onnx, *words).stdout
    assert "(champion)" in shown
    assert f"{models}/mine/model.yaml (written now: refine it)" in shown
    assert "a float, b float, c float, d float" in shown
    assert "40 golden rows from the sample" in shown
    again = json.loads(run("models", "add", "mine", "--onnx", tiny_onnx, "--tag", "mine:2", "--models-dir", models, "--json").stdout)
    assert (again["tag"], again["is_new_spec"], again["labels"]) == ("mine:2", False, ["no", "yes"])
    assert any("made up" in note for note in again["notes"])


def test_add_from_the_store(registry, run, tmp_path, tiny_onnx):
    theirs = tmp_path / "store" / "theirs" / "1"
    theirs.mkdir(parents=True)
    (theirs / "saved_model.onnx").write_bytes(tiny_onnx.read_bytes())
    found = json.loads(run("models", "add", "mine", "--bentoml", "theirs:1", "--models-dir", tmp_path / "models", "--json").stdout)
    assert (found["model"], found["framework"], found["task"]) == ("mine", "onnx", "binary_classification")
    assert "has no model 'none:1'" in run("models", "add", "mine", "--bentoml", "none:1", code=1).stderr


def test_add_wants_one_model(registry, run, tiny_onnx):
    for wrong in ((), ("--onnx", tiny_onnx, "--torch", "a.pt2"), ("--onnx", tiny_onnx, "--bentoml", "a:1")):
        assert "give the model with one of" in run("models", "add", "mine", *wrong, code=2).stderr


def test_a_terminal_gets_lines_and_what_fits(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    print_table(("NAME", "TEXT"), [("a", "[bold]" + "long " * 20)], title="the title")
    lines = terminal.getvalue().splitlines()
    assert "the title" in terminal.getvalue()
    assert "[bold]long" in terminal.getvalue()
    assert any("──" in line for line in lines)
    assert len(lines) > 4
