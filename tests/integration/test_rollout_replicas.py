"""Two replicas of one server on one PostgreSQL: users meet the same version on both, also while the database is away."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from integration.postgresql import PostgresqlServer
from integration.rollout_clients import IN_FORCE_S, Load, moved_back, share_of
from integration.rollouts import Admin, copied, ekiben, event_of, made, plan, register
from integration.running import Project, Running, metric

from ekiben.state.database import Database
from ekiben.state.sql_control import sql_control

pytestmark = pytest.mark.processes

KEYS = [f"customer-{n}" for n in range(10_000)]
BODY = json.dumps({"instances": [[0.1] * 6]})
AWAY_S = 8.0


@pytest.fixture
def replicas(tmp_path, postgresql):
    """Two servers of one worker each, with a copy of the store and a home of their own, on one database."""
    first = Project(tmp_path / "first")
    first.env["EKIBEN_DATABASE_URL"] = postgresql
    register(first, [(made(tmp_path, "shared", "good", seed=1), "v1"), (made(tmp_path, "shared", "good"), "v2")])
    second = copied(first, tmp_path / "second")
    second.env["EKIBEN_DATABASE_URL"] = postgresql
    with ExitStack() as stack:
        servers = [stack.enter_context(Running(project, workers=1, EKIBEN_ACCESS_LOG_RATE="0")) for project in (first, second)]
        for server in servers:
            server.wait()
        yield servers


def versions_for_keys(server: Running) -> list[str]:
    """The version that each routing key meets, asked over a few connections of the data port."""
    found: dict[str, str] = {}

    def ask(keys: list[str]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.data_port, timeout=20)
        for key in keys:
            connection.request("POST", "/v1/models/shared:predict", BODY, {"content-type": "application/json", "x-routing-key": key})
            answer = connection.getresponse()
            answer.read()
            found[key] = f"{answer.status} {answer.headers['x-model-version']} {answer.headers['x-model-arm']}"
        connection.close()

    threads = [threading.Thread(target=ask, args=(KEYS[n::2],)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[key] for key in KEYS]


def test_replicas_agree_on_every_key_and_outlive_the_database(replicas, postgresql, postgresql_server):
    one, two = replicas
    steps = [{"setWeight": 30}, {"pause": "until approved"}, {"setWeight": 100}, {"pause": "3s"}]
    file = plan(one.project, *steps, analysis={"metrics": [{"name": "errorRate"}, {"name": "invalidRate"}]})
    began = time.time()
    with Admin(one) as admin, Load(one, two, model="shared", rate=160, truth=False) as load:
        time.sleep(1)
        ekiben(one.project, "rollout", "start", "shared", "--to", "v2", "--plan", file)
        admin.until("shared", is_so=lambda s: s["step"] == 1, seconds=30)
        time.sleep(1.5)
        agree(replicas)
        away_from, away_until = outlived(replicas, postgresql_server)
        wait_for(lambda: admin.status("shared")["controller"], bool)
        ekiben(two.project, "rollout", "promote", "shared")
        done = admin.until_ended("shared", seconds=40)
        time.sleep(1)
    time.sleep(2)
    print(load.figures())
    assert done["status"] == "Completed"
    assert load.failures() == []
    assert moved_back(load.answers, "v2") == []
    share, n = share_of(load.between(away_from, away_until), "v2")
    assert abs(share - 0.3) <= 5 * (0.21 / n) ** 0.5
    promoted = event_of(ekiben(one.project, "rollout", "history", "shared"), "promoted")["time"]
    assert {a.version for a in load.between(promoted + IN_FORCE_S)} == {"v2"}
    nothing_is_lost(postgresql, load, began=began, away_from=away_from, away_until=away_until)
    for server in replicas:
        log = server.log.read_text()
        assert log.count("the control database is away") == 1, log
        assert log.count("the control database is back") == 1, log


def agree(replicas: list[Running]) -> None:
    """Both replicas send every key to the same version, and tell the same of the rollout."""
    began = time.monotonic()
    met = [versions_for_keys(server) for server in replicas]
    print(f"\n{2 * len(KEYS):,} keys asked over the wire in {time.monotonic() - began:.1f} s")
    assert met[0] == met[1]
    assert set(met[0]) == {"200 v1 champion", "200 v2 challenger"}
    assert abs(met[0].count("200 v2 challenger") / len(KEYS) - 0.3) < 0.025
    with Admin(replicas[0]) as first, Admin(replicas[1]) as second:
        told = [{k: s[k] for k in ("id", "status", "step", "controller")} for s in (first.status("shared"), second.status("shared"))]
        assert told[0] == told[1]
        assert len(first.status("shared")["workers"]) == 2


def outlived(replicas: list[Running], postgresql_server: PostgresqlServer) -> tuple[float, float]:
    """Stops the database for a while; returns from when until when."""
    away_from = time.time()
    with postgresql_server.stopped():
        for server in replicas:
            shown = wait_for(lambda server=server: ready(server), lambda body: "details" in body)
            assert shown["ready"] is True
            assert "serving goes on with the last known routes" in shown["details"]["control_database"]
            assert metric(httpx.get(f"{server.url}/metrics", timeout=5).text, "ekiben_control_database_up") == 0
        asked = replicas[0].project.run("ekiben", "rollout", "status", "shared", check=False)
        assert asked.returncode == 1
        assert "control database" in asked.stderr
        time.sleep(max(0.0, away_from + AWAY_S - time.time()))
        away_until = time.time()
    for server in replicas:
        wait_for(lambda server=server: ready(server), lambda body: body == {"ready": True})
        wait_for(lambda server=server: metric(httpx.get(f"{server.url}/metrics").text, "ekiben_control_database_up"), bool)
    print(
        f"the database was away for {away_until - away_from:.1f} s; both had it back {time.time() - away_until:.1f} s after its start began"
    )
    return away_from, away_until


def nothing_is_lost(postgresql: str, load: Load, *, began: float, away_from: float, away_until: float) -> None:
    """What happened while the database was away was written afterwards, every request once."""
    control = sql_control(Database(postgresql))
    sums = control.windows.sum("shared", int(began), time.time())
    begin, end = int(away_from) + 1, int(away_until)
    kept = sum(window.ok for window in control.windows.sum("shared", begin, end).values())
    control.database.close()
    answered = sum(begin <= a.received < end for a in load.answers)
    print(f"windows of the outage hold {kept:,} requests; clients had {answered:,} answers in it")
    assert sum(window.ok for window in sums.values()) == len(load.answers) + 2 * len(KEYS)
    assert abs(kept - answered) <= 0.1 * answered


def ready(server: Running) -> dict[str, Any]:
    return httpx.get(f"{server.url}/readyz", timeout=5).json()


def wait_for(look: Callable[[], Any], is_so: Callable[[Any], bool], *, seconds: float = 15) -> Any:
    """Waits until what is looked at is so; returns it."""
    end = time.monotonic() + seconds
    while not is_so(seen := look()):
        assert time.monotonic() < end, seen
        time.sleep(0.1)
    return seen
