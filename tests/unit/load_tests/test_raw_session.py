import numpy as np
import pytest

from load_tests.bench.raw_session import BATCHES, measure

ROWS = np.arange(20, dtype=np.float32).reshape(10, 2)


class Session:
    """A session on a clock of its own: a run costs 1 ms and 0.1 ms a row."""

    def __init__(self):
        self.now = 0.0
        self.sizes = []
        self.seen = set()

    def clock(self):
        return self.now

    def run(self, batch):
        self.now += 0.001 + 0.0001 * len(batch)
        self.sizes.append(len(batch))
        self.seen.update(batch[:, 0].tolist())


def test_rows_a_second_and_the_time_of_one_row():
    session = Session()

    speed = measure(session.run, ROWS, 0.5, session.clock)

    assert speed.rows_per_s == {b: pytest.approx(b / (0.001 + 0.0001 * b), rel=1e-3) for b in BATCHES}
    assert speed.run_p50_ms == pytest.approx(1.1)
    assert speed.best_rows_per_s == speed.rows_per_s[128]


def test_every_row_takes_its_turn_and_batches_are_full():
    session = Session()

    measure(session.run, ROWS, 0.05, session.clock)

    assert set(session.sizes) == set(BATCHES)
    assert session.seen == set(ROWS[:, 0].tolist())
