"""The documentation says what there is: settings, metrics, plans, routes, links; and the example of a webhook's receiver works."""

import io
import json
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import get_args, get_type_hints

import msgspec
import pytest
import yaml

from ekiben import settings
from ekiben.model.monitor_spec import AlertSpec, MonitorSpec, RetrainSpec
from ekiben.model.rollout_spec import PlanSpec
from ekiben.model.spec import load_spec
from ekiben.monitoring import metrics
from ekiben.monitoring.retraining import FAILED, FINISHED, REJECTED, STARTED
from ekiben.rollout.plan import default_plan, plan_from_builtins, whole_plan
from ekiben.serving.rest.admin_experiments import experiment_routes
from ekiben.serving.rest.admin_rollouts import rollout_routes
from ekiben.state.events import Event
from ekiben.state.webhooks import body_of, headers_of, secret_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.glob("*.md"), *(DOCS / "adr").glob("*.md"), *(ROOT / "deploy").glob("*/README.md")])
ROLLOUTS = (DOCS / "70-rollouts.md").read_text()


def blocks(text, language):
    return [code for found, code in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE) if found == language]


def outside_of_code(text):
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchors(file):
    """What GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", outside_of_code(file.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", outside_of_code(page.read_text())):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}, which is not there"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}, and {file.name} has no such heading"


def test_every_page_is_in_the_overview_and_numbered_in_reading_order():
    overview = (DOCS / "00-overview.md").read_text()
    linked = re.findall(r"^\| \[[\w-]+\]\((\d\d-[\w-]+\.md)\)", overview, re.MULTILINE)
    assert linked == sorted(page.name for page in DOCS.glob("*.md") if page.name != "00-overview.md")


def test_decisions_are_numbered_without_a_gap():
    found = sorted((DOCS / "adr").glob("*.md"))
    for number, file in enumerate(found, 1):
        assert file.name.startswith(f"{number:04}-")
        assert file.read_text().startswith(f"# {number} · ")


def test_the_overview_lists_the_settings_that_there_are():
    overview = (DOCS / "00-overview.md").read_text()
    assert set(re.findall(r"^\| `(EKIBEN_\w+)` \|", overview, re.MULTILINE)) == set(
        re.findall(r"^\| ``(EKIBEN_\w+)`` \|", settings.__doc__ or "", re.MULTILINE)
    )


def test_the_page_of_serving_names_every_metric_and_all_pages_no_other():
    known = set(re.findall(r"^\| ``(ekiben_\w+)`` \|", metrics.__doc__ or "", re.MULTILINE))
    assert known <= set(re.findall(r"ekiben_\w+", (DOCS / "30-serving.md").read_text()))
    made = known | {f"{name}{end}" for name in known for end in ("_count", "_sum", "_bucket", "_mean")}
    for page in PAGES:
        named = set(re.findall(r"\bekiben_[a-z_]+(?=[{`\[(]|$)", page.read_text()))
        assert named <= made, f"{page.name} names metrics that there are not"


def test_the_default_plan_is_as_it_is_printed():
    printed, *_ = blocks(ROLLOUTS, "yaml")
    assert plan_from_builtins(yaml.safe_load(printed), file="70-rollouts.md") == default_plan()


def test_plans_of_the_page_of_rollouts_can_be_used():
    _, staff, metric = blocks(ROLLOUTS, "yaml")
    plan = whole_plan(plan_from_builtins(yaml.safe_load(staff)["rollout"], file="70-rollouts.md", task="binary_classification"))
    assert isinstance(plan, PlanSpec)
    raw = {"steps": [{"setWeight": 5}], "analysis": {"metrics": yaml.safe_load(metric)}}
    assert plan_from_builtins(raw, file="70-rollouts.md").analysis.metrics[0].prometheus is not None


def test_fields_of_model_yaml_are_those_that_there_are(tmp_path):
    (example,) = blocks((DOCS / "10-models.md").read_text(), "yaml")
    folder = tmp_path / "flight_delay"
    folder.mkdir()
    (folder / "model.yaml").write_text(example)
    spec = load_spec(folder / "model.yaml")
    assert spec.routing.header == "X-User-Id"
    assert spec.quality is not None
    assert spec.quality.metric == "f1"
    assert spec.rollout is not None
    assert len(spec.rollout.steps) == 6


def test_every_route_of_the_admin_api_is_listed():
    table = ROLLOUTS[ROLLOUTS.index("## The admin API") : ROLLOUTS.index("## The controller")]
    for route in (*rollout_routes(lambda _: None), *experiment_routes(lambda _: None)):
        last = route.path.rpartition("/")[2]
        assert (last if "{" not in last else route.path.split("/{")[0]) in table, f"{route.method} {route.path} is not listed"
        assert route.method in table


def test_the_receiver_takes_our_messages_and_no_others(tmp_path, monkeypatch, capsys):
    (code,) = blocks(ROLLOUTS, "python")
    secret = "whsec_" + "c2VjcmV0" * 4
    (tmp_path / "webhook.secret").write_text(secret)
    monkeypatch.chdir(tmp_path)
    code, served = re.subn(r"^HTTPServer\(.*$", "", code, flags=re.MULTILINE)
    assert served == 1
    names: dict = {}
    exec(compile(code, "70-rollouts.md", "exec"), names)
    event = Event(time=1.0, who="controller", model="flight_delay", kind="step", message="setWeight: 5", id=1)
    body, now = body_of(event), int(time.time())
    key = secret_of(secret.encode())
    for body_sent, at, signed_with, expected in (
        (body, now, key, 200),
        (body.replace(b"5", b"100"), now, key, 401),
        (body, now, b"another secret", 401),
        (body, now - 3600, key, 401),
    ):
        headers = headers_of("msg_1", at, body, signed_with)
        receiver = SimpleNamespace(
            headers={**headers, "content-length": str(len(body_sent))},
            rfile=io.BytesIO(body_sent),
            statuses=[],
            end_headers=lambda: None,
        )
        receiver.send_response = receiver.statuses.append
        names["Receiver"].do_POST(receiver)
        assert receiver.statuses == [expected]
    assert capsys.readouterr().out == "msg_1 setWeight: 5\n"


def test_the_message_shown_is_one_that_is_sent():
    (shown,) = [block for block in blocks(ROLLOUTS, "") if block.startswith("POST /hooks")]
    head, _, body = shown.partition("\n\n")
    sent = json.loads(body)
    event = Event(**sent["data"])
    assert json.loads(body_of(event)) == sent
    names = {line.partition(":")[0] for line in head.splitlines()[1:]}
    assert names == set(headers_of("msg_1", 1, b"", b"secret"))


def test_the_page_of_retraining_lists_what_the_spec_has():
    text = (DOCS / "85-retraining.md").read_text()
    section = text[text.index("| field | default | meaning |") :].split("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == RetrainSpec.__struct_fields__
    assert set(re.findall(r"^\| `(retrain_\w+)` \|", text, re.MULTILINE)) == {STARTED, FINISHED, REJECTED, FAILED}


def test_the_page_of_monitoring_shows_rules_that_there_are_and_all_of_them():
    page = (DOCS / "97-monitoring.md").read_text()
    (example,) = blocks(page, "yaml")
    monitor = msgspec.convert(yaml.safe_load(example)["monitor"], MonitorSpec)
    assert [alert.when for alert in monitor.alerts] == ["drift", "quality", "error_rate"]
    table = page[page.index("| `when` |") : page.index("The first three are judged")]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)[1:] == list(get_args(get_type_hints(AlertSpec)["when"]))
