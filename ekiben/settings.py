"""Every setting of Ekiben, read from ``EKIBEN_*`` environment variables here and nowhere else.

| variable | default | meaning |
|---|---|---|
| ``EKIBEN_HOME`` | ``.ekiben`` in the working directory | where the control database and the logs live |
| ``EKIBEN_DATABASE_URL`` | SQLite in ``EKIBEN_HOME`` | SQLAlchemy URL of the control database |
| ``EKIBEN_WORKERS`` | number of cores | processes that serve |
| ``EKIBEN_MAX_BODY_BYTES`` | 16 MiB | largest request body |
| ``EKIBEN_DRAIN_S`` | 2 | seconds a worker goes on answering after SIGTERM, unready, before it stops |
| ``EKIBEN_ACCESS_LOG_RATE`` | 0.01 | share of answered requests that the access log records; errors always are |
| ``EKIBEN_ONNX_PROVIDERS`` | best there is | execution providers to prefer, comma-separated |
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ekiben.errors import SettingError


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in force; see the module's table."""

    home: Path
    database_url: str
    workers: int
    max_body_bytes: int = 16 * 1024 * 1024
    drain_s: float = 2.0
    access_log_rate: float = 0.01
    onnx_providers: tuple[str, ...] = ()


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Reads the settings.

    Raises:
        SettingError: A variable's value is not what it must be, or there is no such setting.
    """
    known = {f"EKIBEN_{name.upper()}" for name in Settings.__struct_fields__}
    unknown = sorted(name for name in environ if name.startswith("EKIBEN_") and name not in known)
    if unknown:
        raise SettingError(f"{unknown[0]} is not a setting; there are {', '.join(sorted(known))}")
    home = Path(environ.get("EKIBEN_HOME") or ".ekiben").expanduser().absolute()
    return Settings(
        home=home,
        database_url=environ.get("EKIBEN_DATABASE_URL") or f"sqlite:///{home / 'control.db'}",
        workers=_whole(environ, "EKIBEN_WORKERS", _cores(), low=1, high=1024),
        max_body_bytes=_whole(environ, "EKIBEN_MAX_BODY_BYTES", 16 * 1024 * 1024, low=1024, high=2**40),
        drain_s=_number(environ, "EKIBEN_DRAIN_S", 2.0, low=0, high=3600),
        access_log_rate=_number(environ, "EKIBEN_ACCESS_LOG_RATE", 0.01, low=0, high=1),
        onnx_providers=tuple(p.strip() for p in environ.get("EKIBEN_ONNX_PROVIDERS", "").split(",") if p.strip()),
    )


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
