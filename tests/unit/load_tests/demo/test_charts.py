import pytest
from unit.load_tests.demo.told import answers, month, record

from load_tests.demo.charts import draw_activity, draw_drift, draw_quality


@pytest.mark.parametrize(
    "told",
    [record(), record(months=[], events=[]), record(months=[month(drift=[], quality=[])]), record(months=[month(), month(6, drift=[])])],
    ids=["all", "nothing", "no figures", "a month without drift"],
)
def test_charts_are_drawn_however_little_happened(told, tmp_path):
    draw_activity(told, answers(len(told.months) * 5), tmp_path / "activity.png")
    draw_quality(told, tmp_path / "quality.png")
    draw_drift(told, tmp_path / "drift.png")
    for name in ("activity", "quality", "drift"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
