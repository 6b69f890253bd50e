import asyncio
import itertools
import math
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.serving.inprocess import SeenRuntime, seen_predictor

from ekiben.errors import DeadlineExceeded, FeatureError, InvalidRows, NotReady, PredictionFailed, QueueFull
from ekiben.guards.deadline import Disconnected
from ekiben.model import Predictor
from ekiben.serving.batcher import Answer, Batcher
from ekiben.serving.cost_model import CostModel

FOREVER = math.inf


class FixedCost(CostModel):
    """A cost model that has made up its mind."""

    def __init__(self, fixed_s=0.0, per_row_s=0.0):
        super().__init__()
        self.fixed_s, self.per_row_s = fixed_s, per_row_s
        self.observed = []

    def observe(self, rows, seconds):
        self.observed.append(rows)


INLINE = {"inline_s": math.inf}
THREAD = {"inline_s": -1.0}


class Asked:
    """A batcher, and what it reported. ``offset`` moves its clock."""

    def __init__(self, predictor, **kw):
        self.reports = []
        self.offset = 0.0
        self.signature = predictor.signature
        self.batcher = Batcher(predictor, clock=self.clock, report=self.reports.append, **kw)

    def clock(self):
        return time.monotonic() + self.offset

    def submit(self, rows, *, timeout_s=60.0, columns=False):
        now = self.clock()
        payload = self.signature.from_columns(as_columns(rows)) if columns else self.signature.parse_rows(rows)
        return self.batcher.submit(payload, len(rows), received=now, deadline=now + timeout_s)

    @property
    def errors(self):
        return [type(r).__name__ for report in self.reports for r in report.results if not isinstance(r, Answer)]


def as_columns(rows):
    return {
        "a": np.array([r["a"] for r in rows], np.float64),
        "k": np.array([r["k"] for r in rows], np.int64),
        "s": np.array([r["s"] for r in rows], object),
    }


def row(a, k=1, s="x"):
    return {"a": float(a), "k": k, "s": s}


def is_told_right(report):
    """What is called whole has all of its rows answered, each member with its own."""
    parts = [(a.start, a.stop) for a in report.results if isinstance(a, Answer) and a.outputs is report.outputs]
    edges = [0, *itertools.accumulate(p.n for p in report.members)]
    return not report.is_whole or (parts == list(itertools.pairwise(edges)) and edges[-1] == report.rows)


async def finish(futures):
    return await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 20)


# invariants ──────────────────────────────────────────────────────────────────────────────────────────────────────────

request = st.fixed_dictionaries(
    {
        "n": st.integers(1, 7),
        "columns": st.booleans(),
        "bad": st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["s", "a"])), max_size=2),
        "end": st.sampled_from(["wait", "wait", "wait", "expired", "cancelled"]),
        "turns": st.integers(0, 2),
    }
)


def rows_of(plan, counter):
    rows = [row(next(counter), k=n) for n in range(plan["n"])]
    wrong = {}
    for index, field in plan["bad"]:
        if index < len(rows):
            rows[index][field] = "z" if field == "s" else 2e6
            wrong.setdefault(index, set()).add(field)
    return rows, wrong


