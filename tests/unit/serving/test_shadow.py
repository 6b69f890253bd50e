from __future__ import annotations

import asyncio
import threading

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from unit.serving.inprocess import SeenRuntime, seen_predictor

from ekiben.model.outputs import Outputs
from ekiben.model.signature import Batch
from ekiben.monitoring.metrics import Metrics
from ekiben.serving.arm_record import ArmRecord, Compared, exposures_of, window_of
from ekiben.serving.batch_run import Answer, BatchReport, BatchRun, Pending
from ekiben.serving.load_meter import LoadMeter
from ekiben.serving.shadow import ShadowRunner, compare
from ekiben.state.histogram import Histogram


class Call(msgspec.Struct):
    record: ArmRecord
    request_id: str = "r"
    key: str | None = None
    is_kept: bool = True


def numbers(*values) -> Answer:
    return Answer(Outputs(len(values), {"prediction": np.array(values, np.float32)}), 0, len(values))


def binary(*positive: float) -> Answer:
    probabilities = np.array([[1 - p, p] for p in positive], np.float32)
    return Answer(
        Outputs(len(positive), {"probabilities": probabilities}, ("no", "yes"), (probabilities[:, 1] >= 0.5).astype(np.intp), 0.5),
        0,
        len(positive),
    )


def tensors(**arrays) -> Answer:
    made = {name: np.asarray(array) for name, array in arrays.items()}
    n = len(next(iter(made.values())))
    return Answer(Outputs(n, made), 0, n)


def differences(*pairs: tuple[Answer, Answer]) -> tuple[int, list[float]]:
    compared = compare(pairs)
    assert isinstance(compared, Compared)
    return compared.agreed, compared.differences.tolist()


# comparing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_rows_do_not_compare():
    assert compare([]) is None


def test_classifiers_agree_by_class_and_differ_by_score():
    agreed, gaps = differences((binary(0.25, 0.75), binary(0.375, 0.25)), (binary(0.5), binary(1.0)))
    assert agreed == 2
    assert gaps == [0.125, 0.5, 0.5]


def test_of_a_part_of_a_batch_only_its_rows_compare():
    theirs, ours = binary(0.25, 0.75, 0.75).outputs, binary(0.0, 0.75, 0.0).outputs
    assert differences((Answer(theirs, 1, 2), Answer(ours, 1, 2))) == (1, [0.0])


def test_regressors_agree_within_a_percent():
    agreed, gaps = differences((numbers(100.0, 100.0, 0.0, np.nan), numbers(100.5, 102.0, 0.0, np.nan)))
    assert agreed == 3
    assert gaps[:3] == [0.5, 2.0, 0.0]
    assert np.isnan(gaps[3])


def test_tensors_by_the_largest_difference_of_any_output():
    champion = tensors(box=[[1.0, 4.0], [2.0, 2.0]], label=np.array(["cat", "dog"], object))
    assert differences((champion, tensors(box=[[1.0, 4.0], [2.0, 2.0]], label=np.array(["cat", "dog"], object)))) == (2, [0.0, 0.0])
    assert differences((champion, tensors(box=[[1.0, 3.0], [2.0, 2.01]], label=np.array(["cat", "cow"], object)))) == (0, [0.25, 1.0])


@pytest.mark.parametrize(
    ("theirs", "ours", "gap"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0, 3.0]], 1.0),
        ([[]], [[]], 0.0),
        ([[0.0]], [[0.0]], 0.0),
        ([[np.nan]], [[1.0]], 1.0),
        ([[True, False]], [[True, True]], 1.0),
        ([[2**62]], [[2**62]], 0.0),
        (np.array([b"x"], object), np.array([b"x"], object), 0.0),
        (np.array([1.0], object), np.array([1.0], object), 0.0),
    ],
)
def test_rows_of_tensors(theirs, ours, gap):
    assert differences((tensors(out=theirs), tensors(out=ours))) == (int(gap <= 0.01), [gap])


