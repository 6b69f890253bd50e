"""The demo keeps its promises, leaves nothing running, and its figures are those that anybody can compute from the same rows."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, f1_score, roc_auc_score

from ekiben.model import Predictor
from ekiben.model.signature import Signature
from load_tests.bench.procfs import marked_processes
from training.datasets import load_flights

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-6


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "load_tests.demo", "--short", *map(str, words)]


def left_running(work: Path) -> set[int]:
    return marked_processes(f"BENTOML_HOME={work / 'bentoml'}")


class Played:
    """A demo that is over."""

    def __init__(self, folder: Path) -> None:
        self.work, self.report = folder / "work", folder / "report"
        self.work.mkdir()
        words = command("--work", self.work, "--report", self.report, "--json", folder / "demo.json")
        self.done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
        assert self.done.returncode == 0, self.done.stdout[-6000:] + self.done.stderr[-3000:]
        self.record = json.loads((folder / "demo.json").read_text())
        self.answers = json.loads((self.report / "answers.json").read_text())

    def outputs(self, month: int, version: str, rows: list[int]):
        """What a version's predictor says to flights of a month, and what was true of them."""
        flights = load_flights(self.work / "home", first_month=month, last_month=month).take(np.array(rows))
        predictor = Predictor.open(self.work / "bentoml" / "models" / "flight_delay" / version)
        return predictor.run(Signature(predictor.spec.inputs).from_columns(flights.columns)), flights.target


@pytest.fixture(scope="module")
def played(tmp_path_factory) -> Played:
    return Played(tmp_path_factory.mktemp("demo"))


@pytest.mark.processes
@pytest.mark.timeout(600)
def test_the_demo_keeps_its_promises_and_leaves_nothing_running(played):
    assert all(promise["holds"] for promise in played.record["promises"]), played.record["promises"]
    assert left_running(played.work) == set()
    page = (played.report / "index.html").read_text()
    for picture in ("activity.png", "quality.png", "drift.png"):
        assert picture in page
        assert (played.report / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.processes
@pytest.mark.timeout(600)
def test_what_happened_is_told(played):
    kinds = Counter(event["kind"] for event in played.record["events"])
    assert kinds["rolled-back"] >= 1
    assert kinds["retrain_started"] >= 1
    assert kinds["retrain_rejected"] + kinds["promoted"] >= 1
    assert played.record["killed"] > 0
    assert "What happened" in played.done.stdout


@pytest.mark.processes
@pytest.mark.timeout(600)
def test_the_figures_agree_with_an_evaluation_of_the_same_rows(played):
    groups: dict[tuple[int, str, str], list[dict]] = defaultdict(list)
    for answer in played.answers:
        groups[answer["month"], answer["version"], answer["arm"]].append(answer)
    found = {(m["month"], q["version"], q["arm"]): q for m in played.record["months"] for q in m["quality"] if q["arm"] != "shadow"}
    assert set(found) == set(groups)
    compared = 0
    for (month, version, arm), answers in groups.items():
        quality = found[month, version, arm]
        reported = [answer["index"] for answer in answers if answer["is_reported"]]
        assert (quality["predictions"], quality["labelled"]) == (len(answers), len(reported))
        outputs, target = played.outputs(month, version, reported)
        score = outputs.arrays["probabilities"][:, 1].astype(np.float64)
        # A handful of rows may be of one class, and then has no ROC-AUC.
        expected = {
            "roc_auc": partial(roc_auc_score, target, score),
            "f1": partial(f1_score, target, outputs.class_index),
            "brier": partial(brier_score_loss, target, score),
        }
        for name, (value, *_) in quality["metrics"].items():
            assert value == pytest.approx(expected[name](), abs=TOLERANCE), (month, version, arm, name)
            compared += 1
    assert compared >= 3 * len(played.record["months"])


@pytest.mark.processes
@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_leaves_nothing_running(tmp_path, number):
    work = tmp_path / "work"
    work.mkdir()
    words = command("--work", work, "--report", tmp_path / "report")
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        for line in process.stdout:
            if "Put the version" in line:
                break
        time.sleep(1)
        assert left_running(work)
        process.send_signal(number)
        said = process.stdout.read()
        assert process.wait(60) == 130, said
    finally:
        process.kill()
        process.stdout.close()
    assert "nothing is left running" in said
    assert "Traceback" not in said
    assert left_running(work) == set()
