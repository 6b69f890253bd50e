"""Every setting of Ekiben, read from ``EKIBEN_*`` environment variables here and nowhere else.

| variable | default | meaning |
|---|---|---|
| ``EKIBEN_HOME`` | ``.ekiben`` in the working directory | where the control database and the logs live |
| ``EKIBEN_DATABASE_URL`` | SQLite in ``EKIBEN_HOME`` | SQLAlchemy URL of the control database |
| ``EKIBEN_WORKERS`` | number of cores | processes that serve |
| ``EKIBEN_MAX_BODY_BYTES`` | 16 MiB | largest request body |
| ``EKIBEN_READ_TIMEOUT_S`` | 30 | seconds in which a client must have sent a request whole, and taken some of its answer |
| ``EKIBEN_DRAIN_S`` | 2 | seconds a worker goes on answering after SIGTERM, unready, before it stops |
| ``EKIBEN_HANG_S`` | 30 | seconds after which a worker whose event loop hangs is ended and replaced; 0 never does |
| ``EKIBEN_WORKER_MAX_MB`` | 0, no limit | megabytes of memory beyond which a worker answers what it has and is replaced |
| ``EKIBEN_LOG`` | on | ``off`` keeps no inference log, whatever the models say |
| ``EKIBEN_LOG_URI`` | none | where the inference log is shipped to: ``s3://``, ``gs://``, ``az://``, ``file://``, ``memory://`` |
| ``EKIBEN_ACCESS_LOG_RATE`` | 0.01 | share of answered requests that the access log records; errors always are |
| ``EKIBEN_ONNX_PROVIDERS`` | best there is | execution providers to prefer, comma-separated |
| ``EKIBEN_DATA_PORT`` | 3001 | port for gRPC and REST over HTTP/1.1 and HTTP/2, shared by the workers; 0 opens none |
| ``EKIBEN_DATA_HOST`` | that of BentoML's port | address the data port is bound to |
| ``EKIBEN_TLS_CERTIFICATE`` | none | PEM certificate chain of the data port; with it the port speaks TLS only |
| ``EKIBEN_TLS_KEY`` | none | its private key, PEM |
| ``EKIBEN_TLS_CLIENT_CA`` | none | PEM authorities; with it a client must show a certificate that one of them signed |
| ``EKIBEN_PLATFORM_PORT`` | what the platform asks for | a further port like the data port |
| ``EKIBEN_PLATFORM_MODEL`` | the only model | the model that answers on paths that name none, like ``/invocations`` |
| ``EKIBEN_REPOSITORY_API`` | off | ``on`` lets clients load and unload models over the network |
| ``EKIBEN_CONTROLLER`` | on | ``off`` leaves rollouts to other workers or to ``ekiben controller`` |
| ``EKIBEN_MONITOR`` | on | ``off`` starts no monitor process beside the workers; ``ekiben monitor run`` is one by itself |
| ``EKIBEN_ADMIN_KEY_FILE`` | ``admin.key`` in ``EKIBEN_HOME``, made at first start | file with the key of the admin API |
| ``EKIBEN_AUTH`` | open | ``open``: who brings no key or token may predict, report truth and read; ``required``: may do nothing |
| ``EKIBEN_OIDC_ISSUER`` | none | OpenID Connect issuer whose tokens are taken, exactly as their ``iss`` says it |
| ``EKIBEN_OIDC_AUDIENCE`` | none | what tokens must have in ``aud``; needed where there is an issuer |
| ``EKIBEN_OIDC_JWKS_URL`` | what the issuer says | where the issuer's public keys are |
| ``EKIBEN_OIDC_ALGORITHMS`` | ``RS256,ES256`` | what tokens may be signed with, comma-separated |
| ``EKIBEN_OIDC_SCOPE_CLAIM`` | ``scope`` | the claim that says what a token allows |
| ``EKIBEN_LIMITS_FILE`` | ``limits.yaml`` beside the models folder, where there is one | file with limits for all models together |
| ``EKIBEN_REDIS_URL`` | none | ``redis://``, ``rediss://`` or ``unix://``: what replicas share, limits and shared caches, is kept there |
| ``EKIBEN_TRUSTED_PROXIES`` | none | whose ``X-Forwarded-For`` is believed: a number of proxies, or their addresses, comma-separated |
| ``EKIBEN_PROMETHEUS_URL`` | none | Prometheus server that analyses query |
| ``EKIBEN_WEBHOOK_URL`` | none | webhook that hears of every transition of a rollout, and of alerts |
| ``EKIBEN_WEBHOOK_SECRET_FILE`` | none, unsigned | file with the secret that signs what webhooks get |
| ``EKIBEN_SLACK_URL_FILE`` | none | file with the URL of a Slack-compatible webhook that hears of alerts |
| ``EKIBEN_SMTP_URL_FILE`` | none | file with the URL of a mail server, ``smtp://user:password@host:587`` or ``smtps://…`` |
| ``EKIBEN_ALERT_EMAIL_TO`` | none | who gets alerts by e-mail, comma-separated |
| ``EKIBEN_ALERT_EMAIL_FROM`` | ``ekiben@localhost`` | from whom |
| ``EKIBEN_TRUSTED_SIGNERS`` | none asked for | file or folder of public keys, PEM; a version that none of them signed is not loaded |
| ``EKIBEN_TRUST_PICKLE`` | off | ``on``, or ``NAME:VERSION`` comma-separated: what may run code when it is loaded, though unsigned |
| ``EKIBEN_SIGNING_PASSPHRASE_FILE`` | none | file with the passphrase of the private key that ``ekiben models sign`` and ``keygen`` use |

What hosting platforms say in variables of their own is read here too: ``AIP_HTTP_PORT``, ``AIP_HEALTH_ROUTE`` and
``AIP_PREDICT_ROUTE`` (Vertex AI), ``PORT`` where ``K_SERVICE`` is set (Cloud Run, Knative), ``SAGEMAKER_BIND_TO_PORT`` (SageMaker).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ekiben.errors import SettingError
from ekiben.shown_url import shown_url


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in force; see the module's table."""

    home: Path
    database_url: str
    workers: int
    max_body_bytes: int = 16 * 1024 * 1024
    read_timeout_s: float = 30.0
    drain_s: float = 2.0
    hang_s: float = 30.0
    worker_max_mb: float = 0.0
    log: bool = True
    log_uri: str = ""
    access_log_rate: float = 0.01
    onnx_providers: tuple[str, ...] = ()
    data_port: int = 3001
    data_host: str = ""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    platform_port: int = 0
    platform_model: str = ""
    repository_api: bool = False
    controller: bool = True
    monitor: bool = True
    admin_key_file: Path | None = None
    auth: str = "open"
    oidc_issuer: str = ""
    oidc_audience: str = ""
    oidc_jwks_url: str = ""
    oidc_algorithms: tuple[str, ...] = ("RS256", "ES256")
    oidc_scope_claim: str = "scope"
    limits_file: Path | None = None
    redis_url: str = ""
    trusted_proxies: str = ""
    prometheus_url: str = ""
    webhook_url: str = ""
    webhook_secret_file: Path | None = None
    slack_url_file: Path | None = None
    smtp_url_file: Path | None = None
    alert_email_to: tuple[str, ...] = ()
    alert_email_from: str = "ekiben@localhost"
    trusted_signers: Path | None = None
    trust_pickle: bool | tuple[str, ...] = False
    signing_passphrase_file: Path | None = None
    health_route: str = ""
    predict_route: str = ""


