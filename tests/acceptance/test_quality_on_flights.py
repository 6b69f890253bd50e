"""What the scores do not say, the truth does: September is found in its first week, April is quiet, and which metric decides matters.

The version is the one that ``python -m training.flight_delay`` makes: it knows January to April, and was judged on April's last 18 days.
"""

import os
import subprocess
import sys

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from unit.monitoring.answered import MemoryLog

from ekiben.model.predictor import Predictor
from ekiben.model.signature import Batch
from ekiben.model.spec import QualitySpec
from ekiben.monitoring.drift import drift_of
from ekiben.monitoring.ground_truth import joined
from ekiben.monitoring.quality import quality_of
from ekiben.registry import BentoRegistry
from ekiben.settings import load_settings
from ekiben.state import MemoryAliases, memory_control
from ekiben.state.truth import Truth
from training.command import MODELS
from training.datasets import load_flights

pytestmark = pytest.mark.processes
DAY_S = 86_400.0
HELD_OUT = ("2013-04-13", "2013-05-01")
SEPTEMBER = ("2013-09-01", "2013-09-08")


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """The artifact of a version trained on January to April."""
    folder = tmp_path_factory.mktemp("quality")
    wanted = {"EKIBEN_HOME": str(folder / "home"), "BENTOML_HOME": str(folder / "store"), "BENTOML_DO_NOT_TRACK": "1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(MODELS.parent)
        for name, value in wanted.items():
            patch.setenv(name, value)
        command = [sys.executable, "-m", "training.flight_delay", "--tag", "flight_delay:spring", "--json"]
        subprocess.run(command, check=True, capture_output=True, env=dict(os.environ))
        yield BentoRegistry(MemoryAliases(), home=folder / "store").resolve("flight_delay:spring").artifact()


@pytest.fixture(scope="module")
def year(version):
    """All flights from April on, and the log of what the version says of them."""
    flights = load_flights(load_settings().home, first_month=4)
    answered = Predictor.open(version.path).run(Batch(flights.n, dict(flights.columns)))
    labels = np.array(version.spec.labels, object)
    inputs = {name: pa.array(column, from_pandas=True) for name, column in flights.columns.items()}
    outputs = {"prediction": pa.array(labels[answered.class_index]), "score": pa.array(answered.arrays["probabilities"][:, 1])}
    log = pa.table(
        {
            "request_id": pa.array([f"r{n}" for n in range(flights.n)]),
            "row": pa.array(np.zeros(flights.n, np.int32)),
            "time": pa.array(flights.times.astype("datetime64[us]").astype(np.int64)).cast(pa.timestamp("us", tz="UTC")),
            "version": pa.array(["spring"] * flights.n),
            "arm": pa.array(["champion"] * flights.n),
            "features": pa.StructArray.from_arrays(list(inputs.values()), list(inputs)),
            "outputs": pa.StructArray.from_arrays(list(outputs.values()), list(outputs)),
        }
    )
    return MemoryLog(log), labels[flights.target]


def seconds_of(day):
    return float(np.datetime64(day, "s").astype(np.int64))


@pytest.fixture
def quality(version, year):
    """``quality(first, end)``: the report of those days, the truth of which has come for a share of the flights."""
    log, actual = year

    def report(first, end, *, share=1.0, metric=None, threshold=None):
        since, until = seconds_of(first), seconds_of(end)
        ids = log.read("flight_delay", since=since, until=until)["request_id"].to_pylist()
        said = np.random.default_rng(0).uniform(size=len(ids)) < share
        known = memory_control().truths
        known.report(
            [
                Truth(model="flight_delay", request_id=name, row=0, time=until, actual=actual[int(name[1:])])
                for name, is_said in zip(ids, said, strict=True)
                if is_said
            ]
        )
        spec = version.spec
        if metric is not None:
            spec = msgspec.structs.replace(spec, quality=QualitySpec(metric=metric, threshold=threshold))
        found = joined(log, known, "flight_delay", since=since, until=until, version="spring", now=until + 2 * DAY_S)
        return quality_of(found, spec, since=since, until=until, version="spring", holdout=version.manifest.metrics)

    return report


@pytest.fixture
def drift(version, year):
    def report(first, end):
        table = year[0].read("flight_delay", since=seconds_of(first), until=seconds_of(end), version="spring")
        return drift_of(table, version.spec, version.profile())

    return report


def scores(report):
    return next(c for c in report.columns if c.kind == "score")


def test_the_loss_of_september_is_found_in_its_first_week(quality, version):
    report = quality(*SEPTEMBER)
    assert (report.outcome, report.metric, report.threshold) == ("bad", "f1", None)
    assert report.labelled == report.predictions == report.coverage.due_labelled > 5_000
    promised = version.manifest.metrics["f1"]
    assert report.metrics["f1"].high < 0.9 * promised
    assert f"worse than {promised:.4g} on held-out rows by more than chance" in report.summary


def test_the_truth_of_every_third_flight_is_enough_and_that_of_every_tenth_is_called_chance(quality):
    third, tenth = quality(*SEPTEMBER, share=1 / 3), quality(*SEPTEMBER, share=0.1)
    assert 1_800 < third.labelled < 2_200
    assert third.outcome == "bad"
    assert tenth.outcome == "ok"
    assert "by no more than chance" in tenth.summary


def test_a_threshold_finds_it_too(quality):
    assert quality(*SEPTEMBER, metric="f1", threshold=0.4).outcome == "bad"
    assert quality(*SEPTEMBER, metric="f1", threshold=0.3).outcome == "ok"


def test_the_scores_say_little_of_it(drift, quality):
    """The inputs have been far away since May, good months or not; the scores are where they were."""
    september, july = drift(*SEPTEMBER), drift("2013-07-01", "2013-08-01")
    assert {"temp", "dewp"} <= {c.name for c in september.drifted_columns("input")}
    assert september.drifted_columns("score", "class") == ()
    # In July, when the model did better than promised, the scores had moved further than in this week.
    assert quality("2013-07-01", "2013-08-01").outcome == "ok"
    assert scores(september).psi < scores(july).psi


@pytest.mark.parametrize("share", [1.0, 0.2, 0.03])
@pytest.mark.parametrize("window", [HELD_OUT, ("2013-04-01", "2013-05-01")])
def test_april_is_quiet(quality, window, share):
    report = quality(*window, share=share)
    assert report.labelled >= 400
    assert report.outcome == "ok", report.summary


def test_september_is_the_first_month_that_is_bad(quality):
    months = {month: quality(f"2013-0{month}-01", f"2013-{month + 1:02}-01").outcome for month in range(5, 10)}
    assert months == {5: "ok", 6: "ok", 7: "ok", 8: "ok", 9: "bad"}


def test_a_quiet_week_looks_the_same_to_f1(quality):
    """May's first week has as few late flights as September's: F1 falls with their share, whatever the model knows."""
    may, september = quality("2013-05-01", "2013-05-08"), quality(*SEPTEMBER)
    assert may.outcome == september.outcome == "bad"
    assert quality("2013-05-08", "2013-05-15").outcome == "ok"


def test_what_has_become_worse_is_what_it_expects_and_not_how_it_ranks(quality, version):
    """Which metric decides matters: by ranking and by log loss September is better than what the version was judged on."""
    report, promised = quality(*SEPTEMBER), version.manifest.metrics
    assert report.metrics["precision"].high < 0.6 * promised["precision"]
    assert report.metrics["roc_auc"].low > promised["roc_auc"]
    # Of few late flights every log loss and Brier score is low: neither can be compared with one of April, when 30 % were late.
    assert report.metrics["log_loss"].high < promised["log_loss"]
    assert quality(*SEPTEMBER, metric="log_loss").outcome == "ok"
    assert quality(*SEPTEMBER, metric="brier").outcome == "ok"
    assert quality(*SEPTEMBER, metric="precision").outcome == "bad"
    expected = sum(b.probability * b.rows for b in report.calibration)
    happened = sum(b.share * b.rows for b in report.calibration)
    assert expected > 1.5 * happened
