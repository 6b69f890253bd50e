from __future__ import annotations

import re
from pathlib import Path

import pytest

from ekiben import settings
from ekiben.errors import SettingError
from ekiben.settings import Settings, load_settings


def test_defaults_need_no_variables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = load_settings({})

    assert found.home == tmp_path / ".ekiben"
    assert found.database_url == f"sqlite:///{tmp_path}/.ekiben/control.db"
    assert found.workers >= 1
    assert found.onnx_providers == ()
    assert found == Settings(home=found.home, database_url=found.database_url, workers=found.workers)


def test_every_variable_is_read(tmp_path):
    files = {part: tmp_path / f"{part}.pem" for part in ("certificate", "key", "client_ca")}
    for file in files.values():
        file.touch()
    found = load_settings(
        {
            "EKIBEN_HOME": "~/e",
            "EKIBEN_DATABASE_URL": "postgresql://x",
            "EKIBEN_WORKERS": "3",
            "EKIBEN_MAX_BODY_BYTES": "2048",
            "EKIBEN_DRAIN_S": "0.5",
            "EKIBEN_HANG_S": "0",
            "EKIBEN_WORKER_MAX_MB": "1500.5",
            "EKIBEN_ACCESS_LOG_RATE": "1",
            "EKIBEN_ONNX_PROVIDERS": "CUDAExecutionProvider, CPUExecutionProvider,",
            "EKIBEN_DATA_PORT": "8001",
            "EKIBEN_DATA_HOST": "::1",
            "EKIBEN_TLS_CERTIFICATE": str(files["certificate"]),
            "EKIBEN_TLS_KEY": str(files["key"]),
            "EKIBEN_TLS_CLIENT_CA": str(files["client_ca"]),
            "EKIBEN_PLATFORM_PORT": "8080",
            "EKIBEN_PLATFORM_MODEL": "tiny",
            "EKIBEN_REPOSITORY_API": "on",
            "AIP_HEALTH_ROUTE": "/health",
            "AIP_PREDICT_ROUTE": "/predict",
            "OTHER": "x",
        }
    )

    assert found == Settings(
        home=Path.home() / "e",
        database_url="postgresql://x",
        workers=3,
        max_body_bytes=2048,
        drain_s=0.5,
        hang_s=0.0,
        worker_max_mb=1500.5,
        access_log_rate=1.0,
        onnx_providers=("CUDAExecutionProvider", "CPUExecutionProvider"),
        data_port=8001,
        data_host="::1",
        tls_certificate=files["certificate"],
        tls_key=files["key"],
        tls_client_ca=files["client_ca"],
        platform_port=8080,
        platform_model="tiny",
        repository_api=True,
        health_route="/health",
        predict_route="/predict",
    )


# hosting platforms ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("environ", "port"),
    [
        ({}, 0),
        ({"AIP_HTTP_PORT": "8080"}, 8080),
        ({"PORT": "8081", "K_SERVICE": "mine"}, 8081),
        ({"PORT": "8081"}, 0),
        ({"PORT": "8081", "K_SERVICE": ""}, 0),
        ({"SAGEMAKER_BIND_TO_PORT": "8082"}, 8082),
        ({"PORT": "", "K_SERVICE": "mine", "SAGEMAKER_BIND_TO_PORT": "8082"}, 8082),
        ({"AIP_HTTP_PORT": "8080", "PORT": "8081", "K_SERVICE": "mine", "SAGEMAKER_BIND_TO_PORT": "8082"}, 8080),
        ({"EKIBEN_PLATFORM_PORT": "9000", "AIP_HTTP_PORT": "8080"}, 9000),
        ({"EKIBEN_PLATFORM_PORT": "0", "AIP_HTTP_PORT": "8080"}, 0),
        ({"EKIBEN_PLATFORM_PORT": "", "AIP_HTTP_PORT": "8080"}, 8080),
    ],
)
def test_the_platforms_port_is_our_own_settings_or_what_the_platform_says(environ, port):
    assert load_settings(environ).platform_port == port


def test_a_platforms_port_that_is_none_is_named():
    with pytest.raises(SettingError, match="AIP_HTTP_PORT is 'http'"):
        load_settings({"AIP_HTTP_PORT": "http"})
    with pytest.raises(SettingError, match="PORT is '70000'"):
        load_settings({"K_SERVICE": "mine", "PORT": "70000"})


