from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from onnx import TensorProto, helper

from ekiben.errors import ArtifactError, ChecksumMismatch, GoldenRowsMismatch, InvalidRows
from ekiben.model import CardSpec, InputSpec, ModelFile, ModelSpec, OutputSpec, Predictor, Provenance, read_artifact
from ekiben.model.build import MIN_GOLDEN_ROWS, build_artifact, choose_golden_rows, plain_row
from ekiben.model.parity import ParityReport


@pytest.fixture
def build(tmp_path, tiny_spec, tiny_onnx, tiny_rows):
    """Builds ``tiny`` with some arguments changed."""

    def run(**changed):
        rows = tiny_rows(64)
        arguments = {
            "spec": tiny_spec,
            "model": ModelFile(framework="onnx", file="model.onnx"),
            "files": {"model.onnx": tiny_onnx},
            "provenance": Provenance(created="2026-01-01T00:00:00Z"),
            "golden_rows": rows[:40],
            "reference": rows,
        }
        return build_artifact(changed.pop("target", tmp_path / "built"), **{**arguments, **changed})

    return run


def test_what_is_built_opens_with_all_checks(build, tmp_path):
    card, features = tmp_path / "card.md", tmp_path / "f.py"
    card.write_text("# Tiny")
    features.write_text("def transform(columns):\n    return dict(columns)\n")
    report = ParityReport(rows=5000, max_difference=0.0, mean_difference=0.0, label_differences=0, agrees=True, reason="same")

    artifact = build(card=card, features=features, metrics={"auc": np.float64(0.75)}, threshold=0.25, parity=report)

    assert artifact == read_artifact(artifact.path)
    manifest = artifact.manifest
    assert set(manifest.checksums) == {"model.onnx", "golden.json", "profile.json", "features.py", "README.md"}
    assert manifest.metrics == {"auc": 0.75}
    assert manifest.parity["rows"] == 5000
    assert len(artifact.golden_rows().rows) == 40
    assert artifact.profile()["rows"] == 64
    # By threshold: -0.25 of a score is a probability of .44, a yes from .25 on.
    row = {"a": 0, "b": 0, "c": None, "d": 0}
    assert Predictor.open(artifact.path).predict([row])[0]["prediction"] == "yes"
    assert not list(tmp_path.glob(".*"))


def test_an_empty_folder_is_a_fine_target_and_a_full_one_is_not(build, tmp_path):
    (tmp_path / "there").mkdir()
    artifact = build(target=tmp_path / "there")
    before = sorted(artifact.path.iterdir())

    with pytest.raises(ArtifactError, match="not empty"):
        build(target=tmp_path / "there")

    assert sorted(artifact.path.iterdir()) == before


def test_too_few_golden_rows_are_refused_unless_the_caller_says_otherwise(build, tmp_path, tiny_rows):
    with pytest.raises(ArtifactError, match=f"31 golden rows; an artifact needs {MIN_GOLDEN_ROWS}"):
        build(golden_rows=tiny_rows(31))
    artifact = build(golden_rows=[], reference=[], min_golden_rows=0)

    assert artifact.profile() == {"rows": 0, "inputs": {}, "outputs": {}}
    Predictor.open(artifact.path)


def test_a_failed_build_leaves_nothing(build, tmp_path, tiny_rows):
    before = sorted(tmp_path.iterdir())
    bad = [*tiny_rows(40), {"a": 1, "b": 1, "c": 1, "d": 99}]

    with pytest.raises(InvalidRows, match="row 40, field 'd'"):
        build(reference=bad)
    with pytest.raises(InvalidRows, match="field 'd'"):
        build(golden_rows=bad)

    assert sorted(tmp_path.iterdir()) == before


def test_a_killed_build_leaves_no_artifact_at_the_target(tmp_path, tiny_onnx):
    features = tmp_path / "features.py"
    features.write_text("import os, signal\n\n\ndef transform(columns):\n    os.kill(os.getpid(), signal.SIGKILL)\n")
    script = textwrap.dedent(f"""
        from pathlib import Path
        from ekiben.model import CardSpec, InputSpec, ModelFile, ModelSpec, Provenance
        from ekiben.model.build import build_artifact
        spec = ModelSpec(name="t", task="binary_classification", labels=("no", "yes"), card=CardSpec(owner="o"),
                         inputs=tuple(InputSpec(name=n, type="float") for n in "abcd"))
        build_artifact(Path({str(tmp_path / "t")!r}), spec=spec, model=ModelFile(framework="onnx", file="m.onnx"),
                       files={{"m.onnx": Path({str(tiny_onnx)!r})}}, provenance=Provenance(created="now"), features=Path({str(features)!r}),
                       golden_rows=[[1, 2, 3, 4]] * 32, reference=[[1, 2, 3, 4]])
    """)
    killed = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)

    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": ModelFile(framework="onnx", file="other.onnx")}, "'other.onnx' is not among the files model.onnx"),
        ({"threshold": 1.5}, "threshold 1.5 must be from 0 to 1"),
    ],
)
def test_parts_that_do_not_fit_are_refused(build, changed, message):
    with pytest.raises(ArtifactError, match=message):
        build(**changed)


@pytest.mark.parametrize("name", ["../model.onnx", "/tmp/model.onnx", "", "golden.json", "artifact.json", "model.yaml", "a\\b"])
def test_a_file_stays_inside_the_folder_and_off_our_names(build, tiny_onnx, name):
    with pytest.raises(ArtifactError, match=r"is not a name inside|uses that name itself"):
        build(files={"model.onnx": tiny_onnx, name: tiny_onnx})


