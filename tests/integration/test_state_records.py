"""What windows, events, leases, workers, measurements and deliveries promise, on every backend."""

import random
import threading
import time

import msgspec
import pytest

from ekiben.state.deliveries import Delivery
from ekiben.state.events import Event
from ekiben.state.histogram import Histogram
from ekiben.state.measurements import Measurement
from ekiben.state.windows import Window, WindowKey
from ekiben.state.workers import WorkerState

pytestmark = pytest.mark.processes

EVENT = Event(time=1.5, who="controller", model="m", rollout="m-1", kind="step", message="on we go", details={"weights": {"challenger": 5}})


def window(n=1):
    return Window(
        ok=n,
        errors={"PredictionFailed": n},
        invalid=n,
        fallbacks=n,
        latency=Histogram.of([0.1 * n, -1, 0]),
        compute=Histogram.of([0.01]),
        classes={"yes": n},
        scores=Histogram.of([0.5]),
        compared=n,
        agreed=n,
        differences=Histogram.of([0.25]),
        dropped=n,
    )


# windows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_windows_come_back_whole(controls):
    one, other = controls().windows, controls().windows
    one.add("w", [(WindowKey("m", "1", "champion", 100), window(3)), (WindowKey("m", "2", "shadow", 100), Window())])
    one.add("w", [])
    assert other.sum("m", 100, 101) == {("1", "champion"): window(3), ("2", "shadow"): Window()}
    assert other.sum("m", 101, 200) == other.sum("n", 0, 200) == {}


def test_windows_are_added_over_seconds_and_workers(controls):
    one, other = controls().windows, controls().windows
    for n, (part, worker, second) in enumerate([(one, "v", 59), (one, "v", 60), (other, "w", 60), (other, "w", 185)], start=1):
        part.add(worker, [(WindowKey("m", "1", "champion", second), window(n))])
    assert one.sum("m", 59, 186)["1", "champion"].ok == 1 + 2 + 3 + 4
    assert one.sum("m", 59.5, 185)["1", "champion"].ok == 2 + 3
    assert one.sum("m", 60, float("inf"))["1", "champion"] == window(2) + window(3) + window(4)


def test_a_window_that_is_written_again_replaces_the_former_of_its_worker_only(controls):
    one, other = controls().windows, controls().windows
    key = WindowKey("m", "1", "champion", 130)
    one.add("v", [(key, window(1))])
    one.add("w", [(key, window(2))])
    assert other.sum("m", 0, 1000)["1", "champion"].ok == 3
    one.add("w", [(key, window(7))])
    assert other.sum("m", 0, 1000)["1", "champion"].ok == 8


def test_late_windows_and_pruned_ones_are_never_overlooked(controls):
    one, other = controls().windows, controls().windows
    drawn = random.Random(7)
    kept = {}
    for n in range(60):
        worker, second = drawn.choice("vw"), drawn.randrange(100, 400)
        one.add(worker, [(WindowKey("m", "1", "champion", second), Window(ok=n))])
        kept[worker, second] = n
        if n % 20 == 19:
            assert one.prune(100 + n) == sum(s < 100 + n for _, s in kept)
            kept = {key: ok for key, ok in kept.items() if key[1] >= 100 + n}
        since, until = sorted(drawn.sample(range(90, 410), 2))
        wanted = sum(ok for (_, s), ok in kept.items() if since <= s < until)
        assert other.sum("m", since, until).get(("1", "champion"), Window()).ok == wanted


# events ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_events_have_growing_numbers_and_come_back_in_order(controls):
    one, other = controls().events, controls().events
    kept = [*one.append([EVENT, EVENT]), *other.append([msgspec.structs.replace(EVENT, model="n", rollout="")])]
    assert one.append([]) == []
    assert [e.id for e in kept] == sorted({e.id for e in kept})
    assert other.find() == kept
    assert msgspec.structs.replace(kept[0], id=0) == EVENT
    assert other.find(after=kept[0].id) == kept[1:]
    assert other.find(limit=2) == kept[1:]
    assert other.find(limit=0) == []
    assert (other.find(model="n"), other.find(rollout="m-1"), other.find(model="m", rollout="n-1")) == (kept[2:], kept[:2], [])


