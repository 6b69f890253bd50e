"""A real Prometheus and a real Alertmanager with the shipped configuration, in a hurry; and who is told by them."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Self

import httpx
import yaml
from integration.running import free_port

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
SHORT = {"5m": "10s", "10m": "20s", "15m": "30s"}
"""A window of the shipped rules → what it is here. Longer ones stay: they begin with what there is."""


def in_a_hurry(text: str) -> str:
    """The shipped rules with short windows, evaluated each second and firing at once; nothing else of them is changed."""
    rules = yaml.safe_load(re.sub(rf"\[({'|'.join(SHORT)})\]", lambda found: f"[{SHORT[found[1]]}]", text))
    for group in rules["groups"]:
        group.pop("interval", None)
        for rule in group["rules"]:
            rule.pop("for", None)
    return yaml.safe_dump(rules)


@contextlib.contextmanager
def _running(command: list[str], log: Path, url: str) -> Iterator[str]:
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            until(lambda: process.poll() is not None or _is_ready(url), 30, log.read_text)
            assert process.poll() is None, log.read_text()
            yield url
        finally:
            process.terminate()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def until(is_so: Callable[[], Any], seconds: float, told: Callable[[], Any]) -> Any:
    """Waits until something holds, and returns what it was."""
    end = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < end, f"not so after {seconds} s: {told()}"
        time.sleep(0.2)
    return found


def running_alertmanager(folder: Path, webhook: str) -> contextlib.AbstractContextManager[str]:
    """The shipped Alertmanager configuration, with a webhook for each of its receivers and no time to wait."""
    config = yaml.safe_load((FOLDER / "alertmanager.yml").read_text())
    for receiver in config["receivers"]:
        receiver["webhook_configs"] = [{"url": webhook, "send_resolved": True}]
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "0s", "group_interval": "1s"}
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        str(ALERTMANAGER),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--cluster.listen-address=",
    ]
    return _running(command, folder / "alertmanager.log", url)


def running_prometheus(folder: Path, alertmanager: str, jobs: Mapping[str, int]) -> contextlib.AbstractContextManager[str]:
    """The shipped Prometheus configuration, each second; ``jobs`` are ports of this machine."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (folder / "rules").mkdir()
    for file in FOLDER.glob("rules/*.yml"):
        (folder / "rules" / file.name).write_text(in_a_hurry(file.read_text()))
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager.removeprefix("http://")]}]}]
    (shipped,) = [job for job in config["scrape_configs"] if job["job_name"] == "ekiben"]
    config["scrape_configs"] = [
        shipped | {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for name, port in jobs.items()
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={url.removeprefix('http://')}",
    ]
    return _running(command, folder / "prometheus.log", url)


def asked(prometheus: str, query: str) -> list[Any]:
    """The series that a query gives now."""
    answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": query}, timeout=10)
    assert answer.status_code == 200, f"{query}: {answer.text}"
    return answer.json()["data"]["result"]


class Webhook:
    """Who is told: an HTTP server that keeps what Alertmanager sends."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        messages = self.messages

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                messages.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/alerts"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def told(self, alert: str, status: str, **labels: str) -> list[Any]:
        """The alerts of a name and status (firing, resolved) with these labels, each with its receiver."""
        return [
            found | {"receiver": message["receiver"]}
            for message in list(self.messages)
            for found in message["alerts"]
            if found["status"] == status and found["labels"].items() >= {"alertname": alert, **labels}.items()
        ]


class Exporter:
    """Exports the same series to whoever asks."""

    def __init__(self, text: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
