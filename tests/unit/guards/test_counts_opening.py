import sys

import msgspec
import pytest
from unit.guards.in_loop import in_loop
from unit.guards.limit_worlds import allowed, rates

from ekiben.errors import SettingError
from ekiben.guards.counts import Place
from ekiben.guards.counts_opening import open_counts
from ekiben.guards.redis_counts import RedisCounts
from ekiben.settings import load_settings


@pytest.fixture
def settings(tmp_path):
    return msgspec.structs.replace(load_settings({}), home=tmp_path / "home")


@in_loop
async def test_counters_are_in_files_that_are_made_when_something_is_counted(settings):
    heard = []
    counts, other = open_counts(settings, on_change=heard.append), open_counts(settings)
    assert not settings.home.exists()
    (rate,) = rates({"requests": 3, "every": "1h"})
    assert await allowed(counts, rate, b"k", 2) == 2
    assert await allowed(other, rate, b"k", 2) == 1
    assert (settings.home / "limits.counts").exists()
    place = await counts.hold(b"k", 1)
    assert await other.hold(b"k", 1) is None
    counts.release(place)
    assert await other.hold(b"k", 1) is not None
    assert heard == [True]
    await counts.close()
    await other.close()


@in_loop
async def test_what_counted_nothing_has_nothing_to_let_go(settings):
    counts = open_counts(settings)
    counts.release(Place(b"k"))
    await counts.close()
    assert not settings.home.exists()


@in_loop
async def test_where_there_can_be_no_files_each_worker_counts_and_says_so(settings, caplog):
    settings.home.write_text("in the way")
    heard = []
    counts = open_counts(settings, on_change=heard.append)
    (rate,) = rates({"requests": 3, "every": "1h"})
    assert await allowed(counts, rate, b"k", 5) == 3
    assert await counts.hold(b"k", 1) is not None
    assert heard == [False]
    assert caplog.text.count("each worker for itself") == 1


@in_loop
async def test_redis_is_not_connected_to_before_it_is_asked(settings):
    settings = msgspec.structs.replace(settings, redis_url="redis://127.0.0.1:1/0")
    counts = open_counts(settings)
    assert isinstance(counts, RedisCounts)
    await counts.close()


def test_a_redis_that_cannot_be_used_says_why(settings, monkeypatch):
    with pytest.raises(SettingError, match="EKIBEN_REDIS_URL is of no use"):
        open_counts(msgspec.structs.replace(settings, redis_url="redis://host:port/0"))
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(SettingError, match=r"install ekiben\[redis\]"):
        open_counts(msgspec.structs.replace(settings, redis_url="redis://host/0"))