@pytest.mark.parametrize("where", [INLINE, THREAD], ids=["inline", "thread"])
@settings(max_examples=120, deadline=None)
@given(plans=st.lists(request, min_size=1, max_size=14), max_batch_size=st.integers(1, 9))
def test_every_request_is_answered_as_if_it_were_alone(where, plans, max_batch_size):
    runtime = SeenRuntime()
    predictor = seen_predictor(runtime, max_batch_size=max_batch_size)
    alone = seen_predictor()
    counter = itertools.count()

    async def ask():
        asked = Asked(predictor, **where)
        sent = []
        for plan in plans:
            rows, wrong = rows_of(plan, counter)
            future = asked.submit(rows, columns=plan["columns"], timeout_s=-1.0 if plan["end"] == "expired" else 60.0)
            if plan["end"] == "cancelled":
                future.cancel()
            sent.append((plan, rows, wrong, future))
            for _ in range(plan["turns"]):
                await asyncio.sleep(0)
        results = await finish([future for *_, future in sent])
        assert asked.batcher.queued_rows == 0
        await asked.batcher.drain()
        return sent, results, asked.reports

    sent, results, reports = asyncio.run(ask())
    computed = []
    for (plan, rows, wrong, _), result in zip(sent, results, strict=True):
        if plan["end"] == "expired":
            assert isinstance(result, DeadlineExceeded)
        elif plan["end"] == "cancelled":
            assert isinstance(result, asyncio.CancelledError)
        elif wrong:
            assert isinstance(result, InvalidRows)
            assert {(fault.row, fault.field) for fault in result.details} == {(i, f) for i, fields in wrong.items() for f in fields}
            assert all(fault.value in ("z", 2e6) for fault in result.details)
        else:
            assert result.rows() == alone.predict(rows)
            assert result.tensors()["prediction"].tolist() == [element["prediction"] for element in alone.predict(rows)]
            computed += [r["a"] for r in rows]
    # In the order they came, each once, never more than the model takes; and nothing that was bad, late or given up.
    assert runtime.seen == computed
    assert all(len(run) <= max_batch_size for run in runtime.runs)
    waited_for = [plan for plan in plans if plan["end"] != "cancelled"]
    assert sum(len(report.results) for report in reports) == len(waited_for)
    assert sum(report.rows for report in reports) == len(computed)
    assert all(is_told_right(report) for report in reports)


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=10), columns=st.lists(st.booleans(), min_size=10, max_size=10))
def test_splitting_the_outputs_of_merged_requests_gives_back_each_requests_own(sizes, columns):
    predictor = seen_predictor()
    counter = itertools.count()
    requests = [[row(next(counter), k=-1) for _ in range(n)] for n in sizes]
    signature = predictor.signature
    payloads = [
        signature.from_columns(as_columns(rows)) if c else signature.parse_rows(rows) for rows, c in zip(requests, columns, strict=False)
    ]
    outputs = predictor.run(signature.merge(payloads))
    start = 0
    for rows in requests:
        answer = Answer(outputs, start, start + len(rows))
        assert answer.rows() == predictor.predict(rows)
        assert answer.tensors()["prediction"].tolist() == [r["a"] - 10 for r in rows]
        start += len(rows)
    assert start == outputs.n


# batches ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_queued_in_one_turn_of_the_loop_is_one_batch():
    runtime = SeenRuntime()

    async def ask():
        asked = Asked(seen_predictor(runtime), **INLINE)
        await finish([asked.submit([row(n)]) for n in range(5)])
        await asked.batcher.drain()
        return asked.reports

    (report,) = asyncio.run(ask())
    assert runtime.runs == [[0, 1, 2, 3, 4]]
    assert report.rows == 5
    assert report.started <= report.ended


@pytest.mark.parametrize(("queued", "batches"), [(1, [[0.0], [9.0]]), (3, [[0.0, 1.0, 2.0, 9.0]])], ids=["one", "several"])
def test_several_wait_one_turn_for_what_is_being_decoded_and_one_alone_does_not(queued, batches):
    runtime = SeenRuntime()

    async def scenario():
        asked = Asked(seen_predictor(runtime), **INLINE)
        futures = [asked.submit([row(n)]) for n in range(queued)]
        await asyncio.sleep(0)  # the turn in which what is queued alone has gone
        futures.append(asked.submit([row(9)]))
        await finish(futures)

    asyncio.run(scenario())
    assert runtime.runs == batches


def test_as_many_as_a_run_takes_wait_for_nobody():
    runtime = SeenRuntime()

    async def scenario():
        asked = Asked(seen_predictor(runtime, max_batch_size=2), **INLINE)
        futures = [asked.submit([row(n)]) for n in range(2)]
        await asyncio.sleep(0)
        assert runtime.runs == [[0.0, 1.0]]
        await finish(futures)

    asyncio.run(scenario())


