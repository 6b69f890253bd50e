"""Training runs as people start them: processes, with a model store and a home of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from ekiben.model import Predictor
from ekiben.model.artifact import sha256_of
from training.command import MODELS

pytestmark = pytest.mark.processes

ROOT = MODELS.parent
QUICK = ("training.flight_delay", "--to", "1", "--max-rows", "4000")


class Trainer:
    """Starts training runs in one store; the joined flights are shared between stores, as making them takes seconds."""

    def __init__(self, store, home) -> None:
        self.store = store
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("EKIBEN_", "BENTOML_"))}
        database = f"sqlite:///{store}/control.db"
        own = {"BENTOML_HOME": str(store), "EKIBEN_HOME": str(home), "EKIBEN_DATABASE_URL": database, "BENTOML_DO_NOT_TRACK": "1"}
        self.env = clean | own

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def run(self, *command: str) -> dict:
        """The outcome of a run that must succeed."""
        out, err = self.start(*command, "--json").communicate(timeout=120)
        assert out, err
        return json.loads(out)

    def fails(self, *command: str) -> str:
        """What a run that must fail says."""
        process = self.start(*command)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 1, out
        assert "Traceback" not in err
        return err

    def folder(self, tag: str):
        return self.store / "models" / tag.replace(":", "/")

    def versions(self) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-m", "bentoml", "models", "list", "-o", "json"],
            cwd=ROOT, env=self.env, text=True, capture_output=True, check=True, timeout=60,
        )  # fmt: skip
        return sorted(item["tag"] for item in json.loads(done.stdout))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def trainer(tmp_path, home) -> Trainer:
    return Trainer(tmp_path / "store", home)


def test_flight_delay_from_nothing_to_a_version_that_predicts(trainer):
    outcome = trainer.run(*QUICK, "--tag", "flight_delay:2013.01")
    assert (outcome["tag"], outcome["champion"], outcome["framework"]) == ("flight_delay:2013.01", True, "onnx")
    assert outcome["parity"]["agrees"]
    assert outcome["parity"]["rows"] >= 5_000
    assert outcome["metrics"]["roc_auc"] > 0.55
    assert trainer.versions() == ["flight_delay:2013.01"]
    predictor = Predictor.open(trainer.folder("flight_delay:2013.01"))
    golden = json.loads((trainer.folder("flight_delay:2013.01") / "golden.json").read_text())
    assert len(golden["rows"]) == 64
    assert {row["prediction"] for row in predictor.predict(golden["rows"])} == {"on_time", "late"}


def test_the_second_run_finds_the_first_and_imports_no_framework(trainer):
    first = trainer.run(*QUICK)
    again = trainer.run(*QUICK, "--if-missing")
    assert again == {**first, "reused": True}
    assert trainer.versions() == [first["tag"]]
    # Whether it is quick: the frameworks, which take seconds to import, are not.
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", *QUICK, "--if-missing"],
        cwd=ROOT, env=trainer.env, text=True, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    imported = set(re.findall(r"\|\s+(\w+)$", process.stderr, re.MULTILINE))
    assert "click" in imported
    assert imported.isdisjoint({"torch", "sklearn", "skl2onnx", "onnxruntime"})
    assert "registered already, nothing to train" in process.stdout


def test_the_same_seed_gives_the_same_model_and_another_seed_another(trainer):
    made = {}
    for tag, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        trainer.run(*QUICK, "--seed", seed, "--tag", f"flight_delay:{tag}")
        made[tag] = sha256_of(trainer.folder(f"flight_delay:{tag}") / "model.onnx")
    assert made["a"] == made["b"] != made["c"]


def test_the_network_is_a_challenger_for_the_same_rows(trainer):
    trees = trainer.run(*QUICK, "--tag", "flight_delay:1")
    network = trainer.run(*QUICK, "--framework", "torch", "--tag", "flight_delay:2")
    assert trees["champion"]
    assert not network["champion"]
    assert (network["framework"], network["parity"]["agrees"]) == ("onnx", True)
    first, second = (Predictor.open(trainer.folder(tag)) for tag in ("flight_delay:1", "flight_delay:2"))
    assert first.signature.names == second.signature.names
    rows = json.loads((trainer.folder("flight_delay:1") / "golden.json").read_text())["rows"]
    assert len(second.predict(rows)) == len(rows)


def test_an_export_that_lies_is_refused_and_scikit_learn_serves(trainer, tmp_path):
    # A converter that is wrong without an error: it forgets the last ten trees.
    (tmp_path / "lying.py").write_text(
        "import copy\n"
        "import sys\n"
        "import training.flight_trees as trees\n"
        "from training.flight_delay import main\n"
        "honest = trees.sklearn_to_onnx\n"
        "def lying(pipeline, folder, **names):\n"
        "    pipeline = copy.deepcopy(pipeline)\n"
        "    del pipeline[-1]._predictors[-10:]\n"
        "    return honest(pipeline, folder, **names)\n"
        "trees.sklearn_to_onnx = lying\n"
        "main(sys.argv[1:])\n"
    )
    trainer.env["PYTHONPATH"] = f"{ROOT}{os.pathsep}{tmp_path}"
    outcome = trainer.run("lying", *QUICK[1:], "--tag", "flight_delay:1")
    assert outcome["framework"] == "sklearn"
    assert not outcome["parity"]["agrees"]
    assert "differ in probabilities" in outcome["parity"]["reason"]
    stored = trainer.folder("flight_delay:1")
    assert (stored / "model.skops").is_file()
    assert not (stored / "model.onnx").exists()
    Predictor.open(stored)


def kill(process: subprocess.Popen[str], *, after: str, delay_s: float = 0.0) -> None:
    """Kills a run a while after it has shown a line."""
    for line in process.stderr:
        if after in line:
            break
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGKILL, 0)


@pytest.mark.parametrize("after", ["Read the flights", "Train on"])
def test_a_run_killed_before_it_registers_leaves_no_version(trainer, after):
    kill(trainer.start("training.flight_delay", "--to", "1"), after=after)
    assert trainer.versions() == []
    assert not list((trainer.store / "models").glob("*/*/artifact.json"))
    # And it stands in nobody's way.
    assert trainer.run(*QUICK, "--if-missing")["champion"]


def test_a_run_killed_while_it_registers_leaves_a_whole_version_or_none(trainer):
    whole = 0
    for delay_s in (0.0, 0.2, 0.4):
        process = trainer.start(*QUICK)
        kill(process, after="Evaluate", delay_s=delay_s)
        found = trainer.versions()
        for tag in found[whole:]:
            Predictor.open(trainer.folder(tag))
        whole = len(found)
    assert trainer.run(*QUICK, "--tag", "flight_delay:after")["tag"] == "flight_delay:after"


def test_digits_serve_from_onnx_or_torch_and_reach_97_percent(trainer):
    onnx = trainer.run("training.digits", "--tag", "digits:1")
    torch = trainer.run("training.digits", "--runtime", "torch", "--tag", "digits:2")
    assert (onnx["framework"], torch["framework"]) == ("onnx", "torch")
    assert onnx["metrics"]["accuracy"] >= 0.97
    assert onnx["parity"]["rows"] == 1797
    assert torch["metrics"]["accuracy"] == onnx["metrics"]["accuracy"]
    assert {"model.onnx", "model.pt2"} <= {file.name for file in trainer.folder("digits:1").iterdir()}
    rows = json.loads((trainer.folder("digits:1") / "golden.json").read_text())["rows"]
    # Reading a torch program may run what it holds: who has trained it trusts it.
    first, second = (Predictor.open(trainer.folder(tag), trusted=True).predict(rows) for tag in ("digits:1", "digits:2"))
    assert [row["prediction"] for row in first] == [row["prediction"] for row in second]
    assert trainer.run("training.digits", "--if-missing")["tag"] == "digits:1"


def test_mistakes_are_told_before_the_training(trainer):
    trainer.run(*QUICK, "--tag", "flight_delay:1")
    assert "flight_delay:1 exists already" in trainer.fails(*QUICK, "--tag", "flight_delay:1")
    assert "months 3 to 2 are no window" in trainer.fails("training.flight_delay", "--from", "3", "--to", "2")
    assert "the artifact is of 'flight_delay'" in trainer.fails(*QUICK, "--tag", "digits:1")