@pytest.mark.parametrize("name", ["AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE"])
def test_a_route_begins_with_a_slash(name):
    with pytest.raises(SettingError, match=f"{name} is 'health'; it must be a path that begins with /"):
        load_settings({name: "health"})
    assert load_settings({name: ""}) == load_settings({})


# the log ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("uri", ["s3://bucket/folder", "gs://bucket", "az://container/x", "file:///shared/log", "memory://log"])
def test_places_that_the_log_is_shipped_to(uri):
    assert load_settings({"EKIBEN_LOG_URI": uri}).log_uri == uri
    assert load_settings({"EKIBEN_LOG_URI": f"{uri}/"}).log_uri == uri


@pytest.mark.parametrize("uri", ["bucket/folder", "/shared/log", "s3://", "s3:///", "ftp://host/x", "s3:bucket", "file://"])
def test_places_that_it_cannot_be_shipped_to(uri):
    with pytest.raises(SettingError, match=re.escape(f"EKIBEN_LOG_URI is {uri!r}; it must be a place like s3://bucket/folder")):
        load_settings({"EKIBEN_LOG_URI": uri})


# switches and files ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("text", "expected"), [("on", True), ("off", False), ("", False)])
def test_a_switch(text, expected):
    assert load_settings({"EKIBEN_REPOSITORY_API": text}).repository_api is expected


@pytest.mark.parametrize("text", ["ON", "true", "1", "yes"])
def test_a_switch_is_on_or_off(text):
    with pytest.raises(SettingError, match=f"EKIBEN_REPOSITORY_API is '{text}'; it must be on or off"):
        load_settings({"EKIBEN_REPOSITORY_API": text})


@pytest.mark.parametrize(
    ("given", "lacks"),
    [
        (["CERTIFICATE"], "EKIBEN_TLS_CERTIFICATE needs EKIBEN_TLS_KEY"),
        (["KEY"], "EKIBEN_TLS_KEY needs EKIBEN_TLS_CERTIFICATE"),
        (["CLIENT_CA"], "EKIBEN_TLS_CLIENT_CA needs EKIBEN_TLS_CERTIFICATE"),
        (["CERTIFICATE", "CLIENT_CA"], "EKIBEN_TLS_CERTIFICATE needs EKIBEN_TLS_KEY"),
        (["KEY", "CLIENT_CA"], "EKIBEN_TLS_KEY needs EKIBEN_TLS_CERTIFICATE"),
    ],
)
def test_tls_is_whole_or_not_at_all(tmp_path, given, lacks):
    (tmp_path / "x.pem").touch()
    with pytest.raises(SettingError, match=f"{lacks} beside it"):
        load_settings({f"EKIBEN_TLS_{part}": str(tmp_path / "x.pem") for part in given})


@pytest.mark.parametrize("part", ["CERTIFICATE", "KEY", "CLIENT_CA"])
def test_a_file_of_tls_that_is_not_there(tmp_path, part):
    (tmp_path / "x.pem").touch()
    environ = {f"EKIBEN_TLS_{p}": str(tmp_path / "x.pem") for p in ("CERTIFICATE", "KEY", "CLIENT_CA")}
    with pytest.raises(SettingError, match=f"EKIBEN_TLS_{part} is '.*gone.pem'; there is no such file"):
        load_settings({**environ, f"EKIBEN_TLS_{part}": str(tmp_path / "gone.pem")})


def test_a_file_of_tls_is_found_from_wherever_the_server_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pem").touch()
    found = load_settings({"EKIBEN_TLS_CERTIFICATE": "x.pem", "EKIBEN_TLS_KEY": "x.pem"})
    assert (found.tls_certificate, found.tls_key, found.tls_client_ca) == (tmp_path / "x.pem", tmp_path / "x.pem", None)


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("EKIBEN_WORKERS", "0", "from 1 to 1024"),
        ("EKIBEN_WORKERS", "many", "from 1 to 1024"),
        ("EKIBEN_WORKERS", "nan", "from 1 to 1024"),
        ("EKIBEN_WORKERS", "1.5", "a whole number"),
        ("EKIBEN_ACCESS_LOG_RATE", "1.01", "from 0 to 1"),
        ("EKIBEN_MAX_BODY_BYTES", "inf", "from 1024"),
        ("EKIBEN_DRAIN_S", "-1", "from 0 to 3600"),
        ("EKIBEN_HANG_S", "never", "from 0 to 86400"),
        ("EKIBEN_WORKER_MAX_MB", "-5", "from 0 to"),
        ("EKIBEN_DATA_PORT", "65536", "from 0 to 65535"),
        ("EKIBEN_PLATFORM_PORT", "-1", "from 0 to 65535"),
    ],
)
def test_a_bad_value_is_named_with_what_would_be_right(name, value, right):
    with pytest.raises(SettingError, match=f"{name} is '{re.escape(value)}'; it must be .*{right}"):
        load_settings({name: value})