def test_short_runs_happen_in_the_event_loop_and_long_ones_in_the_versions_thread():
    def threads(cost):
        runtime = SeenRuntime()

        async def ask():
            asked = Asked(seen_predictor(runtime), cost=cost)
            await finish([asked.submit([row(1)])])
            await asked.batcher.drain()

        asyncio.run(ask())
        return runtime.threads

    assert threads(FixedCost(0.0001)) == {threading.current_thread().name}
    (other,) = threads(FixedCost(0.01))
    assert other.startswith("ekiben-seen")


def test_while_the_model_runs_requests_gather():
    runtime = SeenRuntime()
    runtime.gate.clear()

    async def ask():
        asked = Asked(seen_predictor(runtime), **THREAD)
        first = asked.submit([row(0)])
        await asyncio.to_thread(runtime.began.wait)
        rest = [asked.submit([row(n)]) for n in range(1, 5)]
        assert asked.batcher.queued_rows == 4
        runtime.gate.set()
        await finish([first, *rest])
        await asked.batcher.drain()

    asyncio.run(ask())
    assert runtime.runs == [[0], [1, 2, 3, 4]]


def test_a_request_larger_than_a_batch_is_cut_for_the_model_and_answered_whole():
    runtime = SeenRuntime()

    async def ask():
        asked = Asked(seen_predictor(runtime, max_batch_size=4), **INLINE)
        before, large, after = [asked.submit(rows) for rows in ([row(0)], [row(n) for n in range(1, 12)], [row(12)])]
        results = await finish([before, large, after])
        await asked.batcher.drain()
        return results

    _, large, _ = asyncio.run(ask())
    assert [len(run) for run in runtime.runs] == [1, 4, 4, 3, 1]
    assert [element["prediction"] for element in large.rows()] == [n + 10 for n in range(1, 12)]


def test_only_equal_shapes_share_a_batch(save_graph, tmp_path):
    from onnx import TensorProto, helper

    from ekiben.model import CardSpec, InputSpec, ModelSpec, OutputSpec
    from ekiben.model.runtimes import open_runtime

    graph = save_graph(
        [helper.make_node("Add", ["t", "t"], ["u"])],
        [helper.make_tensor_value_info("t", TensorProto.FLOAT, ["n", "w"])],
        [helper.make_tensor_value_info("u", TensorProto.FLOAT, ["n", "w"])],
    )
    spec = ModelSpec(
        name="varying",
        task="tensor",
        inputs=(InputSpec(name="t", type="tensor", dtype="float32", shape=(-1,)),),
        outputs=(OutputSpec(name="u", dtype="float32", shape=(-1,)),),
        card=CardSpec(owner="tests"),
    )
    predictor = Predictor(spec, open_runtime("onnx", graph))

    async def ask():
        asked = Asked(predictor, **INLINE)
        now = asked.clock()
        widths = [2, 2, 3, 2]
        payloads = [predictor.signature.from_columns({"t": np.full((1, w), w, np.float32)}) for w in widths]
        results = await finish([asked.batcher.submit(p, 1, received=now, deadline=now + 60) for p in payloads])
        await asked.batcher.drain()
        return [r.rows()[0]["u"] for r in results], [report.rows for report in asked.reports]

    answers, batches = asyncio.run(ask())
    assert answers == [[4, 4], [4, 4], [6, 6, 6], [4, 4]]
    assert batches == [2, 1, 1]


# failing ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("where", [INLINE, THREAD], ids=["inline", "thread"])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ZeroDivisionError("by zero"), "the model failed: ZeroDivisionError: by zero"),
        (PredictionFailed("refused"), "refused"),
        (FeatureError("features.py: no"), "features.py: no"),
    ],
)
def test_a_row_that_the_model_fails_on_fails_its_own_request_alone(where, error, message):
    runtime = SeenRuntime(poison=13, error=error)

    async def ask():
        asked = Asked(seen_predictor(runtime), **where)
        results = await finish([asked.submit([row(a), row(100 + a)]) for a in (11, 12, 13, 14)])
        await asked.batcher.drain()
        return results, asked.reports

    results, (report,) = asyncio.run(ask())
    assert [type(r).__name__ for r in results] == ["Answer", "Answer", "PredictionFailed", "Answer"]
    assert str(results[2]) == message
    assert results[3].rows() == seen_predictor().predict([row(14), row(114)])
    assert report.rows == 6