@pytest.mark.parametrize("dtype", [object, np.float64])
def test_a_prediction_that_is_not_one_number_compares_as_a_tensor(dtype):
    text = tensors(prediction=np.array(["a", "b"], object)) if dtype is object else tensors(prediction=[[1.0, 2.0], [1.0, 2.0]])
    other = tensors(prediction=np.array(["a", "c"], object)) if dtype is object else tensors(prediction=[[1.0, 2.0], [1.0, 0.0]])
    assert differences((text, other)) == (1, [0.0, 1.0])


def test_arrays_a_row_of_different_shapes_compare():
    ragged = np.empty(2, object)
    ragged[:] = [np.zeros((1, 2)), np.ones((3, 2))]
    assert differences((tensors(boxes=ragged), tensors(boxes=ragged))) == (2, [0.0, 0.0])


# running ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class World:
    """A champion and a shadow of it, in an event loop; what is asked is answered by the champion, then offered."""

    def __init__(self, runtime: SeenRuntime | None = None, *, rate: float = 1.0, **batching):
        metrics = Metrics(CollectorRegistry())
        self.runtime = runtime or SeenRuntime()
        self.meter = LoadMeter()
        self.champion = ArmRecord(metrics.arm("seen", "1", "champion", ()), lambda: 5.0, headers=[], has_scores=True)
        self.record = ArmRecord(metrics.arm("seen", "2", "shadow", ()), lambda: 5.0, headers=[], has_scores=True)
        self.record.exposes = True
        self.signature = seen_predictor().signature
        self._run = BatchRun(seen_predictor(), lambda: 0.0)
        clock = self.runtime.clock if isinstance(self.runtime, Timed) else lambda: 0.0
        self.shadow = ShadowRunner(seen_predictor(self.runtime, **batching), self.record, rate=rate, meter=self.meter, clock=clock)

    def offer(self, *values: float | tuple[float, ...], arm: ArmRecord | None = None, **options) -> BatchReport:
        """A batch with a request for each value, of one row, or of as many as a tuple has."""
        calls = [Call(arm or self.champion, f"r-{_rows(v)[0]:g}") for v in values]
        return self.offer_calls(values, calls, **options)

    def offer_calls(self, values, calls, *, waited=0.0, as_batch=False, shapes=None) -> BatchReport:
        rows = [self.signature.parse_rows([[v, 0, "x"] for v in _rows(value)]) for value in values]
        payloads = [self.signature.batch(r) if as_batch else r for r in rows]
        sizes = [len(_rows(value)) for value in values]
        members = [Pending(p, n, 0.0, 99.0, -waited, shapes, None, call) for p, n, call in zip(payloads, sizes, calls, strict=True)]
        report = self._run.compute(members)
        self.shadow.offer(report, self.champion)
        return report

    async def until(self, condition) -> None:
        for _ in range(2000):
            if condition():
                return
            await asyncio.sleep(0.005)
        raise AssertionError("it did not come to pass")

    async def until_compared(self, rows: int) -> None:
        await self.until(lambda: sum(len(c.differences) for c in self.record._taken.compared) == rows)

    def window(self):
        return window_of(self.record.take())


