"""Grafana's dashboards: they can be imported, nothing in them clashes, and what they read is made by somebody."""

import json
import re
import shutil
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from unit.test_rules import RECORDED, exported, named, promtool

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
OURS = {"datasource", "model", "version"}


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def dashboard(request):
    return json.loads(request.param.read_text())


def queries(dashboard):
    return [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel["targets"]]


def variables(dashboard):
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


def test_there_are_four():
    assert {file.stem for file in FILES} == {"overview", "model", "rollout", "monitoring"}


def test_no_two_have_one_name():
    found = [json.loads(file.read_text()) for file in FILES]
    for field in ("uid", "title"):
        assert len({each[field] for each in found}) == len(FILES)
    for file, each in zip(FILES, found, strict=True):
        assert each["uid"] == f"ekiben-{file.stem}"
        assert each["id"] is None, "a number is the database's that it was saved from: another has another dashboard there"
        assert "ekiben" in each["tags"]


def test_panels_have_numbers_of_their_own_and_do_not_overlap(dashboard):
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
        assert panel["title"]
        assert panel["description"].endswith(".")
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, f"{one} and {other} overlap"


def test_everything_asks_the_datasource_that_is_chosen(dashboard):
    assert variables(dashboard)["datasource"]["type"] == "datasource"
    asking = [
        *dashboard["panels"],
        *dashboard["annotations"]["list"],
        *[v for v in dashboard["templating"]["list"] if v["type"] == "query"],
    ]
    asking += [target for panel in dashboard["panels"] for target in panel["targets"]]
    assert all(each["datasource"] == DATASOURCE for each in asking)


def test_every_variable_that_is_used_is_there(dashboard):
    names = set(variables(dashboard))
    assert names == OURS or dashboard["uid"] == "ekiben-overview"
    used = set(re.findall(r"\$\{?(\w+)", json.dumps([dashboard["panels"], dashboard["annotations"]])))
    assert {name for name in used if not name.startswith("__")} <= names


def test_the_targets_of_a_panel_are_told_apart(dashboard):
    for panel in dashboard["panels"]:
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)


def test_what_it_reads_is_exported_or_recorded(dashboard):
    known = exported() | RECORDED
    texts = [*queries(dashboard), *[(name, v["query"]["query"]) for name, v in variables(dashboard).items() if v["type"] == "query"]]
    for title, expression in texts:
        missing = named(expression) - known
        assert not missing, f"{title} reads {missing}, which nothing makes"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, of Debian's package prometheus")
def test_every_query_can_be_read(dashboard, tmp_path):
    rules = [
        {"record": f"query:{n}", "expr": re.sub(r"\$(?:__rate_interval|__range|__interval)", "1m", expression)}
        for n, (_, expression) in enumerate(queries(dashboard))
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    code, said = promtool("check", "rules", tmp_path / "rules.yml")
    assert code == 0, said


def test_grafana_is_told_where_they_are():
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/ekiben.yaml").read_text())["providers"]
    compose = yaml.safe_load((GRAFANA.parent / "compose.yaml").read_text())["services"]["grafana"]
    mounts = dict(volume.split(":")[:2] for volume in compose["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    assert compose["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == f"{provider['options']['path']}/overview.json"
