import pytest

from load_tests.bench.open_loop import Outcome, Plan
from load_tests.bench.overload import GeneratorFailed, open_loop_plan, overload_record, run_open_loop
from load_tests.bench.procfs import CpuUse

CPU = CpuUse(server_us_per_request=1, server_cores=1, client_cores=0.1, noise_percent=0)


def _record(outcome, deadline_ms=250.0):
    return overload_record(outcome, CPU, peer="ekiben", workers=1, round_=0, times=4, capacity_rps=100, deadline_ms=deadline_ms)


def test_goodput_counts_what_came_in_time_while_requests_were_due():
    accepted = [(0.5, 100.0), (1.0, 250.0), (1.5, 251.0), (2.0, 10.0), (2.1, 10.0)]

    record = _record(Outcome(scheduled=20, seconds=2.0, statuses={"200": 5, "503": 15}, with_retry_after={"503": 15}, accepted=accepted))

    assert record.goodput_rps == 1.5  # not the late one, and not the one from the queue after the end
    assert (record.accepted, record.rate, record.without_retry_after) == (5, 10.0, 0)
    assert (record.p50_ms, record.p99_ms) == (100.0, 251.0)


def test_only_refusals_are_asked_for_retry_after():
    statuses = {"429": 3, "503": 4, "504": 5, "no answer": 6}

    record = _record(Outcome(scheduled=18, seconds=1.0, statuses=statuses, with_retry_after={"429": 3, "503": 1, "504": 5}))

    assert record.without_retry_after == 3
    assert (record.accepted, record.goodput_rps, record.p50_ms, record.p99_ms) == (0, 0.0, None, None)


def test_the_plan_goes_where_the_closed_loop_went():
    plan = open_loop_plan("http://127.0.0.1:81/v1/models/m:predict", [b"[1]"], {"A": "1"}, rate=5, seconds=2, timer_ms=1)

    assert plan == Plan(
        host="127.0.0.1", port=81, path="/v1/models/m:predict", bodies=["[1]"], headers={"A": "1"}, rate=5, seconds=2, timer_ms=1
    )  # fmt: skip


@pytest.mark.processes
def test_the_generator_runs_in_a_process_of_its_own():
    plan = Plan(host="127.0.0.1", port=9, path="/", bodies=["1"], headers={}, rate=50, seconds=0.1, grace_s=0.5)

    assert run_open_loop(plan).statuses == {"connection": 5}


@pytest.mark.processes
def test_a_generator_that_fails_says_why():
    plan = Plan(host="127.0.0.1", port=9, path="/", bodies=["1"], headers={}, rate=0, seconds=0.1, grace_s=0.5)

    with pytest.raises(GeneratorFailed, match="code 1"):
        run_open_loop(plan)
