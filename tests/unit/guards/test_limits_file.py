import re
from pathlib import Path

import msgspec
import pytest
import yaml

from ekiben.errors import SpecError
from ekiben.guards.limits_file import limits_everywhere, limits_from_builtins, load_limits
from ekiben.model.guard_spec import LimitsSpec, RateSpec
from ekiben.settings import load_settings

PAGE = (Path(__file__).parents[3] / "docs" / "62-rate-limits.md").read_text()
TEXT = """
max_rows: 5000
concurrent: 8
rates:
  - {per: ip, requests: 100, every: 1m, burst: 20}
  - {per: model, rows: 1000, algorithm: sliding_window, unreachable: refuse}
"""


def test_it_has_what_limits_of_a_model_have(tmp_path):
    (tmp_path / "limits.yaml").write_text(TEXT)
    limits = load_limits(tmp_path / "limits.yaml")
    assert (limits.max_rows, limits.concurrent, len(limits.rates)) == (5000, 8, 2)
    assert (limits.rates[1].per, limits.rates[1].unreachable) == ("model", "refuse")
    (tmp_path / "limits.yaml").write_text("# nothing yet\n")
    assert load_limits(tmp_path / "limits.yaml") == LimitsSpec()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate: []", r"limits.yaml: \(top\): .*unknown field `rate`; it has the fields of `limits`"),
        ("rates: [{requests: ten}]", r"limits.yaml: rates\[0\].requests: Expected `float"),
        ("rates: [{requests: 1, rows: 1}]", r"limits.yaml: rates\[0\].requests: .*say either requests or rows"),
        ("rates: [{requests: 1, every: soon}]", r"rates\[0\].every: 'soon' is no duration"),
        ("rates: [{requests: 0.5, algorithm: sliding_window}]", r"rates\[0\].requests: is 0.5, so none would ever fit"),
        ("concurrent: 0", "limits.yaml: concurrent: is out of range; must be 1 or more"),
        ("- a", r"limits.yaml: \(top\): Expected `object`"),
        ("a: [", r"limits.yaml: \(file\): not readable as YAML"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(tmp_path, text, message):
    (tmp_path / "limits.yaml").write_text(text)
    with pytest.raises(SpecError, match=message):
        load_limits(tmp_path / "limits.yaml")


def test_the_file_of_the_setting_comes_before_that_beside_the_models(tmp_path):
    settings = load_settings({})
    assert limits_everywhere(settings, tmp_path) == LimitsSpec()
    (tmp_path / "limits.yaml").write_text("max_rows: 1")
    (tmp_path / "mine.yaml").write_text("max_rows: 2")
    assert limits_everywhere(settings, tmp_path).max_rows == 1
    settings = load_settings({"EKIBEN_LIMITS_FILE": str(tmp_path / "mine.yaml")})
    assert limits_everywhere(settings, tmp_path).max_rows == 2
    with pytest.raises(SpecError, match=r"gone.yaml: \(file\): cannot be read: No such file"):
        limits_everywhere(msgspec.structs.replace(settings, limits_file=tmp_path / "gone.yaml"), tmp_path)


def test_what_the_page_shows_can_be_written():
    shown = [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)]
    assert len(shown) == 3
    for raw in shown:
        assert limits_from_builtins(raw.get("limits", raw), file="62-rate-limits.md").rates
    table = PAGE[PAGE.index("| field of a rate |") :].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)))) == set(RateSpec.__struct_fields__)
