"""Prometheus' rules, checked and tested by promtool: each alert fires where it should and not where it should not."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
PAGE = "docs/98-alerts-and-runbooks.md"
RULE_FILES = sorted((FOLDER / "rules").glob("*.yml"))
TEST_FILES = sorted((FOLDER / "tests").glob("*.yml"))
RULES = [rule for file in RULE_FILES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, of Debian's package prometheus")


def promtool(*words, cwd=None):
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, timeout=200, check=False, cwd=cwd)
    return done.returncode, done.stdout + done.stderr


def exported():
    """The names of the series that the code can make: what stands in it as text, with the ends that Prometheus' client gives."""
    names = {name for file in (ROOT / "ekiben").rglob("*.py") for name in re.findall(r'"(ekiben_[a-z_]+)"', file.read_text())}
    return names | {f"{name}{end}" for name in names for end in ("_total", "_bucket", "_sum", "_count")}


def named(expression):
    """The series that an expression names: exported ones, and recorded ones, whose names have colons."""
    return set(re.findall(r"(?<![\w:])(?:\w+:)?ekiben[_:][\w:]+", expression))


@needs_promtool
def test_promtool_finds_nothing_wrong():
    code, said = promtool("check", "rules", "--lint=all", "--lint-fatal", *RULE_FILES)
    assert code == 0, said


@needs_promtool
@pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: file.stem)
def test_the_rules_do_what_their_tests_say(file):
    code, said = promtool("test", "rules", file)
    assert code == 0, said


@needs_promtool
def test_a_rule_that_is_wrong_fails_them(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "prometheus")
    rules = tmp_path / "prometheus" / "rules" / "alerts.yml"
    wrong = rules.read_text().replace("ratio_rate5m > 0.05 and", "ratio_rate5m > 0.5 and")
    assert wrong != rules.read_text()
    rules.write_text(wrong)
    code, said = promtool("test", "rules", tmp_path / "prometheus" / "tests" / "requests.yml")
    assert code != 0
    assert "EkibenHighErrorRate" in said


@pytest.mark.parametrize("alert", ALERTS)
def test_it_is_shown_to_fire_and_not_to_fire(alert):
    cases = [case for file in TEST_FILES for test in yaml.safe_load(file.read_text())["tests"] for case in test.get("alert_rule_test", ())]
    expected = [case["exp_alerts"] for case in cases if case["alertname"] == alert]
    assert any(expected), f"no test in {FOLDER / 'tests'} has {alert} fire"
    assert not all(expected), f"no test in {FOLDER / 'tests'} has {alert} be silent"


@pytest.mark.parametrize("alert", ALERTS)
def test_it_says_how_urgent_it_is_what_it_is_and_what_to_do(alert):
    rule = ALERTS[alert]
    assert alert.startswith("Ekiben")
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert len(rule["annotations"]["summary"]) < 120
    assert rule["annotations"]["runbook_url"] == f"{PAGE}#{alert.lower()}"


def test_every_alert_has_its_section_and_every_section_its_alert():
    sections = re.findall(r"^### (Ekiben\w+)$", (ROOT / PAGE).read_text(), re.MULTILINE)
    assert sorted(sections) == sorted(ALERTS)


def test_the_page_says_the_severity_that_the_rule_has():
    listed = dict(re.findall(r"^\| \[(Ekiben\w+)\]\(#\w+\) \| (\w+) \|", (ROOT / PAGE).read_text(), re.MULTILINE))
    assert listed == {alert: rule["labels"]["severity"] for alert, rule in ALERTS.items()}


def test_no_two_rules_have_one_name():
    names = [rule.get("record") or rule.get("alert") for rule in RULES]
    assert len(set(names)) == len(names)


def test_what_they_read_is_exported_or_recorded():
    known = exported() | RECORDED
    for rule in RULES:
        texts = [rule["expr"], *rule.get("annotations", {}).values()]
        missing = set().union(*map(named, texts)) - known
        assert not missing, f"{rule.get('record') or rule['alert']} reads {missing}, which nothing makes"


def test_burn_rates_are_those_of_the_workbook_for_a_budget_of_thirty_days():
    """Share of the budget, times 30 days / window, is the rate; the short window is a twelfth of the long one."""
    hours = {"5m": 1 / 12, "30m": 0.5, "1h": 1, "6h": 6, "3d": 72}
    for budget in ("Error", "Latency"):
        fast, slow = ALERTS[f"Ekiben{budget}BudgetBurnsFast"], ALERTS[f"Ekiben{budget}BudgetBurns"]
        pairs = re.findall(r"burn_rate(\w+) > ([\d.]+) and model:ekiben_\w+:burn_rate(\w+) > ([\d.]+)", fast["expr"] + slow["expr"])
        for share, (long, rate, short, same) in zip((0.02, 0.05, 0.1), pairs, strict=True):
            assert float(rate) == float(same) == pytest.approx(share * 30 * 24 / hours[long])
            assert hours[short] == pytest.approx(hours[long] / 12)


def test_the_rules_are_where_prometheus_looks_for_them():
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    found = {file for pattern in config["rule_files"] for file in FOLDER.glob(pattern)}
    assert found == set(RULE_FILES)
