import io

from rich.console import Console
from unit.load_tests.demo.told import record

from load_tests.demo.tables import print_record, timeline


def printed(told):
    out = io.StringIO()
    print_record(told, Console(file=out, width=200))
    return out.getvalue()


def test_all_tables_are_printed(told):
    text = printed(told)
    for expected in ("What happened", "Quality by month", "Drift by month", "What was counted", "No request fails", "every promise held"):
        assert expected in text
    told.promises[0].holds = False
    assert "broken" in printed(told)
    assert "a promise did not hold" in printed(told)


def test_the_timeline_says_when_in_the_year_and_leaves_out_what_says_nothing(told):
    lines = timeline(told)
    assert lines[0][:2] == ("11 s", "May")
    assert [line[3] for line in lines[:4]] == ["started", "rolled-back", "killed", "alert"]
    assert "pause-over" not in [line[3] for line in lines]
    assert "killed" not in [line[3] for line in timeline(record(killed=0))]
    told.events[0]["message"] = "x" * 1000
    assert len(timeline(told)[0][4]) < 400