def test_who_reads_on_from_the_last_event_misses_none(controls):
    writers, reader = [controls().events for _ in range(3)], controls().events
    seen, over = [], threading.Event()

    def write(part):
        for _ in range(15):
            part.append([EVENT, EVENT])

    def read():
        while True:
            is_last = over.is_set()
            found = reader.find(after=seen[-1] if seen else 0, limit=1000)
            seen.extend(e.id for e in found)
            if is_last:
                return

    threads = [threading.Thread(target=write, args=(part,)) for part in writers]
    follower = threading.Thread(target=read)
    for thread in (follower, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    follower.join()
    assert seen == [e.id for e in reader.find(limit=1000)]
    assert len(seen) == 90


def test_no_text_of_a_person_is_refused(controls):
    events = controls().events
    events.append([msgspec.structs.replace(EVENT, message="a\0b \ud800", who="x" * 5000, details={"why": "a\0b"})])
    assert "b" in events.find()[0].message


# leases ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_lease_is_held_by_one_until_it_is_over_or_given_back(controls):
    one, other = controls().leases, controls().leases
    assert one.holder("controller") is None
    assert one.acquire("controller", "a", 60)
    assert not other.acquire("controller", "b", 60)
    assert other.acquire("another", "b", 60)
    assert other.holder("controller") == "a"
    other.release("controller", "b")
    assert one.acquire("controller", "a", 0.2)
    time.sleep(0.3)
    assert one.holder("controller") is None
    assert other.acquire("controller", "b", 60)
    assert not one.acquire("controller", "a", 60)
    other.release("controller", "b")
    assert one.holder("controller") is None
    assert one.acquire("controller", "a", 60)


def test_of_many_that_want_a_lease_one_gets_it(controls):
    users = [controls().leases for _ in range(6)]
    barrier, got = threading.Barrier(6), []

    def take(n):
        barrier.wait()
        if users[n].acquire("controller", str(n), 60):
            got.append(str(n))

    threads = [threading.Thread(target=take, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [users[0].holder("controller")]


# workers ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_workers_are_alive_as_long_as_they_say_so(controls):
    one, other = controls().workers, controls().workers
    state = WorkerState(
        id="host:1:1", models=("m",), versions={"m": ("1", "2")}, problems={"n": "gone"}, generation=(1, 0, 2), in_force_at=5.5
    )
    before = time.time()
    one.say(state)
    one.say(msgspec.structs.replace(state, id="host:0:1"))
    found = other.alive(10)
    assert [w.id for w in found] == ["host:0:1", "host:1:1"]
    assert before - 1 <= found[1].seen_at <= time.time() + 1
    assert msgspec.structs.replace(found[1], seen_at=0.0) == state
    one.say(msgspec.structs.replace(state, versions={}))
    assert other.alive(10)[1].versions == {}
    one.forget("host:0:1")
    one.forget("host:none")
    assert [w.id for w in other.alive(10)] == ["host:1:1"]
    time.sleep(0.15)
    assert other.alive(0.1) == []


# measurements ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_measurements_come_back_in_the_order_they_were_made(controls):
    one, other = controls().measurements, controls().measurements
    made = [
        Measurement(
            rollout="m-1", step=step, metric="errorRate", time=9.0 - n, outcome="Failed", message="why", value=0.5, low=0.1, limit=0.2
        )
        for n, step in enumerate((0, 0, 3))
    ]
    one.append([])
    one.append(made[:2])
    one.append([*made[2:], msgspec.structs.replace(made[0], rollout="m-2")])
    assert other.find("m-1") == made
    assert (other.find("m-1", step=0), other.find("m-1", step=3), other.find("m-1", step=1)) == (made[:2], made[2:], [])


# deliveries ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_deliveries_wait_until_they_are_due(controls):
    one, other = controls().deliveries, controls().deliveries
    events = [msgspec.structs.replace(EVENT, id=n) for n in (2, 1, 3)]
    made = [Delivery(event=e, url="http://here/" + "x" * 5000, secret_file="s", due=float(e.id)) for e in events]
    one.add(made)
    one.add([msgspec.structs.replace(made[0], attempts=9)])
    one.add([])
    assert other.due(0.5) == []
    assert other.due(2.0) == [made[1], made[0]]
    assert other.due(9.0, limit=1) == [made[1]]
    other.update(msgspec.structs.replace(made[1], state="delivered", attempts=1))
    later = msgspec.structs.replace(made[0], due=5.0, attempts=1, problem="refused")
    other.update(later)
    assert one.due(4.0) == [made[2]]
    assert one.due(5.0) == [later, made[2]]


def test_it_is_kept_of_which_events_deliveries_were_made(controls):
    one, other = controls().deliveries, controls().deliveries
    assert one.last_event() == 0
    one.set_last_event(7)
    assert other.last_event() == 7
    other.set_last_event(9)
    assert one.last_event() == 9
