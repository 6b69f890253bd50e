import msgspec
from unit.load_tests.demo.told import record

from load_tests.demo.record import Record


def test_it_knows_in_which_month_something_was(told):
    assert told.month_at(95.0) == "before"
    assert told.month_at(105.0) == "May"
    assert told.month_at(111.0) == "after May"
    assert told.month_at(115.0) == "June"


def test_json_has_all_of_it(told):
    assert msgspec.json.decode(msgspec.json.encode(told), type=Record) == told


def test_one_broken_promise_is_enough():
    assert record().kept_all
    told = record()
    told.promises[2].holds = False
    assert not told.kept_all
