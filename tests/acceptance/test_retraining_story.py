"""Someone has a model learn from what it was asked. A summer teaches it something; what it learnt of one does not help in October."""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ekiben.registry import BentoRegistry
from ekiben.settings import load_settings
from ekiben.state.opening import open_control
from ekiben.state.truth import Truth
from training.command import MODELS
from training.datasets import load_flights

pytestmark = pytest.mark.processes
ROOT = MODELS.parent
ROWS = 42_000


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A project's home and model store, with a champion that knows January to April."""
    folder = tmp_path_factory.mktemp("story")
    wanted = {"EKIBEN_HOME": str(folder / "home"), "BENTOML_HOME": str(folder / "store"), "BENTOML_DO_NOT_TRACK": "1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        for name, value in wanted.items():
            patch.setenv(name, value)
        command = [sys.executable, "-m", "training.flight_delay", "--max-rows", "20000", "--tag", "flight_delay:spring", "--json"]
        subprocess.run(command, check=True, capture_output=True, env=dict(os.environ))
        log_flights(folder / "home")
        yield folder / "home"


def log_flights(home):
    """What the model was asked from April to October is in its log, and what came true in the control database."""
    data = load_flights(home, first_month=4, last_month=10).thin(ROWS)
    times = data.times.astype("datetime64[us]").astype(np.int64)
    columns = {
        "request_id": pa.array([f"r{n}" for n in range(data.n)]),
        "row": pa.array(np.zeros(data.n, np.int32)),
        "time": pa.array(times).cast(pa.timestamp("us", tz="UTC")),
        "version": pa.array(["spring"] * data.n),
        "arm": pa.array(["champion"] * data.n),
        "key": pa.nulls(data.n, pa.string()),
        "latency_s": pa.array(np.full(data.n, 0.001, np.float32)),
        "cached": pa.array([False] * data.n),
        "features": pa.StructArray.from_arrays([pa.array(c, from_pandas=True) for c in data.columns.values()], names=list(data.columns)),
    }
    table, months = pa.table(columns), data.times.astype("datetime64[D]")
    for day in np.unique(months):
        folder = home / "inference_log" / "model=flight_delay" / f"date={day}"
        folder.mkdir(parents=True)
        pq.write_table(table.filter(pa.array(months == day)), folder / "flights.parquet")
    labels = np.array(["on_time", "late"], object)[data.target].tolist()
    said = zip(labels, (times / 1e6).tolist(), strict=True)
    truths = [Truth(model="flight_delay", request_id=f"r{n}", row=0, time=at, actual=label) for n, (label, at) in enumerate(said)]
    kept = open_control(load_settings()).truths
    for start in range(0, data.n, 10_000):
        kept.report(truths[start : start + 10_000])


def ekiben(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, as BentoML remembers its home for as long as a process lives."""
    return subprocess.run([sys.executable, "-m", "ekiben", *arguments], capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def retrain(home):
    """Runs ``ekiben retrain flight_delay`` as if it were a day."""

    def run(day: str, *arguments: str) -> dict:
        done = ekiben("retrain", "flight_delay", "--until", day, "--json", *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) | {"progress": done.stderr}

    return run


def registry_of(home, control) -> BentoRegistry:
    return BentoRegistry(control.aliases, home=home.parent / "store")


def test_in_october_the_new_version_is_worse_and_no_rollout_starts(home, retrain):
    done = retrain("2013-11-01")
    assert done["outcome"] == "rejected"
    assert done["comparison"]["low"] <= 0
    assert done["comparison"]["challenger"] < done["comparison"]["champion"]
    assert done["rollout"] is None
    control = open_control(load_settings())
    kinds = [e.kind for e in control.events.find(model="flight_delay")]
    assert kinds[-2:] == ["retrain_started", "retrain_rejected"]
    assert control.rollouts.find(model="flight_delay") == []
    registry = registry_of(home, control)
    assert registry.resolve("flight_delay").version == "spring"
    assert registry.has("flight_delay", done["challenger"])


def test_in_july_the_new_version_is_better_and_goes_on_trial_in_shadow(home, retrain):
    done = retrain("2013-08-01", "--trigger", "data drifted in 3 checks in a row")
    assert done["outcome"] == "better"
    assert done["comparison"]["low"] > 0
    assert done["rows"] + done["held_back"] == done["answered"] > 20_000
    assert "Train on" in done["progress"]
    control = open_control(load_settings())
    [rollout] = control.rollouts.find(model="flight_delay", active=True)
    assert (rollout.id, rollout.champion, rollout.challenger) == (done["rollout"], "spring", done["challenger"])
    assert rollout.plan.steps[0].shadow is not None
    made = registry_of(home, control).resolve(f"flight_delay:{done['challenger']}").artifact().manifest.provenance.data
    assert made["name"] == "inference log"
    assert made["retrained_from"] == "flight_delay:spring"
    assert made["since"] == "2013-04-03T00:00:00+00:00"
    assert (made["rows"], made["labelled_share"], made["trigger"]) == (done["rows"], 1.0, "data drifted in 3 checks in a row")

    again = ekiben("retrain", "flight_delay")
    assert again.returncode == 1
    assert f"{rollout.id} is active" in again.stderr
    assert "ekiben rollout abort flight_delay" in again.stderr
