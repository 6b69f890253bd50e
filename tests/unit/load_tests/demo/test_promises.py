import pytest
from unit.load_tests.demo.told import EVENTS, counts, event, month, promised, quality


def broken(**more):
    return [promise.text for promise in promised(**more) if not promise.holds]


def without(*kinds):
    return [e for e in EVENTS if e["kind"] not in kinds]


def test_all_of_them_hold_where_all_went_well():
    assert broken() == []


def test_what_a_lost_connection_leaves_in_the_log_is_no_fault():
    rows = [month(quality=[quality(predictions=101)])]
    assert broken(counts=counts(logged=101, unheard=1, lost=1), months=rows) == []


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"counts": counts(failures=1)}, "No request fails"),
        ({"counts": counts(missing=1)}, "Every answer is in the log, once, as it was given"),
        ({"counts": counts(doubled=1)}, "Every answer is in the log, once, as it was given"),
        ({"counts": counts(answered=99)}, "Every answer is in the log, once, as it was given"),
        ({"counts": counts(truths_kept=97)}, "Every truth is kept, once, whenever and how often it came"),
        ({"refused": ["422 no"]}, "Every truth is kept, once, whenever and how often it came"),
        ({"months": [month(quality=[quality(predictions=99)])]}, "The figures are made of all rows"),
        ({"months": [month(quality=[quality(), quality("v2", "challenger", predictions=1)])]}, "The figures are made of all rows"),
        ({"events": without("rolled-back")}, "A bad version is rolled back by itself"),
        ({"events": [e for e in EVENTS if e["rollout"] != "r-1"]}, "A bad version is rolled back by itself"),
        (
            {"events": [{**e, "kind": "promoted" if e["kind"] == "rolled-back" else e["kind"]} for e in EVENTS]},
            "A bad version is rolled back by itself",
        ),
        ({"workers": 1}, "A worker that is killed is replaced"),
        ({"events": without("promoted")}, "A version that was trained anew is judged by itself"),
        ({"events": [*EVENTS, event("retrain_failed", "no rows")]}, "A version that was trained anew is judged by itself"),
        ({"untold": 1}, "Who is to be told is told"),
    ],
)
def test_one_that_does_not_hold_is_found(more, text):
    assert broken(**more) == [text]


def test_a_bad_version_that_a_person_took_back_did_not_go_by_itself():
    events = [{**e, "who": "ann@desk"} if e["kind"] == "rolled-back" else e for e in EVENTS]
    assert broken(events=events) == ["A bad version is rolled back by itself"]


def test_a_version_that_is_not_better_was_judged_too():
    events = [*without("promoted", "retrain_finished")[:5], event("retrain_rejected", "v2 is not better", who="monitor")]
    assert broken(events=events) == []


def test_shadows_are_no_answers():
    assert broken(months=[month(quality=[quality(), quality("v2", "shadow", predictions=50)])]) == []


def test_a_refused_report_is_shown():
    found = next(p.found for p in promised(refused=["422 unknown label"]) if "truth" in p.text)
    assert "422 unknown label" in found
