import re
from html import unescape

import numpy as np
import pyarrow as pa
import pytest
from unit.monitoring.answered import MemoryLog, binary_outputs, classifier, logged

from ekiben.errors import LogError
from ekiben.monitoring.html_report import facts_of, html_report
from ekiben.monitoring.report_rows import ReportRows
from ekiben.state import memory_control
from ekiben.state.truth import Truth

SPEC = classifier("no", "yes")  # min_rows is 20
N = 600


class WrittenPages:
    """Pages that say what they were asked to draw, or cannot draw anything."""

    def __init__(self, problem=""):
        self.problem = problem

    def _check(self):
        if self.problem:
            raise LogError(self.problem)

    def of_data(self, frames):
        self._check()
        against = 0 if frames.reference is None else len(frames.reference)
        return f'<p title="x">data {len(frames.current)} against {against}: {" ".join(frames.current)}</p>'

    def of_answers(self, answers, spec, threshold=None):
        self._check()
        against = 0 if answers.reference is None else len(answers.reference)
        return f"<p>answers {len(answers.current)} against {against} from {threshold}</p>"


@pytest.fixture
def report():
    """``report(since, until)`` of a log with a row a second from 0 on, the truth of every other of which is known."""
    features = pa.StructArray.from_arrays([pa.array(np.arange(N), pa.float32())], names=["temp"])
    log = MemoryLog(logged(binary_outputs(np.linspace(0, 1, N)), features=features))
    truths = memory_control().truths
    actual = ["yes", "no", "no"]
    truths.report([Truth(model="m", request_id=f"r{n}", row=0, time=1.0, actual=actual[n % 3]) for n in range(0, N, 2)])

    def made(since, until, most_rows=1000, problem=""):
        rows = ReportRows(log, truths, SPEC, "1", most_rows=most_rows)
        return html_report(rows, WrittenPages(problem), SPEC, "1", since=since, until=until, threshold=0.3)

    return made


def drawn(report):
    """Heading → page of each section."""
    found = re.findall(r'<iframe title="(\w+)" onload="fit\(this\)" srcdoc="([^"]*)"></iframe>', report.html)
    return {heading: unescape(page) for heading, page in found}


def test_a_window_against_the_oldest_rows(report):
    made = report(500, 600)
    assert (made.model, made.version, made.rows, made.shown, made.labelled) == ("m", "1", 100, 100, 50)
    assert (made.reference_since, made.reference_until, made.reference_rows, made.reference_shown) == (0, 100, 100, 100)
    assert drawn(made) == {
        "Data": '<p title="x">data 100 against 100: temp score prediction</p>',
        "Performance": "<p>answers 50 against 50 from 0.3</p>",
    }
    assert made.left_out == {"carrier": "the log does not hold it"}


def test_the_page_says_what_it_shows(report):
    made = report(500, 600, most_rows=50)
    assert list(facts_of(made)) == [
        ("version", "m:1"),
        ("rows", "100, answered from 1970-01-01 00:08 to 1970-01-01 00:10, 50 of them shown"),
        (
            "compared with",
            "the version's oldest rows in the log: 100, answered from 1970-01-01 00:00 to 1970-01-01 00:01, 50 of them shown",
        ),
        ("truth", "known of 50 of the 50 rows shown"),
        ("not shown", "carrier: the log does not hold it"),
    ]
    assert "<title>m:1</title>" in made.html
    assert "<dt>compared with</dt><dd>the version&#x27;s oldest rows in the log: 100, " in made.html
    assert "$" not in made.html
    # Nothing is loaded from anywhere.
    assert "http" not in made.html


def test_without_older_rows_there_is_nothing_to_compare_with(report):
    made = report(0, 600)
    assert (made.reference_since, made.reference_rows) == (None, 0)
    assert made.left_out["drift"] == "m:1 answered fewer than 20 rows before 1970-01-01 00:00"
    assert ("compared with", "nothing") in list(facts_of(made))
    assert drawn(made)["Data"].startswith('<p title="x">data 600 against 0')


def test_without_truth_the_data_are_shown(report):
    made = report(570, 600)
    assert made.left_out["performance"] == "the truth of 15 of the rows is known, and it takes 20 (monitor.min_rows)"
    assert list(drawn(made)) == ["Data"]


def test_of_no_rows_there_is_no_report(report):
    with pytest.raises(LogError, match=r"m:1 answered no row from 1970-01-01 00:16 to 1970-01-01 00:33; --since and --until"):
        report(1000, 2000)


def test_what_cannot_be_drawn_is_left_out(report):
    made = report(500, 600, problem="no bins")
    assert (made.left_out["data"], made.left_out["performance"]) == ("no bins", "no bins")
    assert drawn(made) == {}
    assert "<dd>data: no bins</dd>" in made.html
