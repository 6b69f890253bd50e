"""compose.yaml and prometheus.yml, validated by the programs that read them. A warning is a failure."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from ekiben.settings import load_settings

DEPLOY = Path(__file__).parents[3] / "deploy"


def config(tool, file, env=None):
    # NOTE: this build of Docker Compose exits 0 whatever it finds; what it says on stderr is what counts.
    return subprocess.run(
        [tool("docker-compose"), "-f", file, "--profile", "postgresql", "config"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nowhere", **(env or {})},
    )


def test_compose_accepts_it_without_a_warning(tool):
    done = config(tool, DEPLOY / "compose.yaml")
    assert done.returncode == 0
    assert not done.stderr, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert set(services) == {"ekiben", "prometheus", "alertmanager", "grafana", "postgresql"}
    server = services["ekiben"]
    assert server["read_only"]
    assert server["cap_drop"] == ["ALL"]
    assert [volume["target"] for volume in server["volumes"]] == ["/var/lib/ekiben"]
    assert {port["target"] for port in server["ports"]} == {3000, 3001}
    # Prometheus and Alertmanager have no password, Grafana a known one: they are reached from this machine only.
    for name in ("prometheus", "alertmanager", "grafana"):
        assert [port["host_ip"] for port in services[name]["ports"]] == ["127.0.0.1"]


def test_a_misspelt_field_would_be_a_failure(tool, tmp_path):
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DEPLOY / "compose.yaml").read_text().replace("read_only:", "readonly:"))
    assert "readonly" in config(tool, wrong).stderr


def test_what_rollouts_ask_and_tell_is_where_the_file_says(tool):
    url = "https://example.com/hooks"
    found = yaml.safe_load(config(tool, DEPLOY / "compose.yaml", {"EKIBEN_WEBHOOK_URL": url}).stdout)["services"]
    settings = load_settings(found["ekiben"]["environment"])
    assert settings.webhook_url == url
    name, port = settings.prometheus_url.removeprefix("http://").split(":")
    assert int(port) in {published["target"] for published in found[name]["ports"]}


def test_the_database_is_what_the_environment_says(tool):
    url = "postgresql://ekiben:secret@postgresql:5432/ekiben"
    for given, expected in (({}, "sqlite"), ({"EKIBEN_DATABASE_URL": url}, "postgresql://")):
        found = yaml.safe_load(config(tool, DEPLOY / "compose.yaml", given).stdout)["services"]["ekiben"]["environment"]
        assert load_settings(found).database_url.startswith(expected)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, of Debian's package prometheus")
def test_prometheus_accepts_its_configuration():
    done = subprocess.run(
        ["promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "WARN" not in (done.stdout + done.stderr).upper()


@pytest.mark.skipif(shutil.which("amtool") is None, reason="needs amtool, of Debian's package prometheus-alertmanager")
def test_alertmanager_accepts_its_configuration():
    file = DEPLOY / "prometheus" / "alertmanager.yml"
    done = subprocess.run(["amtool", "check-config", file], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_channels_that_are_commented_out_would_be_accepted_too(tmp_path):
    text = (DEPLOY / "prometheus" / "alertmanager.yml").read_text()
    uncommented = re.sub(r"^(\s+)# ( *(?:-|\w+:)[^\n]*)$", r"\1\2", text, flags=re.MULTILINE)
    people = next(r for r in yaml.safe_load(uncommented)["receivers"] if r["name"] == "people")
    assert set(people) == {"name", "webhook_configs", "slack_configs", "email_configs"}
    if amtool := shutil.which("amtool"):
        (tmp_path / "alertmanager.yml").write_text(uncommented)
        done = subprocess.run(
            [amtool, "check-config", tmp_path / "alertmanager.yml"], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr


def test_prometheus_tells_alertmanager_and_grafana_asks_prometheus():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    listens = {f"{name}:{port.split(':')[-1].split(' ')[0]}" for name, service in services.items() for port in service.get("ports", ())}
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    assert config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"][0] in listens
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"].removeprefix("http://") in listens
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


def test_what_is_mounted_is_there():
    for service in yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values():
        for volume in service.get("volumes", ()):
            assert not volume.startswith(".") or (DEPLOY / volume.split(":")[0]).exists(), volume


def test_prometheus_asks_where_the_server_is():
    jobs = {job["job_name"]: job for job in yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]}
    (target,) = jobs["ekiben"]["static_configs"][0]["targets"]
    name, port = target.split(":")
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"][name]
    assert any(text.split(":")[1].split(" ")[0] == port for text in service["ports"])
    assert jobs["ekiben"]["metrics_path"] == "/metrics"
