"""What counters of limits promise, wherever they are kept: in memory, in shared files, in a Redis started for it; and over processes."""

import asyncio
import multiprocessing
import os
import secrets
import signal
import time
from contextlib import asynccontextmanager

import pytest
from unit.guards.in_loop import in_loop
from unit.guards.limit_worlds import allowed, rates

from ekiben.errors import NotReady
from ekiben.guards import redis_counts
from ekiben.guards.counts import MemoryCounts
from ekiben.guards.redis_counts import RedisCounts
from ekiben.guards.shared_counts import SharedCounts

pytestmark = pytest.mark.processes
HOUR = {"every": "1h"}


@pytest.fixture(params=["memory", "files", "redis"])
def opened(request, tmp_path):
    """An async context that opens the counters for a test."""
    url = request.getfixturevalue("redis_server").url if request.param == "redis" else ""

    @asynccontextmanager
    async def open_them():
        counts = {"memory": MemoryCounts, "files": lambda: SharedCounts(tmp_path), "redis": lambda: RedisCounts.at(url)}[request.param]()
        yield counts
        await counts.close()

    return open_them


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A busy machine may make a request wait for longer than one would."""
    monkeypatch.setattr(redis_counts, "TIMEOUT_S", 0.5)


@pytest.fixture
def name():
    """Of a counter that no other test uses."""
    return secrets.token_bytes(8)


@pytest.mark.parametrize("algorithm", ["token_bucket", "sliding_window"])
@in_loop
async def test_only_so_many_pass_and_others_are_counted_apart(opened, name, algorithm):
    (rate,) = rates({"requests": 10, "algorithm": algorithm, **HOUR})
    async with opened() as counts:
        assert await allowed(counts, rate, name, 25) == 10
        assert await allowed(counts, rate, name + b"other", 25) == 10
        refused = await counts.take([rate], [name], 1)
        assert (refused.allowed, refused.rate) == (False, rate)
        assert refused.left < 1
        assert 0 < refused.wait_s <= 7200


@pytest.mark.parametrize("algorithm", ["token_bucket", "sliding_window"])
@in_loop
async def test_a_cost_is_taken_whole_or_not_at_all(opened, name, algorithm):
    (rate,) = rates({"rows": 100, "algorithm": algorithm, **HOUR})
    async with opened() as counts:
        assert await allowed(counts, rate, name, 3, cost=40) == 2
        standing = await counts.take([rate], [name], 15)
        assert standing.allowed
        assert standing.left == pytest.approx(5, abs=0.1)
        assert standing.reset_s > 0
        assert await allowed(counts, rate, name, 3, cost=5) == 1


@in_loop
async def test_of_several_rates_all_count_or_none(opened, name):
    small, large = both = rates({"requests": 3, **HOUR}, {"requests": 50, "every": "1d", "algorithm": "sliding_window"})
    async with opened() as counts:
        names = [name + b"small", name + b"large"]
        told = [await counts.take(both, names, 1) for _ in range(9)]
        assert [standing.allowed for standing in told] == [True] * 3 + [False] * 6
        assert {standing.rate for standing in told} == {small}
        assert await allowed(counts, large, names[1], 60) == 47


@pytest.mark.parametrize("algorithm", ["token_bucket", "sliding_window"])
@in_loop
async def test_after_the_wait_that_was_told_it_fits(opened, name, algorithm):
    (rate,) = rates({"requests": 20, "every": "400ms", "algorithm": algorithm})
    async with opened() as counts:
        while (standing := await counts.take([rate], [name], 7)).allowed:
            pass
        assert 0 < standing.wait_s <= 0.8
        await asyncio.sleep(standing.wait_s + 0.003)
        assert (await counts.take([rate], [name], 7)).allowed


@in_loop
async def test_places_are_for_so_many_and_are_given_back(opened, name):
    async with opened() as counts:
        held = [await counts.hold(name, 3) for _ in range(5)]
        assert [place is not None for place in held] == [True] * 3 + [False] * 2
        assert await counts.hold(name + b"other", 3) is not None
        counts.release(held[0])
        counts.release(held[0])
        await asyncio.sleep(0.02)
        assert [await counts.hold(name, 3) is not None for _ in range(2)] == [True, False]


@in_loop
async def test_who_closes_gives_its_places_back(opened, name):
    async with opened() as counts:
        assert await counts.hold(name, 1) is not None
    async with opened() as counts:
        assert await counts.hold(name, 1) is not None


def hammer(folder, url, begin, seconds, results):
    """Asks for a counter as fast as it can, and says how many passed."""

    redis_counts.TIMEOUT_S = 5.0  # four processes that never rest may keep each other waiting

    async def run():
        counts = RedisCounts.at(url) if url else SharedCounts(folder)
        (rate,) = rates({"rows": 2000, "burst": 1000})  # a machine that stands still for half a second loses nothing
        (window,) = rates({"rows": 1000, "every": "1h", "algorithm": "sliding_window"})
        await counts.take([rate], [b"warm"], 1)
        begin.wait()
        begun, passed, in_window = time.monotonic(), 0, 0
        while (ended := time.monotonic()) < begun + seconds:
            passed += (await counts.take([rate], [b"hot"], 5)).allowed
            in_window += (await counts.take([window], [b"hot window"], 1)).allowed
        await counts.close()
        results.put((passed * 5, in_window, begun, ended))

    asyncio.run(run())


@pytest.mark.parametrize("where", ["files", "redis"])
def test_several_processes_together_get_what_one_may(where, tmp_path, request):
    url = request.getfixturevalue("redis_server").url if where == "redis" else ""
    spawn = multiprocessing.get_context("spawn")
    begin, results, seconds, many = spawn.Barrier(4), spawn.Queue(), 2.0, 4
    processes = [spawn.Process(target=hammer, args=(tmp_path, url, begin, seconds, results)) for _ in range(many)]
    for process in processes:
        process.start()
    answers = [results.get(timeout=30) for _ in processes]
    for process in processes:
        process.join(10)
    rows, in_window, begun, ended = zip(*answers, strict=True)
    took_s = max(ended) - min(begun)  # of one machine, so of one clock
    assert sum(rows) == pytest.approx(2000 * took_s + 1000, rel=0.02)
    assert sum(in_window) == 1000


def holding(folder, ready):
    places = SharedCounts(folder)
    for _ in range(3):
        assert asyncio.run(places.hold(b"k", 3)) is not None
    ready.set()
    time.sleep(60)


def test_the_places_of_a_killed_process_are_free(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    process = spawn.Process(target=holding, args=(tmp_path, ready))
    process.start()
    assert ready.wait(20)
    counts = SharedCounts(tmp_path)
    assert asyncio.run(counts.hold(b"k", 3)) is None
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
    time.sleep(0.06)
    assert asyncio.run(counts.hold(b"k", 3)) is not None
    asyncio.run(counts.close())


@in_loop
async def test_in_redis_a_lease_is_renewed_while_it_is_held_and_ends_with_its_worker(redis_server, name):
    holder, other = RedisCounts.at(redis_server.url), RedisCounts.at(redis_server.url)
    holder._lease_s = 0.4
    assert await holder.hold(name, 1) is not None
    await asyncio.sleep(0.9)
    assert await other.hold(name, 1) is None
    holder._renewing.cancel()  # as when it is killed
    await asyncio.sleep(0.5)
    assert await other.hold(name, 1) is not None
    await holder.close()
    await other.close()


@pytest.mark.parametrize("how", ["killed", "hanging"])
@in_loop
async def test_while_redis_is_away_rates_say_what_happens_and_nobody_waits_for_it(redis_server, name, how, caplog):
    heard, now = [], [100.0]
    counts = RedisCounts.at(redis_server.url, on_change=heard.append)
    counts._clock = lambda: now[0]
    lenient, strict = rates({"requests": 1, **HOUR}, {"requests": 1, "unreachable": "refuse", **HOUR})
    assert await allowed(counts, lenient, name, 2) == 1
    (redis_server.kill if how == "killed" else redis_server.hang)()
    begun = time.monotonic()
    assert await allowed(counts, lenient, name, 50) == 50
    with pytest.raises(NotReady, match="1 requests every 1h for each key cannot be counted now; try again in 1 s"):
        await counts.take([strict], [name], 1)
    assert await counts.hold(name, 1) is not None
    assert time.monotonic() - begun < 5, "a few requests wait, the others do not"
    (redis_server.start if how == "killed" else redis_server.go_on)()
    assert await allowed(counts, lenient, name, 5) == 5, "it is not asked again so soon"
    now[0] += 1.1
    await counts.take([strict], [name + b"strict"], 1)
    assert await allowed(counts, lenient, name + b"new", 5) == 1
    assert heard == [True, False, True]
    assert [record.levelname for record in caplog.records if record.name == "ekiben.limits" and record.levelname == "WARNING"] == [
        "WARNING"
    ]
    await counts.close()


@in_loop
async def test_in_redis_counters_go_by_themselves(redis_server, name):
    from redis.asyncio import Redis

    counts = RedisCounts.at(redis_server.url)
    bucket, window = both = rates({"requests": 10}, {"requests": 10, "algorithm": "sliding_window"})
    assert (await counts.take(both, [name, name + b"w"], 1)).rate in (bucket, window)
    await counts.hold(name, 1)
    client = Redis.from_url(redis_server.url)
    keys = await client.keys("ekiben:limits:*")
    assert len(keys) >= 3
    assert all([0 < await client.pttl(key) < 3_700_000 * 3 for key in keys])
    await client.aclose()
    await counts.close()
