import asyncio
import time

import pytest

from ekiben.errors import NotReady, UnknownModel
from ekiben.model.guard_spec import CacheSpec
from ekiben.serving.statistics import statistics

NONE = {"count": 0, "ns": 0}


def ask(serving, model=None, version=None):
    return serving.thread.run(statistics(serving.server.host, model, version))


def test_a_version_that_did_nothing_yet(serving):
    (found,) = ask(serving, "tiny")
    stats = found.pop("inference_stats")
    assert found == {
        "name": "tiny",
        "version": "1",
        "last_inference": 0,
        "inference_count": 0,
        "execution_count": 0,
        "batch_stats": [],
        "memory_usage": [],
    }
    names = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")
    assert stats == dict.fromkeys(names, NONE)


def test_what_was_answered_and_what_failed(serving, tiny_rows):
    row = tiny_rows(1)[0]
    before = time.time()

    async def together():
        return await asyncio.gather(*(serving.server.predict("tiny", tiny_rows(3)) for _ in range(2)))

    serving.thread.run(together())
    for _ in range(2):
        serving.predict("tiny", [row])
    serving.predict("tiny", [{**row, "d": 99}])
    serving.predict("tiny", [])
    (found,) = ask(serving, "tiny", "1")
    assert before * 1000 - 1 <= found["last_inference"] <= time.time() * 1000
    assert (found["inference_count"], found["execution_count"]) == (8, 3)
    stats = found["inference_stats"]
    assert {name: s["count"] for name, s in stats.items()} == {
        "success": 4, "fail": 2, "queue": 4, "compute_input": 4, "compute_infer": 4, "compute_output": 4, "cache_hit": 0, "cache_miss": 0,
    }  # fmt: skip
    parts = [stats[name]["ns"] for name in ("queue", "compute_input", "compute_infer")]
    assert all(ns > 0 for ns in parts)
    assert stats["compute_output"]["ns"] == 0
    # What a request took is what its parts took, and reading it.
    assert sum(parts) <= stats["success"]["ns"] < 10e9
    assert 0 < stats["fail"]["ns"] < 10e9
    by_size = {s["batch_size"]: s for s in found["batch_stats"]}
    assert {size: s["compute_infer"]["count"] for size, s in by_size.items()} == {1: 2, 8: 1}
    # Two requests shared the batch of 6 rows: each waited for it, and it ran once.
    spent = {phase: sum(s[phase]["ns"] for s in by_size.values()) for phase in ("compute_input", "compute_infer")}
    for phase, ns in spent.items():
        assert stats[phase]["ns"] == pytest.approx(ns + by_size[8][phase]["ns"], abs=5)


def test_what_was_remembered_is_not_counted_as_computed(start, registry, another, tiny_artifact, tiny_rows):
    registry.register(another(tiny_artifact, "cached", cache=CacheSpec(enabled=True)).path, tag="tiny:1")
    serving = start("tiny")
    for row in (*tiny_rows(2), *tiny_rows(2), tiny_rows(1)[0]):
        assert serving.predict("tiny", [row]).status_code == 200
    (found,) = ask(serving, "tiny", "1")
    assert (found["inference_count"], found["execution_count"]) == (2, 2)
    assert {name: s["count"] for name, s in found["inference_stats"].items()} == {
        "success": 5, "fail": 0, "queue": 2, "compute_input": 2, "compute_infer": 2, "compute_output": 2, "cache_hit": 3, "cache_miss": 2,
    }  # fmt: skip


def test_which_versions(start, registry, another, tiny_artifact, plane_artifact):
    registry.register(plane_artifact.path, tag="plane:1")
    registry.register(tiny_artifact.path, tag="tiny:1")
    registry.register(another(tiny_artifact, "2").path, tag="tiny:2")
    registry.aliases.set("tiny", "challenger", "2")
    serving = start("tiny", "plane", "ghost")

    def names(*which):
        return [(s["name"], s["version"]) for s in ask(serving, *which)]

    assert names() == [("plane", "1"), ("tiny", "1"), ("tiny", "2")]
    assert names("tiny") == [("tiny", "1"), ("tiny", "2")]
    assert names("tiny", "2") == [("tiny", "2")]
    with pytest.raises(UnknownModel, match="version '3' of tiny"):
        ask(serving, "tiny", "3")
    with pytest.raises(UnknownModel, match="'none'"):
        ask(serving, "none")
    with pytest.raises(NotReady, match="ghost is not ready"):
        ask(serving, "ghost")


def test_without_models_there_are_none(start):
    assert ask(start()) == []


def test_rows_that_wait_are_shown_while_the_model_is_busy(serving, eventually):
    served = serving.server.host.find("plane", None)
    queued = served.batcher._queue
    queued.rows = 7
    eventually(lambda: serving.metric("ekiben_queue_rows", model="plane") == 7)
    queued.rows = 0
    eventually(lambda: serving.metric("ekiben_queue_rows", model="plane") == 0)