def test_a_missing_source_file_is_named(build, tmp_path):
    with pytest.raises(ArtifactError, match=r"gone\.onnx is not a file"):
        build(files={"model.onnx": tmp_path / "gone.onnx"})


def test_files_in_subfolders_are_copied_and_checked(build, tiny_onnx, tmp_path):
    extra = tmp_path / "weights.bin"
    extra.write_bytes(b"123")
    artifact = build(files={"model.onnx": tiny_onnx, "data/weights.bin": extra})

    (artifact.path / "data" / "weights.bin").write_bytes(b"124")
    with pytest.raises(ChecksumMismatch, match=r"data/weights\.bin has changed"):
        artifact.verify()


def test_outputs_that_depend_on_the_rows_beside_them_are_refused(build, tmp_path):
    features = tmp_path / "f.py"
    features.write_text("def transform(columns):\n    return {**columns, 'a': columns['a'] - columns['a'].mean()}\n")

    with pytest.raises(GoldenRowsMismatch):
        build(features=features)


def test_the_reference_may_be_columns(build, tiny_rows, tmp_path):
    rows = tiny_rows(50)
    columns = {name: np.array([np.nan if r[name] is None else r[name] for r in rows], np.float32) for name in "abcd"}

    of_columns = build(reference=columns, target=tmp_path / "columns").profile()
    assert of_columns == build(reference=rows, target=tmp_path / "rows").profile()


def test_golden_rows_become_json_safe(build, tiny_rows):
    rows = tiny_rows(32)
    rows[0] = {"a": np.float32(1), "b": np.int64(2), "c": float("nan"), "d": np.float64(0.5)}

    artifact = build(golden_rows=rows)

    assert artifact.golden_rows().rows[0] == {"a": 1.0, "b": 2, "c": None, "d": 0.5}


def test_plain_row_makes_arrays_and_tuples_lists():
    assert plain_row({"x": np.array([[1.0, np.nan]]), "s": (True, "t", None)}) == {"x": [[1.0, None]], "s": [True, "t", None]}


def test_golden_rows_are_chosen_the_same_way_every_time():
    rows = [{"a": n} for n in range(1000)]
    chosen = choose_golden_rows(rows)

    assert chosen == choose_golden_rows(rows)
    assert chosen != choose_golden_rows(rows, seed=1)
    assert len({r["a"] for r in chosen}) == 64
    assert chosen == sorted(chosen, key=lambda r: r["a"])
    assert choose_golden_rows(rows[:3]) == rows[:3]


def test_a_model_whose_tensors_vary_in_shape(tmp_path, save_graph):
    graph = save_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "k"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "k"])],
    )
    spec = ModelSpec(
        name="varying",
        task="tensor",
        inputs=(InputSpec(name="x", type="tensor", dtype="float32", shape=(-1,)),),
        outputs=(OutputSpec(name="y", dtype="float32", shape=(-1,)),),
        card=CardSpec(owner="o"),
    )
    rows = [{"x": [float(i)] * (1 + i % 3)} for i in range(32)]
    artifact = build_artifact(
        tmp_path / "varying",
        spec=spec,
        model=ModelFile(framework="onnx", file="m.onnx"),
        files={"m.onnx": graph},
        provenance=Provenance(created="now"),
        golden_rows=rows,
        reference=rows,
    )

    assert artifact.golden_rows().outputs[2] == {"y": [-2.0, -2.0, -2.0]}
    profile = artifact.profile()
    assert profile["inputs"]["x"]["n"] == sum(len(r["x"]) for r in rows)
    assert profile["outputs"]["y"]["min"] == -31.0
    Predictor.open(artifact.path)


def test_a_scalar_beside_a_tensor_that_varies(tmp_path, save_graph):
    graph = save_graph(
        [helper.make_node("Mul", ["x", "k"], ["y"])],
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "m"]),
            helper.make_tensor_value_info("k", TensorProto.FLOAT, ["n", 1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "m"])],
    )
    spec = ModelSpec(
        name="scaled",
        task="tensor",
        inputs=(InputSpec(name="x", type="tensor", dtype="float32", shape=(-1,)), InputSpec(name="k", type="float")),
        outputs=(OutputSpec(name="y", dtype="float32", shape=(-1,)),),
        card=CardSpec(owner="o"),
    )
    rows = [{"x": [1.0] * (1 + i % 2), "k": float(i)} for i in range(32)]
    artifact = build_artifact(
        tmp_path / "scaled",
        spec=spec,
        model=ModelFile(framework="onnx", file="m.onnx"),
        files={"m.onnx": graph},
        provenance=Provenance(created="now"),
        golden_rows=rows,
        reference=rows,
    )

    assert artifact.profile()["inputs"]["k"]["mean"] == 15.5
    with pytest.raises(InvalidRows):
        build_artifact(
            tmp_path / "again",
            spec=spec,
            model=ModelFile(framework="onnx", file="m.onnx"),
            files={"m.onnx": graph},
            provenance=Provenance(created="now"),
            golden_rows=rows,
            reference=[*rows, {"x": [1.0], "k": float("inf")}],
        )


def test_the_folder_is_as_readable_as_any_other(tiny_artifact, tmp_path):
    (tmp_path / "plain").mkdir()

    assert tiny_artifact.path.stat().st_mode == (tmp_path / "plain").stat().st_mode
