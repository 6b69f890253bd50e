import pytest

from ekiben.errors import SpecError
from ekiben.model.spec import ModelSpec, spec_from_builtins

BASE = {
    "name": "m",
    "task": "regression",
    "inputs": [
        {"name": "who", "type": "string"},
        {"name": "x", "type": "float"},
        {"name": "t", "type": "tensor", "dtype": "int8", "shape": [1]},
    ],
    "card": {"owner": "t"},
}


def read(**more) -> ModelSpec:
    return spec_from_builtins({**BASE, **more}, file="m/model.yaml")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"log": {"sample": 0}}, r"log.sample: is out of range.*enabled: false"),
        ({"log": {"sample": 1.5}}, "log.sample: is out of range"),
        ({"log": {"value_bytes": -1}}, "log.value_bytes: is out of range"),
        ({"log": {"retention_days": 0}}, "log.retention_days: is out of range"),
        ({"log": {"max_mb": 0}}, "log.max_mb: is out of range"),
        ({"log": {"redact": ["y"]}}, "log.redact: there is no input 'y'.*who, x, t"),
        ({"log": {"hash": ["t"]}}, "log.hash: 't' is a tensor"),
        ({"log": {"hash": ["who"], "redact": ["who"]}}, "log.hash: 'who' is redacted too"),
        ({"monitor": {"every_predictions": 0}}, "monitor.every_predictions: is out of range"),
        ({"monitor": {"min_rows": 0}}, "monitor.min_rows: is out of range"),
        ({"monitor": {"every": "soon"}}, "monitor.every: 'soon' is no duration"),
        ({"monitor": {"truth_within": 0}}, "monitor.truth_within: is 0"),
        ({"monitor": {"segments": ["t"]}}, "monitor.segments: 't' is a tensor"),
        ({"monitor": {"segments": ["z"]}}, "monitor.segments: there is no input 'z'"),
        ({"monitor": {"drift": {"p_value": 1}}}, "monitor.drift.p_value: is out of range"),
        ({"monitor": {"drift": {"effect": 0}}}, "monitor.drift.effect: is out of range"),
        ({"monitor": {"drift": {"ignore": ["z"]}}}, "monitor.drift.ignore: there is no input 'z'"),
        ({"monitor": {"retrain": {"drift_checks": 0}}}, "monitor.retrain.drift_checks: is out of range"),
        ({"monitor": {"retrain": {"truth_rows": 0}}}, "monitor.retrain.truth_rows: is out of range"),
        ({"monitor": {"retrain": {"margin": -1}}}, "monitor.retrain.margin: is out of range"),
        ({"monitor": {"alerts": [{"when": "drift", "checks": 0}]}}, r"monitor.alerts\[0\].checks: is out of range"),
        ({"monitor": {"alerts": [{"when": "drift", "to": []}]}}, r"monitor.alerts\[0\].to: is empty"),
        ({"monitor": {"alerts": [{"when": "drift", "below": 1}]}}, r"monitor.alerts\[0\].below: drift is bad when it is high"),
        ({"monitor": {"alerts": [{"when": "weather"}]}}, r"monitor.alerts\[0\].when"),
    ],
)
def test_what_is_wrong_is_said_with_what_would_be_right(more, message):
    with pytest.raises(SpecError, match=message):
        read(**more)


def test_what_is_right_is_taken():
    spec = read(
        log={"sample": 0.5, "redact": ["x"], "hash": ["who"]},
        monitor={"segments": ["who"], "every": "1h", "alerts": [{"when": "quality", "below": 0.5, "to": ["slack", "email"]}]},
    )
    assert (spec.log.hash, spec.monitor.segments, spec.monitor.alerts[0].to) == (("who",), ("who",), ("slack", "email"))
    assert read().monitor == ModelSpec(name="m", task="regression", inputs=(), card=spec.card).monitor
