from __future__ import annotations

import asyncio

import numpy as np
import pytest
from unit.guards.in_loop import in_loop
from unit.guards.row_outputs import classes, numbers, same

from ekiben.guards import redis_cache
from ekiben.guards.cache_codec import RowCodec
from ekiben.guards.redis_cache import RedisBytes, SharedRows
from ekiben.model.outputs import Outputs


class MemoryBytes:
    """A Redis in this process, which can be slow, or away."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[bytes, int]] = {}
        self.asked = 0
        self.error: OSError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_closed = False

    async def get(self, keys):
        await self._asked()
        return [self.kept.get(key, (None, 0))[0] for key in keys]

    async def put(self, values, ttl_ms):
        await self._asked()
        self.kept |= {key: (data, ttl_ms) for key, data in values.items()}

    async def close(self):
        self.is_closed = True

    async def _asked(self):
        self.asked += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error


class World:
    def __init__(self, labels=()) -> None:
        self.store, self.failures = MemoryBytes(), 0
        self.rows = self.worker(labels)

    def worker(self, labels=()) -> SharedRows:
        return SharedRows(self.store, RowCodec(labels), model="m", ttl_s=0.25, failed=self._failed)

    def _failed(self) -> None:
        self.failures += 1


async def written(rows: SharedRows) -> None:
    if rows._writes:
        await asyncio.wait(rows._writes)
    await asyncio.sleep(0)


async def reached(rows: SharedRows) -> SharedRows:
    """Until it is reached, nothing is found."""
    assert await rows.find([b"?"]) is None
    await rows._reaching
    return rows


@in_loop
async def test_what_one_worker_computed_answers_another():
    world = World(("no", "yes"))
    await reached(world.rows)
    world.rows.put([b"\1", b"\2"], classes(), 1)
    await written(world.rows)
    found = await (await reached(world.worker(("no", "yes")))).find([b"\2", b"\1"])
    assert same(found, classes().pick(np.array([2, 1])))
    assert {key: ttl for key, (_, ttl) in world.store.kept.items()} == {"ekiben:cache:1:m:01": 250, "ekiben:cache:1:m:02": 250}
    assert (world.rows.entries, world.rows.held_bytes) == (0, 0)


@in_loop
async def test_all_rows_must_be_there():
    world = World()
    await reached(world.rows)
    world.rows.put([b"\1"], numbers(), 0)
    await written(world.rows)
    assert await world.rows.find([b"\1", b"\2"]) is None
    assert world.failures == 0


@in_loop
async def test_what_is_no_row_is_not_there():
    world = World()
    await reached(world.rows)
    world.store.kept["ekiben:cache:1:m:01"] = (b"somebody else's", 1)
    assert await world.rows.find([b"\1"]) is None
    world.rows.put([b"\2"], numbers(), 0)
    world.rows.put([b"\3"], Outputs(1, {"other": np.zeros(1)}), 0)
    await written(world.rows)
    assert await world.rows.find([b"\2", b"\3"]) is None
    assert await world.rows.find([b"\3"]) is not None


@in_loop
async def test_values_without_such_a_form_are_not_written():
    world = World()
    await reached(world.rows)
    world.rows.put([b"\1"], Outputs(1, {"y": np.array([None], object)}), 0)
    assert not world.rows._writes


@in_loop
async def test_while_it_is_away_everything_is_a_miss_said_once_until_it_is_back(monkeypatch, caplog):
    monkeypatch.setattr(redis_cache, "REST_S", 0.002)
    world = World()
    await reached(world.rows)
    world.rows.put([b"\1"], numbers(), 0)
    await written(world.rows)
    world.store.error = OSError("connection refused")
    assert await world.rows.find([b"\1"]) is None
    while world.failures < 4:
        assert await world.rows.find([b"\1"]) is None
        world.rows.put([b"\1"], numbers(), 0)
        assert not world.rows._writes
        await asyncio.sleep(0.001)
    assert [r.message.partition(", every")[0] for r in caplog.records] == ["Redis cannot be asked for remembered answers"]
    assert "connection refused" in caplog.text
    world.store.error = None
    await world.rows._reaching
    assert await world.rows.find([b"\1"]) is not None
    assert len(caplog.records) == 2


@in_loop
async def test_one_slow_answer_is_counted_and_costs_a_request_no_more_than_its_time(caplog):
    world = World()
    await reached(world.rows)
    world.store.gate.clear()
    assert await asyncio.wait_for(world.rows.find([b"\1"]), 5) is None
    assert world.failures == 1
    asked = world.store.asked
    assert await world.rows.find([b"\1"]) is None
    assert world.store.asked <= asked + 1, "the next one does not wait for it"
    world.store.gate.set()
    await world.rows._reaching
    world.rows.put([b"\1"], numbers(), 0)
    await written(world.rows)
    assert await world.rows.find([b"\1"]) is not None
    assert not caplog.records


@in_loop
async def test_a_redis_that_hangs_does_not_keep_a_version_from_going(monkeypatch, caplog):
    monkeypatch.setattr(redis_cache, "REACH_S", 0.01)
    world = World()
    await reached(world.rows)
    world.store.gate.clear()
    world.rows.put([b"\1"], numbers(), 0)
    await written(world.rows)
    assert world.failures == 1
    await asyncio.sleep(0.1)
    assert "no answer within 0.01 s" in caplog.text
    await asyncio.wait_for(world.rows.close(), 5)
    assert world.store.is_closed
    assert world.rows._reaching.cancelling()


@in_loop
async def test_closing_waits_for_what_is_being_written():
    world = World()
    await reached(world.rows)
    world.rows.put([b"\1"], numbers(), 0)
    await world.rows.close()
    assert len(world.store.kept) == 1
    asked = world.store.asked
    assert await world.rows.find([b"\1"]) is None
    assert world.store.asked == asked
    fresh = World()
    await fresh.rows.close()
    assert fresh.store.is_closed


@in_loop
async def test_writes_that_fall_behind_are_left_out(monkeypatch):
    monkeypatch.setattr(redis_cache, "_MAX_WRITES", 3)
    world = World()
    await reached(world.rows)
    world.store.gate.clear()
    for n in range(10):
        world.rows.put([bytes([n])], numbers(), 0)
    assert len(world.rows._writes) == 3
    world.store.gate.set()
    await written(world.rows)
    assert len(world.store.kept) == 3


@in_loop
async def test_a_redis_that_is_not_there_is_an_os_error(tmp_path):
    store = RedisBytes(f"unix://{tmp_path}/none.sock")
    with pytest.raises(OSError, match=r"none\.sock"):
        await store.get(["a"])
    with pytest.raises(OSError, match=r"none\.sock"):
        await store.put({"a": b"1"}, 1000)
    await store.close()


def test_a_url_that_is_none_is_a_value_error():
    with pytest.raises(ValueError, match="scheme"):
        RedisBytes("nonsense")
