import logging

import msgspec
import pytest

from ekiben.errors import PredictionFailed
from ekiben.serving.batch_run import Answer, BatchReport, Pending
from ekiben.serving.slow_answers import EVERY_S, SlowAnswers


class Call(msgspec.Struct):
    request_id: str


def report(*, received=100.0, ended=101.0, result=None, call=True, members=1):
    pending = Pending([], 1, received, 999.0, received + 0.1, None, None, Call("r-7") if call else None)
    return BatchReport(8, ended - 0.2, ended - 0.2, ended, [pending] * members, [result or Answer(None, 0, 1)] * members, None)


@pytest.fixture
def slow(caplog):
    caplog.set_level(logging.WARNING, "ekiben.latency")
    return SlowAnswers("m", "1", 0.5)


def test_an_example_says_where_the_time_went(slow, caplog):
    slow.look(report())
    (message,) = caplog.messages
    assert "m:1 answered request r-7 in 1000.0 ms, over its budget of 500 ms" in message
    assert "10 % read and decoded, 70 % queued, 20 % computed in a batch of 8 rows" in message


def test_at_most_one_a_minute(slow, caplog):
    for ended in (101.0, 102.0, 101.0 + EVERY_S - 0.1):
        slow.look(report(ended=ended))
    assert len(caplog.messages) == 1
    slow.look(report(ended=101.0 + EVERY_S))
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(
    "what", [report(ended=100.5), report(members=0), report(result=PredictionFailed("x"))], ids=["quick", "none", "failed"]
)
def test_what_is_no_example(slow, caplog, what):
    slow.look(what)
    assert caplog.messages == []
    slow.look(report())
    assert len(caplog.messages) == 1


def test_a_request_without_an_id(slow, caplog):
    slow.look(report(call=False))
    assert "request (none)" in caplog.messages[0]
