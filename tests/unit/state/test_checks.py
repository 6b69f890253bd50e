import msgspec
import pytest

from ekiben.state.checks import Check, MemoryChecks
from ekiben.state.sql_checks import SqlChecks


def check(time=1.0, **fields):
    known = {
        "model": "m",
        "version": "1",
        "kind": "drift",
        "since": 0.0,
        "until": 1.0,
        "rows": 7,
        "outcome": "ok",
        "summary": "all is well",
    }
    return Check(time=time, **known | fields)


@pytest.fixture(params=["memory", "sqlite"])
def checks(request):
    return MemoryChecks() if request.param == "memory" else SqlChecks(request.getfixturevalue("database"))


def test_there_are_none_at_first(checks):
    assert (checks.find("m"), checks.latest("m"), checks.prune(9.0)) == ([], [], 0)


def test_a_check_comes_back_whole(checks):
    kept = check(arm="champion", outcome="bad", report={"columns": [{"name": "a", "psi": 0.25, "p_value": None}]})
    checks.add(kept)
    assert checks.find("m") == [kept]
    assert checks.find("other") == []


def test_one_of_the_same_time_replaces_the_former(checks):
    checks.add(check(summary="first"))
    second = check(summary="second", outcome="bad")
    checks.add(second)
    assert checks.find("m") == [second]


def test_the_newest_are_found_and_come_by_time(checks):
    for time in (5.0, 1.0, 3.0, 4.0):
        checks.add(check(time))
    assert [c.time for c in checks.find("m", limit=3)] == [3.0, 4.0, 5.0]
    assert [c.time for c in checks.find("m", since=4.0)] == [4.0, 5.0]
    assert checks.find("m", limit=0) == []


def test_they_are_found_by_kind_and_version(checks):
    for version, kind in (("1", "drift"), ("1", "quality"), ("2", "drift")):
        checks.add(check(version=version, kind=kind))
    assert [(c.version, c.kind) for c in checks.find("m")] == [("1", "drift"), ("1", "quality"), ("2", "drift")]
    assert [c.version for c in checks.find("m", kind="drift")] == ["1", "2"]
    assert [c.kind for c in checks.find("m", version="1")] == ["drift", "quality"]


def test_the_latest_is_one_of_each_version_kind_and_arm(checks):
    for time in (1.0, 2.0):
        checks.add(check(time))
        checks.add(check(time, kind="quality"))
        checks.add(check(time, kind="quality", arm="champion"))
        checks.add(check(time, model="other"))
    checks.add(check(0.5, version="0"))
    latest = [(c.version, c.kind, c.arm, c.time) for c in checks.latest("m")]
    assert latest == [("0", "drift", "", 0.5), ("1", "drift", "", 2.0), ("1", "quality", "", 2.0), ("1", "quality", "champion", 2.0)]
    assert {c.version for c in checks.latest("m", since=1.0)} == {"1"}


def test_old_ones_go(checks):
    for time in (1.0, 2.0, 3.0):
        checks.add(check(time))
    assert checks.prune(2.0) == 1
    assert [c.time for c in checks.find("m")] == [2.0, 3.0]


def test_numbers_that_json_has_not_are_nothing(database):
    checks = SqlChecks(database)
    checks.add(check(report={"psi": float("nan")}))
    [found] = checks.find("m")
    assert found == msgspec.structs.replace(check(), report={"psi": None})
