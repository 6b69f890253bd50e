import pytest

from ekiben.errors import SpecError
from ekiben.model.spec import ModelSpec, spec_from_builtins

BASE = {"name": "m", "task": "regression", "inputs": [{"name": "x", "type": "float"}], "card": {"owner": "t"}}


def read(**more) -> ModelSpec:
    return spec_from_builtins({**BASE, **more}, file="m/model.yaml")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"limits": {"max_rows": 0}}, "limits.max_rows: is out of range"),
        ({"limits": {"concurrent": 0}}, "limits.concurrent: is out of range"),
        ({"limits": {"rates": [{}]}}, r"limits.rates\[0\].requests: .*either requests or rows"),
        ({"limits": {"rates": [{"requests": 1, "rows": 1}]}}, r"limits.rates\[0\].requests: .*either requests or rows"),
        ({"limits": {"rates": [{"requests": 0}]}}, r"limits.rates\[0\].requests: is 0"),
        ({"limits": {"rates": [{"rows": -1}]}}, r"limits.rates\[0\].rows: is -1"),
        ({"limits": {"rates": [{"rows": 1, "every": "soon"}]}}, r"limits.rates\[0\].every: 'soon' is no duration"),
        ({"limits": {"rates": [{"rows": 1, "every": 0}]}}, r"limits.rates\[0\].every: is 0"),
        ({"limits": {"rates": [{"rows": 0.5, "algorithm": "sliding_window"}]}}, r"limits.rates\[0\].rows: is 0.5, so none would ever fit"),
        ({"limits": {"rates": [{"rows": 1, "burst": 0.5}]}}, r"limits.rates\[0\].burst: is 0.5"),
        ({"limits": {"rates": [{"rows": 1, "burst": 5, "algorithm": "sliding_window"}]}}, r"burst: goes with a token bucket alone"),
        ({"limits": {"rates": [{"rows": 1, "per": "planet"}]}}, r"limits.rates\[0\].per"),
        ({"breaker": {"error_rate": 0}}, "breaker.error_rate: is out of range.*enabled: false"),
        ({"breaker": {"error_rate": 1.5}}, "breaker.error_rate: is out of range"),
        ({"breaker": {"min_requests": 0}}, "breaker.min_requests: is out of range"),
        ({"breaker": {"probes": 0}}, "breaker.probes: is out of range"),
        ({"breaker": {"window": 0}}, "breaker.window: is 0"),
        ({"breaker": {"open_for": "a while"}}, "breaker.open_for: 'a while' is no duration"),
        ({"breaker": {"fallback": "default"}}, "breaker.default: goes with fallback: default"),
        ({"breaker": {"default": {"prediction": 1.0}}}, "breaker.default: goes with fallback: default"),
        ({"cache": {"ttl": 0}}, "cache.ttl: is 0"),
        ({"cache": {"max_mb": 0}}, "cache.max_mb: is out of range"),
    ],
)
def test_what_is_wrong_is_said_with_its_field(more, message):
    with pytest.raises(SpecError, match=message):
        read(**more)


def test_what_is_right_is_read():
    spec = read(
        limits={"max_rows": 100, "concurrent": 8, "rates": [{"per": "key", "rows": 500, "every": "1m", "burst": 100}]},
        breaker={"fallback": "default", "default": {"prediction": 0.0}, "open_for": "1m"},
        cache={"enabled": True, "ttl": "1h", "per_principal": True},
    )
    assert spec.limits.rates[0].burst == 100
    assert spec.breaker.default == {"prediction": 0.0}
    assert spec.cache.enabled


def test_a_model_is_broken_by_half_of_its_requests_and_limits_and_remembers_nothing_by_default():
    spec = read()
    assert spec.breaker.enabled
    assert spec.breaker.error_rate == 0.5
    assert spec.limits.rates == ()
    assert spec.limits.concurrent is None
    assert not spec.cache.enabled
