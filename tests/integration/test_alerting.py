"""From a fault to whoever is told, and from the servers to the dashboards: real servers, Prometheus and Alertmanager, the shipped rules."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from pathlib import Path

import pytest
import yaml
from integration.rollout_clients import Load
from integration.rollouts import Admin, ekiben, made, plan, register
from integration.running import Project, Running
from integration.watching import ALERTMANAGER, FOLDER, Exporter, Webhook, asked, running_alertmanager, running_prometheus, until

from ekiben.model.rollout_spec import QualitySpec

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed: apt install prometheus"),
    pytest.mark.skipif(ALERTMANAGER is None, reason="Alertmanager is not installed: apt install prometheus-alertmanager"),
]

DASHBOARDS = sorted((FOLDER.parent / "grafana" / "dashboards").glob("*.json"))
RECORDED = [
    rule["record"] for group in yaml.safe_load((FOLDER / "rules" / "recording.yml").read_text())["groups"] for rule in group["rules"]
]

# What is found by checks, which need more rows and time than a test has: drift, quality, and alerts of `ekiben monitor`.
INJECTED = """
# TYPE ekiben_drift_psi gauge
ekiben_drift_psi{model="tried",version="v1",column="f"} 0.31
ekiben_drift_psi{model="tried",version="v1",column="a"} 0.01
# TYPE ekiben_drift_detected gauge
ekiben_drift_detected{model="tried",version="v1"} 1
# TYPE ekiben_quality gauge
ekiben_quality{model="tried",version="v1",arm="champion",metric="f1"} 0.83
# TYPE ekiben_quality_coverage gauge
ekiben_quality_coverage{model="tried",version="v1"} 0.72
# TYPE ekiben_check_timestamp_seconds gauge
ekiben_check_timestamp_seconds{model="tried",version="v1",kind="drift"} 1.7e9
ekiben_check_timestamp_seconds{model="tried",version="v1",kind="quality"} 1.7e9
# TYPE ekiben_alerts_firing gauge
ekiben_alerts_firing{model="tried",alert="drift"} 1
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Two workers with two models: in version 2 both fail in one of ten requests."""
    folder = tmp_path_factory.mktemp("alerting")
    project = Project(folder / "project")
    quality = {"quality": QualitySpec(metric="f1", threshold=0.5)}
    versions = [
        (made(folder, name, kind, seed=seed, **quality), version)
        for name in ("tried", "flaky")
        for kind, seed, version in (("good", 1, "v1"), ("failing", 2, "v2"))
    ]
    register(project, versions)
    with Running(project, EKIBEN_ACCESS_LOG_RATE="0") as running:
        running.wait()
        yield running


@pytest.fixture(scope="module")
def webhook():
    with Webhook() as told:
        yield told


@pytest.fixture(scope="module")
def prometheus(server, webhook, tmp_path_factory):
    """Its address; it sees the server, what is injected, and tells Alertmanager."""
    folder = tmp_path_factory.mktemp("watching")
    with (
        Exporter(INJECTED) as injected,
        running_alertmanager(folder, webhook.url) as alertmanager,
        running_prometheus(folder, alertmanager, {"ekiben": server.port, "injected": injected.port}) as url,
    ):
        until(lambda: asked(url, 'up{job="ekiben"} == 1'), 30, lambda: asked(url, "up"))
        yield url


def test_a_fault_reaches_people_and_so_does_its_end(server, prometheus, webhook):
    with Load(server, model="flaky", rate=120, truth=False) as load:
        until(lambda: asked(prometheus, 'model:ekiben_requests:rate5m{model="flaky"} > 50'), 30, lambda: asked(prometheus, "up"))
        assert asked(prometheus, 'ALERTS{model="flaky"}') == []

        server.project.run("ekiben", "models", "alias", "flaky", "champion", "v2")
        (alert, *_) = until(lambda: webhook.told("EkibenHighErrorRate", "firing", model="flaky"), 60, lambda: webhook.messages)
        assert load.failures()
        assert alert["labels"]["severity"] == "critical"
        assert alert["receiver"] == "pager"
        assert re.fullmatch(r"[\d.]+% of the requests to flaky fail", alert["annotations"]["summary"])
        assert "Most often: PredictionFailed of version v2." in alert["annotations"]["description"]
        assert alert["annotations"]["runbook_url"].endswith("#ekibenhigherrorrate")

        ended = time.time()
        ekiben(server.project, "rollback", "flaky", "--to", "v1")
        until(lambda: webhook.told("EkibenHighErrorRate", "resolved", model="flaky"), 60, lambda: webhook.messages)
        assert [a for a in load.between(ended + 2) if a.is_failed] == []
    # Not everybody is alarmed by one model's fault.
    assert webhook.told("EkibenHighErrorRate", "firing", model="tried") == []
    assert webhook.told("EkibenServerDown", "firing", instance=f"127.0.0.1:{server.port}") == []


@pytest.fixture(scope="module")
def trial(server, prometheus):
    """A challenger that was a shadow and now answers half of the users, badly; the champion steps in."""
    lenient = {"metrics": [{"name": "errorRate", "dryRun": True}]}
    file = plan(server.project, {"shadow": {}}, {"pause": "3s"}, {"setWeight": 50}, {"pause": "until approved"}, analysis=lenient)
    with Load(server, model="tried", rate=120) as load, Admin(server) as admin:
        time.sleep(1)
        ekiben(server.project, "rollout", "start", "tried", "--to", "v2", "--plan", file)
        admin.until("tried", is_so=lambda s: s["step"] == 3, seconds=60)
        yield load
    assert load.failures() == []
    assert load.refused == []


def has_numbers(prometheus, query):
    return any(math.isfinite(float(series["value"][1])) for series in asked(prometheus, query))


def without_data(prometheus, queries, seconds=40):
    """Which of the queries give no finite number, even after a while."""
    end = time.monotonic() + seconds
    missing = list(queries)
    while (missing := [query for query in missing if not has_numbers(prometheus, query)]) and time.monotonic() < end:
        time.sleep(0.5)
    return missing


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_every_panel_shows_data(prometheus, trial, file: Path):
    dashboard = json.loads(file.read_text())
    values = {"model": "tried", "version": ".*", "__rate_interval": "10s"}
    queries = {
        re.sub(r"\$(\w+)", lambda found: values[found[1]], target["expr"]): panel["title"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()
            queries[f"count by ({label}) ({series.replace('$model', 'tried')})"] = f"variable {label}"
    missing = without_data(prometheus, queries)
    assert not missing, [f"{queries[query]}: {query}" for query in missing]


def test_every_recorded_rule_has_data(prometheus, trial):
    assert without_data(prometheus, RECORDED) == []


def test_limits_and_ground_truth_are_exported(server, prometheus, trial):
    (threshold, *_) = asked(prometheus, 'ekiben_quality_threshold{model="tried",version="v1",metric="f1"}')
    assert float(threshold["value"][1]) == 0.5
    (budget, *_) = asked(prometheus, 'ekiben_latency_budget_seconds{model="tried",version="v1"}')
    assert float(budget["value"][1]) == 0.05
    (counted,) = asked(prometheus, 'sum(ekiben_ground_truth_total{model="tried"})')
    assert 0 < float(counted["value"][1]) <= trial.told
    (age,) = asked(prometheus, 'time() - max(ekiben_ground_truth_timestamp_seconds{model="tried"})')
    assert float(age["value"][1]) < 30


def test_drift_that_a_check_found_is_for_the_day(prometheus, webhook):
    (alert, *_) = until(lambda: webhook.told("EkibenDrift", "firing", model="tried"), 30, lambda: webhook.messages)
    assert alert["receiver"] == "people"
    assert alert["annotations"]["description"].endswith("f 0.31 a 0.01.")
