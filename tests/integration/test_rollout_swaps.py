"""A hundred changes of who answers, under load; and a large model that comes and goes in memory, without a restart."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import msgspec
import psutil
import pytest
from integration.rollout_clients import IN_FORCE_S, Load
from integration.rollouts import Admin, detached, made, register
from integration.running import Project, Running

from ekiben.settings import load_settings
from ekiben.state.opening import open_control
from ekiben.state.rollouts import Change
from ekiben.state.routes import Kept, Route

pytestmark = pytest.mark.processes

SWAPS = 100
WARM_UP = 20
VERSIONS = [f"v{n}" for n in range(1, 6)]
BALLAST = 5400
"""Its square in float32 is 117 MB."""
PLAN = {"steps": [{"setWeight": 50}, {"pause": {}}]}


class Term(msgspec.Struct):
    """A version's time as champion.

    Attributes:
        begin: When it was made champion at the earliest, seconds since the epoch.
        end: When a request could be sent at the latest that it still answers.
    """

    version: str
    begin: float
    end: float = float("inf")


class Swapper:
    """Changes who answers for a model, in each of the ways there are, and writes down who was in force when."""

    def __init__(self, control, admin: Admin, model: str) -> None:
        self._control = control
        self._admin = admin
        self._model = model
        self.terms = [Term(VERSIONS[0], 0.0)]
        self.took_s: list[float] = []

    def swap(self, number: int) -> None:
        """The next one: of ten, seven move the alias, one of them so that the others are unloaded, one promotes, one goes back."""
        to = VERSIONS[(VERSIONS.index(self.terms[-1].version) + 1) % len(VERSIONS)]
        {4: self._promote, 5: self._go_back, 7: self._move_alone}.get(number % 10, self._move)(to)

    def _move(self, to: str) -> None:
        """By its alias; all other versions are kept loaded."""
        kept = tuple(Kept(v, time.time() + 3600) for v in VERSIONS if v != to)
        is_loaded = self._is_loaded(to)
        before = time.time()
        self._control.rollouts.commit(Change(model=self._model, route=Route(kept=kept), aliases={"champion": to}))
        self._changed(to, before, is_loaded=is_loaded)

    def _move_alone(self, to: str) -> None:
        before = time.time()
        self._control.rollouts.commit(Change(model=self._model, route=None, aliases={"champion": to}))
        self._changed(to, before, is_loaded=True)

    def _promote(self, to: str) -> None:
        self._admin.post("/rollouts", {"model": self._model, "to": to, "plan": PLAN})
        self._admin.until(self._model, is_so=lambda s: s["step"] == 1, seconds=20)
        before = time.time()
        self._admin.post(f"/rollouts/{self._model}/promote", {"full": True})
        # By then some met it already, as the challenger.
        self._changed(to, before - 1, is_loaded=True)

    def _go_back(self, _: str) -> None:
        before = time.time()
        to = self._admin.post(f"/models/{self._model}/rollback")["champion"]
        self._changed(to, before, is_loaded=True)

    def _changed(self, to: str, before: float, *, is_loaded: bool) -> None:
        changed = time.time()
        self._follow()
        followed = time.time()
        self.took_s.append(followed - changed)
        # What is to be loaded first comes into force when it is there.
        self.terms[-1].end = changed + IN_FORCE_S if is_loaded else max(changed + IN_FORCE_S, followed)
        self.terms.append(Term(to, before))

    def _follow(self) -> None:
        generation, end = self._control.generation(), time.monotonic() + 20
        while not (len(workers := self._control.workers.alive(5.0)) == 2 and all(w.follows(generation) for w in workers)):
            assert time.monotonic() < end, workers
            time.sleep(0.05)

    def _is_loaded(self, version: str) -> bool:
        return all(version in w.versions.get(self._model, ()) for w in self._control.workers.alive(5.0))


def served(tmp_path: Path, versions) -> Project:
    project = Project(tmp_path / "project")
    register(project, versions)
    return project


def resident_mb(server: Running) -> list[float]:
    return [psutil.Process(pid).memory_info().rss / 2**20 for pid in server.workers()]


def test_a_hundred_swaps_lose_nothing_and_leave_nothing(tmp_path):
    project = served(tmp_path, [(made(tmp_path, "swapped", "good", seed=n), v) for n, v in enumerate(VERSIONS, 1)])
    control = open_control(load_settings({"EKIBEN_HOME": project.env["EKIBEN_HOME"]}))
    with Running(project, EKIBEN_ACCESS_LOG_RATE="0") as server:
        server.wait()
        with Admin(server) as admin, Load(server, model="swapped", rate=200, truth=False) as load:
            swapper = Swapper(control, admin, "swapped")
            for number in range(WARM_UP):
                swapper.swap(number)
            time.sleep(1)
            before = resident_mb(server)
            began = time.monotonic()
            for number in range(SWAPS):
                swapper.swap(number)
            took_s = time.monotonic() - began
            time.sleep(1.5)
            after = resident_mb(server)
            assert detached(server) == []
    control.database.close()
    print(f"\n{SWAPS} swaps in {took_s:.0f} s, followed by both workers after {max(swapper.took_s) * 1000:.0f} ms at most")
    print(load.figures())
    print(f"resident memory of the workers before {before}, after {after} MiB")
    assert load.failures() == []
    strays = [
        (a.version, a.arm, a.sent)
        for a in load.answers
        if not any(t.version == a.version and t.begin <= a.received and a.sent <= t.end for t in swapper.terms)
    ]
    assert strays == []
    assert {a.version for a in load.answers} == set(VERSIONS)
    assert sum(after) <= 1.1 * sum(before)


def test_a_large_version_comes_and_goes_without_a_restart(tmp_path):
    project = served(tmp_path, [(made(tmp_path, "heavy", "good", seed=1), "v1"), (made(tmp_path, "heavy", "good", ballast=BALLAST), "v2")])
    control = open_control(load_settings({"EKIBEN_HOME": project.env["EKIBEN_HOME"]}))
    pinned = "/v1/models/heavy/versions/v2:predict"

    def until(status: int) -> None:
        """Every worker answers so: many connections in a row, each to any of them."""
        end = time.monotonic() + 30
        while {httpx.post(server.url + pinned, json={"instances": [[0.1] * 6]}, timeout=10).status_code for _ in range(20)} != {status}:
            assert time.monotonic() < end
            time.sleep(0.2)

    with Running(project, EKIBEN_ACCESS_LOG_RATE="0") as server:
        server.wait()
        pids = sorted(server.workers())
        with Load(server, model="heavy", rate=60, truth=False) as load:
            until(404)
            time.sleep(1)
            before = resident_mb(server)
            control.rollouts.commit(Change(model="heavy", route=Route(kept=(Kept("v2", time.time() + 3600),))))
            until(200)
            time.sleep(1)
            loaded = resident_mb(server)
            control.rollouts.commit(Change(model="heavy", route=None))
            until(404)
            time.sleep(2)
            after = resident_mb(server)
        assert sorted(server.workers()) == pids
    control.database.close()
    took, left = sum(loaded) - sum(before), sum(after) - sum(before)
    print(f"\nresident memory before {before}, loaded {loaded}, after {after} MiB: took {took:.0f}, left {left:.0f}; {load.figures()}")
    assert load.failures() == []
    assert {a.version for a in load.answers} == {"v1"}
    assert took > 200
    assert left <= 0.2 * took
