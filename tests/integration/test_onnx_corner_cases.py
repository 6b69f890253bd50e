"""Odd ONNX files from `ekiben models add` to the wire: each answer must be ONNX Runtime's own."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import onnxruntime as ort
import pytest
from integration.onnx_cases import CASES, ROWS, WHOLE, Case, Feeds
from integration.onnx_graphs import X3, info, node, save, save_cases
from integration.running import Project, Running
from onnx import TensorProto

pytestmark = pytest.mark.processes
NUMPY = {"BOOL": "bool", "FP16": "float16", "FP32": "float32", "FP64": "float64", "BYTES": "object"}
Arrays = dict[str, np.ndarray]


class Served:
    """The server with all cases, and ONNX Runtime beside it."""

    def __init__(self, running: Running, files: dict[str, Path]) -> None:
        self.running = running
        self._client = httpx.Client(base_url=running.url, timeout=60)
        self._sessions = {name: ort.InferenceSession(str(file), providers=["CPUExecutionProvider"]) for name, file in files.items()}

    def close(self) -> None:
        self._client.close()

    def expected(self, case: Case, feeds: Feeds) -> Arrays:
        """What ONNX Runtime gives; a graph with a fixed number of rows is run in groups filled up with zeros."""
        session = self._sessions[case.name]
        names = list(dict.fromkeys(o.name for o in session.get_outputs()))
        n = len(next(iter(feeds.values()))) if case.unit == ROWS else 0
        if case.group is None:
            return {name: np.asarray(value) for name, value in zip(names, session.run(names, feeds), strict=True)}
        parts = []
        for start in range(0, n, case.group):
            group = {name: array[start : start + case.group] for name, array in feeds.items()}
            used = min(case.group, n - start)
            padded = {name: np.concatenate([a, np.zeros((case.group - used, *a.shape[1:]), a.dtype)]) for name, a in group.items()}
            parts.append([np.asarray(value)[:used] for value in session.run(names, padded)])
        return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}

    def session(self, name: str) -> ort.InferenceSession:
        return self._sessions[name]

    def get(self, path: str) -> Any:
        return self._client.get(path).raise_for_status().json()

    def v1(self, case: Case, feeds: Feeds) -> Arrays:
        """Asks over V1; the rows of its answer become the arrays that ONNX Runtime would give."""
        values = {name: array.tolist() for name, array in feeds.items()}
        if case.unit == WHOLE:
            (prediction,) = self._v1(case, [values])
            return {name: self._array(case, name, value) for name, value in prediction.items()}
        scalars = {name for name, _, shape in case.inputs if len(shape) == 1}
        values = {name: array.reshape(-1).tolist() if name in scalars else array.tolist() for name, array in feeds.items()}
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        predictions = self._v1(case, rows)
        return {name: self._array(case, name, [p[name] for p in predictions]) for name, _, _ in case.outputs}

    def _v1(self, case: Case, instances: list[Any]) -> list[dict[str, Any]]:
        # msgspec writes a float32's shortest decimal and a float64's; httpx's json would refuse nothing but escape all.
        answer = self._client.post(
            f"/v1/models/{case.name}:predict",
            content=msgspec.json.encode({"instances": instances}),
            headers={"content-type": "application/json"},
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"]

    def v2(self, case: Case, feeds: Feeds) -> Arrays:
        """Asks over V2 for the tensors as ONNX Runtime takes them."""
        types = {name: datatype for name, datatype, _ in case.inputs}
        inputs = [
            {"name": name, "datatype": types[name], "shape": list(array.shape), "data": array.reshape(-1).tolist()}
            for name, array in feeds.items()
        ]
        answer = self._client.post(
            f"/v2/models/{case.name}/infer", content=msgspec.json.encode({"inputs": inputs}), headers={"content-type": "application/json"}
        )
        assert answer.status_code == 200, answer.text
        outputs = answer.json()["outputs"]
        assert [(o["name"], o["datatype"]) for o in outputs] == [(name, datatype) for name, datatype, _ in case.outputs]
        for output, (_, _, shape) in zip(outputs, case.outputs, strict=True):
            assert len(output["shape"]) == len(shape)
            assert all(told in (-1, found) for told, found in zip(shape, output["shape"], strict=True)), (output["shape"], shape)
        return {o["name"]: self._array(case, o["name"], o["data"]).reshape(o["shape"]) for o in outputs}

    @staticmethod
    def _array(case: Case, output: str, values: Any) -> np.ndarray:
        datatype = next(datatype for name, datatype, _ in case.outputs if name == output)
        return np.array(values, NUMPY.get(datatype, datatype.lower()))


def assert_same(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].size == array.size, name
        if array.dtype.kind == "f":
            got = found[name].reshape(array.shape)
            np.testing.assert_allclose(got, array, rtol=1e-5 if array.dtype != np.float16 else 2e-3, atol=1e-6)
        else:
            assert found[name].reshape(array.shape).tolist() == array.tolist(), name


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Adds every case with the command, and serves them all."""
    root = tmp_path_factory.mktemp("corner_cases")
    folder = root / "files"
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters, which are not what is tested
        files = save_cases(folder)
    project = Project(root / "project")

    samples = {case.name: case.sample for case in CASES}

    def add(name: str) -> str:
        command = ["ekiben", "models", "add", name, "--onnx", str(files[name])]
        if samples.get(name):
            sample = folder / f"{name}.json"
            sample.write_bytes(msgspec.json.encode(samples[name]))
            command += ["--sample", str(sample)]
        done = project.run(*command, check=False)
        return done.stdout + done.stderr if done.returncode or "Traceback" in done.stderr else ""

    first, *others = files
    failures = [add(first)]  # alone, as it makes the control database
    with ThreadPoolExecutor(2) as pool:
        failures += pool.map(add, others)
    failures = [text for text in failures if text]
    assert not failures, "\n".join(failures)
    with Running(project, workers=1) as running:
        running.wait()
        with closing(Served(running, files)) as served:
            yield served


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_metadata_tells_names_types_and_shapes(served, case):
    told = served.get(f"/v2/models/{case.name}")

    assert [(i["name"], i["datatype"], i["shape"]) for i in told["inputs"]] == case.inputs
    assert [(o["name"], o["datatype"], o["shape"]) for o in told["outputs"]] == case.outputs


