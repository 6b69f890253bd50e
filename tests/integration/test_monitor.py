"""The monitor of real servers: data drifts, and everybody who should know it is told, whatever ends meanwhile."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import msgspec
import psutil
import pytest
from integration.running import Project, Running, metric
from unit.monitoring.mail_server import MailServer

from ekiben.model.monitor_spec import AlertSpec, MonitorSpec
from ekiben.model.spec import dump_spec
from ekiben.state.webhooks import headers_of

pytestmark = pytest.mark.processes

# Starts a monitor that is to end with it, and says which process that is.
PARENT = """
import os, subprocess, sys
monitor = subprocess.Popen([*sys.argv[1:], "--with-parent", str(os.getpid())])
print(monitor.pid, flush=True)
monitor.wait()
"""
ALERT = AlertSpec(when="drift", to=("webhook", "slack", "email"), severity="critical")
MONITOR = MonitorSpec(every_predictions=200, min_rows=100, alerts=(ALERT,))


class Receiver:
    """A web server that takes what is posted, after it refused the first try of each message.

    Attributes:
        taken: Path, headers and body of what it took.
        refused: Ids of what it refused.
    """

    def __init__(self) -> None:
        taken, refused = self.taken, self.refused = [], []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body, identifier = self.rfile.read(int(self.headers["content-length"])), self.headers["webhook-id"]
                is_new = identifier not in refused
                (
                    refused.append(identifier)
                    if is_new
                    else taken.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                )
                self.send_response(503 if is_new else 200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def project(tmp_path, tiny_artifact) -> Project:
    project = Project(tmp_path / "project")
    project.register(tiny_artifact, version="1")
    spec = msgspec.structs.replace(tiny_artifact.spec, monitor=MONITOR)
    (project.root / "models" / "tiny" / "model.yaml").write_text(dump_spec(spec))
    return project


def ask(server, rows, shift=0.0):
    for start in range(0, len(rows), 50):
        instances = [row | {"a": row["a"] + shift} for row in rows[start : start + 50]]
        httpx.post(f"{server.url}/v1/models/tiny:predict", json={"instances": instances}, timeout=10).raise_for_status()


def until(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} after {seconds} s"
        time.sleep(0.1)


def is_quiet(project, server, rows):
    """Whether a check finds no drift after some rows as they should be; the first may still see some of before."""
    ask(server, rows)
    time.sleep(2.5)  # rows as young as that are left to the next check
    drift, _ = json.loads(project.run("ekiben", "monitor", "check", "tiny", "--json").stdout)
    return drift["outcome"] == "ok"


def monitors(server):
    found = []
    for child in psutil.Process(server.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "monitor" in child.cmdline():
                found.append(child)
    return found


def test_drift_is_told_over_every_channel_once_and_so_is_its_end(project, tiny_rows, tmp_path):
    with Receiver() as receiver, MailServer(refuses=1) as mail:
        (tmp_path / "slack").write_text(f"{receiver.url}/slack")
        (tmp_path / "smtp").write_text(f"smtp://127.0.0.1:{mail.port}")
        (tmp_path / "secret").write_text("a secret")
        project.env |= {
            "EKIBEN_WEBHOOK_URL": f"{receiver.url}/hook",
            "EKIBEN_WEBHOOK_SECRET_FILE": str(tmp_path / "secret"),
            "EKIBEN_SLACK_URL_FILE": str(tmp_path / "slack"),
            "EKIBEN_SMTP_URL_FILE": str(tmp_path / "smtp"),
            "EKIBEN_ALERT_EMAIL_TO": "ann@example.org",
        }
        with Running(project, workers=2) as server:
            server.wait()
            until(lambda: len(monitors(server)) == 1, "there is no monitor")
            ask(server, tiny_rows(400), shift=4.0)
            until(lambda: len(receiver.taken) == 2 and mail.messages, "not all were told")
            assert sorted(path for path, _, _ in receiver.taken) == ["/hook", "/slack"]
            [(headers, body)] = [(headers, body) for path, headers, body in receiver.taken if path == "/hook"]
            message = json.loads(body)
            assert (message["type"], message["data"]["details"]["alert"]) == ("alert.firing", "drift")
            signed = headers_of(headers["webhook-id"], int(headers["webhook-timestamp"]), body, b"a secret")
            assert headers["webhook-signature"] == signed["webhook-signature"]
            assert mail.messages[0]["Subject"] == "[critical] tiny: drift"
            assert mail.messages[0].get_content().startswith("tiny:1: drift fires: a (PSI ")
            until(
                lambda: metric(httpx.get(f"{server.url}/metrics").text, "ekiben_alerts_firing", model="tiny", alert="drift") == 1,
                "no gauge",
            )
            text = httpx.get(f"{server.url}/metrics").text
            assert metric(text, "ekiben_drift_detected", model="tiny", version="1") == 1
            assert metric(text, "ekiben_drift_psi", model="tiny", column="a") > 1

            # One that is killed is followed by another, which knows what was told.
            [killed] = monitors(server)
            killed.kill()
            until(lambda: [p.pid for p in monitors(server)] not in ([], [killed.pid]), "there is no other monitor")
            assert any(is_quiet(project, server, tiny_rows(400)) for _ in range(4))
            until(lambda: len(receiver.taken) == 4 and len(mail.messages) == 2, "not all were told of the end", seconds=90)
            assert mail.messages[1]["Subject"] == "[resolved] tiny: drift"
            status = json.loads(project.run("ekiben", "monitor", "status", "tiny", "--json").stdout)
            assert (status["alerts"], {c["kind"] for c in status["checks"]}) == ([], {"drift", "quality"})
        assert len({headers["webhook-id"] for _, headers, _ in receiver.taken}) == len(receiver.refused) == 4


def test_a_monitor_by_itself_ends_at_once_and_with_its_parent(project):
    command = [sys.executable, "-m", "ekiben", "monitor", "run"]
    with subprocess.Popen(command, cwd=project.root, env=project.env, stdout=subprocess.PIPE, text=True) as alone:
        assert "checks models and tells of alerts" in alone.stdout.readline()
        alone.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert alone.wait(10) == 0
        assert time.monotonic() - began < 3
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, *command], cwd=project.root, env=project.env, stdout=subprocess.PIPE, text=True
    ) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        assert "checks models and tells of alerts" in parent.stdout.readline()
        assert child.nice() > os.getpriority(os.PRIO_PROCESS, 0)
        parent.kill()
        child.wait(3)