def test_a_misspelt_setting_is_no_silent_default():
    with pytest.raises(SettingError, match=r"EKIBEN_WORKER is not a setting; there are .*EKIBEN_WORKERS"):
        load_settings({"EKIBEN_WORKER": "2"})


def test_an_empty_variable_is_the_default():
    assert load_settings({"EKIBEN_WORKERS": "", "EKIBEN_HOME": ""}).workers == load_settings({}).workers


def test_the_table_in_the_docstring_lists_every_setting():
    documented = set(re.findall(r"^\| ``(EKIBEN_\w+)``", settings.__doc__ or "", re.MULTILINE))
    of_platforms = {"AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE"}
    assert documented == {f"EKIBEN_{name.upper()}" for name in Settings.__struct_fields__} - {
        name.replace("AIP", "EKIBEN") for name in of_platforms
    }
    for name in (*of_platforms, "AIP_HTTP_PORT", "PORT", "K_SERVICE", "SAGEMAKER_BIND_TO_PORT"):
        assert f"``{name}``" in (settings.__doc__ or "")
    assert load_settings(dict.fromkeys(documented, "")) == load_settings({})


# alerts ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_channels_of_alerts_are_addresses_and_files_that_hold_secrets(tmp_path):
    for name in ("slack", "smtp"):
        (tmp_path / name).write_text("https://secret")
    found = load_settings(
        {
            "EKIBEN_SLACK_URL_FILE": str(tmp_path / "slack"),
            "EKIBEN_SMTP_URL_FILE": str(tmp_path / "smtp"),
            "EKIBEN_ALERT_EMAIL_TO": "ann@example.org, bob@example.org,",
            "EKIBEN_ALERT_EMAIL_FROM": "ekiben@example.org",
        }
    )
    assert (found.slack_url_file, found.smtp_url_file) == (tmp_path / "slack", tmp_path / "smtp")
    assert (found.alert_email_to, found.alert_email_from) == (("ann@example.org", "bob@example.org"), "ekiben@example.org")
    assert load_settings({}).alert_email_from == "ekiben@localhost"


@pytest.mark.parametrize("address", ["ann", "@example.org", "ann@", "ann bob@example.org", "ann@example.org;bob@example.org x"])
def test_an_address_that_is_none_is_named(address):
    with pytest.raises(SettingError, match=r"EKIBEN_ALERT_EMAIL_TO has .*; it must be an address like ann@example\.org"):
        load_settings({"EKIBEN_ALERT_EMAIL_TO": f"eve@example.org, {address}"})


def test_signers_are_a_file_or_a_folder_that_is_there(tmp_path, monkeypatch):
    (tmp_path / "ann.pem").touch()
    monkeypatch.chdir(tmp_path)
    for place in (tmp_path, tmp_path / "ann.pem"):
        assert load_settings({"EKIBEN_TRUSTED_SIGNERS": str(place)}).trusted_signers == place
    assert load_settings({"EKIBEN_TRUSTED_SIGNERS": "ann.pem"}).trusted_signers == tmp_path / "ann.pem"
    with pytest.raises(SettingError, match=r"EKIBEN_TRUSTED_SIGNERS is 'none.pem'; there is no such file or folder"):
        load_settings({"EKIBEN_TRUSTED_SIGNERS": "none.pem"})


@pytest.mark.parametrize(
    ("text", "expected"), [("", False), ("off", False), ("on", True), ("a:1", ("a:1",)), (" a:1 , b:2,", ("a:1", "b:2"))]
)
def test_pickles_are_trusted_by_all_or_by_tag(text, expected):
    assert load_settings({"EKIBEN_TRUST_PICKLE": text}).trust_pickle == expected


