from __future__ import annotations

import threading

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ekiben.state.histogram import Histogram
from ekiben.state.windows import MemoryWindows, Window, WindowKey, summed

FULL = Window(
    ok=7,
    errors={"PredictionFailed": 2, "QueueFull": 1},
    invalid=3,
    fallbacks=2,
    latency=Histogram.of([0.01] * 7),
    compute=Histogram.of([0.001] * 7),
    classes={"no": 5, "yes": 4},
    scores=Histogram.of([0.25] * 9),
    compared=9,
    agreed=8,
    differences=Histogram.of([0.125] * 9),
    dropped=4,
    unlogged=5,
)

counts = st.integers(0, 1000)
named = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(1, 1000))
histograms = st.lists(st.integers(-100, 100), max_size=5).map(Histogram.of)
windows = st.builds(
    Window, ok=counts, errors=named, invalid=counts, fallbacks=counts, latency=histograms, compute=histograms, classes=named,
    scores=histograms, compared=counts, agreed=counts, differences=histograms, dropped=counts, unlogged=counts,
)  # fmt: skip


def key(second: int, *, model="m", version="1", arm="champion") -> WindowKey:
    return WindowKey(model, version, arm, second)


def test_every_field_is_added():
    twice = FULL + FULL
    for name in Window.__struct_fields__:
        one, both = getattr(FULL, name), getattr(twice, name)
        assert one, f"{name} is not shown"
        if isinstance(one, Histogram):
            assert both == one + one
        elif isinstance(one, dict):
            assert both == {k: 2 * v for k, v in one.items()}
        else:
            assert both == 2 * one


@given(windows, windows, windows)
def test_the_order_does_not_matter(a, b, c):
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + Window() == a


@given(windows)
def test_it_goes_through_json_unchanged(window):
    assert msgspec.json.decode(msgspec.json.encode(window), type=Window) == window


def test_requests_are_those_that_were_not_the_clients_fault():
    assert (FULL.failed, FULL.requests) == (3, 10)
    assert (Window().failed, Window().requests) == (0, 0)


def test_a_sum_is_by_version_and_arm():
    one, two = Window(ok=1), Window(ok=2)
    found = summed([(key(1), one), (key(2), two), (key(1, arm="shadow"), one), (key(1, version="2"), two)])
    assert found == {("1", "champion"): one + two, ("1", "shadow"): one, ("2", "champion"): two}
    assert (one.ok, two.ok) == (1, 2)


def test_a_second_belongs_to_the_time_that_begins_with_it():
    store = MemoryWindows()
    store.add("w", [(key(n), Window(ok=10**n)) for n in range(4)])
    assert store.sum("m", 1, 3)["1", "champion"].ok == 110
    assert store.sum("m", 0.5, 3.5)["1", "champion"].ok == 1110
    assert store.sum("m", 9, 99) == {}
    assert store.sum("other", 0, 9) == {}


def test_workers_are_added_and_a_retry_is_not():
    store = MemoryWindows()
    for _ in range(2):
        store.add("w-1", [(key(1), Window(ok=3))])
    store.add("w-2", [(key(1), Window(ok=4))])
    store.add("w-1", [(key(1), Window(ok=5))])
    assert store.sum("m", 0, 9)["1", "champion"].ok == 9


def test_seconds_apart_are_the_sum_together():
    store = MemoryWindows()
    for worker in ("w-1", "w-2"):
        store.add(worker, [(key(n, arm=arm), Window(ok=10**n)) for n in (3, 1, 2) for arm in ("champion", "challenger")])
    apart = store.by_second("m", 1, 3)
    assert list(apart) == [1, 2]
    assert apart[2] == {("1", "champion"): Window(ok=200), ("1", "challenger"): Window(ok=200)}
    assert store.sum("m", 1, 3)["1", "champion"] == apart[1]["1", "champion"] + apart[2]["1", "champion"]
    assert store.by_second("other", 0, 9) == {}


def test_pruning_takes_what_is_before():
    store = MemoryWindows()
    store.add("w", [(key(n), Window(ok=1)) for n in range(5)])
    assert store.prune(3) == 3
    assert store.prune(3) == 0
    assert store.sum("m", 0, 9)["1", "champion"].ok == 2


def test_several_workers_write_at_once():
    store = MemoryWindows()

    def write(worker):
        for second in range(100):
            store.add(worker, [(key(second), Window(ok=1))])
            store.prune(-1)

    threads = [threading.Thread(target=write, args=(f"w-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.sum("m", 0, 1e9)["1", "champion"].ok == 400
