from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from training.outcome import Outcome

FIELDS = {
    "tag": "tiny:1",
    "reused": False,
    "champion": True,
    "framework": "onnx",
    "metrics": {"roc_auc": 0.71234, "rows": 1234.0},
    "threshold": 0.25,
    "parity": {"agrees": True, "reason": "5000 rows agree"},
    "data": {"name": "made up"},
    "parameters": {"seed": 0},
    "training_s": 1.5,
    "recipe": "abc",
}


def shown(**changed) -> str:
    out = io.StringIO()
    Outcome(**(FIELDS | changed)).show(Console(file=out, width=100))
    return out.getvalue()


def test_the_table_has_each_metric_and_the_threshold():
    text = shown()
    assert "1,234 held-out rows" in text
    assert "roc_auc" in text
    assert "0.7123" in text
    assert "0.2500" in text
    assert "tiny:1 is registered; served by onnx; champion" in text
    assert "agrees with the original: 5000 rows agree" in text


@pytest.mark.parametrize(
    ("changed", "wanted", "unwanted"),
    [
        ({"reused": True}, "registered already, nothing to train", "…"),
        ({"champion": False}, "not the champion", "…"),
        ({"threshold": None}, "roc_auc", "threshold"),
        ({"parity": None}, "served by onnx", "The ONNX export"),
        ({"parity": {"agrees": False, "reason": "shapes [2] differ"}}, "was refused: shapes [2] differ", "agrees"),
    ],
)
def test_what_is_special_is_said(changed, wanted, unwanted):
    text = shown(**changed)
    assert wanted in text
    assert unwanted not in text


def test_json_holds_everything():
    assert json.loads(Outcome(**FIELDS).as_json()) == FIELDS
