"""No secret leaves a server: everything that can go wrong goes wrong, and then all that was written anywhere is searched."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
from urllib.parse import quote

import httpx
import pytest
from integration.rollouts import made, plan, register
from integration.running import Project, Running, free_port
from integration.watching import until

pytestmark = pytest.mark.processes

ROWS = {"instances": [dict.fromkeys("abcdef", 0.1)]}
WRONG = (
    # What a person who configures a server may mistype, with the secret in it.
    {"EKIBEN_WEBHOOK_URL": "hooks.example/{}"},
    {"EKIBEN_PROMETHEUS_URL": "ann:{}@prometheus:9090"},
    {"EKIBEN_LOG_URI": "https://ann:{}@storage/folder"},
    {"EKIBEN_REDIS_URL": "http://ann:{}@redis:6379"},
    {"EKIBEN_DATABASE_URL": "mysql://ann:{}@database/control"},
    {"EKIBEN_DATABASE_URL": "postgresql://ann:{}@127.0.0.1:1/control"},
    {"EKIBEN_DATABASE_URL": "postgresql:///control?host=127.0.0.1&port=1&user=ann&password={}"},
    {"EKIBEN_DATABASE_URL": "{}"},
)
ALERT = """
import time
from ekiben.settings import load_settings
from ekiben.state.alerts import ALERT, QUEUE
from ekiben.state.deliveries import Delivery
from ekiben.state.events import Event
from ekiben.state.opening import open_control
control = open_control(load_settings())
(event,) = control.events.append([Event(time=time.time(), who="tests", model="tried", kind=ALERT, message="it is on fire")])
control.deliveries.add([Delivery(event=event, url=name, queue=QUEUE, due=time.time()) for name in ("slack", "email", "webhook")])
"""


class Secrets:
    """Distinctive secrets, by what they are for."""

    def __init__(self) -> None:
        self.by_name: dict[str, str] = {}

    def new(self, name: str) -> str:
        return self.by_name.setdefault(name, f"hush-{name}-{secrets.token_hex(12)}")

    def found_in(self, text: str) -> list[str]:
        """Names of the secrets that a text has, as they are, in a URL, or in base64."""
        return [name for name, value in self.by_name.items() if any(form in text for form in _forms(value))]


def _forms(value: str) -> set[str]:
    # In the middle of something that is base64 as a whole, a secret's own is at one of three offsets.
    encoded = {base64.b64encode(b"x" * skipped + value.encode()).decode()[4:-4] for skipped in range(3)}
    return {value, quote(value, safe=""), *encoded}


@pytest.fixture(scope="module")
def hush():
    return Secrets()


@pytest.fixture(scope="module")
def project(tmp_path_factory, postgresql_server, hush):
    """A project in whose settings there is a secret wherever one can be; of what they name, only the database answers."""
    folder = tmp_path_factory.mktemp("secrets")
    project = Project(folder / "project")
    nowhere = f"127.0.0.1:{free_port()}"
    files = {
        "EKIBEN_WEBHOOK_SECRET_FILE": hush.new("webhook-secret"),
        "EKIBEN_SLACK_URL_FILE": f"http://{nowhere}/services/{hush.new('slack')}",
        "EKIBEN_SMTP_URL_FILE": f"smtp://ann:{hush.new('smtp')}@{nowhere}",
        "EKIBEN_ADMIN_KEY_FILE": hush.new("admin-key"),
        "EKIBEN_SIGNING_PASSPHRASE_FILE": hush.new("passphrase"),
    }
    for name, content in files.items():
        file = folder / name.lower()
        file.write_text(content)
        file.chmod(0o600)
        project.env[name] = str(file)
    database = postgresql_server.new_database()
    project.env |= {
        "EKIBEN_DATABASE_URL": database.replace("ekiben@", f"ekiben:{hush.new('database')}@"),
        "EKIBEN_REDIS_URL": f"redis://:{hush.new('redis')}@{nowhere}/0",
        "EKIBEN_PROMETHEUS_URL": f"http://ann:{hush.new('prometheus')}@{nowhere}",
        "EKIBEN_WEBHOOK_URL": f"http://{nowhere}/{hush.new('webhook')}",
        "EKIBEN_LOG_URI": "s3://bucket/log",
        "EKIBEN_ALERT_EMAIL_TO": "ann@example.org",
        "EKIBEN_OIDC_ISSUER": f"http://{nowhere}",
        "EKIBEN_OIDC_AUDIENCE": "ekiben",
        "EKIBEN_ACCESS_LOG_RATE": "1",
        "AWS_ACCESS_KEY_ID": hush.new("s3-id"),
        "AWS_SECRET_ACCESS_KEY": hush.new("s3-secret"),
        "AWS_ENDPOINT_URL": f"http://{nowhere}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    register(project, [(made(folder, "tried", "good", seed=seed), f"v{seed}") for seed in (1, 2)])
    return project


def test_nothing_that_is_written_anywhere_holds_a_secret(project, hush, postgresql_server):
    said: dict[str, str] = {}
    api_key = json.loads(project.run("ekiben", "keys", "create", "ann", "--scope", "predict", "--json").stdout)["key"]
    hush.by_name["api-key"] = api_key.rpartition("_")[2]
    with Running(project) as server:
        server.wait()
        said |= _asked(server, hush, api_key)
        _roll_out(project, server)
        subprocess.run([sys.executable, "-c", ALERT], env=project.env, cwd=project.root, check=True, timeout=60)
        until(
            lambda: _dump(project).count("nothing answers") >= 2 and "the mail server did not take it" in _dump(project),
            60,
            server.log.read_text,
        )
        said |= _seen(server, project, hush)
        with postgresql_server.stopped():
            until(lambda: "the control database" in server.log.read_text(), 30, server.log.read_text)
            said["/readyz without the database"] = httpx.get(f"{server.url}/readyz").text
            said["a command without the database"] = _output(project, "models", "list")
        said["the control database"] = _dump(project)
    said["the server's output"] = server.log.read_text()
    secret = hush.new("mistyped")
    mistyped = [(("models", "list"), {name: value.format(secret) for name, value in wrong.items()}) for wrong in WRONG]
    printed = _printed(project, mistyped)
    assert all("error: " in text for text in printed), printed
    said |= dict(zip(map(str, WRONG), printed, strict=True))
    for file in (project.root / "home").rglob("*"):
        if file.is_file():
            said[str(file.relative_to(project.root))] = file.read_bytes().decode("latin-1")

    assert {where: found for where, text in said.items() if (found := hush.found_in(text))} == {}
    # It was looked where something was said: of the failures that this is about, each was told of.
    for where, words in (
        (
            "the server's output",
            ("the control database", '"path":"/v1/models/tried:predict","status":401', "s3://bucket/log does not work"),
        ),
        ("the control database", ("nothing answers", "Prometheus at", "it is on fire")),
    ):
        assert all(word in said[where] for word in words), (where, said[where][-5000:])
    assert hush.found_in(f"Basic {base64.b64encode(('ann:' + hush.by_name['prometheus']).encode()).decode()}") == ["prometheus"]


def _asked(server: Running, hush: Secrets, api_key: str) -> dict[str, str]:
    """What comes back with credentials that are good, and bad."""
    bad_key = f"{api_key.rpartition('_')[0]}_{hush.new('bad-key')}"
    claims = base64.urlsafe_b64encode(json.dumps({"sub": hush.new("jwt"), "iss": "x"}).encode()).decode().rstrip("=")
    token = f"eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.{claims}.{hush.new('jwt-signature')}"
    said = {}
    for name, key in (("a good key", api_key), ("a bad key", bad_key), ("a token", token), ("an admin key", hush.by_name["admin-key"])):
        for path in ("/v1/models/tried:predict", "/v1/models/none:predict", "/admin/v1/rollouts"):
            for headers in ({"authorization": f"Bearer {key}"}, {"x-api-key": key}):
                answer = httpx.post(server.url + path, json=ROWS, headers=headers)
                said[f"{path} with {name} in {next(iter(headers))}"] = f"{answer.status_code} {answer.headers} {answer.text}"
    answer = httpx.post(f"{server.url}/v1/models/tried:predict?api_key={hush.new('query-key')}", json=ROWS)
    said["a key in the query"] = f"{answer.headers} {answer.text}"
    return said


def _roll_out(project: Project, server: Running) -> None:
    """A rollout that asks Prometheus, and tells webhooks, none of which answers."""
    steps = plan(
        project,
        {"setWeight": 50},
        {"pause": "2s"},
        analysis={"metrics": [{"name": "mine", "prometheus": {"query": "up"}, "failureCondition": "result > 1"}]},
    )
    project.run("ekiben", "rollout", "start", "tried", "--to", "v2", "--plan", steps)
    until(lambda: "Prometheus at" in _output(project, "rollout", "status", "tried", "--json"), 60, server.log.read_text)
    project.run("ekiben", "rollout", "abort", "tried")


def _seen(server: Running, project: Project, hush: Secrets) -> dict[str, str]:
    """What a server shows, and what commands print."""
    said = {path: httpx.get(server.url + path).text for path in ("/metrics", "/readyz", "/healthz", "/v1/models", "/docs.json", "/none")}
    with_user = server.url.replace("//", f"//ann:{hush.new('server-url')}@")
    commands = (
        ("models", "list", "--json"), ("models", "show", "tried", "--json"), ("keys", "list", "--json"), ("audit", "--json"),
        ("rollout", "status", "tried", "--json"), ("rollout", "history", "tried", "--json"), ("log", "status", "--json"),
        ("database", "status", "--json"), ("monitor", "status", "--json"),
        ("rollout", "status", "tried", "--server", with_user, "--key", hush.new("typed-key")),
    )  # fmt: skip
    return said | dict(
        zip((" ".join(words[:3]) for words in commands), _printed(project, [(words, {}) for words in commands]), strict=True)
    )


def _printed(project: Project, commands: list[tuple[tuple[str, ...], dict[str, str]]]) -> list[str]:
    """What commands print, each with settings of its own; all in one process, as each would take a second to begin."""
    script = (
        "import json, os, sys; from click.testing import CliRunner; from ekiben.cli import main;"
        "print(json.dumps([CliRunner(env=env).invoke(main, words).output for words, env in json.loads(sys.argv[1])]))"
    )
    command = [sys.executable, "-c", script, json.dumps(commands)]
    done = subprocess.run(command, cwd=project.root, env=project.env, capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


def _output(project: Project, *words: str) -> str:
    done = project.run("ekiben", *words, check=False)
    return done.stdout + done.stderr


def _dump(project: Project) -> str:
    url = project.env["EKIBEN_DATABASE_URL"]
    return subprocess.run(["pg_dump", "--inserts", url], env={**os.environ}, capture_output=True, text=True, check=True, timeout=60).stdout
