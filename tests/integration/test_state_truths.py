"""What exposures and truths promise, on every backend."""

import random
import threading

import pytest

from ekiben.state.truth import Exposure, Truth

pytestmark = pytest.mark.processes


def exposure(request_id="r", row=0, **changed):
    values = {"version": "1", "arm": "champion", "key": "u", "time": 10.0, "prediction": "yes", "score": 0.5, **changed}
    return Exposure(model="m", request_id=request_id, row=row, **values)


def truth(request_id="r", row=0, **changed):
    return Truth(model="m", request_id=request_id, row=row, **{"time": 20.0, **changed})


def test_exposures_and_truths_are_joined_whichever_came_first(controls):
    one, other = controls().truths, controls().truths
    early, late = exposure("a", 1, time=11.0), exposure("b", prediction=None, score=None)
    one.report([truth("a", 1, actual="no")])
    one.expose([early, late])
    other.report([truth("b", outcome=2.5), truth("b", 7, actual=True)])
    assert one.joined("m", 0, 100) == [(late, truth("b", outcome=2.5)), (early, truth("a", 1, actual="no"))]
    assert other.joined("m", 10.5, 100) == [(early, truth("a", 1, actual="no"))]
    assert other.joined("m", 0, 11) == [(late, truth("b", outcome=2.5))]
    assert other.joined("n", 0, 100) == []


def test_a_row_that_a_shadow_computed_too_comes_twice(controls):
    truths = controls().truths
    truths.expose([exposure(version="1"), exposure(version="2", arm="shadow", time=10.5)])
    truths.report([truth(actual="yes")])
    assert [e.version for e, _ in truths.joined("m", 0, 100)] == ["1", "2"]
    assert truths.exposed("m", 0, 100) == {("1", "champion"): (1, 1), ("2", "shadow"): (1, 1)}


@pytest.mark.parametrize("actual", ["yes", True, False, 1.5, 0.0, "1"])
def test_an_actual_keeps_its_type(controls, actual):
    truths = controls().truths
    truths.expose([exposure()])
    truths.report([truth(actual=actual)])
    found = truths.joined("m", 0, 100)[0][1].actual
    assert (found, type(found)) == (actual, type(actual))


def test_what_is_exposed_stays_and_what_is_reported_is_completed(controls):
    one, other = controls().truths, controls().truths
    one.expose([exposure(prediction="yes")])
    other.expose([exposure(prediction="no"), exposure(row=1)])
    one.report([truth(actual="yes")])
    other.report([truth(outcome=1.0, time=30.0)])
    assert one.joined("m", 0, 100) == [(exposure(prediction="yes"), truth(actual="yes", outcome=1.0, time=30.0))]
    one.report([truth(actual="no", time=31.0), truth(actual="maybe", time=32.0)])
    assert one.joined("m", 0, 100)[0][1] == truth(actual="maybe", outcome=1.0, time=32.0)
    one.report([])
    one.expose([])


def test_truths_are_found_by_their_time_and_by_their_request(controls):
    one, other = controls().truths, controls().truths
    assert (one.find("m", 0, 100), len(one.of("m", ["a"])), one.count("m", 0, 100), one.newest("m")) == ([], 0, 0, None)
    late = truth("a", 1, time=30.0, actual="yes", comment="well done")
    one.report([late, truth("b", outcome=1.0), truth("c", comment="?")])
    assert other.find("m", 0, 100) == [truth("b", outcome=1.0), truth("c", comment="?"), late]
    assert other.find("m", 20.5, 100) == [late]
    assert (other.count("m", 0, 30), other.newest("m"), other.newest("n")) == (2, 30.0, None)
    other.report([truth("b", comment="late")])
    found = one.of("m", ["a", "b", "x"])
    assert list(zip(found.request_id, found.row, found.actual, found.outcome, found.comment, strict=True)) == [
        ("a", 1, "yes", None, "well done"),
        ("b", 0, None, 1.0, "late"),
    ]
    one.report([truth("c", comment="a\0b\ud800")])
    assert list(one.of("m", ["c"]).comment) != ["?"]


def test_truths_of_a_few_requests_among_many(controls):
    truths = controls().truths
    truths.report([truth(f"r{n}", actual=float(n)) for n in range(100)])
    assert list(truths.of("m", ["r7", "r99", "x"]).actual) == [7.0, 99.0]


def test_rows_and_their_keys_are_counted(controls):
    truths = controls().truths
    truths.expose([exposure(str(n), key=str(n % 3), version="2" if n > 6 else "1", time=float(n)) for n in range(10)])
    assert truths.exposed("m", 1, 9) == {("1", "champion"): (6, 3), ("2", "champion"): (2, 2)}


def test_old_exposures_and_truths_are_pruned(controls):
    truths = controls().truths
    truths.expose([exposure("a"), exposure("b", time=50.0)])
    truths.report([truth("a"), truth("b", actual=1.0), truth("c", time=60.0)])
    assert truths.prune(20.0, 20.0) == 1
    assert truths.prune(20.0, 20.1) == 2
    assert truths.exposed("m", 0, 100) == {("1", "champion"): (1, 1)}
    assert truths.prune(100.0, 100.0) == 2


def test_no_id_of_a_client_is_refused_and_none_is_taken_for_another(controls):
    truths = controls().truths
    long = "é" * 5000
    ids = ["a\0b", "", long + "1", long + "2", "\ud800"]
    truths.expose([exposure(name, key=name) for name in ids])
    truths.report([truth(name, outcome=float(n)) for n, name in enumerate(ids)])
    assert sorted(t.outcome for _, t in truths.joined("m", 0, 100)) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert truths.exposed("m", 0, 100) == {("1", "champion"): (5, 5)}


def test_many_that_report_the_same_rows_in_any_order_are_all_heard(controls):
    users = [controls().truths for _ in range(4)]
    failures = []

    def report(part, seed):
        rows = [truth(str(n), outcome=1.0) for n in range(100)]
        random.Random(seed).shuffle(rows)
        try:
            part.report(rows)
            part.expose([exposure(t.request_id) for t in rows])
        except Exception as e:  # noqa: BLE001
            failures.append(e)

    threads = [threading.Thread(target=report, args=(part, n)) for n, part in enumerate(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(users[0].joined("m", 0, 100)) == 100
