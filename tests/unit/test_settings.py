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


def test_every_variable_is_read():
    found = load_settings(
        {
            "EKIBEN_HOME": "~/e",
            "EKIBEN_DATABASE_URL": "postgresql://x",
            "EKIBEN_WORKERS": "3",
            "EKIBEN_MAX_BODY_BYTES": "2048",
            "EKIBEN_DRAIN_S": "0.5",
            "EKIBEN_ACCESS_LOG_RATE": "1",
            "EKIBEN_ONNX_PROVIDERS": "CUDAExecutionProvider, CPUExecutionProvider,",
            "OTHER": "x",
        }
    )

    assert found == Settings(
        home=Path.home() / "e",
        database_url="postgresql://x",
        workers=3,
        max_body_bytes=2048,
        drain_s=0.5,
        access_log_rate=1.0,
        onnx_providers=("CUDAExecutionProvider", "CPUExecutionProvider"),
    )


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


def test_the_table_in_the_docstring_lists_every_setting_and_its_default():
    documented = set(re.findall(r"^\| ``(EKIBEN_\w+)``", settings.__doc__ or "", re.MULTILINE))

    assert documented == {f"EKIBEN_{name.upper()}" for name in Settings.__struct_fields__}
