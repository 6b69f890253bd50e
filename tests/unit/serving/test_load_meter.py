from __future__ import annotations

import asyncio

import pytest

from ekiben.serving.load_meter import LoadMeter


@pytest.mark.parametrize(
    ("seconds", "cpu_s", "is_high"),
    [(0.05, 0.0, False), (0.05, 0.04, False), (0.05, 0.045, True), (0.069, 0.0, False), (0.08, 0.0, True), (1.0, 0.01, True)],
)
def test_a_loop_is_busy_when_it_computes_all_the_time_or_is_late(seconds, cpu_s, is_high):
    meter = LoadMeter()
    assert not meter.is_high
    meter.note(seconds, cpu_s)
    assert meter.is_high == is_high
    meter.note(0.05, 0.0)
    assert not meter.is_high


def test_it_measures_the_loop_that_it_runs_in():
    # What the clocks will say: two quiet periods, a busy one, a late one.
    seconds = iter([0.0, 0.05, 0.05, 0.10, 0.10, 0.15, 0.15, 0.25, 0.25])
    cpu = iter([0.0, 0.01, 0.01, 0.02, 0.02, 0.07, 0.07, 0.08, 0.08])
    seen = []

    class Noting(LoadMeter):
        def note(self, seconds, cpu_s):
            super().note(seconds, cpu_s)
            seen.append(self.is_high)

    async def run():
        meter = Noting(clock=lambda: next(seconds), cpu=lambda: next(cpu))
        task = asyncio.create_task(meter.run())
        while len(seen) < 4:  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert seen[:4] == [False, False, True, True]
