"""Remembered answers that two workers share through a real Redis: while it is there, while it is away, and once it is back."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import msgspec
import pytest
from integration.running import Project, Running, metric

from ekiben.guards.redis_cache import RedisBytes
from ekiben.model.artifact import MANIFEST, read_artifact
from ekiben.model.guard_spec import CacheSpec

pytestmark = pytest.mark.processes

PATH = "/v1/models/tiny:predict"
SECONDS = 10


@pytest.fixture
def project(tmp_path, tiny_artifact) -> Project:
    """A project with ``tiny`` in a version that shares what it remembers."""
    spec = msgspec.structs.replace(tiny_artifact.spec, cache=CacheSpec(enabled=True, shared=True))
    manifest = msgspec.structs.replace(tiny_artifact.manifest, spec=spec)
    (tiny_artifact.path / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    project = Project(tmp_path / "project")
    project.register(read_artifact(tiny_artifact.path), version="1")
    return project


def ask(server, value, **headers):
    """One request on a connection of its own, so that either worker may get it."""
    body = {"instances": [{"a": value, "b": 0.25, "c": None, "d": 0.75}]}
    return httpx.post(server.url + PATH, json=body, headers=headers, timeout=SECONDS)


def metrics(server):
    time.sleep(1.2)  # workers write what they gathered twice a second
    return httpx.get(server.url + "/metrics", timeout=SECONDS).text


def results(text):
    return {result: metric(text, "ekiben_cache_requests_total", result=result) for result in ("hit", "miss", "joined")}


def test_bytes_are_kept_for_their_time(redis_server):
    async def story():
        store = RedisBytes(redis_server.url)
        assert await store.get(["a", "b"]) == [None, None]
        await store.put({"a": b"\0\1", "b": b""}, 60_000)
        await store.put({"c": b"3"}, 50)
        other = RedisBytes(redis_server.url)
        assert (await other.get(["b", "a", "c", "d"]))[:2] == [b"", b"\0\1"]
        await asyncio.sleep(0.1)
        assert await other.get(["c"]) == [None]
        await store.close()
        await other.close()

    asyncio.run(asyncio.wait_for(story(), SECONDS))


def test_workers_share_what_they_computed_and_do_without_it_when_they_must(project, redis_server):
    with Running(project, workers=2, EKIBEN_REDIS_URL=redis_server.url) as server:
        server.wait()
        # Until each worker has reached Redis it computes.
        warm = 0
        while results(metrics(server))["hit"] < 8:
            assert warm < 100, server.log.read_text()
            for _ in range(10):
                assert ask(server, 2.0).status_code == 200
            warm += 10
        before = metrics(server)
        first = ask(server, 1.0).json()["predictions"]
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda n: ask(server, 1.0 if n % 2 else 1), range(60)))
        assert {a.status_code for a in answers} == {200}
        assert all(a.json()["predictions"] == first for a in answers)
        text = metrics(server)
        found = {result: count - results(before)[result] for result, count in results(text).items()}
        assert found["miss"] <= 3, "the first of all, and what its writing overlapped"
        assert sum(found.values()) == 61
        assert found["hit"] > 0
        assert metric(text, "ekiben_predicted_rows_total") == results(text)["miss"]

        redis_server.kill()
        with ThreadPoolExecutor(8) as threads:
            away = list(threads.map(lambda n: ask(server, n % 5), range(40)))
        assert {a.status_code for a in away} == {200}
        text = metrics(server)
        assert metric(text, "ekiben_cache_redis_failures_total") > 0
        log = server.log.read_text()
        assert 1 <= log.count("Redis cannot be asked for remembered answers") <= 2, "once a worker"

        redis_server.start()
        hits = results(text)["hit"]
        end = time.monotonic() + SECONDS
        while results(metrics(server))["hit"] <= hits + 2:
            assert time.monotonic() < end, server.log.read_text()
            for _ in range(8):
                assert ask(server, 7.0).status_code == 200
