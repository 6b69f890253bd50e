"""Metrics of one's own, measured with a real Prometheus that scrapes a real exporter."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest

from ekiben.errors import MeasurementFailed
from ekiben.model.rollout_spec import PrometheusSpec
from ekiben.rollout.analysis import Evidence, measure
from ekiben.rollout.plan import ResolvedMetric
from ekiben.rollout.prometheus import PrometheusQuery

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed: apt install prometheus"),
]

EXPORTED = b"""
# TYPE late_share gauge
late_share{version="v1"} 0.10
late_share{version="v2"} 0.25
# TYPE nothing gauge
nothing NaN
"""
EVIDENCE = Evidence(model="flights", champion_version="v1", challenger_version="v2", task="regression")


class _Exporter(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(EXPORTED)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def exporter():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Exporter)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def prometheus(exporter, tmp_path_factory):
    """The address of a Prometheus that has scraped the exporter."""
    folder = tmp_path_factory.mktemp("prometheus")
    target = f"static_configs: [{{targets: ['127.0.0.1:{exporter}']}}]"
    (folder / "prometheus.yml").write_text(f"scrape_configs: [{{job_name: x, scrape_interval: 1s, scrape_timeout: 1s, {target}}}]")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        address = f"http://127.0.0.1:{port}"
        try:
            until = time.monotonic() + 30
            while not _has_scraped(address):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until, (folder / "log").read_text()
                time.sleep(0.2)
            yield address
        finally:
            process.terminate()


def _has_scraped(address):
    try:
        answer = httpx.get(f"{address}/api/v1/query", params={"query": "count(late_share)"}).json()
    except (httpx.HTTPError, ValueError):
        return False
    return bool(answer.get("data", {}).get("result"))


def measured(address, query, **conditions):
    metric = ResolvedMetric(name="mine", prometheus=PrometheusSpec(query=query), **conditions)
    found = measure(metric, EVIDENCE, rollout="flights-1", step=0, now=0.0, query=PrometheusQuery(address))
    assert found is not None
    return found


def test_the_challengers_number_is_held_against_the_conditions(prometheus):
    query = 'late_share{version="{{challenger}}"}'

    passed = measured(prometheus, query, success_condition="result < 0.3")
    assert (passed.outcome, passed.value) == ("Successful", 0.25)
    assert measured(prometheus, query, success_condition="result < 0.2").outcome == "Failed"
    assert measured(prometheus, query, success_condition="result < 0.2", failure_condition="result > 0.3").outcome == "Inconclusive"


def test_challenger_against_champion_is_a_query_too(prometheus):
    query = 'scalar(late_share{version="{{challenger}}"}) / scalar(late_share{version="{{champion}}"})'

    assert measured(prometheus, query, failure_condition="result[0] > 2").outcome == "Failed"


def test_no_series_and_nan_are_inconclusive(prometheus):
    assert measured(prometheus, 'late_share{version="v3"}', success_condition="result < 1").outcome == "Inconclusive"
    assert measured(prometheus, "nothing", success_condition="result < 1").outcome == "Inconclusive"


@pytest.mark.parametrize(
    ("query", "message"),
    [("late_share", "gives 2 series"), ("late_share[1m]", "gives a matrix"), ("late_share{", "refuses late_share{: invalid parameter")],
)
def test_what_is_not_one_number_is_an_error(prometheus, query, message):
    found = measured(prometheus, query, success_condition="result < 1")

    assert found.outcome == "Error"
    assert message in found.message


def test_a_server_that_is_away_is_an_error(exporter):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{free.getsockname()[1]}"

        assert measured(away, "up", success_condition="result < 1").outcome == "Error"
    with pytest.raises(MeasurementFailed, match="is no Prometheus server"):
        PrometheusQuery(f"http://127.0.0.1:{exporter}")(PrometheusSpec(query="up"))


def test_a_server_that_does_not_answer_is_an_error_in_time():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(MeasurementFailed, match=r"does not answer within 0\.2 s"):
            PrometheusQuery(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)(PrometheusSpec(query="up"))
