import json
import logging

import pytest

from ekiben.cli.log_lines import JsonLines, print_log
from ekiben.state.checks import Check
from ekiben.state.events import Event


@pytest.fixture
def logger():
    made = logging.getLogger("ekiben.tests.lines")
    yield made
    made.handlers, made.propagate = [], True


def test_a_json_line_holds_what_it_tells_of_and_the_traceback():
    event = Event(time=1.0, who="controller", model="m", kind="step", message="setWeight: 5")
    check = Check(model="m", version="1", kind="drift", time=1.0, since=0.0, until=1.0, rows=7, outcome="ok", summary="quiet")
    record = logging.LogRecord("ekiben.controller", logging.ERROR, "", 0, "%s", ("done",), (ValueError, ValueError("odd"), None))
    record.event, record.check = event, check
    line = json.loads(JsonLines().format(record))
    assert (line["message"], line["event"]["kind"], line["check"]["rows"]) == ("done", "step", 7)
    assert "ValueError: odd" in line["traceback"]


@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_logged_is_printed_once_however_often_it_is_asked_for(logger, capsys, as_json):
    for _ in range(2):
        print_log([logger.name], as_json=as_json)
    logger.info("%d rows", 3)
    logger.debug("unimportant")
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["message"] == "3 rows" if as_json else line.endswith(" 3 rows")