def _rows(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


class Squared(SeenRuntime):
    """Answers ``a + a²``, so that each row differs from the champion's by another amount."""

    def run(self, feeds, outputs):
        return {"y": super().run(feeds, outputs)["y"] + feeds["a"] ** 2}


class Timed(SeenRuntime):
    """Each row takes a second, by a clock of its own."""

    now = 0.0

    def clock(self) -> float:
        return self.now

    def run(self, feeds, outputs):
        self.now += len(feeds["a"])
        return super().run(feeds, outputs)


@pytest.fixture(autouse=True)
def _gathers_for_a_moment(monkeypatch):
    monkeypatch.setattr("ekiben.serving.shadow._GATHER_S", 0.03)
    monkeypatch.setattr("ekiben.serving.shadow._TIMED_EVERY_S", 0.0)


@pytest.fixture
def scenario():
    """Runs a coroutine function with a `World`."""

    def run(play, **options):
        async def main():
            world = World(**options)
            try:
                await asyncio.wait_for(play(world), 30)
            finally:
                world.runtime.gate.set()
                world.shadow.close()

        asyncio.run(main())

    return run


def test_it_computes_the_champions_rows_after_they_were_answered_and_compares_them(scenario):
    async def play(world):
        world.offer(1.0, 2.0)
        # Not at once: the champion's answers leave first.
        assert world.runtime.runs == []
        await world.until(lambda: world.record._taken.compared)
        # In one batch as the champion's, in a thread of its own.
        assert world.runtime.runs == [[1.0, 2.0]]
        assert world.runtime.threads == {"ekiben-shadow-seen_0"}
        assert threading.current_thread().name not in world.runtime.threads
        window = world.window()
        assert (window.ok, window.compared, window.agreed, window.dropped) == (2, 2, 2, 0)
        assert window.scores == Histogram.of([1.0, 2.0])
        assert window.compute.n == 2
        assert window.latency.n == 0

    scenario(play)


def test_what_differs_is_seen(scenario):
    class Tenfold(SeenRuntime):
        def run(self, feeds, outputs):
            return {"y": 10 * super().run(feeds, outputs)["y"]}

    async def play(world):
        world.offer(1.0, 0.0)
        await world.until(lambda: world.record._taken.compared)
        window = world.window()
        assert (window.compared, window.agreed) == (2, 1)
        assert window.differences == Histogram.of([9.0, 0.0])

    scenario(play, runtime=Tenfold())


def test_batches_are_computed_one_after_the_other(scenario):
    async def play(world):
        world.runtime.gate.clear()
        world.offer(0.0)
        assert await asyncio.to_thread(world.runtime.began.wait, 10)
        for n in range(1, 4):
            world.offer(float(n))
        # While it computes, nothing else is computed.
        await asyncio.sleep(0.03)
        assert world.runtime.runs == [[0.0]]
        world.runtime.gate.set()
        # And what came meanwhile is computed without anything that would come after it.
        await world.until_compared(4)
        assert world.runtime.runs == [[0.0], [1.0, 2.0], [3.0]]
        assert world.runtime.threads == {"ekiben-shadow-seen_0"}
        # And when all is done, the next one begins anew.
        world.offer(7.0)
        await world.until_compared(5)
        assert world.runtime.runs[3:] == [[7.0]]

    scenario(play)


def test_its_errors_are_counted_and_go_nowhere(scenario):
    async def play(world):
        report = world.offer(1.0, 666.0)
        await world.until(lambda: world.record._taken.errors)
        assert all(isinstance(result, Answer) for result in report.results)
        window = world.window()
        assert (window.errors, window.ok, window.compared) == ({"PredictionFailed": 1}, 1, 1)

    scenario(play, runtime=SeenRuntime(poison=666.0))


def test_rows_that_its_signature_refuses_are_invalid(scenario):
    async def play(world):
        narrow = msgspec.structs.replace(
            seen_predictor().spec,
            inputs=(msgspec.structs.replace(seen_predictor().spec.inputs[0], max=10.0), *seen_predictor().spec.inputs[1:]),
        )
        predictor = type(seen_predictor())(narrow, SeenRuntime())
        world.shadow.close()
        world.shadow = ShadowRunner(predictor, world.record, rate=1.0, meter=world.meter, clock=lambda: 0.0)
        world.offer(1.0, 11.0)
        await world.until(lambda: world.record._taken.compared)
        assert (world.record._taken.invalid, world.record._taken.errors) == (1, {})
        assert world.window().compared == 1

    scenario(play)


def test_an_error_of_our_own_is_logged_and_the_next_batch_is_computed(scenario, caplog, monkeypatch):
    original = compare
    failing = iter([True, False])

    def compared(pairs):
        if next(failing):
            raise ZeroDivisionError("surprise")
        return original(pairs)

    monkeypatch.setattr("ekiben.serving.shadow.compare", compared)

    async def play(world):
        world.runtime.gate.clear()
        world.offer(1.0)
        assert await asyncio.to_thread(world.runtime.began.wait, 10)
        world.offer(2.0)
        world.runtime.gate.set()
        await world.until(lambda: world.record._taken.compared)
        assert "a shadow's rows cannot be compared" in caplog.text
        assert world.runtime.runs == [[1.0], [2.0]]
        assert world.window().compared == 1

    scenario(play)


def test_only_requests_of_the_champions_arm_are_taken(scenario):
    async def play(world):
        fallback = ArmRecord(world.champion.metrics, lambda: 0.0, headers=[], has_scores=True)
        world.offer(1.0, arm=fallback)
        world.offer(1e9)  # which the champion refused
        world.offer_calls([3.0], [None])
        await world.until(lambda: world.record._taken.compared)
        assert world.runtime.runs == [[3.0]]
        assert world.window().dropped == 0

    scenario(play)


# joining ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_gathered_is_one_run_and_the_last_batch_one_of_its_own(scenario):
    async def play(world):
        world.offer(1.0, 2.0)
        world.offer(3.0)
        world.offer((4.0, 5.0), 6.0)
        world.offer(7.0, 8.0)
        await world.until_compared(8)
        assert world.runtime.runs == [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [7.0, 8.0]]
        window = world.window()
        assert (window.ok, window.compared, window.agreed, window.dropped) == (7, 8, 8, 0)
        assert window.scores == Histogram.of(range(1, 9))

    scenario(play)


@pytest.mark.parametrize(
    ("batches", "runs"),
    [
        # As many rows as fit, to the last.
        ([[1, 2], [3, 4], [5], [6]], [[1, 2, 3, 4], [5], [6]]),
        ([[1, 2], [3], [4, 5], [6], [7]], [[1, 2, 3], [4, 5, 6], [7]]),
        # It is rows that are limited, not requests or batches.
        ([[(1, 2, 3)], [(4, 5)], [6], [7]], [[1, 2, 3], [4, 5, 6], [7]]),
        # The last is alone though it would fit.
        ([[1], [2]], [[1], [2]]),
    ],
)
def test_no_more_rows_are_joined_than_the_model_takes_at_once(scenario, batches, runs):
    async def play(world):
        for batch in batches:
            world.offer(*(tuple(map(float, value)) if isinstance(value, tuple) else float(value) for value in batch))
        await world.until_compared(sum(map(len, runs)))
        assert world.runtime.runs == runs
        assert world.window().ok == sum(map(len, batches))

    scenario(play, max_batch_size=4)


def test_only_batches_of_the_same_shapes_are_joined(scenario):
    async def play(world):
        for n, shapes in enumerate([((2,),), ((2,),), ((3,),), ((3,),), None, ((2,),)]):
            world.offer(float(n), shapes=shapes)
        await world.until_compared(6)
        assert world.runtime.runs == [[0.0, 1.0], [2.0, 3.0], [4.0], [5.0]]

    scenario(play)


def test_rows_of_joined_runs_are_compared_with_their_own(scenario):
    async def play(world):
        world.offer(1.0, (2.0, 3.0))
        world.offer((4.0, 5.0), 6.0)
        world.offer(7.0)
        world.offer(8.0, 9.0)
        await world.until_compared(9)
        assert len(world.runtime.runs) == 3
        compared = world.record._taken.compared
        assert [d for c in compared for d in c.differences.tolist()] == [n * n for n in range(1, 10)]
        assert not any(c.agreed for c in compared)
        assert world.window().scores == Histogram.of([n + n * n for n in range(1, 10)])

    scenario(play, runtime=Squared(), max_batch_size=6)


def test_a_request_that_fails_in_a_joined_run_takes_no_other_with_it(scenario):
    async def play(world):
        world.offer(1.0, 666.0)
        world.offer((2.0, 3.0))
        world.offer(4.0)
        await world.until_compared(4)
        assert [d for c in world.record._taken.compared for d in c.differences.tolist()] == [1.0, 4.0, 9.0, 16.0]
        window = world.window()
        assert (window.ok, window.errors, window.compared) == (3, {"PredictionFailed": 1}, 4)
        assert window.scores == Histogram.of([2.0, 6.0, 12.0, 20.0])

    scenario(play, runtime=Squared(poison=666.0))


def test_only_the_last_run_is_timed(scenario):
    async def play(world):
        world.offer(1.0, 2.0)
        world.offer((3.0, 4.0, 5.0))
        world.offer(6.0, (7.0, 8.0, 9.0))
        await world.until_compared(9)
        assert [len(run) for run in world.runtime.runs] == [5, 4]
        window = world.window()
        # For each request of the last batch what that batch took, and of the others nothing.
        assert (window.ok, window.compute) == (5, Histogram.of([4.0, 4.0]))
        # A batch alone is its own last.
        world.offer(1.0)
        await world.until_compared(1)
        assert world.window().compute == Histogram.of([1.0])

    scenario(play, runtime=Timed())


def test_few_runs_are_timed_and_what_is_not_is_joined(scenario, monkeypatch):
    monkeypatch.setattr("ekiben.serving.shadow._TIMED_EVERY_S", 60.0)

    async def play(world):
        world.offer(1.0)
        await world.until_compared(1)
        world.offer(2.0)
        world.offer(3.0)
        await world.until_compared(3)
        assert world.runtime.runs == [[1.0], [2.0, 3.0]]
        window = world.window()
        assert (window.ok, window.compute.n) == (3, 1)

    scenario(play)


# what is left out ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_while_the_event_loop_is_busy_rows_are_dropped(scenario):
    async def play(world):
        world.meter.is_high = True
        world.offer(1.0, 2.0)
        world.meter.is_high = False
        world.offer(3.0)
        await world.until(lambda: world.record._taken.compared)
        assert world.runtime.seen == [3.0]
        assert world.window().dropped == 2

    scenario(play)


def test_what_waits_when_the_loop_becomes_busy_is_dropped(scenario):
    async def play(world):
        world.runtime.gate.clear()
        world.offer(1.0)
        assert await asyncio.to_thread(world.runtime.began.wait, 10)
        world.offer(2.0, 3.0)
        world.offer(4.0)
        world.meter.is_high = True
        world.runtime.gate.set()
        await world.until(lambda: world.record._taken.dropped)
        window = world.window()
        assert (window.dropped, window.compared) == (3, 1)
        # And it goes on when that is over.
        world.meter.is_high = False
        world.offer(5.0)
        await world.until(lambda: world.record._taken.compared)
        assert world.runtime.seen == [1.0, 5.0]

    scenario(play)


@pytest.mark.parametrize(("waited", "dropped"), [(0.0, 0), (0.004, 0), (0.02, 1)])
def test_while_the_champion_is_behind_rows_are_dropped(scenario, waited, dropped):
    async def play(world):
        world.offer(1.0, waited=waited)
        await world.until(lambda: world.record._taken)
        window = world.window()
        assert (window.dropped, window.compared) == (dropped, 1 - dropped)

    scenario(play)


@pytest.mark.parametrize("limit", ["_MAX_ROWS", "_MAX_BYTES"])
def test_a_shadow_that_is_behind_holds_a_bounded_number_of_rows(scenario, monkeypatch, limit):
    async def play(world):
        size = 1 if limit == "_MAX_ROWS" else world.offer(0.0, as_batch=True).members[0].payload
        size = size if isinstance(size, int) else sum(column.nbytes for column in size.columns.values())
        monkeypatch.setattr(f"ekiben.serving.shadow.{limit}", 3 * size)
        world.runtime.gate.clear()
        world.offer(0.0, as_batch=True)
        assert await asyncio.to_thread(world.runtime.began.wait, 10)
        world.shadow._drop_waiting()
        world.record.take()
        for n in range(1, 6):
            world.offer(float(n), as_batch=True)
        assert world.record._taken.dropped == 2
        world.runtime.gate.set()
        await world.until(lambda: {1.0, 2.0, 3.0} <= set(world.runtime.seen))
        assert world.shadow._rows == world.shadow._bytes == 0
        # There is room again.
        world.offer(9.0, as_batch=True)
        await world.until(lambda: 9.0 in world.runtime.seen)

    scenario(play)


def test_the_rate_is_a_share_of_the_requests(scenario, monkeypatch):
    drawn = iter([0.1, 0.9, 0.25, 0.5, 0.49])
    monkeypatch.setattr("ekiben.serving.shadow.random.random", lambda: next(drawn))

    async def play(world):
        world.offer(1.0, 2.0, 3.0, 4.0, 5.0)
        await world.until(lambda: world.record._taken.compared)
        assert world.runtime.runs == [[1.0, 3.0, 5.0]]
        # What was not drawn is not dropped.
        assert world.window().dropped == 0

    scenario(play, rate=0.5)


def test_a_batch_of_which_nothing_was_drawn(scenario, monkeypatch):
    monkeypatch.setattr("ekiben.serving.shadow.random.random", lambda: 0.9)

    async def play(world):
        world.offer(1.0)
        await asyncio.sleep(0.02)
        assert not world.record.take()

    scenario(play, rate=0.5)


def test_a_closed_shadow_takes_nothing_and_drops_what_waits(scenario):
    async def play(world):
        world.runtime.gate.clear()
        world.offer(1.0)
        assert await asyncio.to_thread(world.runtime.began.wait, 10)
        world.offer(2.0, 3.0)
        world.shadow.close()
        assert world.record._taken.dropped == 2
        world.offer(4.0)
        world.runtime.gate.set()
        # What ran is still recorded, and nothing else runs.
        await world.until(lambda: world.record._taken.compared)
        await asyncio.sleep(0.02)
        assert world.runtime.seen == [1.0]
        assert world.window().dropped == 2

    scenario(play)


def test_one_closed_before_its_first_batch_runs_nothing(scenario):
    async def play(world):
        world.offer(1.0)
        world.shadow.close()
        await asyncio.sleep(0.02)
        assert world.runtime.runs == []
        assert world.window().dropped == 1

    scenario(play)


# exposures ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("exposes", [True, False])
def test_its_answers_are_exposed_while_a_rollout_runs(scenario, exposes):
    async def play(world):
        world.record.exposes = exposes
        calls = [Call(world.champion, "r-1", "ann"), Call(world.champion, "r-2"), None, Call(world.champion, "r-4", is_kept=False)]
        world.offer_calls([1.0, 666.0, 3.0, 4.0], calls)
        await world.until(lambda: world.record._taken.compared)
        exposed = world.record.take().exposed
        assert [(request.request_id, request.key) for request, _, _ in exposed] == ([("r-1", "ann")] if exposes else [])

    scenario(play, runtime=SeenRuntime(poison=666.0))


def test_what_joined_runs_answer_is_exposed_each_with_its_own_request(scenario):
    async def play(world):
        world.offer(1.0, 666.0)
        world.offer((2.0, 3.0))
        world.offer(4.0)
        await world.until_compared(4)
        exposed = [(e.request_id, e.row, e.prediction) for e in exposures_of(world.record.take(), "seen", "2", "shadow")]
        assert exposed == [("r-1", 0, 2.0), ("r-2", 0, 6.0), ("r-2", 1, 12.0), ("r-4", 0, 20.0)]

    scenario(play, runtime=Squared(poison=666.0))


def test_payloads_of_bytes_are_measured():
    from ekiben.serving.shadow import _size

    matrix = Batch(2, None, matrix=np.zeros((2, 4), np.float32), names="abcd")
    columns = Batch(2, {"x": np.zeros((2, 3), np.float64), "y": np.zeros(2, np.int8)})
    sizes = [_size(Pending(payload, 2, 0, 0, 0, None, None)) for payload in (matrix, columns, [[1], [2]])]
    assert sizes == [32, 50, 0]
