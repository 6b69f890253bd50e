from __future__ import annotations

import asyncio
import math
import time

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from unit.guards.in_loop import in_loop
from unit.serving.inprocess import SeenRuntime, seen_predictor

from ekiben.errors import DeadlineExceeded, InvalidRows, PredictionFailed
from ekiben.guards.cache import MemoryRows
from ekiben.guards.cache_key import RowKeys
from ekiben.monitoring.cache_metrics import CacheMetrics
from ekiben.serving.batcher import Batcher
from ekiben.serving.cached_answers import CachedAnswers, _Flight


class Record:
    name = "champion"

    def __init__(self) -> None:
        self.errors = []

    def failed(self, errors, seconds) -> None:
        assert 0 <= seconds < 60
        self.errors += errors

    def cancelled(self) -> None:
        pass


class Call(msgspec.Struct):
    record: Record
    received: float
    deadline: float
    principal: str = "anonymous"
    request_id: str = "r"
    key: str | None = None
    receive: object = None


class World:
    """A cache before a batcher whose every run is seen; rows are values of ``a``, answered with ``a + 10``."""

    def __init__(self, runtime: SeenRuntime | None = None, *, per_principal=False, scope=b"one", store=None, inline_s=math.inf) -> None:
        self.runtime = runtime or SeenRuntime()
        predictor = seen_predictor(self.runtime)
        self.signature = predictor.signature
        self.record = Record()
        self.reports, self.reused = [], []
        self.collectors = CollectorRegistry()
        self.metrics = CacheMetrics(self.collectors).of("seen", "1")
        self.store = store or MemoryRows(ttl_s=60, max_bytes=10**6, clock=time.monotonic)
        self.batcher = Batcher(predictor, clock=time.monotonic, report=self.reports.append, inline_s=inline_s)
        self.cache = CachedAnswers(
            self.store,
            RowKeys(scope, per_principal=per_principal),
            self.batcher,
            signature=predictor.signature,
            reused=lambda *reused: self.reused.append(reused),
            metrics=self.metrics,
            clock=time.monotonic,
        )

    def ask(self, *values, timeout_s=30.0, s="x", columns=False, principal="anonymous"):
        now = time.monotonic()
        rows = [{"a": a, "k": 1, "s": s} for a in values]
        if columns:
            ones, texts = np.ones(len(values), np.int64), np.array([s] * len(values), object)
            payload = self.signature.from_columns({"a": np.array(values), "k": ones, "s": texts})
        else:
            payload = self.signature.parse_rows(rows)
        return asyncio.ensure_future(self.cache.infer(Call(self.record, now, now + timeout_s, principal), payload))

    async def answers(self, *values, **kw):
        answer = await self.ask(*values, **kw)
        assert answer.batch.n == answer.outputs.n or answer.batch.n >= answer.stop
        return [row["prediction"] for row in answer.rows()]

    async def held(self):
        """Runs wait in their thread until the gate is open; returns once one has begun."""
        assert await asyncio.to_thread(self.runtime.began.wait, 10)

    @property
    def counts(self):
        return self.metrics.hits, self.metrics.misses, self.metrics.joined


def waiting(**kw) -> World:
    """A world whose runs wait until its gate is opened."""
    world = World(inline_s=-1.0, **kw)
    world.runtime.gate.clear()
    return world


@in_loop
async def test_what_was_asked_before_is_not_computed_again():
    world = World()
    assert await world.answers(1, 2, 3) == [11, 12, 13]
    assert await world.answers(3.0, 1.0) == [13, 11]
    assert await world.answers(2, columns=True) == [12]
    assert world.runtime.runs == [[1, 2, 3]]
    assert world.counts == (2, 1, 0)
    ((call, answer, seconds), _) = world.reused
    assert (call.request_id, answer.batch.columns["a"].tolist(), answer.start, answer.stop) == ("r", [3, 1], 0, 2)
    assert 0 <= seconds < 10
    assert len(world.reports) == 1


@in_loop
async def test_a_request_with_one_new_row_is_computed_whole():
    world = World()
    await world.answers(1)
    assert await world.answers(1, 2, 1) == [11, 12, 11]
    assert world.runtime.runs == [[1], [1, 2, 1]]
    assert await world.answers(2) == [12]
    assert world.counts == (1, 2, 0)


