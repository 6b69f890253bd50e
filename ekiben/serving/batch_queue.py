"""The queue of one batcher: requests in the order they came, batches off its head.

Not locked itself: the batcher holds its lock around every call, as the event loop puts and a thread takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from ekiben.serving.batch_run import Clock, Pending


class Taken(NamedTuple):
    """What came off the queue.

    Attributes:
        members: The requests of the next batch; empty when nothing waits.
        rows: Their rows.
        late: Requests dropped on the way: their deadline passed, or nobody waits for them any more.
    """

    members: list[Pending]
    rows: int
    late: list[Pending]


class BatchQueue:
    """Requests that wait.

    Args:
        clock: Monotonic seconds.

    Attributes:
        rows: Rows that wait.
    """

    def __init__(self, clock: Clock) -> None:
        self.rows = 0
        self._clock = clock
        self._waiting: deque[Pending] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Pending]:
        return iter(self._waiting)

    def put(self, pending: Pending) -> None:
        """Adds a request at the end."""
        self._waiting.append(pending)
        self.rows += pending.n

    def take(self, most: int) -> Taken:
        """Takes the next batch off: ``most`` rows at most, all of one shape.

        A request of more rows goes alone; the predictor cuts it into batches.
        """
        members: list[Pending] = []
        late: list[Pending] = []
        rows = 0
        now = self._clock()
        waiting = self._waiting
        while waiting:
            head = waiting[0]
            if head.deadline <= now or head.future.done():
                late.append(waiting.popleft())
                self.rows -= head.n
                continue
            if members and (rows + head.n > most or head.shapes != members[0].shapes):
                break
            members.append(waiting.popleft())
            rows += head.n
        self.rows -= rows
        return Taken(members, rows, late)

    def drop_late(self) -> list[Pending]:
        """Takes off what would be dropped by `take` if it came to the head now."""
        now = self._clock()
        late = [p for p in self._waiting if p.deadline <= now or p.future.done()]
        if late:
            self._waiting = deque(p for p in self._waiting if not (p.deadline <= now or p.future.done()))
            self.rows = sum(p.n for p in self._waiting)
        return late