def test_a_batch_of_one_poisoned_request_is_no_rows():
    async def ask():
        cost = FixedCost()
        asked = Asked(seen_predictor(SeenRuntime(poison=1)), cost=cost, **INLINE)
        results = await finish([asked.submit([row(1)])])
        both = await finish([asked.submit([row(1)]), asked.submit([row(1)])])
        await asked.batcher.drain()
        return [*results, *both], asked.reports, cost.observed

    results, reports, observed = asyncio.run(ask())
    assert [type(r) for r in results] == [PredictionFailed] * 3
    assert [(report.rows, report.outputs) for report in reports] == [(0, None), (0, None)]
    assert observed == []


def test_requests_that_are_all_bad_reach_no_model():
    runtime = SeenRuntime()

    async def ask():
        asked = Asked(seen_predictor(runtime), **INLINE)
        results = await finish([asked.submit([row(1, s="q")]), asked.submit([row(1), row(3e6)])])
        await asked.batcher.drain()
        return results

    first, second = asyncio.run(ask())
    assert (first.details[0].row, first.details[0].field) == (0, "s")
    assert (second.details[0].row, second.details[0].field) == (1, "a")
    assert runtime.runs == []


def test_a_bad_row_and_a_poisoned_row_in_one_batch():
    async def ask():
        asked = Asked(seen_predictor(SeenRuntime(poison=2)), **INLINE)
        results = await finish([asked.submit([row(1)]), asked.submit([row(1, s="q")]), asked.submit([row(2)]), asked.submit([row(3)])])
        await asked.batcher.drain()
        return [type(r) for r in results]

    assert asyncio.run(ask()) == [Answer, InvalidRows, PredictionFailed, Answer]


# deadlines ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_expires_in_the_queue_is_never_computed():
    runtime = SeenRuntime()

    async def ask():
        asked = Asked(seen_predictor(runtime), **INLINE)
        late, good = asked.submit([row(1)], timeout_s=0.5), asked.submit([row(2)], timeout_s=5)
        asked.offset = 1.0
        results = await finish([late, good])
        await asked.batcher.drain()
        return results, asked.errors

    (late, good), errors = asyncio.run(ask())
    assert isinstance(late, DeadlineExceeded)
    assert "before the request was computed" in str(late)
    assert good.rows() == [{"prediction": 12.0}]
    assert runtime.seen == [2]
    assert errors == ["DeadlineExceeded"]


def test_while_the_model_hangs_running_and_queued_requests_are_answered_at_their_deadlines():
    runtime = SeenRuntime()
    runtime.gate.clear()

    async def ask():
        asked = Asked(seen_predictor(runtime), **THREAD)
        running = asked.submit([row(1)], timeout_s=0.05)
        await asyncio.to_thread(runtime.began.wait)
        queued, patient = asked.submit([row(2)], timeout_s=0.05), asked.submit([row(3)], timeout_s=60)
        given_up = asked.submit([row(4)], timeout_s=60)
        given_up.cancel()
        results = await finish([running, queued])
        assert not patient.done()
        assert asked.batcher.queued_rows == 1
        runtime.gate.set()
        results += await finish([patient])
        await asked.batcher.drain()
        return results, asked.reports

    results, reports = asyncio.run(ask())
    assert [type(r) for r in results] == [DeadlineExceeded, DeadlineExceeded, Answer]
    assert runtime.seen == [1, 3]
    # Each is counted once, however its run ended afterwards.
    assert sorted(type(r).__name__ for report in reports for r in report.results) == ["Answer", "DeadlineExceeded", "DeadlineExceeded"]
    assert sum(report.rows for report in reports) == 2
    assert all(is_told_right(report) for report in reports)
    assert [report.is_whole for report in reports if report.rows] == [False, True]