@in_loop
async def test_two_hundred_that_ask_the_same_at_once_are_one_computed_row():
    world = waiting()
    first = [world.ask(7) for _ in range(100)]
    await world.held()
    later = [world.ask(7.0, columns=True) for _ in range(100)]
    await asyncio.sleep(0.01)
    world.runtime.gate.set()
    answers = await asyncio.gather(*first, *later)
    assert [answer.rows()[0]["prediction"] for answer in answers] == [17] * 200
    assert world.runtime.runs == [[7]]
    assert world.counts == (0, 1, 199)
    assert len(world.reused) == 199
    assert not world.cache._flights


@in_loop
async def test_a_request_waits_for_rows_of_several_others():
    world = waiting()
    one, two = world.ask(1, 2), world.ask(3)
    await world.held()
    both = world.ask(3, 2)
    await asyncio.sleep(0)
    world.runtime.gate.set()
    assert [row["prediction"] for row in (await both).rows()] == [13, 12]
    await asyncio.gather(one, two)
    assert sorted(world.runtime.seen) == [1, 2, 3]
    assert (await both).batch.columns["a"].tolist() == [3, 2]


@in_loop
async def test_a_row_that_two_compute_is_waited_for_until_the_later_is_there():
    world = waiting()
    one = world.ask(1)
    await world.held()
    other = world.ask(1, 2)
    await asyncio.sleep(0)
    third = world.ask(1)
    await asyncio.sleep(0)
    world.runtime.gate.set()
    await asyncio.gather(one, other, third)
    assert sorted(world.runtime.seen) == [1, 1, 2]
    assert not world.cache._flights


# what fails ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@in_loop
async def test_an_error_reaches_all_who_asked_the_same_and_is_not_remembered():
    world = waiting(runtime=SeenRuntime(poison=7))
    tasks = [world.ask(7) for _ in range(20)]
    await world.held()
    world.runtime.gate.set()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(e) for e in errors} == {PredictionFailed}
    assert len({id(e) for e in errors}) == 20
    assert len({str(e) for e in errors}) == 1
    assert world.runtime.runs == [[7]]
    assert len(world.record.errors) == 19  # the first one's is in the batch's report
    world.runtime.poison = None
    assert await world.answers(7) == [17]
    assert world.store.entries == 1


@in_loop
async def test_rows_that_are_bad_are_told_so_each_time_and_not_remembered():
    world = waiting()
    busy = world.ask(1)
    await world.held()
    tasks = [world.ask(5, s="z") for _ in range(3)]
    await asyncio.sleep(0)
    world.runtime.gate.set()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [[(d.row, d.field, d.value) for d in e.details] for e in errors] == [[(0, "s", "z")]] * 3
    await busy
    with pytest.raises(InvalidRows):
        await world.ask(5, s="z")
    assert world.runtime.runs == [[1]]
    assert world.store.entries == 1


@in_loop
async def test_a_row_with_a_fault_does_not_get_the_answer_of_the_row_it_looks_like():
    world = World()
    now = time.monotonic()

    def ask(k):
        return world.cache.infer(Call(world.record, now, now + 30), world.signature.parse_rows([{"a": 1, "k": k, "s": "x"}]))

    assert (await ask(0)).rows() == [{"prediction": 1.0}]
    with pytest.raises(InvalidRows, match=r"3\.5"):
        await ask(3.5)
    assert world.counts == (0, 1, 0)


@in_loop
async def test_somebody_elses_bad_row_does_not_fail_who_waits_for_the_good_one():
    world = waiting(runtime=SeenRuntime(poison=66))
    spoilt = world.ask(1, 66)
    await world.held()
    victims = [world.ask(1), world.ask(1, 1)]
    await asyncio.sleep(0)
    world.runtime.gate.set()
    with pytest.raises(PredictionFailed):
        await spoilt
    assert [[row["prediction"] for row in (await v).rows()] for v in victims] == [[11], [11, 11]]
    assert not world.record.errors


