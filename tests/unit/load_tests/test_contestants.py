from pathlib import Path

import msgspec
import pytest

from load_tests.bench.contestants import PEERS, PEERS_FOLDER, PROJECT, Workplace, contestants
from load_tests.bench.models import BenchModel

FIELD = contestants()
PLACE = Workplace(folder=Path("/run-folder"), fastapi_python=Path("/other/python"), ekiben_models={"m": Path("/run-folder/serve-m")})
MODEL = BenchModel(
    name="m", file="/m.onnx", task="binary_classification", rows=[[1.5, 2.0, 3.0]], answers=[[0.25, 0.75]], decimals=1
)  # fmt: skip


def _answer(values):
    labelled = {"prediction": "yes", "confidence": 0.75, "probabilities": dict(zip(("no", "yes"), values, strict=False))}
    return {
        "ekiben": {"predictions": [labelled], "model_name": "m", "model_version": "1", "id": "a"},
        "bentoml": [values],
        "fastapi": {"y": values},
        "onnx-ceiling": {"y": values},
    }


def test_everyone_but_the_raw_session_is_a_server():
    assert {*FIELD, "raw"} == set(PEERS)
    assert [name for name, c in FIELD.items() if not c.runs_model] == ["echo"]


@pytest.mark.parametrize("name", ["ekiben", "bentoml", "fastapi", "onnx-ceiling"])
def test_a_right_answer_is_told_from_a_wrong_one(name):
    server = FIELD[name]

    assert server.is_right(msgspec.json.encode(_answer([0.25, 0.75])[name]), MODEL, 0)
    assert not server.is_right(msgspec.json.encode(_answer([0.75, 0.25])[name]), MODEL, 0)
    assert not server.is_right(msgspec.json.encode(_answer([0.25])[name]), MODEL, 0)


@pytest.mark.parametrize("answer", [b"", b"{}", b"[]", b'{"y": null}', b'{"predictions": [{}]}'])
@pytest.mark.parametrize("name", sorted(FIELD))
def test_whatever_else_comes_is_a_wrong_answer(name, answer):
    assert not FIELD[name].is_right(answer, MODEL, 0)


def test_a_tensor_model_of_ekiben_answers_its_output():
    assert FIELD["ekiben"].is_right(b'{"predictions": [{"y": [0.25, 0.75]}]}', MODEL, 0)


def test_the_echo_must_give_back_the_row():
    assert FIELD["echo"].is_right(b'{"y": [1.5, 2.0]}', MODEL, 0)
    assert not FIELD["echo"].is_right(b'{"y": [0.25, 0.75]}', MODEL, 0)


def test_bodies_hold_one_row_as_each_server_wants_it():
    wanted = {"ekiben": {"instances": [[1.5, 2.0, 3.0]]}, "bentoml": {"x": [[1.5, 2.0, 3.0]]}, "echo": {"features": [1.5, 2.0, 3.0]}}

    for name, body in wanted.items():
        assert [msgspec.json.decode(b) for b in FIELD[name].bodies(MODEL)] == [body]
        assert b"\n" not in FIELD[name].body(MODEL.rows[0])


def test_ekiben_is_served_as_users_serve_it():
    server = FIELD["ekiben"]

    command, environ = server.command(PLACE, 2, 4000), server.environ(PLACE, MODEL, 2)

    assert command[1:] == ["-m", "bentoml", "serve", "ekiben_service:svc", "--host", "127.0.0.1", "--port", "4000"]
    assert environ["EKIBEN_WORKERS"] == "2"
    assert environ["BENCH_MODELS"] == "/run-folder/serve-m"
    assert environ["BENTOML_HOME"].startswith("/run-folder")
    assert environ["EKIBEN_HOME"].startswith("/run-folder")
    assert server.path(MODEL) == "/v1/models/m:predict"


@pytest.mark.parametrize(("name", "python"), [("fastapi", "/other/python"), ("onnx-ceiling", None), ("echo", None)])
def test_the_others_run_on_the_same_uvicorn_settings(name, python):
    command = FIELD[name].command(PLACE, 2, 4000)

    assert python is None or command[0] == python
    assert " ".join(command).endswith("--workers 2 --loop uvloop --http httptools --no-access-log --log-level warning")
    assert FIELD[name].environ(PLACE, MODEL, 2)["BENCH_MODEL"] == "/m.onnx"


def test_the_files_they_name_are_there():
    names = {c.command(PLACE, 1, 1)[4].partition(":")[0] for c in FIELD.values()}

    assert all((PEERS_FOLDER / f"{name}.py").is_file() for name in names)
    assert (PROJECT / "load_tests" / "bench").is_dir()
