import pytest
import yaml

from ekiben.model.rollout_spec import seconds
from ekiben.model.spec import load_spec
from load_tests.demo.project import REPOSITORY
from load_tests.demo.scenario import LAST_MONTH, SHORT, WHOLE, with_settings

MODEL = REPOSITORY / "models" / "flight_delay" / "model.yaml"


@pytest.fixture(params=[SHORT, WHOLE], ids=["short", "whole"])
def scenario(request):
    return request.param


def test_the_settings_make_a_spec_that_holds(scenario, tmp_path):
    file = tmp_path / "flight_delay" / "model.yaml"
    file.parent.mkdir()
    file.write_text(with_settings(MODEL.read_text(), scenario))
    spec = load_spec(file)
    assert spec.inputs == load_spec(MODEL).inputs
    assert [s.set_weight for s in spec.rollout.steps if s.set_weight is not None] == [5, 50, 100]
    assert spec.rollout.steps[0].shadow is not None
    assert spec.monitor.retrain.enabled
    assert spec.monitor.retrain.module == "load_tests.demo.retraining"


def test_a_quality_check_looks_at_a_month_and_not_at_two(scenario):
    within_s = seconds(yaml.safe_load(with_settings(MODEL.read_text(), scenario))["monitor"]["truth_within"])
    assert scenario.month_s <= 2 * within_s < 2 * scenario.month_s


def test_what_goes_wrong_goes_wrong_in_a_month_that_is_played(scenario):
    for month in (scenario.bad_month, scenario.kill_month):
        assert scenario.first_month <= month <= scenario.last_month <= LAST_MONTH
    assert 0 < scenario.bad_at < 1
    assert 0 < scenario.kill_at < 1
    assert scenario.first_month <= scenario.own_month <= scenario.last_month