@pytest.mark.parametrize("protocol", ["v1", "v2"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answers_are_those_of_onnx_runtime(served, case, protocol):
    rng = np.random.default_rng(0)
    for n in case.sizes:
        feeds = case.feeds(rng, n)

        assert_same(getattr(served, protocol)(case, feeds), served.expected(case, feeds))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rows_of_many_requests_at_once_are_never_mixed_up(served, case):
    rng = np.random.default_rng(1)
    asked = [case.feeds(rng, case.sizes[n % len(case.sizes)]) for n in range(24)]
    protocols = [served.v1, served.v2]

    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda n: protocols[n % 2](case, asked[n]), range(len(asked))))

    for feeds, arrays in zip(asked, found, strict=True):
        assert_same(arrays, served.expected(case, feeds))


def test_the_maps_of_a_classifier_name_its_classes(served):
    x = np.random.default_rng(2).normal(size=(40, 3)).astype(np.float32)
    labels, maps = served.session("zipmap").run(None, {"X": x})

    answer = httpx.post(f"{served.running.url}/v1/models/zipmap:predict", json={"instances": x.tolist()})

    predictions = answer.json()["predictions"]
    assert [p["prediction"] for p in predictions] == labels.tolist()
    assert set(labels.tolist()) == {"up", "level", "down"}
    for prediction, probabilities in zip(predictions, maps, strict=True):
        assert prediction["probabilities"] == pytest.approx(probabilities, abs=1e-6)


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)], "the model's output 'y' is of the type bfloat16"),
        ([node("RandomNormalLike", ["x"], ["y"])], "gives other outputs each time"),
        ([node("Foo", ["x"], ["y"], domain="my.ops")], "Foo(-1) is not a registered function/op"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(served, tmp_path, nodes, says):
    kind = TensorProto.BFLOAT16 if nodes[0].op_type == "Cast" else TensorProto.FLOAT
    file = save(tmp_path / "odd.onnx", nodes, [X3], [info("y", kind, ["n", 3])], domains=[("my.ops", 1)])

    done = served.running.project.run("ekiben", "models", "add", "odd", "--onnx", str(file), check=False)

    assert done.returncode == 1
    assert says in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert not (served.running.project.root / "models" / "odd").exists()


def test_no_rows_are_refused_where_rows_are_counted(served):
    feeds = {"x": np.zeros((0, 3), np.float32)}
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [0, 3], "data": []}]}

    answer = httpx.post(f"{served.running.url}/v2/models/one_row/infer", json=body)

    assert (answer.status_code, answer.json()["error"]) == (400, "the request has no rows; send at least one")
    nonzero = next(case for case in CASES if case.name == "nonzero")
    assert served.v2(nonzero, feeds)["y"].shape == (2, 0)


def test_swagger_ui_and_readiness_go_on_with_all_of_them(served):
    routes = served.get("/docs.json")["paths"]

    assert {f"/{case.name}" for case in CASES} <= routes.keys()
    assert served.get("/readyz") == {"ready": True}


def test_the_names_in_the_spec_are_the_graphs_own(served):
    case = next(case for case in CASES if case.name == "odd_names")
    text = (served.running.project.root / "models" / case.name / "model.yaml").read_text(encoding="utf-8")

    assert "é日本🍱" in text
    # A graph's order of inputs is the order of a row's values.
    row = [float(n) for n in range(len(case.inputs))]
    answer = httpx.post(f"{served.running.url}/v1/models/{case.name}:predict", json={"instances": [row]})
    assert answer.json()["predictions"] == [{"out:0": -4.0, "the sum/1": 28.0}]