_OF_PLATFORMS = ("health_route", "predict_route")
_OIDC_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")
_LOG_SCHEMES = ("s3", "gs", "az", "file", "memory")


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Reads the settings.

    Raises:
        SettingError: A variable's value is not what it must be, or there is no such setting.
    """
    known = {f"EKIBEN_{name.upper()}" for name in Settings.__struct_fields__ if name not in _OF_PLATFORMS}
    unknown = sorted(name for name in environ if name.startswith("EKIBEN_") and name not in known)
    if unknown:
        raise SettingError(f"{unknown[0]} is not a setting; there are {', '.join(sorted(known))}")
    home = Path(environ.get("EKIBEN_HOME") or ".ekiben").expanduser().absolute()
    return Settings(
        home=home,
        database_url=environ.get("EKIBEN_DATABASE_URL") or f"sqlite:///{home / 'control.db'}",
        workers=_whole(environ, "EKIBEN_WORKERS", _cores(), low=1, high=1024),
        max_body_bytes=_whole(environ, "EKIBEN_MAX_BODY_BYTES", 16 * 1024 * 1024, low=1024, high=2**40),
        read_timeout_s=_number(environ, "EKIBEN_READ_TIMEOUT_S", 30.0, low=0.1, high=86400),
        drain_s=_number(environ, "EKIBEN_DRAIN_S", 2.0, low=0, high=3600),
        hang_s=_number(environ, "EKIBEN_HANG_S", 30.0, low=0, high=86400),
        worker_max_mb=_number(environ, "EKIBEN_WORKER_MAX_MB", 0.0, low=0, high=2**30),
        log=_switch(environ, "EKIBEN_LOG", default=True),
        log_uri=_log_uri(environ),
        access_log_rate=_number(environ, "EKIBEN_ACCESS_LOG_RATE", 0.01, low=0, high=1),
        onnx_providers=tuple(p.strip() for p in environ.get("EKIBEN_ONNX_PROVIDERS", "").split(",") if p.strip()),
        data_port=_whole(environ, "EKIBEN_DATA_PORT", 3001, low=0, high=65535),
        data_host=environ.get("EKIBEN_DATA_HOST", ""),
        platform_port=_platform_port(environ),
        platform_model=environ.get("EKIBEN_PLATFORM_MODEL", ""),
        repository_api=_switch(environ, "EKIBEN_REPOSITORY_API", default=False),
        controller=_switch(environ, "EKIBEN_CONTROLLER", default=True),
        monitor=_switch(environ, "EKIBEN_MONITOR", default=True),
        admin_key_file=_file(environ, "EKIBEN_ADMIN_KEY_FILE"),
        auth=_choice(environ, "EKIBEN_AUTH", ("open", "required")),
        **_oidc(environ),
        limits_file=_file(environ, "EKIBEN_LIMITS_FILE"),
        redis_url=_redis_url(environ),
        trusted_proxies=environ.get("EKIBEN_TRUSTED_PROXIES", ""),
        prometheus_url=_url(environ, "EKIBEN_PROMETHEUS_URL"),
        webhook_url=_url(environ, "EKIBEN_WEBHOOK_URL"),
        webhook_secret_file=_file(environ, "EKIBEN_WEBHOOK_SECRET_FILE"),
        slack_url_file=_file(environ, "EKIBEN_SLACK_URL_FILE"),
        smtp_url_file=_file(environ, "EKIBEN_SMTP_URL_FILE"),
        alert_email_to=_addresses(environ, "EKIBEN_ALERT_EMAIL_TO"),
        alert_email_from=next(iter(_addresses(environ, "EKIBEN_ALERT_EMAIL_FROM")), "ekiben@localhost"),
        trusted_signers=_file_or_folder(environ, "EKIBEN_TRUSTED_SIGNERS"),
        trust_pickle=_trust_pickle(environ),
        signing_passphrase_file=_file(environ, "EKIBEN_SIGNING_PASSPHRASE_FILE"),
        health_route=_route(environ, "AIP_HEALTH_ROUTE"),
        predict_route=_route(environ, "AIP_PREDICT_ROUTE"),
        **_tls(environ),
    )


def _platform_port(environ: Mapping[str, str]) -> int:
    """The port that the platform wants answered, whichever of them it is."""
    names = ["EKIBEN_PLATFORM_PORT", "AIP_HTTP_PORT", *(["PORT"] if environ.get("K_SERVICE") else []), "SAGEMAKER_BIND_TO_PORT"]
    name = next((n for n in names if environ.get(n)), names[0])
    return _whole(environ, name, 0, low=0, high=65535)


def _route(environ: Mapping[str, str], name: str) -> str:
    path = environ.get(name, "")
    if path and not path.startswith("/"):
        raise SettingError(f"{name} is {path!r}; it must be a path that begins with /")
    return path


def _tls(environ: Mapping[str, str]) -> dict[str, Any]:
    """The files of TLS, each there, and none without those it needs."""
    files = {part: environ.get(f"EKIBEN_TLS_{part.upper()}") for part in ("certificate", "key", "client_ca")}
    for part, needed in (("certificate", "key"), ("key", "certificate"), ("client_ca", "certificate")):
        if files[part] and not files[needed]:
            raise SettingError(f"EKIBEN_TLS_{part.upper()} needs EKIBEN_TLS_{needed.upper()} beside it, which is not set")
    for part, file in files.items():
        if file and not Path(file).is_file():
            raise SettingError(f"EKIBEN_TLS_{part.upper()} is {file!r}; there is no such file")
    return {f"tls_{part}": Path(file).absolute() if file else None for part, file in files.items()}


def _file(environ: Mapping[str, str], name: str) -> Path | None:
    file = environ.get(name)
    if file and not Path(file).is_file():
        raise SettingError(f"{name} is {file!r}; there is no such file")
    return Path(file).absolute() if file else None


def _file_or_folder(environ: Mapping[str, str], name: str) -> Path | None:
    path = environ.get(name)
    if path and not Path(path).exists():
        raise SettingError(f"{name} is {path!r}; there is no such file or folder")
    return Path(path).absolute() if path else None


def _trust_pickle(environ: Mapping[str, str]) -> bool | tuple[str, ...]:
    """On, off, or the tags that are trusted."""
    text = environ.get("EKIBEN_TRUST_PICKLE") or "off"
    if text in ("on", "off"):
        return text == "on"
    tags = tuple(part.strip() for part in text.split(",") if part.strip())
    for tag in tags:
        model, _, version = tag.partition(":")
        if not model or not version or any(c.isspace() for c in tag):
            raise SettingError(f"EKIBEN_TRUST_PICKLE has {tag!r}; it must be on, off, or NAME:VERSION, several with commas between them")
    return tags


def _url(environ: Mapping[str, str], name: str) -> str:
    url = environ.get(name, "")
    if url and not url.startswith(("http://", "https://")):
        # NOTE: it may be, or hold, a secret, so it is not repeated.
        raise SettingError(f"{name} must be a URL that begins with http:// or https://, like https://host/path")
    return url.rstrip("/")


def _redis_url(environ: Mapping[str, str]) -> str:
    url = environ.get("EKIBEN_REDIS_URL", "")
    if url and not url.startswith(("redis://", "rediss://", "unix://")):
        # NOTE: a URL may hold a password, so it is not repeated.
        raise SettingError("EKIBEN_REDIS_URL must be a URL that begins with redis://, rediss:// or unix://, like redis://host:6379/0")
    return url


def _log_uri(environ: Mapping[str, str]) -> str:
    uri = environ.get("EKIBEN_LOG_URI", "")
    scheme, separator, path = uri.partition("://")
    if uri and (scheme not in _LOG_SCHEMES or not separator or not path.strip("/")):
        schemes = ", ".join(f"{s}://" for s in _LOG_SCHEMES)
        raise SettingError(f"EKIBEN_LOG_URI is {shown_url(uri)!r}; it must be a place like s3://bucket/folder, with one of {schemes}")
    return uri.rstrip("/")


def _addresses(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in environ.get(name, "").split(",") if part.strip())
    for address in found:
        if "@" not in address.strip("@") or any(c.isspace() for c in address):
            raise SettingError(f"{name} has {address!r}; it must be an address like ann@example.org, several with commas between them")
    return found


def _choice(environ: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """One of some words, the first where none is given."""
    text = environ.get(name) or choices[0]
    if text not in choices:
        raise SettingError(f"{name} is {text!r}; it must be {' or '.join(choices)}")
    return text


def _oidc(environ: Mapping[str, str]) -> dict[str, Any]:
    """What is said of the issuer of tokens; nothing where there is none."""
    issuer, audience = environ.get("EKIBEN_OIDC_ISSUER", ""), environ.get("EKIBEN_OIDC_AUDIENCE", "")
    if issuer and not audience:
        raise SettingError("EKIBEN_OIDC_ISSUER needs EKIBEN_OIDC_AUDIENCE beside it: without it, tokens for others would be taken")
    for name in ("AUDIENCE", "JWKS_URL", "ALGORITHMS", "SCOPE_CLAIM"):
        if environ.get(f"EKIBEN_OIDC_{name}") and not issuer:
            raise SettingError(f"EKIBEN_OIDC_{name} needs EKIBEN_OIDC_ISSUER beside it, which is not set")
    for name in ("ISSUER", "JWKS_URL"):
        url = environ.get(f"EKIBEN_OIDC_{name}", "")
        if url and not re.match(r"https://[^\s/]|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/|\Z)", url):
            raise SettingError(f"EKIBEN_OIDC_{name} is {url!r}; it must begin with https://, for others could forge keys on their way")
    algorithms = tuple(part.strip() for part in (environ.get("EKIBEN_OIDC_ALGORITHMS") or "RS256,ES256").split(",") if part.strip())
    wrong = [algorithm for algorithm in algorithms if algorithm not in _OIDC_ALGORITHMS]
    if wrong or not algorithms:
        said = wrong[0] if wrong else ""
        raise SettingError(f"EKIBEN_OIDC_ALGORITHMS has {said!r}; there are {', '.join(_OIDC_ALGORITHMS)}: none that need a shared secret")
    return {
        "oidc_issuer": issuer,
        "oidc_audience": audience,
        "oidc_jwks_url": environ.get("EKIBEN_OIDC_JWKS_URL", ""),
        "oidc_algorithms": algorithms,
        "oidc_scope_claim": environ.get("EKIBEN_OIDC_SCOPE_CLAIM") or "scope",
    }


def _switch(environ: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = environ.get(name) or ("on" if default else "off")
    if text not in ("on", "off"):
        raise SettingError(f"{name} is {text!r}; it must be on or off")
    return text == "on"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _whole(environ: Mapping[str, str], name: str, default: int, *, low: int, high: int) -> int:
    value = _number(environ, name, default, low=low, high=high)
    if value != int(value):
        raise SettingError(f"{name} is {environ[name]!r}; it must be a whole number from {low} to {high}")
    return int(value)


def _number(environ: Mapping[str, str], name: str, default: float, *, low: float, high: float) -> float:
    text = environ.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise SettingError(f"{name} is {text!r}; it must be a number from {low:g} to {high:g}")
    return value
