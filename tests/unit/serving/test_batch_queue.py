import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiben.serving.batch_queue import BatchQueue
from ekiben.serving.batch_run import Pending

NOW = 100.0


def pending(n, *, deadline=NOW + 10, shapes=None, done=False):
    loop = asyncio.new_event_loop()
    try:
        future = loop.create_future()
    finally:
        loop.close()
    if done:
        # Nobody looks after a callback here: the loop is closed, and the future has none.
        future.cancel()
    return Pending([None] * n, n, NOW, deadline, NOW, shapes, future)


def queue_of(*members):
    queue = BatchQueue(lambda: NOW)
    for member in members:
        queue.put(member)
    return queue


requests = st.builds(
    pending,
    st.integers(1, 9),
    deadline=st.sampled_from([NOW - 1, NOW, NOW + 1, NOW + 2]),
    shapes=st.sampled_from([None, None, (3,)]),
    done=st.sampled_from([False, False, False, True]),
)


@given(members=st.lists(requests, max_size=20), most=st.integers(1, 12))
def test_everything_comes_off_once_in_order_and_no_batch_is_too_large(members, most):
    queue = queue_of(*members)
    assert queue.rows == sum(p.n for p in members)
    assert len(queue) == len(members) == len(list(queue))
    taken, late = [], []
    while queue:
        batch = queue.take(most)
        assert batch.rows == sum(p.n for p in batch.members)
        assert batch.rows <= most or len(batch.members) == 1
        assert len({p.shapes for p in batch.members}) <= 1
        taken += batch.members
        late += batch.late
        assert queue.rows == sum(p.n for p in queue)
    is_late = [p.deadline <= NOW or p.future.done() for p in members]
    assert [id(p) for p in taken] == [id(p) for p, gone in zip(members, is_late, strict=True) if not gone]
    assert [id(p) for p in late] == [id(p) for p, gone in zip(members, is_late, strict=True) if gone]
    assert queue.rows == 0


@given(members=st.lists(requests, max_size=20))
def test_the_late_ones_are_dropped_wherever_they_wait(members):
    queue = queue_of(*members)
    late = queue.drop_late()
    assert [id(p) for p in late] == [id(p) for p in members if p.deadline <= NOW or p.future.done()]
    assert not any(p.deadline <= NOW or p.future.done() for p in queue)
    assert queue.rows == sum(p.n for p in queue)
    assert len(queue) + len(late) == len(members)


@pytest.mark.parametrize(
    ("sizes", "most", "expected"), [([2, 2, 2], 4, [2, 2]), ([9, 1], 4, [9]), ([1, 9, 1], 4, [1]), ([4], 4, [4]), ([], 4, [])]
)
def test_a_batch_is_as_large_as_it_may_be(sizes, most, expected):
    assert [p.n for p in queue_of(*(pending(n) for n in sizes)).take(most).members] == expected