# admission ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_idle_model_refuses_nothing():
    async def ask():
        asked = Asked(seen_predictor(max_queue_rows=1), cost=FixedCost(1000, 1000))
        asked.batcher.admit(asked.clock() + 0.001)
        asked.batcher.admit(asked.clock() - 1)
        await asked.batcher.drain()

    asyncio.run(ask())


def test_a_busy_model_refuses_what_it_would_answer_too_late_and_says_when_to_come_back():
    runtime = SeenRuntime()
    runtime.gate.clear()

    async def ask():
        asked = Asked(seen_predictor(runtime, max_batch_size=1), cost=FixedCost(1.0))
        first = asked.submit([row(0)])
        await asyncio.to_thread(runtime.began.wait)
        # About a second is left of the running one, and this one takes another.
        asked.batcher.admit(asked.clock() + 3)
        with pytest.raises(QueueFull) as refusal:
            asked.batcher.admit(asked.clock() + 1.5)
        assert 1 < refusal.value.retry_after_s <= 2
        rest = [asked.submit([row(n)]) for n in range(1, 4)]
        with pytest.raises(QueueFull, match="3 rows are queued") as refusal:
            asked.batcher.admit(asked.clock() + 3)
        assert 4 < refusal.value.retry_after_s <= 5
        runtime.gate.set()
        results = await finish([first, *rest])
        asked.batcher.admit(asked.clock() + 0.001)
        await asked.batcher.drain()
        return results

    assert [type(r) for r in asyncio.run(ask())] == [Answer] * 4


def test_a_newcomer_is_charged_for_the_rows_that_wait_and_not_for_a_batch_that_could():
    runtime = SeenRuntime()
    runtime.gate.clear()

    async def ask():
        # A run of 128 rows would take 0.7 s; two rows take 0.3 s each after the other.
        asked = Asked(seen_predictor(runtime, max_batch_size=128), cost=FixedCost(0.3, 0.003))
        first = asked.submit([row(0)])
        await asyncio.to_thread(runtime.began.wait)
        asked.batcher.admit(asked.clock() + 1)
        runtime.gate.set()
        await finish([first])
        await asked.batcher.drain()

    asyncio.run(ask())


def test_a_full_queue_refuses_whatever_the_deadline():
    runtime = SeenRuntime()
    runtime.gate.clear()

    async def ask():
        asked = Asked(seen_predictor(runtime, max_queue_rows=3), **THREAD)
        futures = [asked.submit([row(0)])]
        await asyncio.to_thread(runtime.began.wait)
        for n in range(3):
            asked.batcher.admit(FOREVER)
            futures.append(asked.submit([row(n)]))
        with pytest.raises(QueueFull) as refusal:
            asked.batcher.admit(FOREVER)
        assert refusal.value.retry_after_s > 0
        runtime.gate.set()
        await finish(futures)
        asked.batcher.admit(FOREVER)
        await asked.batcher.drain()

    asyncio.run(ask())


# drain ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("where", [INLINE, THREAD], ids=["inline", "thread"])
def test_drain_answers_all_that_is_queued_and_admits_no_more(where):
    async def ask():
        asked = Asked(seen_predictor(max_batch_size=2), **where)
        futures = [asked.submit([row(n)]) for n in range(9)]
        await asyncio.wait_for(asked.batcher.drain(), 20)
        assert all(f.done() for f in futures)
        with pytest.raises(NotReady, match="unloaded"):
            asked.batcher.admit(FOREVER)
        await asked.batcher.drain()
        return [f.result().rows()[0]["prediction"] for f in futures]

    assert asyncio.run(ask()) == [n + 10 for n in range(9)]


@pytest.mark.parametrize("where", [INLINE, THREAD], ids=["inline", "thread"])
def test_what_was_admitted_before_the_drain_and_comes_after_it_is_answered(where):
    async def ask():
        asked = Asked(seen_predictor(), **where)
        asked.batcher.admit(FOREVER)
        await asked.batcher.drain()
        (answer,) = await finish([asked.submit([row(1)])])
        return answer.rows()

    assert asyncio.run(ask()) == [{"prediction": 11.0}]


