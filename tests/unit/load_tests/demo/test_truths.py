from collections import Counter

from load_tests.demo.truths import REPEATED_SHARE, TruthQueue

N = 2000


def filled():
    queue = TruthQueue(seed=1)
    for i in range(N):
        queue.add(f"r{i}", "late", due_s=float(i))
    return queue


def test_what_is_not_due_waits():
    queue = TruthQueue(seed=1)
    queue.add("r1", "late", due_s=10.0)
    assert queue.take(9.99) == []
    assert queue.take(10.0) == [{"request_id": "r1", "actual": "late"}]
    queue.add("r2", "on_time", due_s=0.0)
    assert len(queue) == 1


def test_every_truth_is_reported_and_some_twice_and_out_of_order():
    queue = filled()
    taken = [report["request_id"] for report in queue.take(N + 10.0)]
    counted = Counter(taken)
    assert set(counted) == {f"r{i}" for i in range(N)}
    assert set(counted.values()) == {1, 2}
    assert 0.5 * REPEATED_SHARE < sum(n == 2 for n in counted.values()) / N < 1.5 * REPEATED_SHARE
    assert taken != sorted(taken, key=lambda name: int(name[1:]))
    assert len(queue) == 0


def test_they_are_counted_and_the_same_every_time():
    first, second = filled(), filled()
    assert first.counts.flights == N
    assert first.counts.reports == len(first.take(N + 10.0))
    assert first.counts.repeated == first.counts.reports - N
    second.take(N + 10.0)
    assert first.counts == second.counts
