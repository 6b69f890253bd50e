"""Someone brings a trained model of each kind, looks at it, runs it, and finds out when its files were changed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from skl2onnx import to_onnx
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

pytestmark = pytest.mark.processes
EKIBEN = Path(sys.executable).parent / "ekiben"

NUMBERS = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
KIND = np.where(NUMBERS[:, 0] > 0.5, "high", np.where(NUMBERS[:, 0] < -0.5, "low", "middle"))
TABLE = pd.DataFrame({"amount": NUMBERS[:, 0].astype(float), "city": ["Kyoto", "Osaka", "Nara"] * 40, "n": range(120)})


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    """Someone with a folder of their own who types commands."""
    home = tmp_path_factory.mktemp("person")
    homes = {
        "BENTOML_HOME": str(home / "bentoml"),
        "EKIBEN_HOME": str(home / ".ekiben"),
        "BENTOML_DO_NOT_TRACK": "1",
        "EKIBEN_TRUST_PICKLE": "on",  # this person made the models
    }

    class Person:
        folder = home

        def types(self, *arguments, code=0, stdin=None):
            done = subprocess.run(
                [EKIBEN, *map(str, arguments)],
                check=False,
                capture_output=True,
                text=True,
                input=stdin,
                cwd=home,
                env={**os.environ, **homes},
                timeout=200,
            )
            assert done.returncode == code, done.stdout + done.stderr
            assert "Traceback" not in done.stderr
            return done

        def sees(self, *arguments):
            return json.loads(self.types(*arguments, "--json").stdout)

        def imports(self, script):
            env = {**os.environ, **homes}
            subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, cwd=home, env=env, timeout=200, capture_output=True)

    return Person()


def an_onnx_classifier(folder):
    model = LogisticRegression().fit(NUMBERS, KIND)
    (folder / "m.onnx").write_bytes(to_onnx(model, NUMBERS[:1], options={"zipmap": False}).SerializeToString())
    rows = [{"a": a, "b": b, "c": c} for a, b, c in NUMBERS.astype(float).tolist()]
    (folder / "rows.json").write_text(json.dumps(rows))
    return ["--onnx", "m.onnx", "--sample", "rows.json"], rows, [str(label) for label in model.predict(NUMBERS)]


def a_zipped_onnx_classifier(folder):
    model = LogisticRegression().fit(NUMBERS, KIND == "high")
    (folder / "m.onnx").write_bytes(to_onnx(model, NUMBERS[:1], options={id(model): {"zipmap": True}}).SerializeToString())
    return ["--onnx", "m.onnx", "--labels", "no,yes"], NUMBERS.tolist(), ["yes" if p else "no" for p in model.predict(NUMBERS)]


def a_pipeline_on_a_table(folder):
    encoded = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["city"]), remainder="passthrough")
    model = make_pipeline(encoded, LogisticRegression(max_iter=2000)).fit(TABLE, KIND)
    joblib.dump(model, folder / "m.joblib")
    TABLE.to_parquet(folder / "rows.parquet")
    return ["--sklearn", "m.joblib", "--sample", "rows.parquet"], TABLE.to_dict("records"), list(model.predict(TABLE))


def a_skops_regressor(folder):
    model = LinearRegression().fit(NUMBERS, NUMBERS.sum(axis=1))
    skops.io.dump(model, folder / "m.skops")
    return ["--sklearn", "m.skops"], NUMBERS.tolist(), model.predict(NUMBERS).tolist()


def a_torch_program(folder):
    class Double(torch.nn.Module):
        def forward(self, x):
            return {"doubled": x * 2}

    program = torch.export.export(Double().eval(), (torch.zeros(2, 3),), dynamic_shapes=({0: torch.export.Dim("rows")},))
    torch.export.save(program, folder / "m.pt2")
    return ["--torch", "m.pt2"], NUMBERS.tolist(), (NUMBERS * 2).tolist()


@pytest.mark.parametrize(
    ("name", "make", "task", "inputs"),
    [
        ("onnx_classifier", an_onnx_classifier, "multiclass_classification", [("a", "float"), ("b", "float"), ("c", "float")]),
        ("zipped", a_zipped_onnx_classifier, "binary_classification", [("X", "tensor")]),
        ("pipeline", a_pipeline_on_a_table, "multiclass_classification", [("amount", "float"), ("city", "string"), ("n", "int")]),
        ("regressor", a_skops_regressor, "regression", [("x", "tensor")]),
        ("torch_program", a_torch_program, "tensor", [("x", "tensor")]),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_bring_your_own(person, name, make, task, inputs):
    options, rows, expected = make(person.folder)

    # It is added with no code written …
    assert name in person.types("models", "add", name, *options).stdout
    assert (person.folder / "models" / name / "model.yaml").is_file()
    # … is in the list …
    (listed,) = person.sees("models", "list", name)
    assert (listed["task"], listed["aliases"]) == (task, ["champion"])
    assert listed["tag"] in person.types("models", "list").stdout
    # … can be looked at …
    shown = person.sees("models", "show", name)
    assert shown["tag"] == listed["tag"]
    assert [(i["name"], i["type"]) for i in shown["inputs"]] == inputs
    assert all(o["name"] and o["type"] for o in shown["outputs"])
    assert {"golden.json", "profile.json"} < set(shown["checksums"])
    assert isinstance(shown["metrics"], dict)
    # … predicts what the original predicts …
    (person.folder / "instances.json").write_text(json.dumps({"instances": rows[:20]}))
    found = person.sees("predict", name, "instances.json")["predictions"]
    key = "doubled" if task == "tensor" else "prediction"
    if task in ("regression", "tensor"):
        np.testing.assert_allclose([element[key] for element in found], expected[:20], rtol=1e-4)
    else:
        assert [element[key] for element in found] == expected[:20]
    # … and is sound until someone changes a byte.
    assert "is sound" in person.types("models", "verify", shown["tag"]).stdout
    (model_file,) = [file for file in shown["checksums"] if file.startswith("model.")]
    path = Path(shown["path"]) / model_file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    refused = person.types("models", "verify", shown["tag"], code=1).stderr
    assert model_file in refused
    assert len(refused.splitlines()) == 1
    assert model_file in person.types("predict", name, "instances.json", code=1).stderr


def test_a_model_saved_by_bentoml(person):
    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0]), person.folder / "line.joblib")
    person.imports("import bentoml, joblib; bentoml.sklearn.save_model('theirs:1', joblib.load('line.joblib'))")
    person.types("models", "add", "line", "--bentoml", "theirs:1", "--tag", "line:1")
    assert "line:1\n" in person.types("predict", "line", "-", stdin="[[2.0]]").stdout
    assert person.sees("models", "show", "line")["outputs"] == [{"name": "prediction", "type": "float"}]
    assert "is a version of Ekiben's own" in person.types("models", "add", "again", "--bentoml", "line:1", code=1).stderr


def test_refining_promoting_and_going_back(person):
    (person.folder / "plain.onnx").write_bytes(to_onnx(LinearRegression().fit(NUMBERS, NUMBERS[:, 0]), NUMBERS[:1]).SerializeToString())
    person.types("models", "add", "story", "--onnx", "plain.onnx", "--tag", "story:1")
    spec = person.folder / "models" / "story" / "model.yaml"
    spec.write_text(spec.read_text().replace("type: tensor", "type: tensor\n  max: 10"))
    person.types("models", "add", "story", "--onnx", "plain.onnx", "--tag", "story:2")
    person.types("models", "alias", "story", "challenger", "2")
    assert person.sees("models", "show", "story@challenger")["inputs"][0]["max"] == 10
    assert "of at most 10" in person.types("predict", "story:2", "-", stdin="[[1, 2, 30]]", code=1).stderr
    person.types("predict", "story", "-", stdin="[[1, 2, 30]]")
    person.types("models", "alias", "story", "champion", "2")
    assert person.sees("models", "show", "story")["tag"] == "story:2"
    assert "story:2 is challenger and champion" in person.types("models", "delete", "story:2", code=1).stderr
    person.types("models", "alias", "story", "champion", "1")
    person.types("models", "alias", "story", "challenger", "--remove")
    person.types("models", "delete", "story:2")
    assert [item["tag"] for item in person.sees("models", "list", "story")] == ["story:1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--onnx", "wrong.onnx"], "ONNX Runtime"),
        (["--sklearn", "wrong.joblib"], "holds a dict"),
        (["--torch", "wrong.pt2"], "is no exported program"),
        (["--onnx", "absent.onnx"], "there is no such file"),
        (["--bentoml", "absent:1"], "BentoML has no model 'absent:1'"),
    ],
)
def test_a_wrong_file_leaves_nothing(person, options, message):
    (person.folder / "wrong.onnx").write_bytes(b"no graph")
    (person.folder / "wrong.pt2").write_bytes(b"no program")
    joblib.dump({"no": "model"}, person.folder / "wrong.joblib")
    refused = person.types("models", "add", "wrong", *options, code=1).stderr
    assert message in refused
    assert len(refused.splitlines()) == 1
    assert not (person.folder / "models" / "wrong").exists()
    assert person.sees("models", "list", "wrong") == []