def test_drain_waits_for_what_is_computed_and_not_yet_answered():
    runtime = SeenRuntime()

    async def ask():
        asked = Asked(seen_predictor(runtime), **THREAD)
        future = asked.submit([row(0)])
        await asyncio.sleep(0)
        # The loop stands still while the thread computes.
        end = time.monotonic() + 10
        while asked.batcher._running is not None or not runtime.runs:
            assert time.monotonic() < end
            time.sleep(0.001)  # noqa: ASYNC251
        assert not future.done()
        await asked.batcher.drain()
        assert future.done()

    asyncio.run(ask())


def test_drain_waits_for_what_comes_while_it_drains():
    runtime = SeenRuntime()
    runtime.gate.clear()

    async def ask():
        asked = Asked(seen_predictor(runtime), **THREAD)
        first = asked.submit([row(0)])
        await asyncio.to_thread(runtime.began.wait)
        drained = asyncio.create_task(asked.batcher.drain())
        await asyncio.sleep(0)
        late = asked.submit([row(1)])
        runtime.gate.set()
        await asyncio.wait_for(drained, 20)
        assert first.done()
        assert late.done()

    asyncio.run(ask())


# delay ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Stepped:
    """A clock that moves only when told."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def delayed(cost, *, gap_s, delay_ms=10_000.0, arrivals=100, max_batch_size=128):
    """A batcher that has seen so many arrivals with this gap, idle; with its runtime and clock."""
    runtime, clock = SeenRuntime(), Stepped()
    predictor = seen_predictor(runtime, max_queue_delay_ms=delay_ms, max_batch_size=max_batch_size)
    batcher = Batcher(predictor, clock=clock, report=lambda report: None, cost=cost, **INLINE)

    def submit(a):
        return batcher.submit(predictor.signature.parse_rows([row(a)]), 1, received=clock.now, deadline=clock.now + 60)

    async def warm():
        futures = []
        for n in range(arrivals):
            clock.now += gap_s
            futures.append(submit(n))
        batcher._next()
        await finish(futures)
        await asyncio.sleep(0)
        runtime.runs.clear()

    return warm(), submit, runtime, clock, batcher


def test_a_delay_gathers_what_comes_soon():
    async def ask():
        warm, submit, runtime, clock, batcher = delayed(FixedCost(0.05), gap_s=0.001)
        await warm
        first = submit(1)
        await asyncio.sleep(0.005)
        assert not first.done()
        clock.now += 0.001
        second = submit(2)
        await finish([first, second])
        await batcher.drain()
        return runtime.runs

    assert asyncio.run(ask()) == [[1, 2]]


@pytest.mark.parametrize(
    ("fixed_s", "gap_s"),
    [(0.0, 0.001), (0.05, 0.2)],
    ids=["a run costs nothing", "the next row comes too late"],
)
def test_a_delay_that_does_not_pay_is_not_waited_for(fixed_s, gap_s):
    async def ask():
        warm, submit, runtime, _, batcher = delayed(FixedCost(fixed_s), gap_s=gap_s)
        await warm
        future = submit(1)
        await asyncio.sleep(0)
        assert future.done()
        await batcher.drain()
        return runtime.runs

    assert asyncio.run(ask()) == [[1]]


def test_a_full_batch_does_not_wait_for_the_end_of_the_delay():
    async def ask():
        warm, submit, runtime, clock, batcher = delayed(FixedCost(60.0), gap_s=10.0, max_batch_size=3, arrivals=0, delay_ms=600_000)
        await warm
        batcher._arrival_gap_s = 15.0
        futures = [submit(1)]
        await asyncio.sleep(0.01)
        assert not futures[0].done()
        for n in (2, 3):
            clock.now += 0.001
            futures.append(submit(n))
        await finish(futures)
        await batcher.drain()
        return runtime.runs

    assert asyncio.run(ask()) == [[1, 2, 3]]


def test_a_pause_is_forgotten_after_a_few_arrivals():
    async def ask():
        warm, submit, _, clock, batcher = delayed(FixedCost(0.05), gap_s=0.001, delay_ms=10)
        await warm
        clock.now += 24 * 3600
        at_once = 0
        for n in range(40):
            future = submit(n)
            await asyncio.sleep(0)
            at_once += future.done()
            await finish([future])
            clock.now += 0.001
        await batcher.drain()
        return at_once

    assert 1 <= asyncio.run(ask()) < 20


def test_an_expired_request_alone_is_answered_and_the_batcher_goes_on():
    runtime = SeenRuntime()

    async def ask():
        asked = Asked(seen_predictor(runtime), **INLINE)
        (late,) = await finish([asked.submit([row(1)], timeout_s=-1)])
        (good,) = await finish([asked.submit([row(2)])])
        await asked.batcher.drain()
        return late, good

    late, good = asyncio.run(ask())
    assert isinstance(late, DeadlineExceeded)
    assert good.rows() == [{"prediction": 12.0}]


# whose fault a missed deadline is, and who went away ─────────────────────────────────────────────────────────────────


class Counting:
    """A call whose client may go away."""

    def __init__(self, receive=None):
        self.record, self.receive, self.cancels = self, receive, 0

    def cancelled(self):
        self.cancels += 1


@pytest.mark.parametrize(("timeout_s", "by_model"), [(0.02, False), (0.3, True)])
def test_a_deadline_is_missed_by_the_model_only_if_it_had_its_time(timeout_s, by_model):
    """The model's own timeout is 0.4 s; half of that is enough."""
    runtime = SeenRuntime()
    runtime.gate.clear()

    async def ask():
        asked = Asked(seen_predictor(runtime, timeout_ms=400), **THREAD)
        running = asked.submit([row(1)], timeout_s=timeout_s)
        (result,) = await finish([running])
        runtime.gate.set()
        await asked.batcher.drain()
        return result

    assert asyncio.run(ask()).by_model is by_model