@pytest.mark.parametrize("text", ["yes", "a", "a:", ":1", "a:1,b", "a b:1", "on,a:1"])
def test_what_names_no_version_trusts_none(text):
    with pytest.raises(SettingError, match=r"EKIBEN_TRUST_PICKLE has .*; it must be on, off, or NAME:VERSION"):
        load_settings({"EKIBEN_TRUST_PICKLE": text})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EKIBEN_WEBHOOK_URL", "hooks.example/T0/hush"),
        ("EKIBEN_PROMETHEUS_URL", "ann:hush@prometheus:9090"),
        ("EKIBEN_REDIS_URL", "ann:hush@redis:6379"),
        ("EKIBEN_LOG_URI", "https://ann:hush@storage/folder?signature=hush"),
    ],
)
def test_an_address_that_may_hold_a_secret_is_not_quoted(name, value):
    with pytest.raises(SettingError, match=name) as failure:
        load_settings({name: value})
    assert "hush" not in str(failure.value)


OIDC = {"EKIBEN_OIDC_ISSUER": "https://issuer.test/", "EKIBEN_OIDC_AUDIENCE": "ekiben"}


@pytest.mark.parametrize("url", ["redis://ann:hush@redis:6379/1", "rediss://redis", "unix:///run/redis.sock"])
def test_a_redis_is_named_by_url(url):
    assert load_settings({"EKIBEN_REDIS_URL": url}).redis_url == url


def test_who_may_ask():
    assert load_settings({}).auth == "open"
    found = load_settings({**OIDC, "EKIBEN_AUTH": "required"})
    assert (found.auth, found.oidc_issuer, found.oidc_audience) == ("required", "https://issuer.test/", "ekiben")  # the slash is its own
    assert (found.oidc_jwks_url, found.oidc_algorithms, found.oidc_scope_claim) == ("", ("RS256", "ES256"), "scope")
    more = {"EKIBEN_OIDC_JWKS_URL": "http://localhost:8/k"}
    more |= {"EKIBEN_OIDC_ALGORITHMS": " ES384 ,Ed25519,", "EKIBEN_OIDC_SCOPE_CLAIM": "roles"}
    found = load_settings({**OIDC, **more})
    assert (found.oidc_jwks_url, found.oidc_algorithms, found.oidc_scope_claim) == ("http://localhost:8/k", ("ES384", "Ed25519"), "roles")
    for host in ("127.0.0.1:1", "localhost", "[::1]/realm"):
        assert load_settings({**OIDC, "EKIBEN_OIDC_ISSUER": f"http://{host}"}).oidc_issuer == f"http://{host}"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"EKIBEN_AUTH": "off"}, "EKIBEN_AUTH is 'off'; it must be open or required"),
        ({"EKIBEN_OIDC_ISSUER": "https://issuer.test"}, "needs EKIBEN_OIDC_AUDIENCE beside it"),
        ({"EKIBEN_OIDC_AUDIENCE": "ekiben"}, "EKIBEN_OIDC_AUDIENCE needs EKIBEN_OIDC_ISSUER"),
        ({"EKIBEN_OIDC_SCOPE_CLAIM": "roles"}, "EKIBEN_OIDC_SCOPE_CLAIM needs EKIBEN_OIDC_ISSUER"),
        ({**OIDC, "EKIBEN_OIDC_ISSUER": "http://issuer.test"}, "EKIBEN_OIDC_ISSUER is 'http://issuer.test'; it must begin with https://"),
        ({**OIDC, "EKIBEN_OIDC_ISSUER": "http://localhost.issuer.test"}, "must begin with https://"),
        ({**OIDC, "EKIBEN_OIDC_ISSUER": "https://"}, "must begin with https://"),
        ({**OIDC, "EKIBEN_OIDC_JWKS_URL": "http://127.0.0.1@issuer.test/"}, "EKIBEN_OIDC_JWKS_URL is"),
        ({**OIDC, "EKIBEN_OIDC_ALGORITHMS": "RS256,HS256"}, "EKIBEN_OIDC_ALGORITHMS has 'HS256'; .* none that need a shared secret"),
        ({**OIDC, "EKIBEN_OIDC_ALGORITHMS": "none"}, "has 'none'"),
        ({**OIDC, "EKIBEN_OIDC_ALGORITHMS": ","}, "has ''"),
    ],
)
def test_what_would_let_strangers_in_is_refused_at_the_start(environ, said):
    with pytest.raises(SettingError, match=said):
        load_settings(environ)