@in_loop
async def test_somebody_elses_impatience_does_not_fail_who_waits():
    world = waiting()
    busy = world.ask(1)
    await world.held()
    hasty = world.ask(2, timeout_s=0.03)
    await asyncio.sleep(0)
    victims = [world.ask(2) for _ in range(5)]
    with pytest.raises(DeadlineExceeded):
        await hasty
    world.runtime.gate.set()
    assert [(await v).rows()[0]["prediction"] for v in victims] == [12] * 5
    await busy
    assert world.runtime.seen.count(2) == 1
    assert not world.record.errors


@in_loop
async def test_somebody_who_hangs_up_does_not_fail_who_waits():
    world = waiting()
    busy = world.ask(1)
    await world.held()
    gone = world.ask(2)
    await asyncio.sleep(0)
    victim = world.ask(2)
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0.01)
    world.runtime.gate.set()
    assert (await victim).rows()[0]["prediction"] == 12
    await busy
    assert not world.cache._flights


@in_loop
async def test_who_waits_is_answered_at_its_own_deadline():
    world = waiting()
    patient = world.ask(1)
    await world.held()
    hasty = world.ask(1, timeout_s=0.03)
    with pytest.raises(DeadlineExceeded, match="for another request"):
        await hasty
    assert [type(e) for e in world.record.errors] == [DeadlineExceeded]
    world.runtime.gate.set()
    assert (await patient).rows()[0]["prediction"] == 11


@in_loop
async def test_after_three_that_came_to_nothing_a_request_is_computed_whoever_computes_the_same(monkeypatch):
    world = World()
    looked = []

    def under_way(keys):
        """There is always another that came to nothing."""
        looked.append(keys)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return [(_Flight(1, done), 0)]

    monkeypatch.setattr(world.cache, "_under_way", under_way)
    assert await world.answers(2) == [12]
    assert len(looked) == 3
    assert world.runtime.runs == [[2]]


# whose answer ────────────────────────────────────────────────────────────────────────────────────────────────────────


@in_loop
async def test_principals_do_not_answer_each_other_where_that_is_forbidden():
    world = World(per_principal=True)
    for principal in ("ann", "bob", "ann", "bob"):
        assert await world.answers(1, principal=principal) == [11]
    assert world.runtime.runs == [[1], [1]]
    shared = World()
    for principal in ("ann", "bob"):
        await shared.answers(1, principal=principal)
    assert shared.runtime.runs == [[1]]


@in_loop
async def test_principals_do_not_wait_for_each_other_where_that_is_forbidden():
    world = waiting(per_principal=True)
    tasks = [world.ask(1, principal=p) for p in ("ann", "bob", "bob")]
    await world.held()
    world.runtime.gate.set()
    await asyncio.gather(*tasks)
    assert world.runtime.seen == [1, 1]
    assert world.counts == (0, 2, 1)


@in_loop
async def test_another_version_is_never_answered_out_of_the_same_store():
    store = MemoryRows(ttl_s=60, max_bytes=10**6, clock=time.monotonic)
    old, new = World(scope=b"old", store=store), World(scope=b"new", store=store)
    await old.answers(1)
    await new.answers(1)
    assert (old.runtime.runs, new.runtime.runs) == ([[1]], [[1]])


@in_loop
async def test_zero_and_minus_zero_are_computed_each():
    world = World()
    await world.answers(0.0)
    await world.answers(-0.0)
    assert len(world.runtime.runs) == 2


@in_loop
async def test_counts_are_written_and_closing_forgets():
    world = World()
    await world.answers(1)
    await world.answers(1)
    world.cache.write_metrics()

    def value(name, **labels):
        return world.collectors.get_sample_value(name, {"model": "seen", "version": "1", **labels})

    results = {result: value("ekiben_cache_requests_total", result=result) for result in ("hit", "miss", "joined")}
    assert results == {"hit": 1, "miss": 1, "joined": 0}
    assert value("ekiben_cache_entries") == 1
    assert value("ekiben_cache_bytes") == world.store.held_bytes > 0
    assert world.counts == (0, 0, 0)
    await world.cache.close()
    assert (value("ekiben_cache_entries"), value("ekiben_cache_bytes")) == (0, 0)
    world.metrics.failed()
    assert value("ekiben_cache_redis_failures_total") == 1