def test_while_the_model_hangs_short_deadlines_are_missed_by_it_too():
    runtime = SeenRuntime()
    runtime.gate.clear()

    async def ask():
        asked = Asked(seen_predictor(runtime, timeout_ms=100), **THREAD)
        hanging = asked.submit([row(1)], timeout_s=60)
        await asyncio.to_thread(runtime.began.wait)
        await asyncio.sleep(0.06)
        (result,) = await finish([asked.submit([row(2)], timeout_s=0.01)])
        runtime.gate.set()
        await finish([hanging])
        await asked.batcher.drain()
        return result

    assert asyncio.run(ask()).by_model


def test_who_hangs_up_leaves_the_queue_and_is_counted_once():
    runtime = SeenRuntime()
    runtime.gate.clear()

    async def ask():
        async def receive():
            await gone.wait()
            return {"type": "http.disconnect"}

        gone, call, patient = asyncio.Event(), Counting(), Counting()
        call.receive = receive
        asked = Asked(seen_predictor(runtime), **THREAD)
        submit = asked.batcher.submit
        now = asked.clock()
        running = asked.submit([row(1)])
        await asyncio.to_thread(runtime.began.wait)
        queued = submit(asked.signature.parse_rows([row(2)]), 1, received=now, deadline=now + 60, call=call)
        other = submit(asked.signature.parse_rows([row(3)]), 1, received=now, deadline=now + 60, call=patient)
        await asyncio.sleep(0.1)
        gone.set()
        (result,) = await finish([queued])
        await asyncio.sleep(0.1)
        assert asked.batcher.queued_rows == 1
        runtime.gate.set()
        await finish([running, other])
        await asked.batcher.drain()
        return result, call.cancels, patient.cancels

    result, cancels, others = asyncio.run(ask())
    assert isinstance(result, Disconnected)
    assert (cancels, others) == (1, 0)
    assert runtime.seen == [1, 3]
